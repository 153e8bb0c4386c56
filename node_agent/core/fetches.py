"""What is being fetched from the bus, what was asked for meanwhile, and how recent each answer is. Pure.

A scope stands for its manifest, None for the node's assignment. Every fetch that was begun ends exactly once.
"""

from protocol.names import ScopeName


class Fetches:
    """`moment` counts the fetches begun: an answer is as recent as the moment in which its fetch began."""

    def __init__(self) -> None:
        self.moment = 0
        self._begun: dict[ScopeName | None, int] = {}
        self._again: set[ScopeName | None] = set()
        self._as_of: dict[ScopeName | None, int] = {}

    @property
    def is_idle(self) -> bool:
        return not self._begun

    def begin(self, scope: ScopeName | None, *, again: bool) -> bool:
        """Return whether to fetch now. What is under way already is fetched `again` afterwards, or not."""
        if scope in self._begun:
            if again:
                self._again.add(scope)
            return False
        self.moment += 1
        self._begun[scope] = self.moment
        return True

    def end(self, scope: ScopeName | None, *, is_answered: bool) -> bool:
        """Return whether to fetch it again at once."""
        begun = self._begun.pop(scope, 0)
        if is_answered:
            self._as_of[scope] = begun
        is_wanted_again = scope in self._again
        self._again.discard(scope)
        return is_wanted_again

    def is_answered_since(self, scope: ScopeName, moment: int) -> bool:
        """True if the last answer was asked for after that moment."""
        return self._as_of.get(scope, 0) > moment

    def is_coming_since(self, scope: ScopeName, moment: int) -> bool:
        """True if such an answer is under way, or will be asked for without being asked to."""
        return scope in self._again or self._begun.get(scope, 0) > moment
