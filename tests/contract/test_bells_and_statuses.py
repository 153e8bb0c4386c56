"""What is said without being asked: bells to the nodes, statuses to the master, and garbage, which harms nobody."""

import pytest

from protocol import codec, subjects
from protocol.bus import AgentBus, Connected, Disconnected, Garbled, MasterBus, NodeLeft, StatusHeard
from protocol.errors import Unavailable
from protocol.messages import BlobWanted, NodeBell, ScopeBell
from protocol.names import ALL, MASTER_CANDIDATES
from protocol.sealing.envelopes import signed
from tests.contract.harness import Ears, Harness, a_master, until
from tests.support.builders import NODE1, NODE2, a_digest, a_status

BELL = ScopeBell(scope=ALL, epoch=1, generation=3)
GARBAGE = [b"", b"\xc1", b"{}", codec.encode(a_status()), b"\x93\x01\x02\x03", b"\xff" * 1000]


async def two_agents(bus: Harness) -> tuple[MasterBus, AgentBus, Ears, AgentBus, Ears]:
    """Return a master, a node in two scopes and a node in one, both listening to what they may."""
    master, _ = await a_master(bus, {NODE1: [ALL, MASTER_CANDIDATES], NODE2: [ALL]})
    agent1, ears1 = await bus.agent(NODE1)
    agent2, ears2 = await bus.agent(NODE2)
    await agent1.listen([ALL, MASTER_CANDIDATES])
    await agent2.listen([ALL])
    return master, agent1, ears1, agent2, ears2


async def test_a_bell_reaches_the_nodes_of_its_scope_and_no_others(bus: Harness) -> None:
    master, _, ears1, _, ears2 = await two_agents(bus)
    for scope in (MASTER_CANDIDATES, ALL):
        await master.ring(ScopeBell(scope=scope, epoch=1, generation=3))

    assert [(await ears1.next(ScopeBell)).scope for _ in range(2)] == [MASTER_CANDIDATES, ALL]
    assert (await ears2.next(ScopeBell)).scope == ALL


async def test_a_node_bell_reaches_its_node_and_no_other(bus: Harness) -> None:
    master, _, ears1, _, ears2 = await two_agents(bus)
    for node in (NODE1, NODE2):
        await master.ring(NodeBell(node=node, epoch=1, serial=2, look="token"))

    assert await ears1.next(NodeBell) == NodeBell(node=NODE1, epoch=1, serial=2, look="token")
    assert (await ears2.next(NodeBell)).node == NODE2


async def test_listening_to_fewer_scopes_leaves_the_others(bus: Harness) -> None:
    master, agent1, ears1, _, _ = await two_agents(bus)
    await agent1.listen([ALL])

    await master.ring(ScopeBell(scope=MASTER_CANDIDATES, epoch=1, generation=3))
    await master.ring(BELL)

    assert (await ears1.next(ScopeBell)).scope == ALL


async def test_listening_again_renews_and_does_not_double(bus: Harness) -> None:
    master, agent1, ears1, _, _ = await two_agents(bus)
    for _ in range(3):
        await agent1.listen([ALL])

    await master.ring(BELL)
    await master.ring(NodeBell(node=NODE1, epoch=1, serial=2))

    await ears1.next(NodeBell)
    assert ears1.count(ScopeBell) == 1


async def test_a_status_reaches_the_master_and_can_be_looked_up_later(bus: Harness) -> None:
    master, heard = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    for sequence in (1, 2):
        await agent.report(a_status(sequence=sequence))

    assert await heard.next(StatusHeard) == StatusHeard(NODE1, a_status(sequence=1))
    assert await heard.next(StatusHeard) == StatusHeard(NODE1, a_status(sequence=2))
    await until(lambda: _is(master, [StatusHeard(NODE1, a_status(sequence=2))]))
    await master.unassign(NODE1)
    assert await master.statuses() == []


async def test_a_status_that_claims_another_node_is_garbled(bus: Harness) -> None:
    master, heard = await a_master(bus)
    agent, _ = await bus.agent(NODE1)

    await agent.report(a_status(NODE2))

    garbled = await heard.next(Garbled)
    assert garbled.subject == subjects.status(NODE1)
    assert "node2" in garbled.reason
    assert await master.statuses() == []


