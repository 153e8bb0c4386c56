"""The keys of the scopes' secrets, on the master's own disk: made here, handed out to nodes wrapped, never shown.

A key that was replaced is gone: what it sealed is sealed anew from the master's own contents.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from master.store import unavailable
from protocol import durable
from protocol.errors import Refused
from protocol.history_messages import FileDiff
from protocol.key_messages import KeyInfo
from protocol.messages import FileEntry, FileEvent, Manifest, WrappedKey
from protocol.names import Digest, ScopeName, scope_name
from protocol.sealing import boxes
from protocol.sealing.boxes import ContentBox, ScopeKey

NAME = "scope-keys.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """A key as it lies on the disk. When it was made is not known of those that were kept there alone."""

    secret: bytes = field(repr=False)
    made: float = 0.0


def open_vault(state_dir: Path) -> "Vault":
    """Return the keys in the state directory, none at the very first start; Refused if they are damaged."""
    path = state_dir / NAME
    try:
        raw = msgspec.json.decode(path.read_bytes(), type=dict[str, Kept | bytes])
        kept = {scope_name(scope): Kept(one) if isinstance(one, bytes) else one for scope, one in raw.items()}
        return Vault(path, kept)
    except FileNotFoundError:
        return Vault(path, {})
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError) as error:
        next_step = "move it away, and everything secret is sealed anew with new keys"
        raise Refused(f"{path} is damaged: {error}; {next_step}") from error


class Vault:
    """Methods that change keys return once the disk has them; OSErrors arrive as Unavailable."""

    def __init__(self, path: Path, kept: Mapping[ScopeName, Kept]) -> None:
        self._path = path
        self._made = {scope: one.made for scope, one in kept.items()}
        self._keys = {scope: ScopeKey(one.secret) for scope, one in kept.items()}

    def key(self, scope: ScopeName) -> ScopeKey | None:
        return self._keys.get(scope)

    def ensure(self, scopes: Iterable[ScopeName]) -> set[ScopeName]:
        """Make the first key of those scopes that have none, and return which these were."""
        missing = {scope for scope in scopes if scope not in self._keys}
        self._renew(missing)
        return missing

    def renew(self, scopes: Collection[ScopeName]) -> set[ScopeName]:
        """Make new keys for those of these scopes that have one, and return which these were."""
        having = {scope for scope in scopes if scope in self._keys}
        self._renew(having)
        return having

    def wrapped(self, scopes: Iterable[ScopeName], reader: str) -> tuple[WrappedKey, ...]:
        """Return the keys of these scopes for the holder of a public nkey; none if nothing can be sealed for it."""
        having = [(scope, key) for scope in scopes if (key := self._keys.get(scope))]
        try:
            return tuple(boxes.wrap(key, scope, reader) for scope, key in having) if reader else ()
        except ValueError:
            return ()

    def key_ids(self, scopes: Iterable[ScopeName]) -> set[tuple[ScopeName, str]]:
        return {(scope, self._keys[scope].id) for scope in scopes if scope in self._keys}

    def shown(self, scopes: Iterable[ScopeName]) -> tuple[KeyInfo, ...]:
        """Return what may be told of the keys that these scopes have."""
        return tuple(
            KeyInfo(what="scope", name=scope, fingerprint=self._keys[scope].id, made=self._made[scope])
            for scope in scopes
            if scope in self._keys
        )

    def box(self, scope: ScopeName, entry: FileEntry) -> ContentBox | None:
        """Return how a content lies on the bus; None for one that is no secret and lies there as it is."""
        return ContentBox(self._keys[scope], entry) if entry.secret else None

    def name(self, scope: ScopeName, entry: FileEntry) -> Digest:
        """Return the name under which a content lies on the bus."""
        box = self.box(scope, entry)
        return box.name if box else entry.digest

    def sealed(self, manifest: Manifest) -> Manifest:
        """Return what may lie on the bus of a manifest."""
        key = self._keys.get(manifest.scope)
        return boxes.seal_manifest(manifest, key) if key else manifest

    def public_entry(self, scope: ScopeName, entry: FileEntry) -> FileEntry:
        """Return what everybody may see of an entry."""
        return boxes.public_entry(entry, self._keys[scope]) if entry.secret else entry

    def public_event(self, event: FileEvent) -> FileEvent:
        """Return what everybody may see of an event."""
        if event.entry is None:
            return event
        return replace(event, entry=self.public_entry(event.scope, event.entry))

    def public_diff(self, one: FileDiff) -> FileDiff:
        """Return what everybody may see of a difference: of a secret's contents, whether they are the same."""
        if not one.is_secret:
            return one
        scopes = [scope_name(scope) for scope in (one.scope_after, one.scope_before) if scope]
        key = next((self._keys[scope] for scope in scopes if scope in self._keys), None)

        def public(entry: FileEntry | None) -> FileEntry | None:
            if entry is None:
                return None
            told = key.derive(b"hidden", entry.digest.encode()).hex() if key else "0" * 64
            return replace(entry, digest=Digest(told), size_bytes=boxes.size_class(entry.size_bytes))

        return replace(one, before=public(one.before), after=public(one.after))

    def hidden(self, scope: ScopeName, content: str) -> str:
        """Return something else for a digest, so that equal ones stay equal and none can be found by trying."""
        key = self._keys.get(scope)
        return key.derive(b"hidden", content.encode()).hex() if key else "hidden"

    def _renew(self, scopes: Collection[ScopeName]) -> None:
        if not scopes:
            return
        keys = self._keys | {scope: boxes.new_scope_key() for scope in scopes}
        made = self._made | dict.fromkeys(scopes, time.time())
        raw = msgspec.json.encode({scope: Kept(key.secret, made[scope]) for scope, key in sorted(keys.items())})
        with unavailable(f"cannot write {self._path}"):
            durable.make_directory(self._path.parent)
            durable.write_file(self._path, raw)
        self._keys, self._made = keys, made
