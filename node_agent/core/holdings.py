"""What on this node's disk is the mesh's: the ledger's content while the agent runs. Pure.

Before a write its intent is noted, so that an agent that dies in between knows afterwards whether the file is its own.
"""

from collections.abc import Iterable, Mapping

from node_agent.core.reconcile import Found, Known, Wanted, Write
from protocol.names import ManagedPath, ScopeName, is_secret


class Holdings:
    """`known` is for reading; it changes only here."""

    def __init__(self, known: Mapping[ManagedPath, Known]) -> None:
        self.known = dict(known)
        self.is_changed = False
        self._scopes: tuple[ScopeName, ...] | None = None

    @property
    def scopes(self) -> tuple[ScopeName, ...]:
        """The scopes of which there are files here, or may be."""
        if self._scopes is None:
            self._scopes = tuple(sorted({known.scope for known in self.known.values()}))
        return self._scopes

    def intend(self, writes: Iterable[Write], found: Mapping[ManagedPath, Found]) -> None:
        """Note what is about to be written."""
        for write in writes:
            path = write.entry.path
            self._set(path, _intended(write, self.known.get(path), found[path]))

    def note_written(self, write: Write) -> None:
        self._set(write.entry.path, Known(write.scope, write.entry.digest, secret=write.entry.secret))

    def note_right(self, path: ManagedPath, want: Wanted) -> None:
        """It is here as it should be, whoever wrote it: from now on it is the mesh's."""
        self._set(path, Known(want.scope, want.entry.digest, secret=want.entry.secret))

    def forget(self, path: ManagedPath) -> None:
        del self.known[path]
        self._note_change()

    def forget_all(self) -> None:
        """What is here is not the mesh's any more: the node has become the master, and these are its sources."""
        for path in list(self.known):
            self.forget(path)

    def _set(self, path: ManagedPath, known: Known) -> None:
        if self.known.get(path) != known:
            self.known[path] = known
            self._note_change()

    def _note_change(self) -> None:
        self.is_changed = True
        self._scopes = None


def _intended(write: Write, before: Known | None, here: Found) -> Known:
    """Return what to know until the write is done: whichever of the two contents is then here, it is the mesh's.

    As long as either may be a secret, it counts as one.
    """
    if before is None or (before.is_intent and before.digest != here.digest):
        return Known(write.scope, write.entry.digest, is_intent=True, secret=write.entry.secret)
    scope = write.scope if is_secret(write.scope) else before.scope
    digest = here.digest if before.wrote(here.digest) else before.digest
    return Known(scope, digest, next_digest=write.entry.digest, secret=write.entry.secret or before.secret)
