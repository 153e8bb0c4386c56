"""A node's keys: whose word it takes, and the keys of its scopes' secrets that it was given. In memory alone.

A scope's key comes with the assignment, and goes with it: a node that is told that it has left a scope has no key of it
any more, and gets none of the next.
"""

from collections.abc import Collection
from dataclasses import replace

from protocol.errors import DecodeError
from protocol.messages import Assignment
from protocol.names import ScopeName
from protocol.sealing import boxes
from protocol.sealing.boxes import ScopeKey


class Keyring:
    """`trusted` are the master's public keys."""

    def __init__(self, seed: str, trusted: Collection[str]) -> None:
        self.trusted = trusted
        self._seed = seed
        self._keys: dict[ScopeName, ScopeKey] = {}

    def use_seed(self, seed: str) -> None:
        """From now on keys are wrapped for this identity; those that were unwrapped stay."""
        self._seed = seed

    def take(self, assignment: Assignment) -> Assignment:
        """Take in the keys of an assignment, those before are forgotten; return it without them.

        A key that was wrapped for another identity of this node (it is being renewed) is none for this one.
        """
        found = {}
        for wrapped in assignment.keys:
            try:
                found[wrapped.scope] = boxes.unwrap(wrapped, self._seed)
            except DecodeError:
                continue
        self._keys = {scope: key for scope, key in found.items() if scope in assignment.scopes}
        return replace(assignment, keys=())

    def key(self, scope: ScopeName) -> ScopeKey | None:
        return self._keys.get(scope)
