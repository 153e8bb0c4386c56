"""What is not done by accident: changes that an operator has to confirm, and what is held back on the master. Pure.

A command is judged before anything is written (`objections`). What is found on the master's disk is judged at every
look (`hold`): what is suspicious is held back and shown as an error, nodes keep what they have, all else goes on.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from master.core.cluster import AncillaryFile, ClusterConfig
from master.core.plan import Source, in_command
from master.core.preview import held
from protocol.change_messages import Guard, Objection
from protocol.errors import Refused
from protocol.messages import REASON_CHARS_MAX, FileEntry, Manifest
from protocol.names import ManagedPath, NodeName, ScopeName, is_secret

Manifests = Mapping[ScopeName, Manifest]
Listing = Sequence[AncillaryFile]

REMOVALS_MIN: Final = 10
REMOVALS_SHARE: Final = 0.25
REMOVALS_ANY_SHARE: Final = 100
"""Many files leave a node if 10 do and they are a quarter of what it holds, or if 100 do."""

TRUNCATED_SHARE: Final = 0.5
TRUNCATED_BYTES_MIN: Final = 64
"""A source looks truncated if it is the beginning of what is published, at most half as long and 64 bytes shorter."""

NAMED_MAX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """What an operator has said about what is found on the master's disk."""

    contents: frozenset[ManagedPath] = frozenset()
    """These are to be shipped, however they look."""
    moves: frozenset[ManagedPath] = frozenset()
    """These are to leave the mesh, or to go to another scope."""


NOTHING: Final = Confirmed()


@dataclass(frozen=True, slots=True)
class Held:
    """What to plan with, and which paths of it are held back here."""

    files: tuple[AncillaryFile, ...]
    sources: dict[ManagedPath, Source]
    moves: frozenset[ManagedPath]
    contents: frozenset[ManagedPath]


def objections(
    config: ClusterConfig, before: Listing, after: Listing, published: Manifests, secrets: Collection[ManagedPath]
) -> tuple[Objection, ...]:
    """Return what has to be confirmed before one listing follows another. `config` is the one that it comes with.

    `secrets` are the paths that are known to have been in scope master-candidates.
    """
    found: list[Objection] = []
    goes_to: dict[ManagedPath, ScopeName] = {file.path: file.scope for file in after}
    if losers := _losers(config, published, {path: goes_to.get(path) for path in moves_of(before, after)}):
        found.append(Objection(guard="removals", reason=losers.sentence))
    scopes = {file.path: file.scope for file in before}
    for file in after:
        was_open = file.path in scopes and not is_secret(scopes[file.path])
        if file.path in secrets and not is_secret(file.scope) and not was_open:
            found.append(widening(file))
    return tuple(found)


def widening(file: AncillaryFile) -> Objection:
    """Return what is to be said of a secret that would go to more than the master candidates."""
    reason = f"{file.path} is or was a secret of master-candidates, and would go to scope {file.scope}"
    return Objection(guard="wider-scope", reason=reason)


def unconfirmed(found: Iterable[Objection], confirmed: Collection[Guard]) -> tuple[Objection, ...]:
    return tuple(one for one in found if one.guard not in confirmed)


def refusal(found: Sequence[Objection]) -> str:
    """Return what would happen, and the flags that allow it."""
    reasons = "; ".join(one.reason for one in found[:NAMED_MAX])
    more = f"; and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
    flags = " ".join(f"--confirm {guard}" for guard in dict.fromkeys(one.guard for one in found))
    return f"{reasons}{more}; to see it in full: --dry-run, to have it done: {flags}"


def refuse(found: Sequence[Objection]) -> None:
    if found:
        raise Refused(refusal(found))


def looks_truncated(published_bytes: int, found_bytes: int) -> bool:
    """True if a source is so much shorter that it is suspicious, should it be the beginning of what is published."""
    is_half = 0 < found_bytes <= published_bytes * TRUNCATED_SHARE
    return is_half and published_bytes - found_bytes >= TRUNCATED_BYTES_MIN


def moves_of(before: Listing, after: Listing) -> frozenset[ManagedPath]:
    """Return the paths that one listing has in another scope than the other, or that only one of them has."""
    scopes = [{file.path: file.scope for file in listing} for listing in (before, after)]
    return frozenset(path for path in scopes[0].keys() | scopes[1].keys() if scopes[0].get(path) != scopes[1].get(path))


