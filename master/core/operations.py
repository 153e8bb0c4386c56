"""What operators may change of the cluster: each takes a config and a request and returns the new config, or refuses.

Nothing is written here, so a refusal leaves nothing half done. The rules for node flags are Ganeti's
(ganeti-behaviour a.6) without its known bugs.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from master.core import ancillary, candidate_pool
from master.core.ancillary import Surroundings
from master.core.cluster import (
    AncillaryFile,
    ClusterConfig,
    Node,
    NodeGroup,
    WithdrawnFile,
    natural_key,
    next_serial,
    with_cluster,
    with_nodes,
)
from master.core.file_list import without_scope
from master.core.globs import check_glob
from master.core.instances import check_holds_none
from protocol.errors import Refused
from protocol.names import (
    ManagedPath,
    ScopeName,
    group_name,
    group_scope,
    managed_path,
    node_name,
    public_key,
    scope_name,
)
from protocol.operator_messages import (
    FileAdd,
    FileModify,
    FileRemove,
    GroupAdd,
    GroupRemove,
    NodeAdd,
    NodeModify,
    NodeRemove,
)

T = TypeVar("T")

NOTHING: Mapping[ManagedPath, Collection[ManagedPath]] = MappingProxyType({})

WITHDRAWN_MAX = 1000
"""How many withdrawn files are remembered, or as many as the last command withdrew; a node that was off for longer
still removes them, keeping a backup."""


def add_node(config: ClusterConfig, request: NodeAdd, *, uuid: str, now: float) -> ClusterConfig:
    """Add a node; it becomes a master candidate at once if the pool has room (seed: shared with AddNode)."""
    name = _checked(node_name, request.name)
    if any(node.name == name for node in config.nodes.values()):
        raise Refused(f"node {name} is in the cluster already")
    _check_key(config, request.public_key, name)
    group = config.group(request.group) if request.group else _first_group(config)
    node = Node(
        name=name,
        uuid=uuid,
        group=group.uuid,
        public_key=request.public_key,
        master_capable=request.master_capable,
        vm_capable=request.vm_capable,
        serial_no=next_serial(config),
        ctime=now,
        mtime=now,
    )
    added = with_nodes(config, {**config.nodes, uuid: node}, now)
    if request.master_capable and candidate_pool.has_vacancy(added):
        added = replace(added, nodes={**added.nodes, uuid: replace(node, master_candidate=True)})
    return added


def modify_node(config: ClusterConfig, request: NodeModify, *, now: float) -> ClusterConfig:
    """Change a node's flags, group or key. One request sets at most one flag; setting a role clears the former one.

    What is like that already is no mistake: the config comes back as it was, so that a script may ask twice.
    """
    before = config.node(request.name)
    _check_flags(config, request, before)
    if request.vm_capable is False:
        check_holds_none(config, before, "stop being vm-capable")
    after = _with_flags(before, request)
    if request.group is not None:
        after = replace(after, group=config.group(request.group).uuid)
    if request.public_key not in (None, before.public_key):
        assert request.public_key is not None
        _check_key(config, request.public_key, before.name)
        after = replace(after, public_key=request.public_key, next_public_key="", key_time=now, join=None)
    if after == before:
        return config
    if _promotes_itself(config, request, before, after):
        after = replace(after, master_candidate=True)
    after = replace(after, serial_no=next_serial(config), mtime=now)
    result = with_nodes(config, {**config.nodes, before.uuid: after}, now)
    if before.master_candidate and not after.master_candidate:
        if request.auto_promote:
            return _fill_pool(result, excluding=before.uuid, now=now)
        candidate_pool.check_demotion(result, after)
    return result


def remove_node(config: ClusterConfig, request: NodeRemove, *, now: float) -> ClusterConfig:
    """Remove a node and fill the candidate pool from the others."""
    node = config.node(request.name)
    if node.uuid == config.cluster.master_node:
        raise Refused(f"node {node.name} is the master and cannot be removed")
    check_holds_none(config, node, "be removed")
    left = {uuid: other for uuid, other in config.nodes.items() if uuid != node.uuid}
    result = with_nodes(config, left, now)
    return _fill_pool(result, now=now) if node.master_candidate else result


def add_group(config: ClusterConfig, request: GroupAdd, *, uuid: str, now: float) -> ClusterConfig:
    """Add a node group without nodes."""
    name = _checked(group_name, request.name)
    if any(group.name == name for group in config.nodegroups.values()):
        raise Refused(f"node group {name} exists already")
    group = NodeGroup(name=name, uuid=uuid, ctime=now, mtime=now)
    return replace(config, nodegroups={**config.nodegroups, uuid: group}, serial_no=config.serial_no + 1, mtime=now)


def remove_group(config: ClusterConfig, request: GroupRemove, *, now: float) -> ClusterConfig:
    """Remove a node group that has neither nodes nor files; the last one stays."""
    group = config.group(request.name)
    nodes = [node.name for node in config.nodes.values() if node.group == group.uuid]
    files = [file.path for file in config.cluster.ancillary_files if file.scope == group_scope(group.name)]
    if nodes:
        raise Refused(f"node group {group.name} still has nodes: {', '.join(sorted(nodes))}")
    if files:
        raise Refused(f"node group {group.name} still has files: {', '.join(sorted(files))}")
    if len(config.nodegroups) == 1:
        raise Refused(f"node group {group.name} is the last one; a cluster has at least one")
    left = {uuid: other for uuid, other in config.nodegroups.items() if uuid != group.uuid}
    cluster = without_scope(config.cluster, group_scope(group.name))
    return replace(config, cluster=cluster, nodegroups=left, serial_no=config.serial_no + 1, mtime=now)


def add_file(config: ClusterConfig, request: FileAdd, *, surroundings: Surroundings, now: float) -> ClusterConfig:
    """Put a file on the administrator's list. A file is in one scope (design text: "all nodes or just candidates")."""
    path = _checked(managed_path, request.path)
    builtin = ancillary.builtin_file(config, path, surroundings)
    if builtin:
        raise Refused(f"{path} is shipped to {builtin.scope} already, by itself, because {builtin.reason}")
    _checked(check_glob, path)
    if any(file.path == path for file in config.cluster.ancillary_files):
        scope = _listed(config, path).scope
        raise Refused(f"{path} is on the list already, for scope {scope}; change it with: gnt-mesh file modify {path}")
    file = AncillaryFile(
        path=path,
        scope=_existing_scope(config, request.scope),
        optional=request.optional,
        allow_empty=bool(request.allow_empty),
        secret=request.secret,
    )
    return _with_files(config, [*config.cluster.ancillary_files, file], _not_withdrawn(config, path), now)


