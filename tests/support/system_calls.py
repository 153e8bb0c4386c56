"""Which system calls were made, and in which order."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def system_calls() -> Iterator[list[str]]:
    """Note the calls, by name and in order, of this thread and of those that begin meanwhile."""
    calls: list[str] = []

    def note(frame: Any, event: str, function: Any) -> None:
        if event == "c_call" and function.__module__ == "posix":
            calls.append(function.__name__)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
