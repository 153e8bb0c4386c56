"""The JSON that scripts rely on (design, section 3). Keys may be added here; none may be renamed or removed."""

from collections.abc import Sequence

from master.cli.formats import mode
from master.cli.waiting import Outcome
from protocol.messages import FileEntry, FileError, Refusals
from protocol.operator_messages import Changed, ClusterInfo, ClusterStatus, FileInfo, GroupInfo, NodeInfo

Json = dict[str, object]


def status_shape(status: ClusterStatus) -> Json:
    return {
        "cluster": status.cluster,
        "master": status.master,
        "epoch": status.epoch,
        "scopes": {
            name: {
                "generation": scope.generation,
                "files": scope.files,
                "nodes": scope.nodes,
                "size_bytes": scope.size_bytes,
            }
            for name, scope in status.scopes.items()
        },
        "nodes": [node_shape(node) for node in status.nodes],
        "errors": _errors(status.errors),
        "refused": _refused(status.refusals),
        "warnings": list(status.warnings),
    }


def node_shape(node: NodeInfo) -> Json:
    return {
        "name": node.name,
        "uuid": node.uuid,
        "role": node.role,
        "group": node.group,
        "master_capable": node.master_capable,
        "vm_capable": node.vm_capable,
        "public_key": node.public_key,
        "online": node.online,
        "last_seen_s": node.last_seen_s,
        "in_sync": node.in_sync,
        "serial": node.serial,
        "scopes": list(node.scopes),
        "holding": list(node.holding),
        "generations": dict(node.generations),
        "errors": _errors(node.errors),
        "errors_count": node.errors_count,
        "refused": _refused(node.refusals),
        "agent_version": node.agent_version,
    }


def cluster_shape(info: ClusterInfo) -> Json:
    return {
        "name": info.name,
        "uuid": info.uuid,
        "master": info.master,
        "epoch": info.epoch,
        "generation": info.generation,
        "serial_no": info.serial_no,
        "candidate_pool_size": info.candidate_pool_size,
        "enabled_hypervisors": list(info.enabled_hypervisors),
        "hvparams": {hypervisor: dict(values) for hypervisor, values in info.hvparams.items()},
        "modify_etc_hosts": info.modify_etc_hosts,
        "use_external_mip_script": info.use_external_mip_script,
        "file_hooks": info.file_hooks,
        "master_candidates": list(info.master_candidates),
        "nodes": info.nodes,
        "groups": list(info.groups),
        "files": info.files,
        "history": info.history,
        "master_version": info.master_version,
        "broker_version": info.broker_version,
        "ctime": info.ctime,
        "mtime": info.mtime,
        "follows": info.follows,
    }


def group_shape(group: GroupInfo) -> Json:
    return {"name": group.name, "uuid": group.uuid, "nodes": list(group.nodes)}


def file_shape(file: FileInfo) -> Json:
    return {
        "path": file.path,
        "scope": file.scope,
        "optional": file.optional,
        "allow_empty": file.allow_empty,
        "secret": file.secret,
        "builtin": file.builtin,
        "rule": file.rule,
        "reason": file.reason,
        "published": _entry(file.published) if file.published else None,
        "error": file.error,
    }


def changed_shape(changed: Changed) -> Json:
    """What a change has done; `rotate` are the secrets that are to be renewed now."""
    return {
        "done": list(changed.done),
        "withdrawn": [
            {
                "node": item.node,
                "path": item.path,
                "scope": item.scope,
                "secret": item.secret,
                "left_behind": item.left_behind,
            }
            for item in changed.withdrawn
        ],
        "withdrawn_count": changed.withdrawn_count,
        "rotate": list(changed.rotate),
        **({"token": changed.token} if changed.token else {}),
    }


def outcome_shape(outcome: Outcome) -> Json:
    """How a wait ended: `complete` is true with exit code 0, false with 2."""
    goal = outcome.goal
    return {
        "complete": outcome.is_reached,
        "nodes": outcome.nodes_total,
        "missing": [
            {"node": one.node, "scope": one.scope, "path": one.path, "reason": one.reason} for one in outcome.missing
        ],
        "trouble": outcome.trouble,
        "epoch": goal.epoch if goal else None,
        "generations": dict(goal.generations) if goal else {},
    }


def _entry(entry: FileEntry) -> Json:
    return {
        "generation": entry.generation,
        "digest": entry.digest,
        "size_bytes": entry.size_bytes,
        "mode": mode(entry.mode),
        "owner": entry.owner,
        "group": entry.group,
    }


def _errors(errors: Sequence[FileError]) -> list[Json]:
    return [{"path": error.path, "reason": error.reason, "scope": error.scope} for error in errors]


def _refused(refusals: Refusals) -> Json:
    return {"count": refusals.count, "last": refusals.last}
