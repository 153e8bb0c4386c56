"""Operators and the master: a request, one answer, and a bell that says when to look again."""

import asyncio
from typing import Any

import pytest

from protocol.bus import Connected, Handler, MasterBus, OperatorBus
from protocol.errors import NoAnswer, Refused, Unavailable, Unreachable
from protocol.names import ALL
from protocol.operator_messages import Changed, Goal, GroupAdd, Nothing
from tests.contract.harness import WAIT_S, Harness, a_master

REPLY = Changed(goal=Goal(epoch=3, generations={"all": 7}), done=("added group “süd”",))


async def serving(bus: Harness, handler: Handler, kind: type = GroupAdd) -> MasterBus:
    """Return a master that answers one verb."""
    master, _ = await a_master(bus, {})
    await master.serve({"group.add": (kind, handler)})
    return master


async def test_a_request_is_answered(bus: Harness) -> None:
    asked = []

    async def add(request: GroupAdd) -> Changed:
        asked.append(request)
        return REPLY

    await serving(bus, add)
    operator = await bus.operator()

    assert await operator.ask("group.add", GroupAdd(name="süd"), Changed) == REPLY
    assert asked == [GroupAdd(name="süd")]


@pytest.mark.parametrize(
    "sentence", ["group g1 has nodes", "Gruppe „süd“ hat Knoten: 日本", "two\nlines\r\n and  spaces", "x" * 5000, ""]
)
async def test_a_refusal_arrives_as_it_was_said(bus: Harness, sentence: str) -> None:
    async def refuse(request: GroupAdd) -> Changed:
        raise Refused(sentence)

    await serving(bus, refuse)
    operator = await bus.operator()

    with pytest.raises(Refused) as refused:
        await operator.ask("group.add", GroupAdd(name="g1"), Changed)
    assert str(refused.value) == sentence or not sentence


async def test_a_master_that_cannot_is_unavailable(bus: Harness) -> None:
    async def fail(request: GroupAdd) -> Changed:
        raise Unavailable("the disk is full")

    await serving(bus, fail)
    operator = await bus.operator()

    with pytest.raises(Unavailable, match="the disk is full"):
        await operator.ask("group.add", GroupAdd(name="g1"), Changed)


async def test_nobody_there_is_unreachable_at_once(bus: Harness) -> None:
    await a_master(bus, {})
    operator = await bus.operator()

    async with asyncio.timeout(WAIT_S):
        with pytest.raises(Unreachable):
            await operator.ask("group.add", GroupAdd(name="g1"), Changed, timeout_s=1000)


async def test_an_unknown_verb_is_unreachable(bus: Harness) -> None:
    async def add(request: GroupAdd) -> Changed:
        return REPLY

    await serving(bus, add)
    operator = await bus.operator()

    with pytest.raises(Unreachable):
        await operator.ask("group.explode", GroupAdd(name="g1"), Changed)


async def test_an_answer_that_is_late_is_none(bus: Harness) -> None:
    """The master goes on: it may have done what was asked."""
    let_go = asyncio.Event()
    done = asyncio.Event()

    async def wait(request: GroupAdd) -> Changed:
        await let_go.wait()
        done.set()
        return REPLY

    await serving(bus, wait)
    operator = await bus.operator()

    with pytest.raises(NoAnswer, match="no answer within"):
        await operator.ask("group.add", GroupAdd(name="g1"), Changed, timeout_s=0.01)
    let_go.set()
    async with asyncio.timeout(WAIT_S):
        await done.wait()


async def test_a_request_of_the_wrong_type_is_refused(bus: Harness) -> None:
    async def add(request: GroupAdd) -> Changed:
        raise AssertionError("must not be reached")

    await serving(bus, add)
    operator = await bus.operator()

    with pytest.raises(Refused, match="Goal where a GroupAdd"):
        await operator.ask("group.add", Goal(epoch=1), Changed)


async def test_a_reply_of_the_wrong_type_is_unavailable(bus: Harness) -> None:
    """An older or newer master, rather than our own mistake."""

    async def add(request: GroupAdd) -> Nothing:
        return Nothing()

    await serving(bus, add)
    operator = await bus.operator()

    with pytest.raises(Unavailable, match="Nothing where a Changed"):
        await operator.ask("group.add", GroupAdd(name="g1"), Changed)


async def test_requests_are_answered_side_by_side(bus: Harness) -> None:
    """A long wait of one operator does not keep the next one waiting."""
    second_came = asyncio.Event()

    async def add(request: GroupAdd) -> Changed:
        if request.name == "first":
            await second_came.wait()
        second_came.set()
        return REPLY

    await serving(bus, add)
    first, second = await bus.operator(), await bus.operator()

    async with asyncio.timeout(WAIT_S):
        answers = await asyncio.gather(
            first.ask("group.add", GroupAdd(name="first"), Changed),
            second.ask("group.add", GroupAdd(name="second"), Changed),
        )
    assert list(answers) == [REPLY, REPLY]


async def test_a_fault_of_ours_is_told_to_both_sides(bus: Harness) -> None:
    """The operator does not wait for a timeout, and the daemon's loop gets the exception, to die of it."""
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))

    async def fail(request: GroupAdd) -> Changed:
        raise AssertionError("never")

    await serving(bus, fail)
    operator = await bus.operator()

    with pytest.raises(Unavailable, match="AssertionError"):
        await operator.ask("group.add", GroupAdd(name="g1"), Changed)
    assert isinstance(faults[0]["exception"], AssertionError)


async def test_the_api_survives_an_outage(bus: Harness) -> None:
    async def add(request: GroupAdd) -> Changed:
        return REPLY

    bus.grant({})
    master, heard = await bus.master()
    await master.serve({"group.add": (GroupAdd, add)})

    await bus.disconnect()
    await bus.reconnect()
    await heard.next(Connected)
    operator = await bus.operator()

    assert await operator.ask("group.add", GroupAdd(name="g1"), Changed) == REPLY


async def test_operators_hear_the_clusters_bell(bus: Harness) -> None:
    master, _ = await a_master(bus, {})
    operator = await bus.operator()
    bells = operator.bells()

    async with asyncio.timeout(WAIT_S):
        await anext(bells)
        await master.ring_cluster()
        await anext(bells)
    await bells.aclose()  # type: ignore[attr-defined]


async def test_bells_rung_meanwhile_are_one_bell(bus: Harness) -> None:
    """Who is slow looks once, not once for every bell."""
    master, _ = await a_master(bus, {})
    operator = await bus.operator()
    bells = operator.bells()
    await anext(bells)
    for _ in range(50):
        await master.ring_cluster()
    await master.head(ALL)
    await a_round_trip(operator)

    async with asyncio.timeout(WAIT_S):
        await anext(bells)
    second = asyncio.ensure_future(anext(bells))
    await a_round_trip(operator)

    assert not second.done()
    second.cancel()


async def a_round_trip(operator: OperatorBus) -> None:
    """Return when the operator has received all that the broker had for it."""
    with pytest.raises(Unavailable):
        await operator.ask("nobody.serves.this", Nothing(), Nothing)