def hold(
    config: ClusterConfig,
    files: Listing,
    sources: Mapping[ManagedPath, Source],
    published: Manifests,
    *,
    beginnings: Collection[ManagedPath] = (),
    confirmed: Confirmed = NOTHING,
) -> Held:
    """Return what to plan with: in place of what is suspicious, why it is held back.

    `beginnings` are the paths whose source is the beginning of what is published of them. That a command withdrew a
    file is known from the config; so what leaves the listing without that was not asked for by anybody.
    """
    entries = {
        entry.path: (scope, entry)
        for scope in config.scopes()
        if scope in published
        for entry in published[scope].files
    }
    listed = {file.path: file for file in files}
    instead = dict(sources)
    moves = {
        path: replace(listed[path], scope=scope)
        for path, (scope, _) in entries.items()
        if path in listed and is_secret(scope) and not is_secret(listed[path].scope) and path not in confirmed.moves
    }
    for path in moves:
        reason = f"is a secret that would go to scope {listed[path].scope}, and is held back"
        instead[path] = _held(reason, "ship it there", path)
    asked = {file.path for file in config.cluster.withdrawn_files} | confirmed.moves | moves.keys()
    goes_to = {
        path: listed[path].scope if path in listed else None
        for path, (scope, _) in entries.items()
        if path not in asked and (path not in listed or listed[path].scope != scope)
    }
    if losers := _losers(config, published, goes_to):
        for path in goes_to:
            moves[path] = AncillaryFile(path=path, scope=entries[path][0])
            reason = f"is held back with others: {losers.sentence}. To have it done: gnt-mesh file confirm --removals"
            instead[path] = Source("unusable", reason=reason[:REASON_CHARS_MAX])
    contents = {path for path in beginnings if path not in moves and path not in confirmed.contents}
    for path in contents:
        instead[path] = _truncated(path, sources[path], entries[path][1])
    for path in confirmed.contents & listed.keys():
        listed[path] = replace(listed[path], allow_empty=True)
    ordered = sorted((listed | moves).values(), key=lambda file: file.path)
    return Held(tuple(ordered), instead, frozenset(moves), frozenset(contents))


def _truncated(path: ManagedPath, source: Source, entry: FileEntry) -> Source:
    what = f"looks truncated: it is the first {source.size_bytes} of the {entry.size_bytes} bytes of generation"
    return _held(f"{what} {entry.generation}, which nodes keep", "ship it", path)


def _held(reason: str, to_do: str, path: ManagedPath) -> Source:
    return Source("unusable", reason=f"{reason}. To {to_do}: gnt-mesh file confirm {in_command(path)}")


@dataclass(frozen=True, slots=True)
class _Losers:
    """Nodes that lose many files, and all lose the same ones."""

    nodes: list[NodeName]
    files: list[ManagedPath]
    files_held: int

    @property
    def sentence(self) -> str:
        files = ", ".join(_first(self.files))
        nodes = ", ".join(_first(self.nodes))
        return f"{len(self.files)} of {self.files_held} files would be removed from {nodes}: {files}"


def _losers(
    config: ClusterConfig, published: Manifests, goes_to: Mapping[ManagedPath, ScopeName | None]
) -> _Losers | None:
    """Return who loses the most if these paths go to other scopes or to none, provided that it is many.

    The master's node holds the sources and loses nothing.
    """
    members: dict[tuple[ScopeName, ...], list[NodeName]] = {}
    for node in config.sorted_nodes():
        if node.uuid != config.cluster.master_node:
            members.setdefault(config.scopes_of(node), []).append(node.name)
    worst: _Losers | None = None
    for scopes, names in members.items():
        has = held(published, scopes)
        lost = sorted(path for path, scope in goes_to.items() if path in has and scope not in scopes)
        is_share = len(lost) >= max(REMOVALS_MIN, len(has) * REMOVALS_SHARE)
        if (is_share or len(lost) >= REMOVALS_ANY_SHARE) and (worst is None or len(lost) > len(worst.files)):
            worst = _Losers(names, lost, len(has))
    return worst


def _first(names: Sequence[str]) -> Iterator[str]:
    yield from names[:NAMED_MAX]
    if len(names) > NAMED_MAX:
        yield f"and {len(names) - NAMED_MAX} more"
