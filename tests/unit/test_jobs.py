"""What an agent does about its jobs, decided: board against journal."""

from itertools import product

from node_agent.core.jobs import Begin, Bury, Cancel, Drop, Entry, Forget, Note, Phase, decide, report
from protocol.job_messages import STATES_MAX, JobState
from protocol.os_names import JobId
from tests.support.job_values import a_board, a_job, an_entry

A, B, C = (JobId(name) for name in "abc")


def test_a_new_job_is_noted_and_does_not_begin_before_it_is() -> None:
    assert decide(a_board("a"), [], (), limit=1) == [Note(a_job("a"))]
    assert decide(a_board("a"), [an_entry("a", Phase.NOTED)], (), limit=1) == [Begin(a_job("a"))]


def test_a_job_that_has_begun_in_any_way_is_never_begun_again() -> None:
    """Every phase, on the board or not, cancelled or not."""
    for phase, listed, cancelled in product(Phase, (True, False), (True, False)):
        board = a_board(*("a",) if listed else (), cancelled="a" if cancelled else ())
        actions = decide(board, [an_entry("a", phase)], (), limit=9)
        may = phase is Phase.NOTED and listed and not cancelled
        assert (Begin(a_job("a")) in actions) == may, (phase, listed, cancelled)


def test_a_job_that_ended_here_and_was_forgotten_is_not_taken_up_again() -> None:
    """The board of a master whose disk was restored from yesterday's backup."""
    assert decide(a_board("a", "b"), [], {A}, limit=1) == [Note(a_job("b"))]


def test_the_same_id_twice_is_one_job() -> None:
    board = a_board(a_job("a", os="other"))

    assert decide(board, [an_entry("a", Phase.BEGUN)], (), limit=2) == []


def test_not_more_run_than_may() -> None:
    noted = [an_entry(name, Phase.NOTED) for name in "abcd"]

    assert decide(a_board(*"abcd"), noted, (), limit=2) == [Begin(a_job("a")), Begin(a_job("b"))]
    running = [an_entry("a", Phase.BEGUN), *noted[1:]]
    assert decide(a_board(*"abcd"), running, (), limit=2) == [Begin(a_job("b"))]
    full = [an_entry("a", Phase.BEGUN), an_entry("b", Phase.BEGUN), *noted[2:]]
    assert decide(a_board(*"abcd"), full, (), limit=2) == []


def test_jobs_begin_in_the_boards_order_whatever_the_journals() -> None:
    entries = [an_entry("a", Phase.NOTED), an_entry("b", Phase.NOTED)]

    assert decide(a_board("b", "a"), entries, (), limit=1) == [Begin(a_job("b"))]


def test_two_jobs_about_one_instance_run_one_after_the_other() -> None:
    """They would work on the same disks. A rename counts under both names; others pass by."""
    create, rename, other = (
        a_job("a", instance="web"),
        a_job("b", action="rename", instance="www", old_name="web"),
        a_job("c", instance="mail"),
    )
    export = a_job("d", instance="www")
    noted = [an_entry(job, Phase.NOTED) for job in (create, rename, other, export)]

    assert decide(a_board(create, rename, other, export), noted, (), limit=9) == [Begin(create), Begin(other)]
    running = [an_entry(create, Phase.BEGUN), *noted[1:]]
    assert decide(a_board(create, rename, other, export), running, (), limit=9) == [Begin(other)]
    over = [an_entry(create, Phase.ENDED), *noted[1:]]
    assert decide(a_board(create, rename, other, export), over, (), limit=9) == [Begin(rename), Begin(other)]


def test_checks_of_parameters_are_about_no_instance_and_wait_for_none() -> None:
    jobs = [a_job(name, action="verify") for name in "ab"]
    noted = [an_entry(job, Phase.NOTED) for job in jobs]

    assert decide(a_board(*jobs), noted, (), limit=2) == [Begin(job) for job in jobs]


def test_without_a_board_nothing_begins_and_nothing_is_forgotten() -> None:
    for phase in (Phase.NOTED, Phase.BEGUN, Phase.ENDED):
        assert decide(None, [an_entry("a", phase)], (), limit=1) == []


def test_what_was_lost_is_buried_whether_or_not_a_board_says_anything() -> None:
    lost = an_entry("a", Phase.LOST)

    assert decide(None, [lost], (), limit=1) == [Bury(A)]
    assert decide(a_board(), [lost], (), limit=1) == [Bury(A)]
    assert decide(a_board("a"), [lost], (), limit=1) == [Bury(A)]


def test_a_lost_job_holds_its_place_until_it_is_buried() -> None:
    entries = [an_entry("a", Phase.LOST), an_entry("b", Phase.NOTED)]

    assert decide(a_board("a", "b"), entries, (), limit=1) == [Bury(A)]


def test_a_cancelled_job_is_dropped_before_it_begins_and_ended_after() -> None:
    board = a_board("a", cancelled="a")

    assert decide(board, [], (), limit=1) == [Note(a_job("a"))], "it needs a verdict, so it has to be known"
    assert decide(board, [an_entry("a", Phase.NOTED)], (), limit=1) == [Drop(A, "cancelled before it began")]
    assert decide(board, [an_entry("a", Phase.BEGUN)], (), limit=1) == [Cancel(A)]
    assert decide(board, [an_entry("a", Phase.BEGUN, is_cancel_noted=True)], (), limit=1) == []
    assert decide(board, [an_entry("a", Phase.ENDED)], (), limit=1) == []


def test_what_the_master_withdrew_is_dropped_if_it_waits_and_goes_on_if_it_runs() -> None:
    assert decide(a_board(), [an_entry("a", Phase.NOTED)], (), limit=1) == [
        Drop(A, "the master withdrew it before it began")
    ]
    assert decide(a_board(), [an_entry("a", Phase.BEGUN)], (), limit=1) == []


def test_an_end_is_forgotten_once_the_board_does_not_list_it_any_more() -> None:
    assert decide(a_board("a"), [an_entry("a", Phase.ENDED)], (), limit=1) == []
    assert decide(a_board(), [an_entry("a", Phase.ENDED)], (), limit=1) == [Forget(A)]


def test_a_job_of_which_no_runner_could_be_started_is_passed_by() -> None:
    entries = [an_entry("a", Phase.NOTED), an_entry("b", Phase.NOTED)]

    assert decide(a_board("a", "b"), entries, (), limit=1, held={A}) == [Begin(a_job("b"))]


def test_a_report_says_all_but_what_waits() -> None:
    entries = [an_entry("a", Phase.NOTED), an_entry("b", Phase.ENDED), an_entry("c", Phase.BEGUN)]

    said = report(a_board("a", "b", "c", serial=7), entries, ())

    assert said is not None
    assert [(state.id, state.status) for state in said.states] == [(C, "running"), (B, "success")]
    assert said.version == (1, 7)
    assert report(None, entries, ()) is None


def test_a_report_repeats_an_end_that_was_forgotten_if_the_board_asks_again() -> None:
    former = (JobState(id=A, status="failed", exit_code=3), JobState(id=B, status="success"))

    said = report(a_board("a"), [], former)

    assert said is not None
    assert said.states == (former[0],)


def test_a_report_stays_within_its_bounds_and_what_runs_is_in_it() -> None:
    entries: list[Entry] = [an_entry(f"e{number}", Phase.ENDED) for number in range(STATES_MAX)]
    entries.append(an_entry("r", Phase.BEGUN))

    said = report(a_board(), entries, ())

    assert said is not None
    assert len(said.states) == STATES_MAX
    assert said.states[0].id == "r"
