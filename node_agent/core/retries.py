"""What failed, why, and when it may be tried again: slower each time. Pure; the caller brings the time."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Thing = TypeVar("Thing", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Failure:
    reason: str
    attempts: int
    retry_at_s: float


class Retries(Generic[Thing]):
    """Failures by thing. The pause doubles from `first_s` up to `longest_s`."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        assert 0 < first_s <= longest_s
        self._first_s = first_s
        self._longest_s = longest_s
        self._failures: dict[Thing, Failure] = {}

    def fail(self, thing: Thing, reason: str, now_s: float) -> None:
        """Note one more failure and put off the next attempt."""
        attempts = self._failures[thing].attempts if thing in self._failures else 0
        pause = min(self._first_s * 2 ** min(attempts, 30), self._longest_s)
        self._failures[thing] = Failure(reason, attempts + 1, now_s + pause)

    def clear(self, thing: Thing) -> bool:
        """It worked, or it is no longer wanted. Return whether it had failed."""
        return self._failures.pop(thing, None) is not None

    def hurry(self, thing: Thing) -> None:
        """There is news of it: it may be tried now, and pauses begin short again. Until it works it has failed."""
        failure = self._failures.get(thing)
        if failure:
            self._failures[thing] = Failure(failure.reason, 0, float("-inf"))

    def due(self, now_s: float) -> list[Thing]:
        """Return what may be tried again. It stays a failure until cleared."""
        return [thing for thing, failure in self._failures.items() if failure.retry_at_s <= now_s]

    def is_held(self, thing: Thing, now_s: float) -> bool:
        """True if the thing failed and its pause is not over."""
        failure = self._failures.get(thing)
        return failure is not None and failure.retry_at_s > now_s

    @property
    def reasons(self) -> dict[Thing, str]:
        return {thing: failure.reason for thing, failure in self._failures.items()}
