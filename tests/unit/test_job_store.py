"""The master's record of jobs: what was saved is there again, and output is found by its offsets."""

from pathlib import Path

import pytest

from master.core import job_queue
from master.core.job_queue import JobRecord
from master.job_store import JobStore
from protocol.errors import Refused
from protocol.job_messages import JobLogPart
from protocol.os_names import JobId
from tests.support.job_values import a_job

JOB = JobId("job-1")


def a_record() -> JobRecord:
    return job_queue.add({}, a_job(JOB), size_bytes=100, serial=3)


def a_store(tmp_path: Path) -> JobStore:
    store = JobStore(tmp_path / "jobs")
    store.open()
    return store


def a_part(begin: int, text: bytes, end: int | None = None) -> JobLogPart:
    return JobLogPart(id=JOB, begin=begin, end=begin + len(text) if end is None else end, text=text)


def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    record = a_record()
    a_store(tmp_path).save(record)

    assert JobStore(tmp_path / "jobs").open() == {JOB: record}


def test_a_damaged_record_is_refused_by_name(tmp_path: Path) -> None:
    a_store(tmp_path).save(a_record())
    path = tmp_path / "jobs/job-1.json"
    path.write_bytes(path.read_bytes()[:40])

    with pytest.raises(Refused, match=r"job-1\.json is damaged"):
        JobStore(tmp_path / "jobs").open()


def test_output_is_found_by_offset_also_after_a_restart(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    store.add_output(a_part(0, b"one\n"))
    store.add_output(a_part(4, b"two\n"))
    store.add_output(a_part(900, "süd\n".encode(), end=904))

    for opened in (store, a_store(tmp_path)):
        assert [opened.output(JOB, offset) for offset in (0, 4, 8, 904)] == [
            a_part(0, b"one\n"),
            a_part(4, b"two\n"),
            a_part(900, "süd\n".encode(), end=904),
            None,
        ]
        assert opened.output_end(JOB) == 904


def test_output_that_is_there_is_not_kept_twice(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    for _ in range(2):
        store.add_output(a_part(0, b"one\n"))

    assert (tmp_path / "jobs/job-1.output").read_bytes().count(b"\n") == 1


def test_output_that_a_crash_cut_off_is_asked_for_again(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    store.add_output(a_part(0, b"one\n"))
    store.add_output(a_part(4, b"two\n"))
    path = tmp_path / "jobs/job-1.output"
    path.write_bytes(path.read_bytes()[:-5])

    again = a_store(tmp_path)
    assert again.output_end(JOB) == 4
    again.add_output(a_part(4, b"two\n"))
    assert a_store(tmp_path).output(JOB, 4) == a_part(4, b"two\n")


def test_a_dropped_job_leaves_nothing(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    store.save(a_record())
    store.add_output(a_part(0, b"one\n"))

    store.drop(JOB)

    assert list((tmp_path / "jobs").iterdir()) == []
    assert store.output(JOB, 0) is None
