"""A job's output on the node's disk: the beginning and the end are kept, and offsets mean the same for ever."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent import job_log
from node_agent.job_log import JobLog

SIZES: dict[str, Any] = {"head_bytes": 10, "tail_bytes": 4}


def everything(directory: Path, offset: int = 0, size_max: int = 3) -> list[tuple[int, bytes]]:
    """Read as a follower does, part by part."""
    parts = []
    while True:
        begin, data = job_log.read(directory, offset, size_max, **SIZES)
        if not data:
            return parts
        parts.append((begin, data))
        offset = begin + len(data)


@given(st.lists(st.binary(max_size=9), max_size=12))
def test_what_is_read_is_what_was_written_there_and_beginning_and_end_are_kept(
    tmp_path_factory: pytest.TempPathFactory, writes: list[bytes]
) -> None:
    directory = tmp_path_factory.mktemp("log")
    log = JobLog(directory, **SIZES)
    for data in writes:
        log.write(data)
    log.close()
    output = b"".join(writes)

    parts = everything(directory)

    assert log.end == job_log.end_of(directory, **SIZES) == len(output)
    assert all(output[begin : begin + len(data)] == data for begin, data in parts)
    kept = {begin + index for begin, data in parts for index in range(len(data))}
    assert kept >= set(range(min(10, len(output))))
    assert kept >= set(range(max(len(output) - 4, 0), len(output)))
    assert sum(path.stat().st_size for path in directory.iterdir()) <= 10 + 2 * 4


def test_what_the_disk_does_not_take_is_left_out_and_said(tmp_path: Path) -> None:
    log = JobLog(tmp_path, head_bytes=1000, tail_bytes=1000)
    log.write(b"before\n")
    real, log._fd = log._fd, os.open("/dev/full", os.O_WRONLY)
    log.write(b"lost\n")
    os.close(log._fd)
    log._fd = real
    log.write(b"after\n")
    log.close()

    assert (tmp_path / "log").read_bytes() == (
        b"before\n\n[5 bytes of output are lost: the disk did not take them]\nafter\n"
    )
    assert log.last.endswith(b"lost\nafter\n"), "the last words are known all the same"


def test_a_job_that_has_printed_nothing_has_an_empty_log(tmp_path: Path) -> None:
    assert job_log.read(tmp_path / "absent", 0, 10, **SIZES) == (0, b"")
    assert job_log.end_of(tmp_path / "absent", **SIZES) == 0
