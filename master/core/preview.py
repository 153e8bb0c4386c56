"""What a change would do to every node's disk: the answer to `--dry-run`. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from master.core.cluster import ClusterConfig, natural_key, role_letter
from protocol.change_messages import FileChange, NodeChanges, Objection, Preview, RoleChange
from protocol.messages import FileEntry, FileError, Manifest
from protocol.names import ManagedPath, NodeName, ScopeName, is_secret

Manifests = Mapping[ScopeName, Manifest]
Held = Mapping[ManagedPath, tuple[ScopeName, FileEntry]]

CHANGE_CHARS = 100
"""About what a change takes in a message beside its path."""
SHOWN_CHARS_MAX = 400_000
"""How much all that is shown may take: the answer is one message."""


def preview(
    before: ClusterConfig,
    after: ClusterConfig,
    published: Manifests,
    would_be: Manifests,
    *,
    objections: Iterable[Objection] = (),
    errors: Iterable[FileError] = (),
) -> Preview:
    """Return what changes between two configs with their manifests: roles, and files per group of equal nodes."""
    groups: dict[tuple[tuple[ScopeName, ...], tuple[ScopeName, ...], bool], list[NodeName]] = defaultdict(list)
    for node in after.sorted_nodes():
        if node.uuid != after.cluster.master_node:
            was = before.nodes.get(node.uuid)
            groups[before.scopes_of(was) if was else (), after.scopes_of(node), node.offline].append(node.name)
    share = SHOWN_CHARS_MAX // max(len(groups), 1)
    nodes = [
        NodeChanges(nodes=tuple(names), files=_shown(files, share), files_count=len(files), offline=offline)
        for (scopes_before, scopes_after, offline), names in groups.items()
        if (files := tuple(_changes(held(published, scopes_before), held(would_be, scopes_after))))
    ]
    return Preview(
        roles=tuple(_roles(before, after)), nodes=tuple(nodes), objections=tuple(objections), errors=tuple(errors)
    )


def held(manifests: Manifests, scopes: Iterable[ScopeName]) -> Held:
    """Return what a node in these scopes should hold: of two scopes that list a path the newer entry counts."""
    union: dict[ManagedPath, tuple[ScopeName, FileEntry]] = {}
    for scope in scopes:
        for entry in manifests[scope].files if scope in manifests else ():
            if entry.path not in union or union[entry.path][1].generation < entry.generation:
                union[entry.path] = (scope, entry)
    return union


def differences(before: FileEntry, after: FileEntry) -> tuple[str, ...]:
    """Return in which respects an entry is not what it was, apart from its generation."""
    respects = {
        "content": before.digest != after.digest,
        "mode": before.mode != after.mode,
        "owner": (before.owner, before.group) != (after.owner, after.group),
        "secrecy": before.secret != after.secret,
    }
    return tuple(respect for respect, differs in respects.items() if differs)


def _changes(before: Held, after: Held) -> Iterator[FileChange]:
    for path in sorted(before.keys() | after.keys()):
        if path not in before:
            yield FileChange(path=path, scope=after[path][0], change="added")
        elif path not in after:
            scope = before[path][0]
            kept = ("no backup is kept",) if is_secret(scope) or before[path][1].secret else ()
            yield FileChange(path=path, scope=scope, change="removed", details=kept)
        elif details := differences(before[path][1], after[path][1]):
            yield FileChange(path=path, scope=after[path][0], change="changed", details=details)


def _shown(files: tuple[FileChange, ...], chars_max: int) -> tuple[FileChange, ...]:
    """Return as many files, from the first on, as may be named."""
    ends = accumulate(len(file.path) + CHANGE_CHARS for file in files)
    return tuple(file for file, end in zip(files, ends, strict=True) if end <= chars_max)


def _roles(before: ClusterConfig, after: ClusterConfig) -> Iterator[RoleChange]:
    letters = [{node.name: role_letter(config, node) for node in config.nodes.values()} for config in (before, after)]
    for name in sorted(letters[0].keys() | letters[1].keys(), key=natural_key):
        was, is_now = (known.get(name, "") for known in letters)
        if was != is_now:
            yield RoleChange(node=name, before=was, after=is_now)
