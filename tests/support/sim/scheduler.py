"""Virtual time and seeded chance: the same seed, the same story."""

import heapq
import itertools
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass

Job = Generator[float, None, None]
"""A piece of work that takes time: it yields how long until its next step."""


class Violation(AssertionError):
    """Something that must never happen has happened."""


@dataclass(slots=True)
class Trouble:
    """How bad things are: probabilities, and the longest delay of anything that is on its way."""

    bell_lost: float = 0.0
    bell_twice: float = 0.0
    status_lost: float = 0.0
    fetch_lost: float = 0.0
    read_stale: float = 0.0
    blob_lost: float = 0.0
    hint_lost: float = 0.0
    longest_s: float = 0.02


CALM = Trouble()


class Scheduler:
    """What happens next, and the story of what has happened."""

    def __init__(self, seed: int) -> None:
        self.now_s = 0.0
        self.chance = random.Random(seed)
        self.trouble = CALM
        self.story: list[str] = []
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []

    def tell(self, text: str) -> None:
        self.story.append(f"{self.now_s:9.3f}  {text}")

    def at(self, delay_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._waiting, (self.now_s + delay_s, next(self._numbers), act))

    def soon(self, act: Callable[[], None]) -> None:
        """After a delay as trouble has it: two things that are on their way may overtake each other."""
        self.at(self.delay_s(), act)

    def delay_s(self) -> float:
        if self.chance.random() < 0.9:
            return self.chance.uniform(0.0002, 0.01)
        return self.chance.uniform(0.0002, self.trouble.longest_s)

    def happens(self, probability: float) -> bool:
        return self.chance.random() < probability

    def every(self, interval_s: float, act: Callable[[], None]) -> None:
        def again() -> None:
            act()
            self.at(interval_s, again)

        self.at(self.chance.uniform(0.0, interval_s), again)

    def run(self, job: Job, then: Callable[[], None] = lambda: None) -> None:
        """Take the steps of a job, with its pauses between them."""

        def step() -> None:
            pause_s = next(job, None)
            if pause_s is None:
                then()
            else:
                self.at(pause_s, step)

        step()

    def run_until(self, end_s: float) -> None:
        while self._waiting and self._waiting[0][0] <= end_s:
            self.now_s, _, act = heapq.heappop(self._waiting)
            act()
        self.now_s = end_s
