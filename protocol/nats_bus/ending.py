"""Ends what nats-py is in the middle of: its own `asyncio.wait_for` (Python 3.11) can lose a cancellation."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

CANCEL_AGAIN_S: Final = 0.1


async def end(task: asyncio.Task[Any]) -> None:
    """Return when the task is over, however many cancellations that takes."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)


async def within(timeout_s: float | None, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what the work returns; TimeoutError if its time is over first, and it goes on no longer then."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        await end(task)
