"""Waiting for something to happen, inside the master."""

import asyncio

import pytest

from master.progress import Progress


async def waiting(progress: Progress) -> asyncio.Task[None]:
    task = asyncio.create_task(progress.wait(3600.0))
    await asyncio.sleep(0)
    return task


async def test_who_waits_is_told() -> None:
    progress = Progress()
    task = await waiting(progress)
    progress.note()
    await task


async def test_a_time_that_is_over_is_no_error() -> None:
    await Progress().wait(0.0)


@pytest.mark.parametrize("turns", range(4))
async def test_who_is_cancelled_just_when_something_happens_ends(turns: int) -> None:
    """asyncio.wait_for of Python 3.11 returns then as if nobody had cancelled, and a master that stops never ends."""
    progress = Progress()
    task = await waiting(progress)
    progress.note()
    for _ in range(turns):
        await asyncio.sleep(0)
    if task.cancel():
        with pytest.raises(asyncio.CancelledError):
            await task
