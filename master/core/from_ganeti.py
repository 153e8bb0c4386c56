"""A running Ganeti cluster's config.data: what is read of it, and what the mesh's own cluster config makes of it. Pure.

Ganeti stays the owner of nodes, groups, roles, hypervisors and parameters; here they are only ever read. What Ganeti
does not know (keys, the list of files, epoch and serials of the mesh) stays the mesh's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from master.core.cluster import Cluster, ClusterConfig, Node, NodeGroup, next_serial
from master.core.damage import at_keys, locate
from master.core.hypervisors import HvValue
from protocol.errors import Refused
from protocol.names import GroupName, ManagedPath, NodeName
from protocol.os_messages import check_parameters
from protocol.os_names import split_os

VERSION_FIRST: Final = 3_000_000
"""Ganeti 3.0.0; a version is written as three numbers, here 3, 00 and 0000."""

VERSION_BEYOND: Final = 3_020_000
"""Ganeti 3.2: what its config.data means is not known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GanetiNode:
    name: str
    uuid: str
    group: str
    master_candidate: bool = False
    offline: bool = False
    drained: bool = False
    master_capable: bool = True
    vm_capable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GanetiGroup:
    name: str
    uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GanetiCluster:
    cluster_name: str
    uuid: str
    master_node: str
    enabled_hypervisors: tuple[str, ...]
    candidate_pool_size: int = 10
    hvparams: dict[str, dict[str, HvValue]] = field(default_factory=dict)
    osparams: dict[str, dict[str, str | int | float | bool | None]] = field(default_factory=dict)
    modify_etc_hosts: bool = False
    use_external_mip_script: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GanetiConfig:
    """What the mesh wants to know. Ganeti's config.data has much more in it, which stays unread."""

    version: int
    cluster: GanetiCluster
    nodes: dict[str, GanetiNode]
    nodegroups: dict[str, GanetiGroup]


def is_ganetis(raw: bytes) -> bool:
    """True for a text that is the config.data of some Ganeti, whatever its version: its versions are large numbers."""
    try:
        return msgspec.json.decode(raw, type=_Head).version >= 1_000_000
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False


def read(raw: bytes) -> GanetiConfig:
    """Return what a config.data of Ganeti 3.0 or 3.1 says; Refused names version or place."""
    try:
        msgspec.json.decode(raw)
        version = msgspec.json.decode(raw, type=_Head).version
        if not VERSION_FIRST <= version < VERSION_BEYOND:
            where = at_keys(
                raw.decode(), ("version",), f"version {version}, this gnt-mesh reads those of Ganeti 3.0 and 3.1"
            )
            raise Refused(f"Ganeti's config.data is {'older' if version < VERSION_FIRST else 'newer'} at {where}")
        return msgspec.json.decode(raw, type=GanetiConfig)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        damage = locate(raw, error, lambda part: msgspec.json.decode(part, type=GanetiConfig))
        raise Refused(f"Ganeti's config.data is damaged at {damage}") from error


def first_config(ganeti: GanetiConfig, *, path: ManagedPath, master_key: str, now: float) -> ClusterConfig:
    """Return the mesh's first cluster config for a Ganeti whose config.data is at `path`; Refused if it cannot be."""
    cluster = Cluster(
        cluster_name=ganeti.cluster.cluster_name,
        uuid=ganeti.cluster.uuid,
        master_node=ganeti.cluster.master_node,
        ganeti_config_data=path,
        ctime=now,
        mtime=now,
    )
    config = _followed(cluster, {}, {}, ganeti, serial_no=1, now=now)
    master = replace(config.master, public_key=master_key)
    return replace(config, nodes={**config.nodes, master.uuid: master}, ctime=now, mtime=now)


