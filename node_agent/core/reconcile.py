"""Desired against actual: what has to be done on this node's disk. Pure: no I/O, no clock.

The one promise that everything else rests on: a plan names only paths that the mesh wants here now, or that the mesh
wrote here before. Applying a plan and looking again yields an empty plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from protocol.messages import FileEntry, Withdrawal
from protocol.names import Digest, ManagedPath, ScopeName, is_secret


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that should be here, and the scope that says so."""

    scope: ScopeName
    entry: FileEntry

    @property
    def is_secret(self) -> bool:
        return self.entry.secret or is_secret(self.scope)


@dataclass(frozen=True, slots=True)
class Found:
    """What is really at a managed path.

    `blocked`: something that the mesh does not touch (a link, a directory, a path outside the allowed ones, or a
    file that cannot be read); `reason` says which.
    """

    kind: Literal["file", "absent", "blocked"]
    digest: Digest = Digest("")
    size_bytes: int = 0
    mode: int = 0
    owner: str = ""
    group: str = ""
    reason: str = ""
    uid: int = field(default=-1, compare=False)
    gid: int = field(default=-1, compare=False)
    """Owner and group once more, as numbers: a manifest has a number where the master knows no name."""


ABSENT = Found("absent")


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger remembers of a file that the mesh wrote here."""

    scope: ScopeName
    digest: Digest
    is_intent: bool = False
    """Noted before the write, not yet after it: the file is the mesh's only if it has this digest."""
    next_digest: Digest = Digest("")
    """Noted before a write over it: this content may be there as well, and is the mesh's."""
    secret: bool = False
    """Shipped as a secret: it leaves no copy behind."""

    @property
    def is_secret(self) -> bool:
        """True also for what an older agent has noted of a scope that is secret as a whole."""
        return self.secret or is_secret(self.scope)

    def wrote(self, content: Digest) -> bool:
        """True if the mesh has written this content here, or may have."""
        return content in (self.digest, self.next_digest)


@dataclass(frozen=True, slots=True)
class Write:
    """Put this content at this path. `copy_of` names a local file that holds the content already."""

    scope: ScopeName
    entry: FileEntry
    copy_of: ManagedPath | None = None
    keep_backup: bool = False

    @property
    def is_secret(self) -> bool:
        return self.entry.secret or is_secret(self.scope)


@dataclass(frozen=True, slots=True)
class Remove:
    """Take this file away. With `purge` its earlier backups go too; with `is_gone` they alone.

    What appears where nothing was found is somebody else's.
    """

    scope: ScopeName
    path: ManagedPath
    keep_backup: bool = False
    purge: bool = False
    is_gone: bool = False
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything to do, in path order. Writes are all staged before the first one is made visible."""

    writes: tuple[Write, ...] = ()
    removals: tuple[Remove, ...] = ()
    errors: tuple[tuple[ManagedPath, str], ...] = ()
    """Paths that differ and must not be touched, with the reason."""

    @property
    def is_empty(self) -> bool:
        return not self.writes and not self.removals

    @property
    def paths(self) -> tuple[ManagedPath, ...]:
        """Every path that is to be changed."""
        return (*(write.entry.path for write in self.writes), *(removal.path for removal in self.removals))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a plan: per path what is there now, or why it is not done."""

    found: Mapping[ManagedPath, Found]
    errors: Mapping[ManagedPath, str]


def reconcile(
    wanted: Mapping[ManagedPath, Wanted],
    found: Mapping[ManagedPath, Found],
    known: Mapping[ManagedPath, Known],
    withdrawn: Mapping[ManagedPath, Withdrawal],
    *,
    holds_sources: bool = False,
) -> Plan:
    """Return what to do so that `found` becomes `wanted`. Every wanted and every known path must be in `found`.

    A file is removed only if it is in `known`, from which what has been purged must go. On the node that holds the
    sources nothing is ever done: a difference there is the master's to see first.
    """
    differing = {path: want for path, want in wanted.items() if not is_as_wanted(want.entry, found[path])}
    if holds_sources:
        return Plan(errors=tuple((path, _source_reason(found[path])) for path in sorted(differing)))
    surplus = sorted(
        path
        for path in known
        if path not in wanted
        if is_ours(found[path], known[path]) or has_backups_to_purge(found[path], withdrawn.get(path))
    )
    lacking = {want.entry.digest for want in differing.values()}
    holding = [(path, here.digest) for path, here in found.items() if here.digest in lacking and here.kind == "file"]
    holders = {digest: path for path, digest in sorted(holding, reverse=True)}
    blocked = [(path, found[path].reason) for path in (*differing, *surplus) if found[path].kind == "blocked"]
    return Plan(
        writes=tuple(
            Write(
                want.scope,
                want.entry,
                copy_of=holders.get(want.entry.digest),
                keep_backup=_is_foreign(found[path], want, known.get(path)),
            )
            for path, want in sorted(differing.items())
            if found[path].kind != "blocked"
        ),
        removals=tuple(
            _removal(path, found[path], known[path], withdrawn.get(path))
            for path in surplus
            if found[path].kind != "blocked"
        ),
        errors=tuple(sorted(blocked)),
    )


def is_as_wanted(entry: FileEntry, here: Found) -> bool:
    """True if content, mode, owner and group are all as the manifest says."""
    return (
        here.kind == "file"
        and here.digest == entry.digest
        and here.mode == entry.mode
        and entry.owner in (here.owner, str(here.uid))
        and entry.group in (here.group, str(here.gid))
    )


def is_ours(here: Found, known: Known) -> bool:
    """True if something is there that the mesh wrote, or that took the place of what it wrote."""
    return here.kind != "absent" and not (known.is_intent and here.digest != known.digest)


def has_backups_to_purge(here: Found, withdrawal: Withdrawal | None) -> bool:
    """True if a file is to leave no copy and is gone already: somebody's hand took it, and not its older backups."""
    return here.kind == "absent" and withdrawal is not None and withdrawal.purge


def _removal(path: ManagedPath, here: Found, known: Known, withdrawal: Withdrawal | None) -> Remove:
    purge = withdrawal is not None and withdrawal.purge
    is_kept, is_gone = not purge and not known.is_secret, here.kind == "absent"
    return Remove(known.scope, path, keep_backup=is_kept, purge=purge, is_gone=is_gone, is_secret=known.is_secret)


def _is_foreign(here: Found, want: Wanted, known: Known | None) -> bool:
    """True if overwriting would lose a content that did not come from the mesh (its own are in the history)."""
    if here.kind != "file" or here.digest == want.entry.digest or want.is_secret:
        return False
    return known is None or not (known.wrote(here.digest) or known.is_secret)


def _source_reason(here: Found) -> str:
    match here.kind:
        case "absent":
            return "the source is missing on the master"
        case "file":
            return "the source differs from what is published"
        case "blocked":
            return here.reason
