"""Which sources go back to what an older generation says, and how far that has come. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from master.core.ancillary import ManagedFile
from master.core.plan import Source
from master.core.preview import Held
from protocol.errors import Refused
from protocol.messages import FileEntry
from protocol.names import ManagedPath

NAMED_MAX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One source that is to be replaced: what it was when that was decided, and what it is to be."""

    path: ManagedPath
    before: Source
    wanted: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """A rollback that was decided. It is kept on disk until its generation is: then it is known to be done."""

    why: str
    by: str
    reason: str
    steps: tuple[Step, ...]


def wanted_sources(
    then: Held, files: Sequence[ManagedFile], paths: Sequence[str], *, generation: int, made: Collection[ManagedPath]
) -> dict[ManagedPath, Source]:
    """Return what each source is to be; Refused by name for what cannot go back. `then` is the snapshot.

    Without paths: everything published then, but what is `made` of the cluster config: that is never rolled back.
    """
    managed = {file.path for file in files}
    own = [path for path in paths if path in made]
    if own:
        raise Refused(f"{named(own)} is the cluster's own record and is not rolled back; change the cluster instead")
    absent = [path for path in paths if path not in then]
    if absent:
        raise Refused(f"{named(absent)} was not published in generation {generation}; see: gnt-mesh file log PATH")
    chosen = {path: then[path][1] for path in sorted(then) if (path in paths if paths else path not in made)}
    unmanaged = [path for path in chosen if path not in managed]
    if unmanaged:
        hint = "name the files that are to go back, or manage it again: gnt-mesh file add PATH --scope SCOPE"
        raise Refused(f"{named(unmanaged)} is not managed any more, so nothing was rolled back; {hint}")
    return {path: _source_of(entry) for path, entry in chosen.items()}


def steps(wanted: Mapping[ManagedPath, Source], now: Mapping[ManagedPath, Source]) -> tuple[Step, ...]:
    """Return what has to be replaced; Refused by name for a source that cannot be replaced as it is now."""
    for path in wanted:
        if now[path].kind in ("unsettled", "unusable"):
            raise Refused(f"{path} {now[path].reason}, so nothing was rolled back")
    return tuple(
        Step(path=path, before=now[path], wanted=source) for path, source in wanted.items() if now[path] != source
    )


def progress_of(step: Step, now: Source) -> Literal["due", "done", "overtaken"]:
    """Return how far a step is: a source that somebody has changed since it was decided is left as it is."""
    if now == step.wanted:
        return "done"
    return "due" if now == step.before else "overtaken"


def named(paths: Sequence[str]) -> str:
    """Return the first few of some paths, and how many more there are."""
    more = f" and {len(paths) - NAMED_MAX} more" if len(paths) > NAMED_MAX else ""
    return ", ".join(paths[:NAMED_MAX]) + more


def _source_of(entry: FileEntry) -> Source:
    return Source(
        "ready",
        digest=entry.digest,
        size_bytes=entry.size_bytes,
        mode=entry.mode,
        owner=entry.owner,
        group=entry.group,
    )
