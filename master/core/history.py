"""What the kept generations say: who changed what, when, and what every file was then. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from master.core.preview import CHANGE_CHARS, SHOWN_CHARS_MAX, Held, differences, held
from protocol.change_messages import FileChange
from protocol.errors import Refused
from protocol.history_messages import DiffReply, FileDiff, LogEntry, LogReply
from protocol.messages import FileEntry, Manifest
from protocol.names import ManagedPath, ScopeName, is_secret

LOG_ENTRIES_MAX = 200
LOG_CHANGES_MAX = 50
"""Changes named per generation in a log."""
DIFF_CHARS = 600
"""About what a differing file takes in a message beside its path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One entry of the history: the manifests that changed, complete, and where they come from."""

    generation: int
    time: float
    why: str
    """The command, or what the master noticed."""
    by: str = ""
    """Who asked for it, as told by the client; for an edit of sources, who owns them."""
    reason: str = ""
    """What who asked said about it."""
    manifests: tuple[Manifest, ...]
    is_remainder: bool = False
    """Beyond the generations that are kept: it is here only for manifests that are in force in a kept one."""


History = Sequence[Generation]
"""In the order of generations."""


def snapshot(history: History, generation: int) -> Held:
    """Return every file that was published when `generation` was the newest, with its scope.

    Refused, with the ones there are, if it is none of those that are kept.
    """
    kept = [entry.generation for entry in history if not entry.is_remainder]
    if generation not in kept:
        there_are = f"{kept[0]} to {kept[-1]}" if kept else "none"
        raise Refused(f"generation {generation} is not kept; those that are: {there_are}, see: gnt-mesh file log")
    manifests: dict[ScopeName, Manifest] = {}
    for entry in history:
        if entry.generation <= generation:
            manifests |= {manifest.scope: manifest for manifest in entry.manifests}
    return held(manifests, manifests)


def secrets(history: History) -> frozenset[ManagedPath]:
    """Return every path that a kept generation has for master candidates alone, or has as a secret."""
    return frozenset(
        entry.path
        for generation in history
        for manifest in generation.manifests
        for entry in manifest.files
        if entry.secret or is_secret(manifest.scope)
    )


def log(history: History, *, path: str = "", before: int = 0, limit: int = LOG_ENTRIES_MAX) -> LogReply:
    """Return the newest generations (that changed `path`), newest first, as many as fit into one answer."""
    newest = _Newest()
    entries: list[LogEntry] = []
    for generation in history:
        changes = [change for change in newest.take(generation) if path in ("", change.path)]
        if not generation.is_remainder and (changes or not path) and (not before or generation.generation < before):
            entries.append(_log_entry(generation, changes))
    entries.reverse()
    fitting = _fitting(entries[: max(min(limit, LOG_ENTRIES_MAX), 1)])
    return LogReply(entries=tuple(fitting), is_all=len(fitting) == len(entries))


def diff(history: History, before: int, after: int, paths: Sequence[str] = ()) -> DiffReply:
    """Return what differs between two kept generations; Refused for a path that neither has."""
    old, new, secret = snapshot(history, before), snapshot(history, after), secrets(history)
    for path in paths:
        if path not in old and path not in new:
            raise Refused(f"{path} was not published in generation {before}, nor in {after}")
    wanted = sorted(path for path in old.keys() | new.keys() if not paths or path in paths)
    found = [_file_diff(path, old, new, secret) for path in wanted if _differs(old.get(path), new.get(path))]
    ends = accumulate(len(one.path) * 3 + DIFF_CHARS for one in found)
    shown = [one for one, end in zip(found, ends, strict=True) if end <= SHOWN_CHARS_MAX]
    return DiffReply(files=tuple(shown), files_count=len(found))


class _Newest:
    """The newest manifest of every scope, while one goes through the history."""

    def __init__(self) -> None:
        self._manifests: dict[ScopeName, Manifest] = {}

    def take(self, generation: Generation) -> list[FileChange]:
        changes = [
            change
            for manifest in generation.manifests
            for change in _changes(manifest, self._manifests.get(manifest.scope))
        ]
        self._manifests |= {manifest.scope: manifest for manifest in generation.manifests}
        return sorted(changes, key=lambda change: (change.path, change.scope))


def _changes(manifest: Manifest, before: Manifest | None) -> Iterator[FileChange]:
    """Without a manifest before it, an entry's own generation has to tell whether it is new."""
    old = {entry.path: entry for entry in before.files} if before else {}
    for entry in manifest.files:
        was = old.pop(entry.path, None)
        if was is None and (before or entry.generation == manifest.generation):
            yield FileChange(path=entry.path, scope=manifest.scope, change="added")
        elif was and (details := differences(was, entry)):
            yield FileChange(path=entry.path, scope=manifest.scope, change="changed", details=details)
    for path in old:
        yield FileChange(path=path, scope=manifest.scope, change="removed")


def _log_entry(generation: Generation, changes: Sequence[FileChange]) -> LogEntry:
    return LogEntry(
        generation=generation.generation,
        time=generation.time,
        why=generation.why,
        by=generation.by,
        reason=generation.reason,
        changes=tuple(changes[:LOG_CHANGES_MAX]),
        changes_count=len(changes),
    )


def _fitting(entries: Sequence[LogEntry]) -> list[LogEntry]:
    """Return as many entries as one answer holds, at least one."""
    sizes = (
        len(entry.why) + len(entry.reason) + sum(len(change.path) + CHANGE_CHARS for change in entry.changes)
        for entry in entries
    )
    return [
        entry
        for index, (entry, end) in enumerate(zip(entries, accumulate(sizes), strict=True))
        if index == 0 or end <= SHOWN_CHARS_MAX
    ]


Version = tuple[ScopeName, FileEntry]


def _differs(before: Version | None, after: Version | None) -> bool:
    if before is None or after is None:
        return before is not after
    return before[0] != after[0] or bool(differences(before[1], after[1]))


def _file_diff(path: ManagedPath, old: Held, new: Held, secret: frozenset[ManagedPath]) -> FileDiff:
    before, after = old.get(path), new.get(path)
    return FileDiff(
        path=path,
        before=before[1] if before else None,
        after=after[1] if after else None,
        scope_before=before[0] if before else "",
        scope_after=after[0] if after else "",
        is_secret=path in secret,
    )
