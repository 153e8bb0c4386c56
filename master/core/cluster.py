"""The cluster config: what it holds, what always holds of it, and its text (config.data).

Keys are Ganeti's where the meaning is Ganeti's. Values are immutable; `operations` makes new ones.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from master.core.damage import Misfit, at_keys, duplicates, locate, unknown
from master.core.grants import Access, JoinGrant
from master.core.hypervisors import HvValue, check_hypervisors
from master.core.instance import Instance, check_instances, check_osparams, instance_of
from protocol.errors import Refused
from protocol.names import (
    ALL,
    MASTER_CANDIDATES,
    VM_CAPABLE,
    GroupName,
    ManagedPath,
    NodeName,
    ScopeName,
    group_name,
    group_scope,
    managed_path,
    node_name,
    public_key,
    scope_name,
)

CONFIG_VERSION: Final = 1
DEFAULT_GROUP: Final = GroupName("default")

POOL_SIZE_MAX: Final = 1_000_000

DEFAULT_HYPERVISORS: Final = ("kvm",)
"""What a new cluster enables, and one whose config.data is older than the key: nothing travels for it unless the
master has its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node. Its three role flags exclude each other, as in Ganeti."""

    name: NodeName
    uuid: str
    group: str
    """The UUID of its node group."""
    public_key: str = ""
    """Its nkey on the bus; empty until its agent has made one."""
    master_candidate: bool = False
    drained: bool = False
    offline: bool = False
    master_capable: bool = True
    vm_capable: bool = True
    next_public_key: str = ""
    """Also valid, until it has come back with it: then it is its only key."""
    key_time: float = 0.0
    """When its key was made known; 0 for one that was there from the start."""
    join: JoinGrant | None = None
    """The join token that was made for it last."""
    serial_no: int = 1
    """Grows with every change of this node; it is also the serial of its assignment."""
    ctime: float = 0.0
    mtime: float = 0.0

    def __post_init__(self) -> None:
        node_name(self.name)
        for key in (self.public_key, self.next_public_key):
            if key:
                public_key(key)
        if self.serial_no < 1:
            raise ValueError(f"node {self.name}: serial_no {self.serial_no}, it counts from 1")
        if self.master_candidate + self.drained + self.offline > 1:
            raise ValueError(f"node {self.name}: master_candidate, drained and offline exclude each other")
        if self.master_candidate and not self.master_capable:
            raise ValueError(f"node {self.name}: a master candidate that is not master_capable")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGroup:
    name: GroupName
    uuid: str
    serial_no: int = 1
    ctime: float = 0.0
    mtime: float = 0.0

    def __post_init__(self) -> None:
        group_name(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class AncillaryFile:
    """One file of the administrator's list (design text, Redistribute Config: "a global list of files")."""

    path: ManagedPath
    scope: ScopeName
    optional: bool = False
    """May be absent on the master without that being an error."""
    allow_empty: bool = False
    """A source that became empty is shipped as it is, instead of being held back."""
    secret: bool = False
    """It lies on the bus only encrypted, also in a scope that is not secret as a whole."""

    def __post_init__(self) -> None:
        managed_path(self.path)
        scope_name(self.scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawnFile:
    """A file that was on the list. Remembered so that a node that was off removes it in the same way."""

    path: ManagedPath
    scope: ScopeName
    purge: bool = False
    generation: int = 0
    """The last one before: a file that a pattern selects again later is not meant."""

    def __post_init__(self) -> None:
        managed_path(self.path)
        scope_name(self.scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    cluster_name: str
    uuid: str
    master_node: str
    """The UUID of the master's node."""
    epoch: int = 1
    """The master term: it grows with every failover and precedes the generation (design, D2)."""
    candidate_pool_size: int = 10
    enabled_hypervisors: tuple[str, ...] = DEFAULT_HYPERVISORS
    hvparams: dict[str, dict[str, HvValue]] = field(default_factory=dict)
    """Hypervisor parameters by hypervisor, enabled or not."""
    modify_etc_hosts: bool = False
    """/etc/hosts of the master is the one of all nodes."""
    use_external_mip_script: bool = False
    """The script that sets up the master's address is the administrator's own, and so are its copies."""
    osparams: dict[str, dict[str, str]] = field(default_factory=dict)
    """Defaults of OS parameters, by OS or OS+variant."""
    ganeti_config_data: str = ""
    """Where on the master's node the config.data of a running Ganeti is that is followed; empty: there is none.
    If it follows, nodes, groups, roles, hypervisors and parameters are Ganeti's, and only that changes them."""
    ancillary_files: tuple[AncillaryFile, ...] = ()
    """The administrator's list. A path with wildcards stands for every file that it selects on the master."""
    file_hooks: bool = True
    """Whether the file hooks are asked, and what they have answered counts."""
    hook_files: dict[str, tuple[AncillaryFile, ...]] = field(default_factory=dict)
    """What each file hook answered last. Here it outlives a restart, and a failover."""
    withdrawn_files: tuple[WithdrawnFile, ...] = ()
    access: tuple[Access, ...] = ()
    """Operators and observers; nodes are no access."""
    serial_no: int = 1
    ctime: float = 0.0
    mtime: float = 0.0

    def __post_init__(self) -> None:
        if self.epoch < 1:
            raise ValueError(f"epoch {self.epoch}: it counts from 1")
        if not 1 <= self.candidate_pool_size <= POOL_SIZE_MAX:
            raise ValueError(f"candidate_pool_size {self.candidate_pool_size}: at least 1, at most {POOL_SIZE_MAX}")
        if not self.cluster_name or len(self.cluster_name) > 255:
            raise ValueError("cluster_name: 1 to 255 characters")
        check_hypervisors(self.enabled_hypervisors, self.hvparams)
        check_osparams(self.osparams)
        if self.ganeti_config_data:
            managed_path(self.ganeti_config_data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """All of config.data. Nodes, groups and instances are keyed by UUID."""

    cluster: Cluster
    nodes: dict[str, Node]
    nodegroups: dict[str, NodeGroup]
    instances: dict[str, Instance] = field(default_factory=dict)
    version: int = CONFIG_VERSION
    serial_no: int = 1
    ctime: float = 0.0
    mtime: float = 0.0

    def __post_init__(self) -> None:
        if self.version != CONFIG_VERSION:
            raise Misfit(f"version {self.version}: this gnt-mesh reads version {CONFIG_VERSION}", "version")
        master = self.nodes.get(self.cluster.master_node)
        if master is None or not master.master_candidate:
            raise Misfit("master_node: not the UUID of a master candidate", "cluster", "master_node")
        keyed = ((uuid, node.public_key) for uuid, node in self.nodes.items() if node.public_key)
        _check_unique("node name", "nodes", ((uuid, node.name) for uuid, node in self.nodes.items()), "name")
        _check_unique("node public_key", "nodes", keyed, "public_key")
        groups = ((uuid, group.name) for uuid, group in self.nodegroups.items())
        for key in ("name", "public_key"):
            access = ((index, str(getattr(one, key))) for index, one in enumerate(self.cluster.access))
            _check_unique(f"access {key}", "cluster", access, key, within=("access",))
        _check_unique("node group name", "nodegroups", groups, "name")
        files = ((index, file.path) for index, file in enumerate(self.cluster.ancillary_files))
        _check_unique("managed path", "cluster", files, "path", within=("ancillary_files",))
        for uuid, node in self.nodes.items():
            if node.uuid != uuid or node.group not in self.nodegroups:
                wrong = "uuid" if node.uuid != uuid else "group"
                raise Misfit(f"node {node.name}: its {wrong} does not fit", "nodes", uuid, wrong)
        for uuid, group in self.nodegroups.items():
            if group.uuid != uuid:
                raise Misfit(f"node group {group.name}: its uuid does not fit", "nodegroups", uuid, "uuid")
        check_instances(self.instances, self.nodes)
        scopes = frozenset(self.scopes())
        lists = [(("hook_files", hook), answer) for hook, answer in self.cluster.hook_files.items()]
        for keys, listed in (("ancillary_files",), self.cluster.ancillary_files), *lists:
            for index, file in enumerate(listed):
                if file.scope not in scopes:
                    reason = f"file {file.path}: scope {file.scope} does not exist"
                    raise Misfit(reason, "cluster", *keys, index, "scope")

    @property
    def master(self) -> Node:
        return self.nodes[self.cluster.master_node]

    def node(self, name: str) -> Node:
        """Return a node by name; Refused names the ones there are."""
        for node in self.nodes.values():
            if node.name == name:
                return node
        known = ", ".join(sorted(node.name for node in self.nodes.values()))
        raise Refused(f"node {name!r} is not in the cluster; its nodes are {known}")

    def group(self, name: str) -> NodeGroup:
        """Return a node group by name; Refused names the ones there are."""
        for group in self.nodegroups.values():
            if group.name == name:
                return group
        known = ", ".join(sorted(group.name for group in self.nodegroups.values()))
        raise Refused(f"node group {name!r} is not in the cluster; its groups are {known}")

    def instance(self, name: str) -> Instance:
        return instance_of(self.instances, name)

    def scopes(self) -> tuple[ScopeName, ...]:
        """Return every scope there is, the general ones first."""
        groups = sorted(group_scope(group.name) for group in self.nodegroups.values())
        return (ALL, MASTER_CANDIDATES, VM_CAPABLE, *groups)

    def scopes_of(self, node: Node) -> tuple[ScopeName, ...]:
        """Return the scopes one node is in, in the order of `scopes`."""
        return tuple(self._memberships(node))

    def sorted_nodes(self) -> tuple[Node, ...]:
        return tuple(sorted(self.nodes.values(), key=lambda node: natural_key(node.name)))

    def _memberships(self, node: Node) -> Iterator[ScopeName]:
        yield ALL
        if node.master_candidate:
            yield MASTER_CANDIDATES
        if node.vm_capable:
            yield VM_CAPABLE
        yield group_scope(self.nodegroups[node.group].name)


def role_letter(config: ClusterConfig, node: Node) -> str:
    """Return M, C, R, D or O, as `gnt-node list -o role` does."""
    if node.uuid == config.cluster.master_node:
        return "M"
    flags = (("O", node.offline), ("D", node.drained), ("C", node.master_candidate))
    return next((letter for letter, is_set in flags if is_set), "R")


def after(nodes: Sequence[Node], name: str) -> Sequence[Node]:
    """Return the nodes that come after one, which may have been removed meanwhile if they are in natural order."""
    place = next((index for index, node in enumerate(nodes) if node.name == name), None)
    if place is not None:
        return nodes[place + 1 :]
    return [node for node in nodes if not name or natural_key(node.name) > natural_key(name)]


def natural_key(text: str) -> tuple[tuple[int, str], ...]:
    """Sort node2 before node10, as Ganeti does. Different texts have different keys, node01 and node1 too."""
    parts, digits = [], ""
    for character in text + "\0":
        if character.isdecimal():
            digits += character
            continue
        if digits:
            parts.append((int(digits), ""))
            digits = ""
        parts.append((-1, character))
    return (*parts, (-1, text))


def new_cluster(
    name: str,
    *,
    nodes: Sequence[tuple[NodeName, str]],
    uuids: Sequence[str],
    now: float,
    candidate_pool_size: int = 10,
    master_candidates: int = 1,
) -> ClusterConfig:
    """Return a cluster of these (name, public key), the first of which is the master.

    `uuids` are used up in order: one for the cluster, one for the default group, one per node. The first
    `master_candidates` nodes are candidates.
    """
    assert len(uuids) >= len(nodes) + 2 and nodes
    cluster_uuid, group_uuid, *node_uuids = uuids
    members = {
        uuid: Node(
            name=node,
            uuid=uuid,
            group=group_uuid,
            public_key=key,
            master_candidate=index < max(master_candidates, 1),
            ctime=now,
            mtime=now,
        )
        for index, (uuid, (node, key)) in enumerate(zip(node_uuids, nodes, strict=False))
    }
    cluster = Cluster(
        cluster_name=name,
        uuid=cluster_uuid,
        master_node=node_uuids[0],
        candidate_pool_size=candidate_pool_size,
        ctime=now,
        mtime=now,
    )
    group = NodeGroup(name=DEFAULT_GROUP, uuid=group_uuid, ctime=now, mtime=now)
    return ClusterConfig(cluster=cluster, nodes=members, nodegroups={group_uuid: group}, ctime=now, mtime=now)


def to_text(config: ClusterConfig) -> str:
    """Return config.data's text: JSON, indented for a person, keys in a stable order, one newline at the end."""
    return msgspec.json.format(msgspec.json.encode(config, order="deterministic"), indent=2).decode() + "\n"


def from_text(text: str | bytes) -> ClusterConfig:
    """Return the config in a text; Refused says at which line, column and key it is damaged.

    Also refused is what would be read and then lost with the next change: a text of a newer gnt-mesh, a key that this
    one does not know (a newer one's, or a slip of the pen), a key that stands twice in one object.
    """
    try:
        raw = text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise Refused(f"config.data is damaged: {error}") from error
    try:
        document = msgspec.json.decode(raw)  # whether it is JSON at all comes first
        version = msgspec.json.decode(raw, type=_Head).version
        config = None if version > CONFIG_VERSION else msgspec.json.decode(raw, type=ClusterConfig)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        damage = locate(raw, error, lambda part: msgspec.json.decode(part, type=ClusterConfig))
        raise Refused(f"config.data is damaged at {damage}") from error
    readable = raw.decode()
    if config is None:
        reason = f"version {version}, this gnt-mesh reads version {CONFIG_VERSION}; upgrade gnt-mesh"
        raise Refused(f"config.data is newer at {at_keys(readable, ('version',), reason)}")
    for keys, _ in duplicates(readable):
        raise Refused(f"config.data is damaged at {at_keys(readable, keys, 'this key stands twice')}")
    for keys in unknown(document, msgspec.to_builtins(config)):
        reason = "this gnt-mesh does not know this key and would lose it; it is a newer one's or mistyped"
        raise Refused(f"config.data is damaged at {at_keys(readable, keys, reason)}")
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """What is read first: the rest may mean anything in another version."""

    version: int = CONFIG_VERSION


def next_serial(config: ClusterConfig) -> int:
    """Return the serial of the next change, beyond any that a node of this cluster has or had.

    A node that is removed and added again remembers the serial of its last assignment, and takes no lower one.
    """
    return max(config.serial_no, *(node.serial_no for node in config.nodes.values())) + 1


def with_nodes(config: ClusterConfig, nodes: Mapping[str, Node], now: float) -> ClusterConfig:
    """Return the config with these nodes instead; the serial grows."""
    return replace(config, nodes=dict(nodes), serial_no=next_serial(config), mtime=now)


def with_cluster(config: ClusterConfig, cluster: Cluster, now: float) -> ClusterConfig:
    """Return the config with this cluster object instead; both serials grow."""
    cluster = replace(cluster, serial_no=cluster.serial_no + 1, mtime=now)
    return replace(config, cluster=cluster, serial_no=config.serial_no + 1, mtime=now)


def _check_unique(
    what: str, table: str, values: Iterable[tuple[str | int, str]], key: str, *, within: tuple[str, ...] = ()
) -> None:
    seen: set[str] = set()
    for place, value in values:
        if value in seen:
            raise Misfit(f"{what} {value} twice", table, *within, place, key)
        seen.add(value)
