"""What `cluster verify` says: what the master asks of a node on `mesh.rpc.NODE.verify`, and what an operator reads.

A node is asked page by page: a page of 300 paths and its answer, at their longest, fit into one message.
"""

from dataclasses import dataclass
from typing import Final, Literal

from protocol.messages import REASON_CHARS_MAX
from protocol.names import ManagedPath, NodeName, managed_path, node_name

PATHS_MAX: Final = 300
NODES_NAMED_MAX: Final = 2000
"""A finding names at most so many nodes, and counts all of them."""

ENODEFILECHECK: Final = "ENODEFILECHECK"
ECLUSTERFILECHECK: Final = "ECLUSTERFILECHECK"
ECLUSTERCERT: Final = "ECLUSTERCERT"
CODES: Final = (ECLUSTERCERT, ECLUSTERFILECHECK, ENODEFILECHECK)
"""Ganeti's codes for what this verify finds: of the cluster, and of one node."""

Problem = Literal[
    "silent", "source", "missing", "incomplete", "unexpected", "different", "attributes", "unreadable", "certificate"
]
"""What is wrong. `silent`: a node gave no answer. `source`: the master ships something else than lies on its disk, or
nothing. `missing`: a file is not where it should be. `incomplete`: an optional file is on some nodes of its scope
and not on others. `unexpected`: it is outside its scope. `different`: its content is not the published one, or not
the same everywhere. `attributes`: its owner, group or mode is not. `unreadable`: a node cannot or will not look.
`certificate`: it expires soon, or has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAtFiles:
    """Asks a node to read these files from its disk, now, whatever it believes of them."""

    paths: tuple[ManagedPath, ...]

    def __post_init__(self) -> None:
        if len(self.paths) > PATHS_MAX:
            raise ValueError(f"{len(self.paths)} paths to look at, limit {PATHS_MAX}")
        for path in self.paths:
            managed_path(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSeen:
    """What is really at one path of a node.

    `blocked`: something that the node does not read for the mesh (a link, a path outside its allowed ones); `reason`
    says which.
    """

    path: ManagedPath
    what: Literal["file", "absent", "blocked"]
    digest: str = ""
    size_bytes: int = 0
    mode: int = 0
    owner: str = ""
    group: str = ""
    uid: int = -1
    gid: int = -1
    """Owner and group as numbers: what is published has a number where the master knows no name."""
    reason: str = ""

    def __post_init__(self) -> None:
        managed_path(self.path)
        if len(self.reason) > REASON_CHARS_MAX:
            raise ValueError(f"{self.path}: a reason of {len(self.reason)} characters, limit {REASON_CHARS_MAX}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSeen:
    """A node's answer: one entry per path that it was asked for."""

    node: NodeName
    files: tuple[FileSeen, ...]

    def __post_init__(self) -> None:
        node_name(self.node)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Nodes on which a file is the same: `what` is its digest, or its owner, group and mode."""

    what: str
    nodes: tuple[str, ...]
    nodes_count: int
    is_published: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be. The first of `variants` is the published one, if it is anywhere."""

    problem: Problem
    code: str
    node: str = ""
    """The node that the finding is about; empty: the cluster."""
    path: str = ""
    nodes: tuple[str, ...] = ()
    nodes_count: int = 0
    variants: tuple[Variant, ...] = ()
    variants_count: int = 0
    wanted: str = ""
    """Owner, group and mode as published."""
    reason: str = ""
    is_warning: bool = False
    """It does not make a cluster a faulty one yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterVerify:
    """Without `run`: look at every node's disk, now. With it: the findings of that run from `offset` on.

    Answered when the run is over, and at the latest after `patience_s` (bounded by the master to 5 s).
    """

    run: str = ""
    offset: int = 0
    group: str = ""
    """Only the nodes of this node group; empty: all nodes."""
    node_timeout_s: float = 30.0
    """How long a node may take for one page of paths before it counts as silent."""
    patience_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterVerified:
    """How far a run is and, once it is over, one page of its findings."""

    run: str
    is_over: bool
    nodes: int
    """How many nodes are asked; those that are marked offline are not."""
    nodes_done: int
    files: int
    offline: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    findings_total: int = 0
