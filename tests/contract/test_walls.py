"""Scopes are walls: what a node may read is the broker's decision, at once and both ways (design, D6)."""

from pathlib import Path

import pytest

from protocol.bus import AgentBus, Connected, Disconnected, MasterBus
from protocol.errors import Unavailable
from protocol.messages import NodeBell, ScopeBell
from protocol.names import ALL, MASTER_CANDIDATES, NodeName
from tests.contract.harness import Ears, Harness, a_master
from tests.support.builders import NODE1, NODE2, a_digest, a_manifest

SECRET_BELL = ScopeBell(scope=MASTER_CANDIDATES, epoch=1, generation=1)


async def with_a_secret(bus: Harness, tmp_path: Path) -> MasterBus:
    """Return the master of a mesh whose candidates have one secret; NODE1 is none."""
    master, _ = await a_master(bus, {NODE1: [ALL]})
    source = tmp_path / "secret"
    source.write_bytes(b"secret")
    await master.put_blob(MASTER_CANDIDATES, a_digest(b"secret"), source, 6)
    await master.publish(a_manifest(scope=MASTER_CANDIDATES, content=b"secret"), [])
    return master


async def secret_of(agent: AgentBus) -> bytes:
    return b"".join([part async for part in agent.blob(MASTER_CANDIDATES, a_digest(b"secret"), 6)])


async def hears_its_own_bell(master: MasterBus, ears: Ears, node: NodeName, look: str) -> None:
    """Return when the node has heard a bell of its own, and so everything that was rung before."""
    await master.ring(NodeBell(node=node, epoch=1, serial=1, look=look))
    while (await ears.next(NodeBell)).look != look:
        continue


async def test_a_scope_that_was_not_granted_cannot_be_read(bus: Harness, tmp_path: Path) -> None:
    await with_a_secret(bus, tmp_path)
    agent, _ = await bus.agent(NODE1)

    with pytest.raises(Unavailable, match="permit"):
        await agent.manifest(MASTER_CANDIDATES)
    with pytest.raises(Unavailable, match="permit"):
        await secret_of(agent)
    assert await agent.manifest(ALL) is None


async def test_a_promotion_opens_a_scope_on_the_same_connection(bus: Harness, tmp_path: Path) -> None:
    master = await with_a_secret(bus, tmp_path)
    agent, ears = await bus.agent(NODE1)
    await agent.listen([ALL])

    bus.grant({NODE1: [ALL, MASTER_CANDIDATES]})
    await master.reload_broker()
    await agent.listen([ALL, MASTER_CANDIDATES])
    await master.ring(SECRET_BELL)

    assert await ears.next(ScopeBell) == SECRET_BELL
    assert await agent.manifest(MASTER_CANDIDATES) == a_manifest(scope=MASTER_CANDIDATES, content=b"secret")
    assert await secret_of(agent) == b"secret"
    assert len(ears.heard) == 2, "Connected and the bell: the connection was kept"


async def test_a_grant_does_not_count_before_the_broker_has_read_it(bus: Harness, tmp_path: Path) -> None:
    await with_a_secret(bus, tmp_path)
    agent, _ = await bus.agent(NODE1)

    bus.grant({NODE1: [ALL, MASTER_CANDIDATES]})

    with pytest.raises(Unavailable):
        await agent.manifest(MASTER_CANDIDATES)


async def test_a_demotion_shuts_a_scope_at_once(bus: Harness, tmp_path: Path) -> None:
    master = await with_a_secret(bus, tmp_path)
    bus.grant({NODE1: [ALL, MASTER_CANDIDATES], NODE2: [ALL, MASTER_CANDIDATES]})
    await master.reload_broker()
    agent, ears = await bus.agent(NODE1)
    candidate, candidate_ears = await bus.agent(NODE2)
    await agent.listen([ALL, MASTER_CANDIDATES])
    await candidate.listen([ALL, MASTER_CANDIDATES])
    assert await secret_of(agent) == b"secret"

    bus.grant({NODE1: [ALL], NODE2: [ALL, MASTER_CANDIDATES]})
    await master.reload_broker()
    await master.ring(SECRET_BELL)

    with pytest.raises(Unavailable):
        await agent.manifest(MASTER_CANDIDATES)
    with pytest.raises(Unavailable):
        await secret_of(agent)
    assert await candidate_ears.next(ScopeBell) == SECRET_BELL
    assert await secret_of(candidate) == b"secret"
    await hears_its_own_bell(master, ears, NODE1, "after")
    assert ears.count(ScopeBell) == 0


async def test_listening_to_a_foreign_scope_hears_nothing_of_it(bus: Harness, tmp_path: Path) -> None:
    """It is no error either: which of the two is late, the assignment or the grant, the agent cannot know."""
    master = await with_a_secret(bus, tmp_path)
    agent, ears = await bus.agent(NODE1)

    await agent.listen([ALL, MASTER_CANDIDATES])
    await master.ring(SECRET_BELL)

    await hears_its_own_bell(master, ears, NODE1, "after")
    assert ears.count(ScopeBell) == 0


async def test_a_subscription_refused_before_the_grant_works_after_listening_again(
    bus: Harness, tmp_path: Path
) -> None:
    master = await with_a_secret(bus, tmp_path)
    agent, ears = await bus.agent(NODE1)
    await agent.listen([ALL, MASTER_CANDIDATES])

    bus.grant({NODE1: [ALL, MASTER_CANDIDATES]})
    await master.reload_broker()
    await agent.listen([ALL, MASTER_CANDIDATES])
    await master.ring(SECRET_BELL)

    assert await ears.next(ScopeBell) == SECRET_BELL


async def test_a_node_that_is_not_in_the_list_any_more_is_shut_out(bus: Harness, tmp_path: Path) -> None:
    master = await with_a_secret(bus, tmp_path)
    agent, ears = await bus.agent(NODE1)
    await agent.listen([ALL])

    bus.grant({NODE2: [ALL]})
    await master.reload_broker()
    with pytest.raises(Unavailable):
        await agent.manifest(ALL)

    bus.grant({NODE1: [ALL]})
    await master.reload_broker()
    await until_heard_again(master, ears)
    assert await agent.manifest(ALL) is None


async def until_heard_again(master: MasterBus, ears: Ears) -> None:
    await ears.next(Disconnected)
    await ears.next(Connected)
    await hears_its_own_bell(master, ears, NODE1, "again")
