"""What only the memory bus does: faults at will, and the same run twice."""

import asyncio
from pathlib import Path

import pytest

from protocol.bus import Connected, Disconnected, Garbled, NodeLeft, StatusHeard
from protocol.errors import Unavailable
from protocol.messages import ScopeBell
from protocol.names import ALL, MASTER_CANDIDATES, NodeName, ScopeName
from tests.contract.harness import Ears
from tests.support.builders import NODE1, NODE2, a_digest, a_manifest, a_status
from tests.support.memory_bus import MemoryBroker, public_key_of

BELL = ScopeBell(scope=ALL, epoch=1, generation=1)


async def delivered() -> None:
    """Return when all that was under way has been handed over."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def broker() -> MemoryBroker:
    broker = MemoryBroker()
    for node in (NODE1, NODE2):
        broker.grant(node, [ALL])
    broker.reload()
    return broker


async def test_bells_and_statuses_can_be_lost(broker: MemoryBroker) -> None:
    heard, ears = Ears(), Ears()
    master, agent = broker.master(heard), broker.agent(NODE1, ears)
    await master.prepare([ALL])
    await agent.listen([ALL])
    lost: list[str] = []

    def loses(subject: str) -> bool:
        lost.append(subject)
        return True

    broker.loses = loses

    await master.ring(BELL)
    await agent.report(a_status())
    await delivered()

    assert lost == ["mesh.bell.scope.all", "mesh.status.node1_example_com"]
    assert (ears.heard, heard.heard) == ([Connected()], [Connected()])
    assert await master.statuses() == []


async def test_one_node_can_be_cut_off(broker: MemoryBroker) -> None:
    heard, cut, other = Ears(), Ears(), Ears()
    master, agent = broker.master(heard), broker.agent(NODE1, cut)
    await broker.agent(NODE2, other).listen([ALL])
    await agent.listen([ALL])

    broker.disconnect(NODE1)
    await master.ring(BELL)
    with pytest.raises(Unavailable):
        await agent.report(a_status())
    broker.reconnect(NODE1)
    await master.ring(BELL)
    await delivered()

    assert cut.heard == [Connected(), Disconnected("cut off"), Connected(), BELL]
    assert other.heard == [Connected(), BELL, BELL]
    assert heard.heard == [Connected(), NodeLeft(public_key_of(NODE1))]


async def test_a_chunk_can_be_lost_or_corrupted(broker: MemoryBroker, tmp_path: Path) -> None:
    master, agent = broker.master(Ears()), broker.agent(NODE1, Ears())
    await master.prepare([ALL])
    source = tmp_path / "source"
    source.write_bytes(b"content")
    await master.put_blob(ALL, a_digest(), source, 7)

    broker.corrupt_blob(ALL, a_digest())
    parts = [part async for part in agent.blob(ALL, a_digest(), 7)]
    assert [len(part) for part in parts] == [7]
    assert parts != [b"content"]

    broker.lose_blob(ALL, a_digest())
    with pytest.raises(Unavailable):
        _ = [part async for part in agent.blob(ALL, a_digest(), 7)]


async def test_anything_can_be_said(broker: MemoryBroker) -> None:
    heard, ears = Ears(), Ears()
    broker.master(heard)
    broker.agent(NODE1, ears)

    broker.say("mesh.bell.node.node1_example_com", b"garbage")
    broker.say("mesh.status.node1_example_com", b"garbage")
    await delivered()

    assert isinstance(heard.heard[-1], Garbled)
    assert isinstance(ears.heard[-1], Garbled)


async def test_the_journey_decides_who_comes_first_and_who_never_arrives(broker: MemoryBroker) -> None:
    master = broker.master(Ears())
    await master.prepare([ALL, MASTER_CANDIDATES])
    open_road = asyncio.Event()

    async def travel(subject: str) -> None:
        if subject.endswith("master-candidates"):
            raise Unavailable("a storm")
        if "manifest" in subject:
            await open_road.wait()

    broker.travel = travel
    publishing = asyncio.ensure_future(master.publish(a_manifest(), []))
    with pytest.raises(Unavailable, match="storm"):
        await master.publish(a_manifest(scope=MASTER_CANDIDATES), [])
    await delivered()
    assert broker.streams["FILES_all"] == {}
    open_road.set()
    await publishing

    assert set(broker.streams["FILES_all"]) == {"mesh.manifest.all"}


async def test_what_is_under_way_when_the_server_goes_does_not_arrive(broker: MemoryBroker) -> None:
    master = broker.master(Ears())
    await master.prepare([ALL])
    publishing = asyncio.ensure_future(master.publish(a_manifest(), []))
    await asyncio.sleep(0)

    broker.disconnect()

    with pytest.raises(Unavailable):
        await publishing
    assert broker.streams["FILES_all"] == {}


async def test_grants_can_be_asked_for(broker: MemoryBroker) -> None:
    """For a simulation whose master knows them."""
    grants: dict[NodeName, list[ScopeName]] = {}
    asking = MemoryBroker(lambda: grants)
    master, ears = asking.master(Ears()), Ears()
    agent = asking.agent(NODE1, ears)
    with pytest.raises(Unavailable):
        await agent.assignment()

    grants[NODE1] = [ALL]
    await master.prepare([ALL])
    await master.reload_broker()

    assert await agent.manifest(ALL) is None


async def test_a_closed_side_is_forgotten(broker: MemoryBroker) -> None:
    """A simulation restarts its agents thousands of times."""
    heard, ears = Ears(), Ears()
    master, agent, operator = broker.master(heard), broker.agent(NODE1, ears), broker.operator()
    await delivered()
    for side in (agent, operator, master):
        await side.close()
    broker.say("mesh.status.node1_example_com", b"garbage")
    await delivered()

    assert not (broker.agents or broker.masters or broker.operators)
    assert (ears.heard, heard.count(StatusHeard), heard.count(Garbled)) == ([Connected()], 0, 0)


async def test_the_same_run_is_the_same_twice() -> None:
    async def run() -> list[object]:
        broker = MemoryBroker()
        for node in (NODE1, NODE2):
            broker.grant(node, [ALL])
        broker.reload()
        told = Ears()
        master = broker.master(told)
        agents = [broker.agent(node, told) for node in (NODE1, NODE2)]
        await master.prepare([ALL])
        await asyncio.gather(*(agent.listen([ALL]) for agent in agents))
        await asyncio.gather(master.ring(BELL), *(agent.report(a_status(agent.node)) for agent in agents))
        broker.disconnect()
        broker.reconnect()
        await delivered()
        return told.heard

    first = await run()
    assert first == await run()
    assert len(first) == 3 + 2 + 2 + 3 + 3
