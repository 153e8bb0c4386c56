"""A node's keys: whose word it takes, and the keys of its scopes' secrets that it was given. In memory alone.

A scope's key comes with the assignment, and goes with it: a node that is told that it has left a scope has no key of it
any more, and gets none of the next.
"""

from collections.abc import Collection
from dataclasses import replace

from protocol.errors import DecodeError
from protocol.messages import Assignment, Manifest
from protocol.names import ScopeName
from protocol.sealing import boxes
from protocol.sealing.boxes import ScopeKey


class Keyring:
    """`trusted` are the master's public keys; whoever changes them changes who is believed."""

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

    def opened(self, manifest: Manifest) -> Manifest:
        """Return a manifest with its secrets' true digests; DecodeError if the key that is here does not open it."""
        if not manifest.key:
            if any(entry.secret for entry in manifest.files):
                raise DecodeError(f"manifest of {manifest.scope}: it has secrets, and nothing of them is sealed")
            return manifest
        key = self._keys.get(manifest.scope)
        if key is None or key.id != manifest.key:
            raise DecodeError(f"manifest of {manifest.scope}: this node has not been given the key {manifest.key}")
        return boxes.open_manifest(manifest, key)

    def key(self, scope: ScopeName) -> ScopeKey | None:
        return self._keys.get(scope)