async def test_a_question_that_claims_another_node_is_garbled(bus: Harness) -> None:
    _, heard = await a_master(bus)
    agent, _ = await bus.agent(NODE1)

    await agent.ask_blob(BlobWanted(node=NODE2, scope=ALL, digest=a_digest()))

    assert (await heard.next(Garbled)).subject == subjects.ask_blob(NODE1)


@pytest.mark.parametrize("garbage", [data for data in GARBAGE if b"Status" not in data])
async def test_garbage_from_a_node_is_told_and_the_master_lives(bus: Harness, garbage: bytes) -> None:
    master, heard = await a_master(bus)
    agent, _ = await bus.agent(NODE1)

    await bus.inject(subjects.status(NODE1), garbage, node=NODE1)
    assert (await heard.next(Garbled)).subject == subjects.status(NODE1)
    await bus.inject(f"mesh.ask.{subjects.token(NODE1)}.anything.else", garbage, node=NODE1)
    assert (await heard.next(Garbled)).subject == f"mesh.ask.{subjects.token(NODE1)}.anything.else"

    await agent.report(a_status())
    await heard.next(StatusHeard)
    await until(lambda: _is(master, [StatusHeard(NODE1, a_status())]))


async def test_a_subject_of_no_node_is_garbled(bus: Harness) -> None:
    """An administrator may say anything."""
    _, heard = await a_master(bus)

    await bus.inject("mesh.status.-", codec.encode(a_status()))

    assert (await heard.next(Garbled)).subject == "mesh.status.-"


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_on_a_bell_is_told_and_the_agent_lives(bus: Harness, garbage: bytes) -> None:
    master, _, ears1, _, _ = await two_agents(bus)

    for subject in (subjects.node_bell(NODE1), subjects.scope_bell(ALL)):
        await bus.inject(subject, garbage)
        assert (await ears1.next(Garbled)).subject == subject

    await master.ring(BELL)
    assert await ears1.next(ScopeBell) == BELL


async def test_a_bell_on_another_bells_subject_is_garbled(bus: Harness) -> None:
    _, _, ears1, _, _ = await two_agents(bus)
    await bus.inject(subjects.scope_bell(MASTER_CANDIDATES), codec.encode(BELL))
    bell = NodeBell(node=NODE2, epoch=1, serial=1)
    await bus.inject(subjects.node_bell(NODE1), signed(subjects.node_bell(NODE1), bell, bus.signer))

    assert (await ears1.next(Garbled)).subject == subjects.scope_bell(MASTER_CANDIDATES)
    assert (await ears1.next(Garbled)).subject == subjects.node_bell(NODE1)


async def test_the_master_hears_that_a_node_has_left(bus: Harness) -> None:
    _, heard = await a_master(bus)
    agent, ears = await bus.agent(NODE1)

    await agent.close()

    assert await heard.next(NodeLeft) == NodeLeft(bus.public_key(NODE1))
    assert ears.count(Disconnected) == 0, "who leaves by himself is not told so"
    with pytest.raises(Unavailable):
        await agent.report(a_status())


async def test_after_an_outage_everything_works_without_being_asked(bus: Harness) -> None:
    master, heard = await a_master(bus)
    agent, ears = await bus.agent(NODE1)
    await agent.listen([ALL])

    await bus.disconnect()
    await heard.next(Disconnected)
    await ears.next(Disconnected)
    for asked in (agent.assignment(), master.assignment(NODE1), master.ring(BELL), agent.report(a_status())):
        with pytest.raises(Unavailable):
            await asked
    await bus.reconnect()
    await heard.next(Connected)
    await ears.next(Connected)

    await master.ring(BELL)
    await agent.report(a_status())
    assert await ears.next(ScopeBell) == BELL
    assert (await heard.next(StatusHeard)).status == a_status()
    assert (ears.count(Disconnected), heard.count(Disconnected)) == (1, 1)


async def _is(master: MasterBus, expected: list[StatusHeard]) -> bool:
    return await master.statuses() == expected
