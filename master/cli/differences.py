"""What changed between two looks at the fleet, in lines for a log. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from master.cli.formats import count
from protocol.messages import FileError, Refusals
from protocol.operator_messages import ClusterStatus, NodeInfo

OFFLINE = "O"
"""The role of a node that an operator has set offline: nobody expects it to answer."""


def differ(before: ClusterStatus, after: ClusterStatus) -> bool:
    """True if more changed than the time since the nodes were last heard."""
    return _timeless(before) != _timeless(after)


def differences(before: ClusterStatus, after: ClusterStatus) -> Iterator[str]:
    """Yield one line per change, the master's first, then node by node."""
    if (before.master, before.epoch) != (after.master, after.epoch):
        yield f"master {before.master} -> {after.master}, epoch {before.epoch} -> {after.epoch}"
    yield from _generations("published", _of_scopes(before), _of_scopes(after))
    yield from _errors("source", before.errors, after.errors)
    yield from _refused(f"{after.master} (master)", before.refusals, after.refusals)
    known = {node.name: node for node in before.nodes}
    for node in after.nodes:
        if node.name in known:
            yield from _node(known.pop(node.name), node)
        else:
            yield f"{node.name} added, role {node.role}"
    yield from (f"{name} removed" for name in known)
    if not _all_in_sync(before) and _all_in_sync(after):
        yield all_in_sync(sum(node.role != OFFLINE for node in after.nodes))


def all_in_sync(nodes: int) -> str:
    """Return the good news, for that many nodes."""
    return f"all {nodes} nodes in sync" if nodes != 1 else "the one node in sync"


def troubles(status: ClusterStatus) -> Iterator[str]:
    """Yield one line per thing that is wrong already at the first look."""
    yield from _errors("source", (), status.errors)
    for node in status.nodes:
        if not node.online and node.role != OFFLINE:
            yield f"{node.name} offline"
        yield from _errors(node.name, (), node.errors)


def _node(before: NodeInfo, after: NodeInfo) -> Iterator[str]:
    name = after.name
    if before.role != after.role:
        yield f"{name} role {before.role} -> {after.role}"
    if before.group != after.group:
        yield f"{name} group {before.group} -> {after.group}"
    if before.vm_capable != after.vm_capable:
        yield f"{name} {'now' if after.vm_capable else 'no longer'} vm-capable"
    if before.online != after.online:
        yield f"{name} {'online' if after.online else 'offline'}"
    yield from _generations(name, before.generations, after.generations)
    yield from _errors(name, before.errors, after.errors)
    yield from _refused(name, before.refusals, after.refusals)


def _generations(who: str, before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[str]:
    for scope in sorted({*before, *after}):
        if before.get(scope) != after.get(scope):
            yield f"{who} {scope} {before.get(scope, '-')} -> {after.get(scope, '-')}"


def _errors(who: str, before: Sequence[FileError], after: Sequence[FileError]) -> Iterator[str]:
    for error in after:
        if error not in before:
            yield f"{who} error {_place(error)}: {error.reason}"
    still = {_place(error) for error in after}
    for error in before:
        if _place(error) not in still:
            yield f"{who} error over {_place(error)}"


def _refused(who: str, before: Refusals, after: Refusals) -> Iterator[str]:
    if after.count and after != before:
        yield f"{who} has refused {count(after.count, 'message')}, the last because: {after.last}"


def _place(error: FileError) -> str:
    return error.path or error.scope or "-"


def _of_scopes(status: ClusterStatus) -> dict[str, int]:
    return {name: scope.generation for name, scope in status.scopes.items()}


def _all_in_sync(status: ClusterStatus) -> bool:
    return all(node.in_sync or node.role == OFFLINE for node in status.nodes)


def _timeless(status: ClusterStatus) -> ClusterStatus:
    return replace(status, nodes=tuple(replace(node, last_seen_s=None) for node in status.nodes))
