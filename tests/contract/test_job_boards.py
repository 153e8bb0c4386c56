"""Job boards, what nodes say of their jobs, and output: the same on both buses."""

import pytest

from protocol import codec, subjects
from protocol.bus import Garbled, JobsHeard
from protocol.errors import DecodeError, Unavailable
from protocol.job_messages import JobReport, JobState
from protocol.names import ALL
from protocol.os_names import JobId
from protocol.sealing import envelopes
from tests.contract.harness import Harness, NatsHarness, a_master, until
from tests.support.builders import NODE1, NODE2
from tests.support.job_values import a_board, a_job

REPORT = JobReport(node=NODE1, epoch=1, serial=3, states=(JobState(id=JobId("a"), status="running"),))


async def test_a_node_reads_the_board_that_was_posted_last(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    assert await agent.board() is None
    assert await master.board(NODE1) is None

    await master.post_board(a_board("a", serial=1))
    await master.post_board(a_board("a", "b", serial=2, cancelled="a"))

    assert await agent.board() == a_board("a", "b", serial=2, cancelled="a")
    assert await master.board(NODE1) == await agent.board()


async def test_each_node_has_a_board_of_its_own(bus: Harness) -> None:
    master, _ = await a_master(bus, {NODE1: [ALL], NODE2: [ALL]})
    one, two = (await bus.agent(NODE1))[0], (await bus.agent(NODE2))[0]

    await master.post_board(a_board("a"))

    assert await one.board() == a_board("a")
    assert await two.board() is None


async def test_a_board_of_another_node_is_not_believed(bus: Harness) -> None:
    await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    subject = subjects.os_request(NODE1)
    await bus.overwrite(subjects.OSREQ_STREAM, subject, envelopes.signed(subject, a_board(node=NODE2), bus.signer))

    with pytest.raises(DecodeError, match="it is that of node2"):
        await agent.board()


async def test_a_board_that_the_master_has_not_signed_is_not_believed(bus: Harness) -> None:
    """Nor one that was signed for another node's subject."""
    await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    subject = subjects.os_request(NODE1)
    elsewhere = envelopes.signed(subjects.os_request(NODE2), a_board("a"), bus.signer)

    for forged in (codec.encode(a_board("a")), elsewhere):
        await bus.overwrite(subjects.OSREQ_STREAM, subject, forged)
        with pytest.raises(DecodeError, match="sign"):
            await agent.board()


async def test_a_board_may_hold_as_much_as_one_message(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    board = a_board(*(a_job(f"job-{number}") for number in range(1500)))

    await master.post_board(board)

    assert await agent.board() == board


async def test_a_lost_store_is_said_so(bus: Harness) -> None:
    """The board comes back from the master's disk; until then a node must not think that it has no jobs."""
    master, _ = await a_master(bus)
    await master.post_board(a_board("a"))
    agent, _ = await bus.agent(NODE1)

    await bus.lose(subjects.OSREQ_STREAM, subjects.os_request(NODE1))

    assert await agent.board() is None, "none is not an empty one"


async def test_what_a_node_says_of_its_jobs_is_heard_under_its_name(bus: Harness) -> None:
    _, ears = await a_master(bus)
    agent, _ = await bus.agent(NODE1)

    await agent.report_jobs(REPORT)

    assert await ears.next(JobsHeard) == JobsHeard(NODE1, REPORT)


async def test_what_a_node_says_of_anothers_jobs_is_refused(bus: Harness) -> None:
    _, ears = await a_master(bus, {NODE1: [ALL], NODE2: [ALL]})
    agent, _ = await bus.agent(NODE2)

    await agent.report_jobs(REPORT)

    assert "claims to be from node1.example.com" in (await ears.next(Garbled)).reason
    assert ears.count(JobsHeard) == 0


async def test_a_node_that_is_removed_leaves_no_board(bus: Harness) -> None:
    master, _ = await a_master(bus)
    await master.post_board(a_board("a"))

    await master.unassign(NODE1)

    assert await master.board(NODE1) is None


async def test_without_a_bus_everything_is_unavailable(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    await bus.disconnect()

    for attempt in (
        agent.board(),
        agent.report_jobs(REPORT),
        agent.say_output(JobId("a"), b"text"),
        master.post_board(a_board()),
        master.board(NODE1),
    ):
        with pytest.raises(Unavailable):
            await attempt


async def test_output_is_stored_as_it_was_said(nats_bus: NatsHarness) -> None:
    await a_master(nats_bus)
    agent, _ = await nats_bus.agent(NODE1)
    subject = "mesh.os.log.node1_example_com.17"

    await agent.say_output(JobId("17"), b"a line\n")

    async def is_stored() -> bool:
        return subject in await nats_bus.stored(subjects.OSLOG_STREAM)

    await until(is_stored)


async def test_the_server_keeps_a_node_from_boards_and_output_of_another(nats_bus: NatsHarness) -> None:
    master, ears = await a_master(nats_bus, {NODE1: [ALL], NODE2: [ALL]})
    await master.post_board(a_board("a"))
    node = await nats_bus.raw(nats_bus.server.node_seed(NODE2), "_INBOX_node2")

    with pytest.raises(Unavailable, match="permit"):
        await node.request(subjects.direct_get(subjects.OSREQ_STREAM, subjects.os_request(NODE1)))
    for subject in (subjects.os_request(NODE2), subjects.os_log(NODE1, "17"), subjects.ask_jobs(NODE1)):
        with pytest.raises(Unavailable, match="permit"):
            await node.request(subject, codec.encode(REPORT))
    assert ears.count(JobsHeard) == 0
