"""Tells who waits inside the master that something has happened, and those who watch from outside, in moderation."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from protocol.errors import Unavailable

RING_PAUSE_S: Final = 0.1
"""Operators who watch are told at most ten times a second."""


class Progress:
    """`note` may be called at any time; it never waits."""

    def __init__(self) -> None:
        self._happened = asyncio.Event()
        self._bell_due = asyncio.Event()

    def note(self) -> None:
        """Something was published, a node reported, a problem came or went."""
        self._happened.set()
        self._happened = asyncio.Event()
        self._bell_due.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when something has happened since, or when the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._happened.wait()

    async def ring(self, bell: Callable[[], Awaitable[None]]) -> None:
        """Call `bell` after what happens, until cancelled."""
        while True:
            await self._bell_due.wait()
            self._bell_due.clear()
            with contextlib.suppress(Unavailable):  # nobody watches through a bus that is not there
                await bell()
            await asyncio.sleep(RING_PAUSE_S)