def follow(config: ClusterConfig, ganeti: GanetiConfig, *, now: float) -> ClusterConfig:
    """Return the config as Ganeti has it now; the same one if nothing changed. Refused if it cannot be followed."""
    if ganeti.cluster.uuid != config.cluster.uuid:
        raise Refused(f"Ganeti's cluster is another one now: its UUID is {ganeti.cluster.uuid}")
    if ganeti.cluster.master_node != config.cluster.master_node:
        master = ganeti.nodes.get(ganeti.cluster.master_node)
        theirs = master.name if master else f"an unknown node, {ganeti.cluster.master_node}"
        raise Refused(
            f"Ganeti's master is {theirs} now, and the mesh's is still {config.master.name}: move that as well"
        )
    serial_no = next_serial(config)
    after = _followed(config.cluster, config.nodes, config.nodegroups, ganeti, serial_no=serial_no, now=now)
    unchanged = (config.cluster, config.nodes, config.nodegroups)
    if (after.cluster, after.nodes, after.nodegroups) == unchanged:
        return config
    cluster = after.cluster
    if cluster != config.cluster:
        cluster = replace(cluster, serial_no=cluster.serial_no + 1, mtime=now)
    return replace(
        config, cluster=cluster, nodes=after.nodes, nodegroups=after.nodegroups, serial_no=serial_no, mtime=now
    )


def oddities(ganeti: GanetiConfig) -> Iterator[str]:
    """Yield what Ganeti has that the mesh cannot have as it is, and what it makes of it."""
    for node in ganeti.nodes.values():
        if node.master_candidate and not node.master_capable:
            yield f"node {node.name} is a master candidate that is not master-capable; it counts as capable"
    for os, values in ganeti.cluster.osparams.items():
        if _os_defaults(os, values) is None:
            yield f"the parameters of OS {os} are not such as may be passed to its scripts; they are left out"


def _followed(
    cluster: Cluster,
    nodes: Mapping[str, Node],
    groups: Mapping[str, NodeGroup],
    ganeti: GanetiConfig,
    *,
    serial_no: int,
    now: float,
) -> ClusterConfig:
    theirs = ganeti.cluster
    defaults = {os: _os_defaults(os, values) for os, values in theirs.osparams.items()}
    try:
        return ClusterConfig(
            cluster=replace(
                cluster,
                cluster_name=theirs.cluster_name,
                candidate_pool_size=theirs.candidate_pool_size,
                enabled_hypervisors=theirs.enabled_hypervisors,
                hvparams=theirs.hvparams,
                osparams={os: values for os, values in defaults.items() if values},
                modify_etc_hosts=theirs.modify_etc_hosts,
                use_external_mip_script=theirs.use_external_mip_script,
            ),
            nodes={
                uuid: _node(nodes.get(uuid), node, is_master=uuid == theirs.master_node, serial_no=serial_no, now=now)
                for uuid, node in ganeti.nodes.items()
            },
            nodegroups={uuid: _group(groups.get(uuid), group, now=now) for uuid, group in ganeti.nodegroups.items()},
            serial_no=serial_no,
        )
    except ValueError as error:
        raise Refused(f"Ganeti's cluster cannot be followed: {error}") from error


def _node(before: Node | None, theirs: GanetiNode, *, is_master: bool, serial_no: int, now: float) -> Node:
    """Keep what is the mesh's own; the serial grows with every change."""
    base = before or Node(
        name=NodeName(theirs.name), uuid=theirs.uuid, group=theirs.group, serial_no=serial_no, ctime=now, mtime=now
    )
    candidate = theirs.master_candidate or is_master
    after = replace(
        base,
        name=NodeName(theirs.name),
        uuid=theirs.uuid,
        group=theirs.group,
        master_candidate=candidate,
        offline=theirs.offline,
        drained=theirs.drained,
        master_capable=theirs.master_capable or candidate,
        vm_capable=theirs.vm_capable,
    )
    return base if after == base else replace(after, serial_no=serial_no, mtime=now)


def _group(before: NodeGroup | None, theirs: GanetiGroup, *, now: float) -> NodeGroup:
    name = GroupName(theirs.name)
    if before is None:
        return NodeGroup(name=name, uuid=theirs.uuid, ctime=now, mtime=now)
    return before if before.name == name else replace(before, name=name, serial_no=before.serial_no + 1, mtime=now)


def _os_defaults(os: str, values: Mapping[str, Any]) -> dict[str, str] | None:
    """Return one OS's defaults as the texts that scripts get, None if they could not be passed."""
    texts = {name: str(value) for name, value in values.items() if value is not None}
    try:
        split_os(os)
        check_parameters(texts)
    except ValueError:
        return None
    return texts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    version: int
