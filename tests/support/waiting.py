"""Waiting for what a file shows or for a process to end, woken by the kernel; no fixed sleeps."""

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from watchfiles import watch

T = TypeVar("T")

WAKE_MS = 100
"""Look at least this often, because the directory itself may not exist yet."""


def until(condition: Callable[[], T], *, near: Path, timeout_s: float = 20.0, what: str = "") -> T:
    """Return what the condition returns once that is true, looked at after every change of `near` and below it.

    AssertionError with its last value when the time is over. What does not exist yet is waited for from above.
    """
    deadline_s = time.monotonic() + timeout_s
    while not near.exists():
        near = near.parent
    if value := condition():
        return value
    hints = watch(near, step=10, debounce=50, rust_timeout=WAKE_MS, yield_on_timeout=True, watch_filter=None)
    for _ in hints:
        if value := condition():
            return value
        if time.monotonic() >= deadline_s:
            break
    raise AssertionError(f"{what or 'nothing of the kind'} not within {timeout_s:g} s near {near}, at last {value!r}")


def until_holds(path: Path, content: bytes, *, near: Path, timeout_s: float = 20.0) -> None:
    """Return once the file has exactly this content."""
    until(lambda: path.is_file() and path.read_bytes() == content, near=near, timeout_s=timeout_s, what=str(path))


def until_ended(pids: Iterable[int], *, timeout_s: float = 10.0) -> None:
    """Return when these processes, whosever children they are, have ended, or when the time is over."""
    deadline_s = time.monotonic() + timeout_s
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            ended = os.pidfd_open(pid)
            try:
                select.select((ended,), (), (), max(deadline_s - time.monotonic(), 0.0))
            finally:
                os.close(ended)
