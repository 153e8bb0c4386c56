"""From the cluster config and what the sources hold to one manifest per scope, and what changed since.

Pure. The guard of the design lives here: a source that merely vanished, became empty or cannot be read is an error to
show, never a change to ship.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from master.core.cluster import AncillaryFile, ClusterConfig
from protocol.messages import FileEntry, FileError, FileEvent, Manifest, Withdrawal
from protocol.names import Digest, ManagedPath, ScopeName, is_secret

WITHDRAWALS_MAX = 1000
PATH_SHOWN_CHARS_MAX = 100


@dataclass(frozen=True, slots=True)
class Source:
    """What the master's disk holds at a managed path.

    `ready`: its content is stored under `digest`. `absent`: nothing is there. `unsettled`: it is being written, look
    again. `unusable`: it cannot be shipped; `reason` says why.
    """

    kind: Literal["ready", "absent", "unsettled", "unusable"]
    digest: Digest = Digest("")
    size_bytes: int = 0
    mode: int = 0
    owner: str = ""
    group: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """What to publish as one generation; no manifests if nothing changed. Scopes come with additions first."""

    generation: int
    manifests: tuple[Manifest, ...]
    events: tuple[FileEvent, ...]
    problems: tuple[FileError, ...]


def plan(
    config: ClusterConfig,
    files: Sequence[AncillaryFile],
    sources: Mapping[ManagedPath, Source],
    before: Mapping[ScopeName, Manifest],
    *,
    generation: int,
    renewed: Collection[ScopeName] = (),
) -> Publication:
    """Return what `generation` would publish. `before` holds the manifests that are published now.

    Scopes whose key was `renewed` are published in any case.
    """
    problems: list[FileError] = []
    published = {entry.path: entry for manifest in before.values() for entry in manifest.files}
    entries: dict[ScopeName, list[FileEntry]] = {scope: [] for scope in config.scopes()}
    for file in files:
        entry, problem = _entry(file, sources[file.path], published.get(file.path), generation)
        if problem:
            problems.append(FileError(path=file.path, scope=file.scope, reason=problem))
        if entry:
            entries[file.scope].append(entry)
    changed = [
        manifest
        for scope in config.scopes()
        if (manifest := _manifest(config, scope, entries[scope], before.get(scope), generation, scope in renewed))
    ]
    events = [event for manifest in changed for event in _events(manifest, before.get(manifest.scope))]
    changed.sort(key=lambda manifest: _removes(manifest, before.get(manifest.scope)))
    return Publication(generation, tuple(changed), tuple(events), tuple(problems))


def in_command(path: ManagedPath) -> str:
    """Return how a path is named in a command that is proposed: a reason has a limit, and names its path beside it."""
    return path if len(path) <= PATH_SHOWN_CHARS_MAX else "PATH"


def _entry(
    file: AncillaryFile, source: Source, published: FileEntry | None, generation: int
) -> tuple[FileEntry | None, str]:
    """Return the entry to ship and the problem to show; either may be missing."""
    match source.kind:
        case "unsettled" | "unusable":
            return published, source.reason
        case "absent":
            return published, _absence(file, published)
        case "ready":
            pass
    if published and source.size_bytes == 0 and published.size_bytes > 0 and not file.allow_empty:
        return published, (
            f"became empty on the master; nodes keep the {published.size_bytes} bytes of generation "
            f"{published.generation}. To ship it empty: gnt-mesh file confirm {in_command(file.path)}"
        )
    entry = FileEntry(
        path=file.path,
        digest=source.digest,
        size_bytes=source.size_bytes,
        mode=source.mode,
        owner=source.owner,
        group=source.group,
        generation=generation,
        secret=file.secret or is_secret(file.scope),
    )
    if published and replace(entry, generation=published.generation, secret=published.secret) == published:
        return replace(published, secret=entry.secret), ""
    return entry, ""


def _absence(file: AncillaryFile, published: FileEntry | None) -> str:
    if published:
        return (
            f"vanished from the master; nodes keep generation {published.generation}. "
            f"To withdraw it from them: gnt-mesh file remove {in_command(file.path)}"
        )
    return "" if file.optional else "does not exist on the master, so there is nothing to ship yet"


def _manifest(
    config: ClusterConfig,
    scope: ScopeName,
    entries: Sequence[FileEntry],
    before: Manifest | None,
    generation: int,
    is_renewed: bool,
) -> Manifest | None:
    """Return the scope's new manifest, None if it is the one before."""
    after = Manifest(
        scope=scope,
        epoch=config.cluster.epoch,
        generation=before.generation if before else generation,
        files=tuple(entries),
        withdrawn=_withdrawn(config, scope, {entry.path for entry in entries}, before, generation),
    )
    return None if after == before and not is_renewed else replace(after, generation=generation)


def _withdrawn(
    config: ClusterConfig, scope: ScopeName, paths: set[ManagedPath], before: Manifest | None, generation: int
) -> tuple[Withdrawal, ...]:
    """Return what left the scope: lately, by the manifest before; if there is none, by what the config remembers."""
    remembered = config.cluster.withdrawn_files
    if before:
        purged = {file.path for file in remembered if file.purge}
        old = {item.path: item for item in before.withdrawn}
        gone = {entry.path: entry.path in purged for entry in before.files}
    else:
        old = {}
        gone = {file.path: file.purge for file in remembered if file.scope == scope}
    new = {path: Withdrawal(path=path, generation=generation, purge=purge) for path, purge in gone.items()}
    left = [item for path, item in (old | new).items() if path not in paths]
    return tuple(sorted(left, key=lambda item: (item.generation, item.path))[-WITHDRAWALS_MAX:])


def _events(manifest: Manifest, before: Manifest | None) -> list[FileEvent]:
    old = {entry.path: entry for entry in before.files} if before else {}
    new = {entry.path: entry for entry in manifest.files}
    touched = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    return [
        FileEvent(
            scope=manifest.scope,
            epoch=manifest.epoch,
            generation=manifest.generation,
            path=path,
            change="changed" if path in new else "removed",
            entry=new.get(path),
        )
        for path in touched
    ]


def _removes(manifest: Manifest, before: Manifest | None) -> bool:
    """Scopes that lose a file are published last: a file that moves to another scope is never on neither."""
    paths = {entry.path for entry in manifest.files}
    return before is not None and any(entry.path not in paths for entry in before.files)