def modify_file(config: ClusterConfig, request: FileModify, *, now: float) -> ClusterConfig:
    """Change the settings of a file on the list."""
    before = _listed(config, _checked(managed_path, request.path))
    after = replace(
        before,
        allow_empty=before.allow_empty if request.allow_empty is None else request.allow_empty,
        optional=before.optional if request.optional is None else request.optional,
        scope=before.scope if request.scope is None else _existing_scope(config, request.scope),
        secret=before.secret if request.secret is None else request.secret,
    )
    if after == before:
        return config
    files = [after if file.path == before.path else file for file in config.cluster.ancillary_files]
    return _with_files(config, files, list(config.cluster.withdrawn_files), now)


def remove_file(
    config: ClusterConfig,
    request: FileRemove,
    *,
    selected: Mapping[ManagedPath, Collection[ManagedPath]] = NOTHING,
    vanished: Collection[ManagedPath] = (),
    generation: int = 0,
    now: float,
) -> ClusterConfig:
    """Take a file off the list: the nodes of its scope remove it, keeping a backup unless it is to be purged.

    With a pattern goes all that it has `selected`. A file in `vanished`, which a pattern selected once and which only
    the nodes still have, is withdrawn by its own name. `generation` is the last one before.
    """
    path = _checked(managed_path, request.path)
    listed = next((file for file in config.cluster.ancillary_files if file.path == path), None)
    selecting = [file for file in config.cluster.ancillary_files if path in selected.get(file.path, ())]
    if not listed and selecting and path not in vanished:
        raise Refused(f"{path} is selected by {selecting[0].path} on the list: first remove it on the master")
    file = listed or next(iter(selecting), None) or _listed(config, path)
    gone = {path, *selected.get(path, ())}
    withdrawn = [
        WithdrawnFile(path=one, scope=file.scope, purge=request.purge, generation=generation) for one in sorted(gone)
    ]
    files = [other for other in config.cluster.ancillary_files if other.path != path]
    kept = [other for other in config.cluster.withdrawn_files if other.path not in gone]
    too_many = max(len(kept) + len(withdrawn) - WITHDRAWN_MAX, 0)
    return _with_files(config, files, [*kept[too_many:], *withdrawn], now)


