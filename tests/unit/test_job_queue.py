"""The master's jobs, decided: what is one job, what a board says, what an end is."""

from dataclasses import replace
from typing import Any

import pytest

from master.core import job_queue
from master.core.job_queue import BOARD_BYTES_MAX, WAITING_MAX, JobRecord
from protocol.errors import Refused
from protocol.job_messages import JobState, JobStatus
from protocol.os_messages import OsJob
from protocol.os_names import JobId, os_parameter_name
from tests.support.builders import NODE1, NODE2
from tests.support.job_values import a_job

Records = dict[JobId, JobRecord]


def added(*jobs: OsJob, size_bytes: int = 100) -> Records:
    records: Records = {}
    for job in jobs:
        record = job_queue.add(records, job, size_bytes=size_bytes, serial=len(records) + 1)
        records[job.id] = record
    return records


def said(records: Records, job: str, status: JobStatus, **more: Any) -> list[JobRecord]:
    state = JobState(id=JobId(job), status=status, **more)
    return job_queue.take(records, NODE1, [state], serial=50)


def ids_on_board(records: Records) -> list[str]:
    return [order.job.id for order in job_queue.board(records, NODE1, epoch=1, serial=9).orders]


def test_the_same_id_and_request_again_is_the_same_job() -> None:
    """Also if it was sealed anew, or asked for later: that is what a requester does who has had no answer."""
    job = a_job("a", private_names=(os_parameter_name("token"),), sealed=b"once")
    records = added(job)

    again = job_queue.add(records, replace(job, sealed=b"twice", requested=99.0), size_bytes=1, serial=7)

    assert again is records[job.id]


def test_the_same_id_for_another_request_is_refused() -> None:
    records = added(a_job("a"))

    with pytest.raises(Refused, match="job a is another one already"):
        job_queue.add(records, a_job("a", os="other"), size_bytes=1, serial=7)


def test_a_board_lists_what_has_not_ended_in_the_order_it_came() -> None:
    records = added(*(a_job(name) for name in "dacb"), a_job("x", node=NODE2))
    [ended] = said(records, "a", "success")
    records[ended.job.id] = ended

    assert ids_on_board(records) == ["d", "c", "b"]


def test_what_does_not_fit_on_a_board_waits() -> None:
    records = added(*(a_job(name) for name in "abc"), size_bytes=BOARD_BYTES_MAX // 2)

    assert ids_on_board(records) == ["a", "b"]


def test_more_jobs_than_can_be_kept_are_refused() -> None:
    records = added(a_job("a"))
    full = {JobId(f"j{number}"): records[JobId("a")] for number in range(WAITING_MAX)}

    with pytest.raises(Refused, match="wait or run already"):
        job_queue.add(full, a_job("new"), size_bytes=1, serial=1)


def test_a_job_larger_than_a_board_is_refused() -> None:
    with pytest.raises(Refused, match="limit"):
        added(a_job("a"), size_bytes=BOARD_BYTES_MAX + 1)


def test_a_cancelled_job_stays_on_the_board_until_its_node_says_that_it_ended() -> None:
    records = added(a_job("a"))
    records[JobId("a")] = job_queue.cancel(records, JobId("a"), serial=5)

    [order] = job_queue.board(records, NODE1, epoch=1, serial=9).orders

    assert order.is_cancelled
    assert job_queue.cancel(records, JobId("a"), serial=6) == records[JobId("a")], "again changes nothing"


def test_an_ended_job_cannot_be_cancelled_and_an_unknown_one_neither() -> None:
    records = added(a_job("a"))
    [records[JobId("a")]] = said(records, "a", "failed")

    with pytest.raises(Refused, match="has ended already: failed"):
        job_queue.cancel(records, JobId("a"), serial=5)
    with pytest.raises(Refused, match="job b is not known; see: gnt-mesh job list"):
        job_queue.known(records, "b")


def test_an_end_is_final() -> None:
    """A report that was long on its way, or an agent that lost its journal."""
    records = added(a_job("a"))
    [records[JobId("a")]] = said(records, "a", "success", exit_code=0)

    for status in ("queued", "running", "failed", "interrupted"):
        assert said(records, "a", status) == []  # type: ignore[arg-type]


def test_only_a_jobs_own_node_says_how_it_is() -> None:
    records = added(a_job("a", node=NODE2))

    assert said(records, "a", "success") == []
    assert said(records, "unknown", "success") == []


def test_an_end_strips_what_was_confidential_and_changes_the_board() -> None:
    job = a_job("a", private_names=(os_parameter_name("token"),), sealed=b"sealed")
    records = added(job)

    [running] = said(records, "a", "running")
    [ended] = said(records, "a", "success")

    assert (running.job, running.serial) == (job, 1)
    assert (ended.job.sealed, ended.job.private_names, ended.serial) == (b"", (), 50)


def test_jobs_of_a_node_that_is_gone_are_interrupted() -> None:
    records = added(a_job("a"), a_job("b", node=NODE2))

    [record] = job_queue.give_up(records, NODE1, reason="gone", serial=8, now=9.0)

    assert (record.job.id, record.state.status, record.state.ended) == ("a", "interrupted", 9.0)


def test_the_jobs_that_ended_first_go_first_and_active_ones_never() -> None:
    records = added(*(a_job(name) for name in "abcd"))
    for serial, name in enumerate("cab", start=10):
        records[JobId(name)] = replace(
            records[JobId(name)], state=JobState(id=JobId(name), status="success"), serial=serial
        )

    assert job_queue.surplus(records, kept_max=1, noted=()) == ["c", "a"]
    assert job_queue.surplus(records, kept_max=3, noted=()) == []
    assert job_queue.surplus(records, kept_max=1, noted={JobId("c")}) == ["a"]


def test_a_rename_is_about_both_names() -> None:
    records = added(a_job("a", action="rename", instance="new", old_name="old"))

    assert [records[JobId("a")].is_about(name) for name in ("new", "old", "other")] == [True, True, False]
