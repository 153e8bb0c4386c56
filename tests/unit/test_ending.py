"""Work that loses cancellations is ended all the same."""

import asyncio

import pytest

from protocol.nats_bus.ending import end, within


class Stubborn:
    """Work that takes the first cancellations for something else, as nats-py's does."""

    def __init__(self, losses: int) -> None:
        self.lost = 0
        self._losses = losses

    async def work(self) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if self.lost == self._losses:
                    raise
                self.lost += 1


@pytest.mark.parametrize("losses", [0, 1, 2])
async def test_a_task_is_cancelled_until_it_is_over(losses: int) -> None:
    stubborn = Stubborn(losses)
    task = asyncio.create_task(stubborn.work())
    await asyncio.sleep(0)
    await end(task)
    assert task.cancelled() and stubborn.lost == losses


@pytest.mark.parametrize("losses", [0, 1, 2])
async def test_work_whose_time_is_over_goes_on_no_longer(losses: int) -> None:
    stubborn = Stubborn(losses)
    with pytest.raises(TimeoutError):
        await within(0.0, stubborn.work())
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_work_returns_is_returned_and_what_it_raises_raised() -> None:
    async def answer() -> int:
        return 7

    async def fail() -> int:
        raise ValueError("no")

    assert await within(1.0, answer()) == 7
    with pytest.raises(ValueError, match="no"):
        await within(1.0, fail())
