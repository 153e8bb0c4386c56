"""How a node reads what is sealed: with the keys of its assignment, which is fetched again when they do not fit.

A key that was renewed may be seen in a manifest before its bell is heard; then the assignment tells it.
"""

import contextlib
from collections.abc import Awaitable, Callable

from protocol.errors import DecodeError, Unavailable
from protocol.messages import FileEntry, Manifest
from protocol.names import Digest, ScopeName
from protocol.sealing.boxes import ContentBox, ScopeKey
from protocol.sealing.keyring import Keyring


class Openings:
    """`refresh` has the keyring take the assignment that the bus has now."""

    def __init__(self, keyring: Keyring, refresh: Callable[[], Awaitable[object]]) -> None:
        self._keyring = keyring
        self._refresh = refresh

    async def manifest(self, manifest: Manifest) -> Manifest:
        """Return a manifest with its secrets' true digests; Unavailable if this node has not been given the key."""
        if manifest.key:
            await self._key(manifest.scope, manifest.key)
        return self._keyring.opened(manifest)

    async def box(self, scope: ScopeName, entry: FileEntry) -> ContentBox:
        """Return what opens a secret's content."""
        return ContentBox(await self._key(scope), entry)

    def name(self, scope: ScopeName, entry: FileEntry) -> Digest | None:
        """Return under which name the bus has a content; None if that cannot be known without a key."""
        if not entry.secret:
            return entry.digest
        key = self._keyring.key(scope)
        return ContentBox(key, entry).name if key else None

    async def note_failure(self) -> None:
        """A secret's content could not be had: it may have been sealed anew. What is tried next has the newest key."""
        with contextlib.suppress(Unavailable, DecodeError):
            await self._refresh()

    async def _key(self, scope: ScopeName, key_id: str = "") -> ScopeKey:
        key = self._keyring.key(scope)
        if key is None or key_id not in ("", key.id):
            await self._refresh()
            key = self._keyring.key(scope)
        if key is None or key_id not in ("", key.id):
            raise Unavailable(f"secrets of {scope}: this node has not been given the key {key_id} yet")
        return key
