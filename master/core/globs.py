"""Patterns on the administrator's list, such as `/etc/xen/scripts/*`: what is one, and what it selects.

The wildcards are the shell's, in the last component alone, so that one directory shows all there is to select; names
that begin with a dot are selected only by a pattern that does. A literal `*` is written `[*]`.
"""

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from master.core.cluster import ClusterConfig
from protocol.messages import FileEntry, Manifest
from protocol.names import ManagedPath, managed_path

MATCHES_MAX: Final = 5000
"""A pattern that selects more is a mistake: a mail spool, a cache."""

_WILDCARDS = frozenset("*?[")


def is_glob(path: str) -> bool:
    """True for a path with wildcards."""
    return not _WILDCARDS.isdisjoint(path)


def check_glob(path: str) -> None:
    """ValueError if the wildcards are not where they can be."""
    if is_glob(directory_of(path)):
        raise ValueError(f"{path}: wildcards only after the last '/'; add one pattern per directory")


def directory_of(path: str) -> str:
    return path.rpartition("/")[0]


def selects(pattern: ManagedPath, path: ManagedPath) -> bool:
    """True if the pattern selects this path; whether a file is there is another question."""
    directory, _, name = path.rpartition("/")
    wanted, _, wildcard = pattern.rpartition("/")
    if directory != wanted or (name.startswith(".") and not wildcard.startswith(".")):
        return False
    return fnmatchcase(name, wildcard)


def select(
    config: ClusterConfig,
    patterns: Iterable[ManagedPath],
    names: Mapping[str, Collection[str]],
    unreadable: Mapping[str, str],
    manifests: Iterable[Manifest],
) -> tuple[dict[ManagedPath, frozenset[ManagedPath]], dict[ManagedPath, str]]:
    """Return by pattern what it selects, and what is wrong with some of them.

    `names` are those of the regular files by directory. What was published stays selected when it has vanished from the
    master: that is an error to show, never a change to ship; an operator withdraws it by its name.
    """
    matches, faults = {}, {}
    published = [entry for manifest in manifests for entry in manifest.files]
    for pattern in patterns:
        directory = directory_of(pattern)
        found = selected(pattern, names.get(directory, ()))
        unfit = [path for path in found if not _can_travel(path)]
        if directory in unreadable:
            faults[pattern] = unreadable[directory]
        elif len(found) > MATCHES_MAX:
            faults[pattern] = f"selects {len(found)} files, limit {MATCHES_MAX}; what it has selected before stays"
            found = frozenset()
        elif unfit:
            faults[pattern] = _passed_over(unfit)
        matches[pattern] = found.difference(unfit) | _still_selected(config, pattern, published)
    return matches, faults


def _still_selected(
    config: ClusterConfig, pattern: ManagedPath, published: Iterable[FileEntry]
) -> frozenset[ManagedPath]:
    withdrawn = {file.path: file.generation for file in config.cluster.withdrawn_files}
    return frozenset(
        entry.path
        for entry in published
        if selects(pattern, entry.path) and entry.generation > withdrawn.get(entry.path, -1)
    )


def selected(pattern: ManagedPath, names: Iterable[str]) -> frozenset[ManagedPath]:
    """Return the paths that a pattern selects among the names in its directory."""
    directory = directory_of(pattern)
    paths = (ManagedPath(f"{directory}/{name}") for name in names)
    return frozenset(path for path in paths if selects(pattern, path))


def _can_travel(path: ManagedPath) -> bool:
    try:
        return bool(managed_path(path))
    except ValueError:
        return False


def _passed_over(paths: list[ManagedPath]) -> str:
    """Return what is wrong with these names, in characters that can be shown."""
    example = ascii(min(paths).rpartition("/")[2][:50])
    count = "a file whose name" if len(paths) == 1 else f"{len(paths)} files whose names"
    return (
        f"passes over {count} cannot travel, such as {example}: not UTF-8, a control character, or too long; rename it"
    )
