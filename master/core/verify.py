"""What is really on the nodes' disks, held against what is published: findings, in Ganeti's codes. Pure.

Ganeti's rules (ganeti-behaviour a.7), and more: the mesh knows which content is right, and compares owner, group and
mode; and a file outside its scope is found also if it is optional.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from master.core.cluster import AncillaryFile, ClusterConfig, Node, natural_key
from protocol.messages import FileEntry, FileError, Manifest
from protocol.names import ManagedPath, NodeName, ScopeName
from protocol.verify_messages import (
    ECLUSTERFILECHECK,
    ENODEFILECHECK,
    NODES_NAMED_MAX,
    PATHS_MAX,
    FileSeen,
    Finding,
    Problem,
    Variant,
)

T = TypeVar("T")

PAGE_CONTENT_BYTES_MAX: Final = 256 * 1024 * 1024
"""What a node reads for one answer; more than that takes a slow disk too long."""

UNSAID: Final = "the node has said nothing of it"


@dataclass(frozen=True, slots=True)
class Expected:
    """One managed file as it should be; no entry if nothing of it is published."""

    scope: ScopeName
    entry: FileEntry | None
    optional: bool


@dataclass(frozen=True, slots=True)
class _Content:
    """What nodes have at a path, as far as it is compared."""

    digest: str
    attributes: str


@dataclass(slots=True)
class _Holders:
    """Who has what at one path. Kept per variant, so that a large fleet costs a name per node and file."""

    contents: dict[_Content, list[NodeName]] = field(default_factory=dict)
    blocked: dict[str, list[NodeName]] = field(default_factory=dict)

    def without(self, silent: Collection[NodeName]) -> "_Holders":
        if not silent:
            return self
        return _Holders(_without(self.contents, silent), _without(self.blocked, silent))

    def names(self) -> set[NodeName]:
        return _all(self.contents)


class Verification:
    """Takes in what should be true and what nodes have answered, and tells the findings.

    `expect` is called before the nodes are asked, and again after it: what has changed meanwhile is asked for again.
    """

    def __init__(self, group: str = "") -> None:
        self._group = group
        self._expected: dict[ManagedPath, Expected] = {}
        self._members: dict[ScopeName, frozenset[NodeName]] = {}
        self._seen: dict[ManagedPath, _Holders] = {}
        self._silent: dict[NodeName, str] = {}

    @property
    def files(self) -> int:
        return len(self._expected)

    @property
    def silent(self) -> Collection[NodeName]:
        return self._silent.keys()

    def nodes(self, config: ClusterConfig) -> tuple[Node, ...]:
        """Return the nodes to ask: those that are not offline, of the group if there is one."""
        group = config.group(self._group).uuid if self._group else ""
        return tuple(node for node in config.sorted_nodes() if not node.offline and group in ("", node.group))

    def expect(
        self, config: ClusterConfig, files: Iterable[AncillaryFile], manifests: Mapping[ScopeName, Manifest]
    ) -> frozenset[ManagedPath]:
        """Take in what should be true now; return the paths of which nothing is known, or nothing any more."""
        before, members_before = self._expected, self._members
        self._expected = _expected(files, manifests)
        nodes = self.nodes(config)
        self._members = {
            scope: frozenset(node.name for node in nodes if scope in config.scopes_of(node))
            for scope in config.scopes()
        }
        is_same = self._members == members_before
        paths = {path for path, wanted in self._expected.items() if not is_same or before.get(path) != wanted}
        self._seen = {path: seen for path, seen in self._seen.items() if path in self._expected and path not in paths}
        return frozenset(paths)

    def pages(self, paths: Collection[ManagedPath]) -> list[tuple[ManagedPath, ...]]:
        """Return the paths in pages that a node can answer; one page at least, so that every node is heard."""
        pages: list[list[ManagedPath]] = [[]]
        size_bytes = 0
        for path in sorted(paths):
            wanted = self._expected.get(path)
            more_bytes = wanted.entry.size_bytes if wanted and wanted.entry else 0
            if pages[-1] and (len(pages[-1]) == PATHS_MAX or size_bytes + more_bytes > PAGE_CONTENT_BYTES_MAX):
                pages.append([])
                size_bytes = 0
            pages[-1].append(path)
            size_bytes += more_bytes
        return [tuple(page) for page in pages]

    def take(self, node: NodeName, asked: Iterable[ManagedPath], answer: Iterable[FileSeen]) -> None:
        """Take in a node's answer for one page."""
        said = {seen.path: seen for seen in answer}
        for path in asked:
            holders = self._seen.setdefault(path, _Holders())
            seen = said.get(path)
            match seen.what if seen else "blocked":
                case "file":
                    assert seen
                    content = _Content(seen.digest, self._attributes_as_published(path, seen))
                    holders.contents.setdefault(content, []).append(node)
                case "blocked":
                    holders.blocked.setdefault(seen.reason if seen else UNSAID, []).append(node)
                case "absent":
                    pass

    def _attributes_as_published(self, path: ManagedPath, seen: FileSeen) -> str:
        """Return what a node has, with numbers instead of the node's names where numbers are published."""
        wanted = self._expected.get(path)
        entry = wanted.entry if wanted else None
        owner = entry.owner if entry and entry.owner == str(seen.uid) else seen.owner
        group = entry.group if entry and entry.group == str(seen.gid) else seen.group
        return _attributes(owner, group, seen.mode)

    def note_silent(self, node: NodeName, reason: str) -> None:
        """The node has not answered, or not to the end: what it has said before does not count."""
        self._silent[node] = reason

    def findings(self, master: NodeName, problems: Iterable[FileError]) -> tuple[Finding, ...]:
        """Return all that is wrong: on the master itself, then nodes that are silent, then file by file."""
        found = [
            Finding(problem="source", code=ENODEFILECHECK, node=master, path=error.path, reason=error.reason)
            for error in problems
        ]
        found += [
            Finding(problem="silent", code=ENODEFILECHECK, node=node, reason=self._silent[node])
            for node in sorted(self._silent, key=natural_key)
        ]
        for path in sorted(self._expected):
            found += self._findings_of(path, self._expected[path], self._seen.get(path, _Holders()), master)
        return tuple(found)

    def _findings_of(self, path: ManagedPath, wanted: Expected, seen: _Holders, master: NodeName) -> Iterator[Finding]:
        seen = seen.without(self._silent.keys())
        members = self._members.get(wanted.scope, frozenset()) - self._silent.keys()
        holders = seen.names()
        barred = {reason: members & set(names) for reason, names in seen.blocked.items()}
        missing = members - holders - {name for names in barred.values() for name in names}
        if missing and wanted.entry:
            yield _finding("missing", path, missing)
        elif missing and wanted.optional and members & holders:
            yield _finding("incomplete", path, missing)
        if outside := holders - members - {master}:  # there the sources of every scope are
            yield _finding("unexpected", path, outside)
        yield from _different(path, wanted.entry, seen, members)
        if wanted.entry:
            yield from _attributes_differ(path, wanted.entry, seen, members)
        for reason, names in sorted(barred.items()):
            if names:
                yield _finding("unreadable", path, names, reason=reason)


