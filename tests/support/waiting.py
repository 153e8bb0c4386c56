"""Waiting for what a file shows, woken by the file system itself; no fixed sleeps."""

import time
from collections.abc import Callable
from pathlib import Path

from watchfiles import watch

WAKE_MS = 100
"""Look at least this often, because the directory itself may not exist yet."""


def until(condition: Callable[[], bool], *, near: Path, timeout_s: float = 20.0) -> None:
    """Return once the condition holds, looked at after every change below `near`; fail when the time is over."""
    deadline_s = time.monotonic() + timeout_s
    hints = watch(near, step=10, debounce=50, rust_timeout=WAKE_MS, yield_on_timeout=True, watch_filter=None)
    for _ in hints:
        if condition():
            return
        assert time.monotonic() < deadline_s, f"nothing of the kind within {timeout_s} s near {near}"


def until_holds(path: Path, content: bytes, *, near: Path, timeout_s: float = 20.0) -> None:
    """Return once the file has exactly this content."""
    until(lambda: path.is_file() and path.read_bytes() == content, near=near, timeout_s=timeout_s)
