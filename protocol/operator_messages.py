"""What operators ask of the master on `mesh.api.…`, and what it answers.

One request type per verb; a verb that changes something answers `Changed`, which says what to wait for.
"""

from dataclasses import dataclass, field

from protocol.change_messages import ChangeRequest, Preview
from protocol.messages import FileEntry, FileError, Refusals
from protocol.names import ManagedPath, NodeName, ScopeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What must be on the nodes' disks before a wait is over. Plain data: the asker may keep it and ask again."""

    epoch: int
    generations: dict[str, int] = field(default_factory=dict)
    """Per scope: every node of the scope has at least this generation, durably."""
    serials: dict[str, int] = field(default_factory=dict)
    """Per node: it acts on at least this assignment, and holds no file of a scope it is not in."""
    looks: str = ""
    """If set: every node has read all its files again since the request with this token."""
    nodes: tuple[str, ...] = ()
    """If set: only these nodes count."""
    sources: bool = False
    """If set: no source of these scopes is in error, so that what is published is what lies on the master."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """One reason why a goal is not reached yet."""

    node: str
    reason: str
    scope: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """A file that a node must give back, because it has left the scope."""

    node: NodeName
    path: ManagedPath
    scope: ScopeName
    secret: bool
    """Not every user of the node could read it: who has held it may know a secret."""
    left_behind: bool = False
    """The node is removed and has not given it back: it is on that disk still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The answer to a changing request: what was done, in sentences, and the goal that proves it."""

    goal: Goal
    done: tuple[str, ...] = ()
    withdrawn: tuple[Withdrawn, ...] = ()
    """Cut off at a bound; `withdrawn_count` is not."""
    withdrawn_count: int = 0
    rotate: tuple[ManagedPath, ...] = ()
    """Secrets that a node has held which must not know them any more: they are to be renewed."""
    preview: Preview | None = None
    """Set after a dry run: nothing was changed, `done` is what would be, and there is nothing to wait for."""
    token: str = ""
    """The join token of a node that was added without a key: shown this once."""
    job: str = ""
    """The id of the OS job that was begun; empty if none was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """A request without parameters; an empty payload means the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitRequest:
    """Wait at most `patience_s` (bounded by the master to 5 s) for a goal; without one, for all that is true now.

    Without a goal the master first reads its sources again, so that an edit made before the request is part of it.
    """

    goal: Goal | None = None
    scopes: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    patience_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitReply:
    goal: Goal
    missing: tuple[Missing, ...]
    nodes_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAdd(ChangeRequest):
    name: str
    group: str = ""
    """Empty: the cluster's first node group."""
    vm_capable: bool = True
    master_capable: bool = True
    public_key: str = ""
    """The node's public nkey; empty for a node whose agent has not made its key yet: it gets a join token."""
    readd: bool = False
    """The node is in the cluster and was installed anew: its former key is void, and it gets a join token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeModify(ChangeRequest):
    """None leaves a flag as it is."""

    name: str
    master_candidate: bool | None = None
    offline: bool | None = None
    drained: bool | None = None
    master_capable: bool | None = None
    vm_capable: bool | None = None
    group: str | None = None
    public_key: str | None = None
    auto_promote: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRemove(ChangeRequest):
    name: str
    keep_files: bool = False
    """The node is not asked to give back what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeQuery:
    """No names: all nodes."""

    names: tuple[str, ...] = ()
    after: str = ""
    """The last node of the page before; empty: from the first on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    name: str
    uuid: str
    role: str
    """M, C, R, D or O, as in `gnt-node list -o role`."""
    group: str
    master_capable: bool
    vm_capable: bool
    public_key: str
    scopes: tuple[str, ...]
    serial: int
    online: bool
    in_sync: bool
    generations: dict[str, int] = field(default_factory=dict)
    holding: tuple[str, ...] = ()
    errors: tuple[FileError, ...] = ()
    errors_count: int = 0
    refusals: Refusals = field(default_factory=Refusals)
    last_seen_s: float | None = None
    """Seconds since its last status; None if this master has never had one."""
    agent_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfos:
    nodes: tuple[NodeInfo, ...]
    is_complete: bool = True
    """False: more nodes follow, to be asked for with `after`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAdd(ChangeRequest):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRemove(ChangeRequest):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfo:
    name: str
    uuid: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfos:
    groups: tuple[GroupInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAdd(ChangeRequest):
    path: str
    scope: str
    optional: bool = False
    allow_empty: bool | None = None
    """None: what the file is when it is added; see FileModify."""
    secret: bool = False
    """Only encrypted on the bus, and no copy left behind, as everything of scope master-candidates anyhow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileModify(ChangeRequest):
    """None leaves a setting as it is."""

    path: str
    allow_empty: bool | None = None
    """Whether a source that became empty is shipped, or held back and shown as an error."""
    optional: bool | None = None
    scope: str | None = None
    secret: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRemove(ChangeRequest):
    path: str
    purge: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileQuery:
    """No paths: all files."""

    paths: tuple[str, ...] = ()
    after: str = ""
    """The last path of the page before; empty: from the first on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """One managed file: where it goes, what is published of it, and what is wrong with its source."""

    path: ManagedPath
    scope: ScopeName
    optional: bool
    allow_empty: bool
    builtin: bool
    published: FileEntry | None
    """Of a secret, what everybody may see of it: not its digest, and only the class of its size."""
    error: str
    secret: bool = False
    rule: str = ""
    """`cluster`, `hypervisor`, `list`, `hook` or `pattern`."""
    reason: str = ""
    """Why it is managed, as the end of a sentence that begins with "because"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfos:
    """Files in the order of their paths, as many as go into one message."""

    files: tuple[FileInfo, ...]
    is_complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RedistConf(ChangeRequest):
    """Read every source again, publish what changed, and have every node read its own disk again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeInfo:
    generation: int
    files: int
    nodes: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusQuery:
    """Empty: the first page, which is all there is of most fleets."""

    after: str = ""
    """The last node of the page before."""
    errors_from: int = 0
    """How many of the master's errors came before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """The fleet at one moment: the source of `status` and `watch`. `paging` puts its pages together."""

    cluster: str
    master: NodeName
    epoch: int
    scopes: dict[str, ScopeInfo]
    nodes: tuple[NodeInfo, ...]
    errors: tuple[FileError, ...] = ()
    """What is wrong on the master: sources that vanished, became empty or cannot be read."""
    refusals: Refusals = field(default_factory=Refusals)
    is_complete: bool = True
    """False: more nodes or errors follow."""
    warnings: tuple[str, ...] = ()
    """What will go wrong if nobody does anything: certificates that expire soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterInfo:
    """What is configured, rather than what is happening."""

    name: str
    uuid: str
    master: NodeName
    epoch: int
    candidate_pool_size: int
    enabled_hypervisors: tuple[str, ...]
    hvparams: dict[str, dict[str, str | int | float | bool | None]]
    modify_etc_hosts: bool
    use_external_mip_script: bool
    file_hooks: bool
    serial_no: int
    nodes: int
    master_candidates: tuple[str, ...]
    groups: tuple[str, ...]
    files: int
    generation: int
    history: int
    """How many generations the master keeps."""
    master_version: str
    broker_version: str
    ctime: float
    mtime: float
    follows: str = ""
    """The config.data of the Ganeti that owns this cluster; empty: the mesh does."""