def _expected(files: Iterable[AncillaryFile], manifests: Mapping[ScopeName, Manifest]) -> dict[ManagedPath, Expected]:
    """Return every file that is on the list, and every file that is published, whether or not it is on the list."""
    listed = {file.path: file for file in files}
    expected = {path: Expected(file.scope, None, file.optional) for path, file in listed.items()}
    for scope, manifest in manifests.items():
        for entry in manifest.files:
            optional = entry.path in listed and listed[entry.path].optional
            expected[entry.path] = Expected(scope, entry, optional)
    return expected


def _different(
    path: ManagedPath, entry: FileEntry | None, seen: _Holders, members: frozenset[NodeName]
) -> Iterator[Finding]:
    """More than one content among all who have the file, or one that is not the published one."""
    by_digest: dict[str, list[NodeName]] = {}
    for content, names in seen.contents.items():
        by_digest.setdefault(content.digest, []).extend(names)
    published = entry.digest if entry else ""
    is_wrong = any(digest != published and members & set(names) for digest, names in by_digest.items())
    if len(by_digest) > 1 or (entry and is_wrong):
        yield _finding("different", path, _all(by_digest), variants=_variants(by_digest, published))


def _attributes_differ(
    path: ManagedPath, entry: FileEntry, seen: _Holders, members: frozenset[NodeName]
) -> Iterator[Finding]:
    """Owner, group or mode that the file should not have. Outside its scope it has none that it should have."""
    wanted = _attributes(entry.owner, entry.group, entry.mode)
    wrong: dict[str, list[NodeName]] = {}
    for content, names in seen.contents.items():
        here = members.intersection(names)
        if here and content.attributes != wanted:
            wrong.setdefault(content.attributes, []).extend(here)
    if wrong:
        yield _finding("attributes", path, _all(wrong), variants=_variants(wrong, wanted), wanted=wanted)


def _finding(
    problem: Problem,
    path: ManagedPath,
    nodes: Collection[NodeName],
    *,
    variants: Sequence[Variant] = (),
    wanted: str = "",
    reason: str = "",
) -> Finding:
    return Finding(
        problem=problem,
        code=ECLUSTERFILECHECK,
        path=path,
        nodes=() if variants else tuple(sorted(nodes, key=natural_key)[:NODES_NAMED_MAX]),
        nodes_count=len(nodes),
        variants=tuple(variants[:NODES_NAMED_MAX]),
        variants_count=len(variants),
        wanted=wanted,
        reason=reason,
    )


def _variants(by_what: Mapping[str, Collection[NodeName]], published: str) -> list[Variant]:
    """The published one first, then the most frequent; together they name no more nodes than one finding may."""
    order = sorted(by_what, key=lambda what: (what != published, -len(by_what[what]), what))
    left = NODES_NAMED_MAX
    variants = []
    for what in order:
        names = sorted(by_what[what], key=natural_key)
        variants.append(
            Variant(what=what, nodes=tuple(names[:left]), nodes_count=len(names), is_published=what == published)
        )
        left = max(left - len(names), 0)
    return variants


def _all(by_what: Mapping[T, Iterable[NodeName]]) -> set[NodeName]:
    return {name for names in by_what.values() for name in names}


def _without(by_what: Mapping[T, list[NodeName]], silent: Collection[NodeName]) -> dict[T, list[NodeName]]:
    left = {what: [name for name in names if name not in silent] for what, names in by_what.items()}
    return {what: names for what, names in left.items() if names}


def _attributes(owner: str, group: str, mode: int) -> str:
    return f"{owner}:{group} {mode:04o}"
