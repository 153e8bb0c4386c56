"""Everything on the bus is derived: it may be deleted at any time, and the master brings it back (design, D1)."""

from pathlib import Path

from protocol import subjects
from protocol.bus import Connected, Disconnected
from protocol.messages import Assignment
from protocol.names import ALL, MASTER_CANDIDATES
from tests.contract.harness import Harness, a_master
from tests.support.builders import NODE1, a_digest, a_manifest, a_status, events_of

CONTENT = b"content" * 100_000


async def test_a_deleted_store_is_healed_by_preparing_afresh(bus: Harness, tmp_path: Path) -> None:
    """Without a restart of the broker."""
    master, _ = await a_master(bus)
    agent, ears = await bus.agent(NODE1)
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    manifest = a_manifest(content=CONTENT)
    await master.put_blob(ALL, a_digest(CONTENT), source, len(CONTENT))
    await master.publish(manifest, events_of(manifest))

    await bus.lose_store()
    await master.prepare([ALL, MASTER_CANDIDATES], afresh=True)
    assert await agent.manifest(ALL) is None
    await master.put_blob(ALL, a_digest(CONTENT), source, len(CONTENT))
    await master.publish(manifest, events_of(manifest))
    await master.assign(Assignment(node=NODE1, epoch=1, serial=1, scopes=(ALL,)))

    assert await agent.manifest(ALL) == manifest
    assert b"".join([part async for part in agent.blob(ALL, a_digest(CONTENT), len(CONTENT))]) == CONTENT
    assert await agent.assignment() is not None
    assert ears.count(Disconnected) == 0


async def test_what_was_stored_before_an_outage_is_there_after_it(bus: Harness, tmp_path: Path) -> None:
    master, heard = await a_master(bus)
    agent, ears = await bus.agent(NODE1)
    await master.publish(a_manifest(), [])

    await bus.disconnect()
    await bus.reconnect()
    await heard.next(Connected)
    await ears.next(Connected)

    assert await agent.manifest(ALL) == a_manifest()


async def test_after_an_outage_the_master_believes_nothing(bus: Harness, tmp_path: Path) -> None:
    """Acknowledged is not synced: what was stored before may be gone, and is then sent again."""
    master, heard = await a_master(bus)
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    await master.put_blob(ALL, a_digest(CONTENT), source, len(CONTENT))
    await bus.lose("BLOBS_all", subjects.blob(ALL, a_digest(CONTENT), 1))

    await bus.disconnect()
    await heard.next(Disconnected)
    await bus.reconnect()
    await heard.next(Connected)
    await master.put_blob(ALL, a_digest(CONTENT), source, len(CONTENT))

    assert len(await bus.stored("BLOBS_all")) == 2


async def test_a_store_deleted_during_an_outage_is_prepared_anew(bus: Harness) -> None:
    master, heard = await a_master(bus)
    await master.publish(a_manifest(), [])

    await bus.disconnect()
    await bus.lose_store()
    await bus.reconnect()
    await heard.next(Connected)
    await master.prepare([ALL])

    assert await master.head(ALL) is None


async def test_a_wiped_status_stream_has_no_statuses(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    await agent.report(a_status())

    await bus.lose_store()
    await master.prepare([ALL], afresh=True)

    assert await master.statuses() == []