def _check_flags(config: ClusterConfig, request: NodeModify, node: Node) -> None:
    roles = {"master-candidate": request.master_candidate, "offline": request.offline, "drained": request.drained}
    abilities = {"master-capable": request.master_capable, "vm-capable": request.vm_capable}
    given = {flag: value for flag, value in {**roles, **abilities}.items() if value is not None}
    if not given and request.group is None and request.public_key is None:
        raise Refused(f"node {node.name}: nothing to change was given")
    raised = [flag for flag, value in given.items() if value]
    if len(raised) > 1:
        raise Refused(f"node {node.name}: set one flag at a time, not {' and '.join(raised)}")
    is_master = node.uuid == config.cluster.master_node
    touched = [flag for flag in (*roles, "master-capable") if given.get(flag) is not None]
    if is_master and touched:
        first = "gnt-mesh cluster master-failover"
        raise Refused(
            f"node {node.name} is the master: its {', '.join(touched)} cannot be changed; to make another one: {first}"
        )
    if request.master_candidate and request.master_capable is False:
        raise Refused(f"node {node.name}: a master candidate has to be master-capable")
    if request.master_candidate and not node.master_capable:
        first = f"gnt-mesh node modify {node.name} --master-capable yes"
        raise Refused(f"node {node.name} is not master-capable; first: {first}")


def _with_flags(node: Node, request: NodeModify) -> Node:
    flags = {
        flag: value
        for flag, value in (
            ("master_candidate", request.master_candidate),
            ("offline", request.offline),
            ("drained", request.drained),
            ("master_capable", request.master_capable),
            ("vm_capable", request.vm_capable),
        )
        if value is not None
    }
    for role in ("master_candidate", "offline", "drained"):
        if flags.get(role):
            flags = {"master_candidate": False, "offline": False, "drained": False, **flags}
    if flags.get("master_capable") is False:
        flags["master_candidate"] = False
    return replace(node, **flags)  # type: ignore[arg-type]  # every flag is a bool field of Node


def _promotes_itself(config: ClusterConfig, request: NodeModify, before: Node, after: Node) -> bool:
    """True for a node that has become able to be a candidate while the pool has room, unless that was ruled out."""
    if request.master_candidate is False or before.master_candidate or candidate_pool.is_eligible(before):
        return False
    changed = replace(config, nodes={**config.nodes, before.uuid: after})
    return candidate_pool.is_eligible(after) and candidate_pool.has_vacancy(changed)


def _fill_pool(config: ClusterConfig, *, now: float, excluding: str = "") -> ClusterConfig:
    promoted = {
        node.uuid: replace(node, serial_no=config.serial_no, mtime=now)
        for node in candidate_pool.to_promote(config, excluding=excluding)
    }
    return replace(config, nodes={**config.nodes, **promoted})


def _with_files(
    config: ClusterConfig, files: list[AncillaryFile], withdrawn: list[WithdrawnFile], now: float
) -> ClusterConfig:
    ordered = tuple(sorted(files, key=lambda file: file.path))
    return with_cluster(config, replace(config.cluster, ancillary_files=ordered, withdrawn_files=tuple(withdrawn)), now)


def _not_withdrawn(config: ClusterConfig, path: ManagedPath) -> list[WithdrawnFile]:
    return [file for file in config.cluster.withdrawn_files if file.path != path]


def _listed(config: ClusterConfig, path: ManagedPath) -> AncillaryFile:
    for file in config.cluster.ancillary_files:
        if file.path == path:
            return file
    raise Refused(f"{path} is not on the list of managed files; see: gnt-mesh file list")


def _existing_scope(config: ClusterConfig, scope: str) -> ScopeName:
    name = _checked(scope_name, scope)
    if name not in config.scopes():
        raise Refused(f"scope {scope} does not exist; there are {', '.join(config.scopes())}")
    return name


def _first_group(config: ClusterConfig) -> NodeGroup:
    return min(config.nodegroups.values(), key=lambda group: (group.ctime, natural_key(group.name)))


def _check_key(config: ClusterConfig, key: str, name: str) -> None:
    """Empty is no key. A mistyped one would have the server refuse its whole configuration."""
    if not key:
        return
    _checked(public_key, key)
    for node in config.nodes.values():
        if node.public_key == key and node.name != name:
            raise Refused(f"this public key is already the one of node {node.name}")


def checked_path(text: str) -> ManagedPath:
    """Return a path that an operator gave; Refused names the rule it breaks."""
    return _checked(managed_path, text)


def _checked(check: Callable[[str], T], text: str) -> T:
    try:
        return check(text)
    except ValueError as error:
        raise Refused(str(error)) from error
