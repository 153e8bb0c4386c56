"""What the master asks of one node, and how that ends: with the answer, in the node's words, or soon enough."""

import asyncio

import pytest

from protocol import subjects
from protocol.bus import MasterBus
from protocol.errors import DecodeError, Refused, Unavailable
from protocol.messages import Assignment, BlobWanted, NodeBell
from protocol.names import ALL
from tests.contract.harness import SOON_S, Harness, NatsHarness, a_master
from tests.support.builders import NODE1, NODE2, a_digest

QUESTION = BlobWanted(node=NODE1, scope=ALL, digest=a_digest())
ANSWER = NodeBell(node=NODE1, epoch=1, serial=7)


async def ask(master: MasterBus, *, verb: str = "verb", timeout_s: float = 10.0) -> NodeBell:
    return await master.ask_node(NODE1, verb, QUESTION, NodeBell, timeout_s=timeout_s)


async def echo(request: BlobWanted) -> NodeBell:
    assert request == QUESTION
    return ANSWER


async def test_a_node_answers_what_it_is_asked_and_no_other_node_does(bus: Harness) -> None:
    master, _ = await a_master(bus, {NODE1: [ALL], NODE2: [ALL]})
    agent1, _ = await bus.agent(NODE1)
    agent2, _ = await bus.agent(NODE2)

    async def wrong(request: BlobWanted) -> NodeBell:
        raise AssertionError(f"{request} was not for this node")

    await agent1.serve({"verb": (BlobWanted, echo)})
    await agent2.serve({"verb": (BlobWanted, wrong)})

    assert await ask(master) == ANSWER


async def test_a_node_that_is_not_there_is_told_at_once(bus: Harness) -> None:
    master, _ = await a_master(bus)

    async with asyncio.timeout(SOON_S):
        with pytest.raises(Unavailable, match="not connected"):
            await ask(master)


async def test_a_verb_that_a_node_does_not_know_is_told_at_once(bus: Harness) -> None:
    """An older agent."""
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    await agent.serve({"other": (BlobWanted, echo)})

    async with asyncio.timeout(SOON_S):
        with pytest.raises(Unavailable, match="cannot answer this yet"):
            await ask(master)


@pytest.mark.parametrize("kind", [Refused, Unavailable])
async def test_what_a_node_says_against_it_arrives_as_it_was_said(bus: Harness, kind: type[Exception]) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)

    async def refuse(request: BlobWanted) -> NodeBell:
        raise kind("does this already, für süd")

    await agent.serve({"verb": (BlobWanted, refuse)})

    with pytest.raises(Unavailable, match=r"^does this already, für süd$"):
        await ask(master)


async def test_a_node_that_does_not_answer_in_time_is_waited_for_no_longer(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    never = asyncio.Event()

    async def hang(request: BlobWanted) -> NodeBell:
        await never.wait()
        return ANSWER

    await agent.serve({"verb": (BlobWanted, hang)})

    with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
        await ask(master, timeout_s=0.2)


async def test_one_question_that_hangs_does_not_keep_the_next_from_its_answer(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def first_waits(request: BlobWanted) -> NodeBell:
        if asked.is_set():
            return ANSWER
        asked.set()
        await go_on.wait()
        return ANSWER

    await agent.serve({"verb": (BlobWanted, first_waits)})
    first = asyncio.create_task(ask(master))
    await asked.wait()

    assert await ask(master) == ANSWER
    assert not first.done()
    go_on.set()
    assert await first == ANSWER


async def test_an_answer_of_another_kind_is_no_answer(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)

    async def other(request: BlobWanted) -> BlobWanted:
        return request

    await agent.serve({"verb": (BlobWanted, other)})

    with pytest.raises(DecodeError, match="a BlobWanted where a NodeBell belongs"):
        await ask(master)


async def test_an_agent_goes_on_answering_after_the_bus_was_away(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    await agent.serve({"verb": (BlobWanted, echo)})
    await bus.disconnect()
    await bus.reconnect()

    async with asyncio.timeout(20):
        while True:
            try:
                assert await ask(master) == ANSWER
                break
            except Unavailable:
                await asyncio.sleep(0)


async def test_a_node_may_not_ask_another(nats_bus: NatsHarness) -> None:
    await a_master(nats_bus, {NODE1: [ALL], NODE2: [ALL]})
    agent, _ = await nats_bus.agent(NODE1)
    await agent.serve({"verb": (BlobWanted, echo)})
    node2 = await nats_bus.raw(nats_bus.server.node_seed(NODE2), "_INBOX_node2")

    with pytest.raises(Unavailable, match="the server does not permit it"):
        await node2.request(subjects.rpc(NODE1, "verb"), b"")


async def test_an_answer_that_another_node_has_delivered_as_a_question_is_not_heard(nats_bus: NatsHarness) -> None:
    """The server checks where a message goes, not where its answer goes; but it says whose account a question is of."""
    master, _ = await a_master(nats_bus, {NODE1: [ALL], NODE2: [ALL]})
    asked: list[Assignment] = []

    async def note(request: Assignment) -> NodeBell:
        asked.append(request)
        return ANSWER

    agent, _ = await nats_bus.agent(NODE1)
    await agent.serve({"verb": (Assignment, note)})
    mine, forged = (Assignment(node=node, epoch=1, serial=1, scopes=(ALL,)) for node in (NODE1, NODE2))
    await master.assign(forged)
    node2 = await nats_bus.raw(nats_bus.server.node_seed(NODE2), "_INBOX_node2")

    own = subjects.direct_get(subjects.ROLES_STREAM, subjects.role(NODE2))
    await node2.client.publish(own, reply=subjects.rpc(NODE1, "verb"))
    await node2.settle(own)

    assert await master.ask_node(NODE1, "verb", mine, NodeBell, timeout_s=10) == ANSWER
    assert asked == [mine]
