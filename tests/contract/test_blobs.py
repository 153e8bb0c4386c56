"""Contents: stored in chunks under their digest, pulled by who may, sent once."""

from pathlib import Path

import pytest

from protocol import subjects
from protocol.bus import CHUNK_BYTES, AgentBus, BlobAsked
from protocol.errors import Unavailable
from protocol.messages import BlobWanted
from protocol.names import ALL, MASTER_CANDIDATES, Digest
from tests.contract.harness import Harness, a_master
from tests.support.builders import NODE1, a_digest

BIG = bytes(range(256)) * 10 * 1024


def a_source(directory: Path, content: bytes) -> tuple[Digest, Path, int]:
    """Return what `put_blob` wants to know of a content."""
    source = directory / "source"
    source.write_bytes(content)
    return a_digest(content), source, len(content)


async def pull(agent: AgentBus, digest: Digest, size_bytes: int) -> bytes:
    return b"".join([part async for part in agent.blob(ALL, digest, size_bytes)])


@pytest.mark.parametrize("size_bytes", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * 1024 * 1024])
async def test_a_content_of_any_size_comes_back_the_same(bus: Harness, tmp_path: Path, size_bytes: int) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    content = (b"0123456789abcdef!" * (size_bytes // 17 + 1))[:size_bytes]
    digest, source, size = a_source(tmp_path, content)

    await master.put_blob(ALL, digest, source, size)

    assert await pull(agent, digest, size) == content
    assert len(await bus.stored("BLOBS_all")) == -(-size_bytes // CHUNK_BYTES)


async def test_a_stored_content_is_not_sent_again(bus: Harness, tmp_path: Path) -> None:
    """Its source is not even read."""
    master, _ = await a_master(bus)
    blob = a_source(tmp_path, BIG)
    await master.put_blob(ALL, *blob)
    blob[1].unlink()

    await master.put_blob(ALL, *blob)
    await master.prepare([ALL])
    await master.put_blob(ALL, *blob)


async def test_scopes_do_not_share_contents(bus: Harness, tmp_path: Path) -> None:
    """Whoever may read one scope must not learn from the other."""
    master, _ = await a_master(bus)
    blob = a_source(tmp_path, b"secret")

    await master.put_blob(MASTER_CANDIDATES, *blob)

    assert await bus.stored("BLOBS_all") == set()


async def test_a_content_with_a_chunk_missing_is_stored_again(bus: Harness, tmp_path: Path) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    blob = a_source(tmp_path, BIG)
    await master.put_blob(ALL, *blob)
    await bus.lose("BLOBS_all", subjects.blob(ALL, blob[0], 1))

    await master.prepare([ALL])
    await master.put_blob(ALL, *blob)

    assert await pull(agent, blob[0], blob[2]) == BIG


async def test_a_dropped_content_is_stored_from_scratch(bus: Harness, tmp_path: Path) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    blob = a_source(tmp_path, BIG)
    await master.put_blob(ALL, *blob)
    await bus.overwrite("BLOBS_all", subjects.blob(ALL, blob[0], 1), b"x" * CHUNK_BYTES)
    assert await pull(agent, blob[0], blob[2]) != BIG

    await master.drop_blob(ALL, blob[0])
    assert await bus.stored("BLOBS_all") == set()
    await master.put_blob(ALL, *blob)

    assert await pull(agent, blob[0], blob[2]) == BIG


async def test_keeping_some_contents_removes_the_others(bus: Harness, tmp_path: Path) -> None:
    master, _ = await a_master(bus)
    kept, gone, large = (a_source(tmp_path, content) for content in (b"kept", b"gone", BIG))
    for content, blob in ((b"kept", kept), (b"gone", gone), (BIG, large)):
        blob[1].write_bytes(content)
        await master.put_blob(ALL, *blob)
    await master.put_blob(MASTER_CANDIDATES, *large)

    assert await master.keep_blobs(ALL, [kept[0]]) == 2
    assert await master.keep_blobs(ALL, [kept[0]]) == 0

    assert await bus.stored("BLOBS_all") == {subjects.blob(ALL, kept[0], 0)}
    assert len(await bus.stored("BLOBS_master-candidates")) == 5


async def test_a_missing_chunk_is_unavailable_and_can_be_asked_for(bus: Harness, tmp_path: Path) -> None:
    master, heard = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    digest, source, size = a_source(tmp_path, BIG)
    await master.put_blob(ALL, digest, source, size)
    await bus.lose("BLOBS_all", subjects.blob(ALL, digest, 3))

    with pytest.raises(Unavailable, match="chunk 3"):
        await pull(agent, digest, size)
    await agent.ask_blob(BlobWanted(node=NODE1, scope=ALL, digest=digest))

    asked = await heard.next(BlobAsked)
    assert asked == BlobAsked(NODE1, BlobWanted(node=NODE1, scope=ALL, digest=digest))


async def test_a_chunk_of_the_wrong_size_is_unavailable(bus: Harness, tmp_path: Path) -> None:
    """The digest would tell as well, after all of it was fetched."""
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    digest, source, size = a_source(tmp_path, BIG)
    await master.put_blob(ALL, digest, source, size)
    await bus.overwrite("BLOBS_all", subjects.blob(ALL, digest, 0), b"short")

    with pytest.raises(Unavailable, match="chunk 0"):
        await pull(agent, digest, size)


@pytest.mark.parametrize("now", [b"", b"changed", b"x" * len(BIG)])
async def test_a_source_that_has_changed_never_becomes_a_blob(bus: Harness, tmp_path: Path, now: bytes) -> None:
    """Else the wrong content would lie under this digest, and never be sent again because it is there."""
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    digest, source, size = a_source(tmp_path, BIG)
    source.write_bytes(now)

    with pytest.raises(Unavailable, match="any more"):
        await master.put_blob(ALL, digest, source, size)
    with pytest.raises(Unavailable):
        await pull(agent, digest, size)

    source.write_bytes(BIG)
    await master.put_blob(ALL, digest, source, size)
    assert await pull(agent, digest, size) == BIG


async def test_what_a_failed_put_left_is_removed_later(bus: Harness, tmp_path: Path) -> None:
    master, _ = await a_master(bus)
    digest, source, size = a_source(tmp_path, BIG)
    source.write_bytes(BIG[:-1] + b"!")
    with pytest.raises(Unavailable):
        await master.put_blob(ALL, digest, source, size)

    await master.keep_blobs(ALL, [])

    assert await bus.stored("BLOBS_all") == set()


async def test_a_source_that_is_gone_is_unavailable(bus: Harness, tmp_path: Path) -> None:
    """One exception that says so, not a group of them."""
    master, _ = await a_master(bus)

    with pytest.raises(Unavailable, match="No such file"):
        await master.put_blob(ALL, a_digest(BIG), tmp_path / "gone", len(BIG))


async def test_whoever_stops_reading_in_the_middle_leaves_nothing_behind(bus: Harness, tmp_path: Path) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    digest, source, size = a_source(tmp_path, BIG)
    await master.put_blob(ALL, digest, source, size)

    parts = agent.blob(ALL, digest, size)
    assert await anext(parts) == BIG[:CHUNK_BYTES]
    await parts.aclose()  # type: ignore[attr-defined]

    assert await pull(agent, digest, size) == BIG
