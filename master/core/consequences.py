"""What a change of roles brings with it, in values and in sentences: who was promoted and why, what a node gives back,
and which secrets somebody has held who should not know them any more. Pure.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from master.core import candidate_pool
from master.core.cluster import ClusterConfig, Node
from master.core.ssconf import PREFIX
from protocol.messages import FileEntry, Manifest
from protocol.names import ManagedPath, NodeName, ScopeName, is_secret
from protocol.operator_messages import Withdrawn

LISTED_MAX: Final = 20
"""How many paths are named in text; `--json` has them all."""

_READABLE_BY_ALL: Final = 0o004


def promotions(before: ClusterConfig, after: ClusterConfig, *, asked: str = "") -> Iterator[str]:
    """Yield a sentence per node that became a candidate for the pool's sake; `asked` is the node that was named.

    The choice is made again from what was there before it: equal clusters choose alike, so the reasons are the ones.
    """
    risen = [
        uuid
        for uuid, node in after.nodes.items()
        if uuid != asked and node.master_candidate and uuid in before.nodes and not before.nodes[uuid].master_candidate
    ]
    unfilled = {u: replace(node, master_candidate=False) if u in risen else node for u, node in after.nodes.items()}
    excluding = asked if asked in after.nodes and not after.nodes[asked].master_candidate else ""
    for choice in candidate_pool.choices(replace(after, nodes=unfilled), excluding=excluding):
        if choice.node.uuid in risen:
            yield f"Node {choice.node.name} was promoted to master candidate: {choice.reason}."


def own_role(before: ClusterConfig, after: ClusterConfig, node: Node) -> str:
    """Return why a node that was added, or can be a candidate again, is one now or is none; empty if it was neither."""
    was = before.nodes.get(node.uuid)
    if was and (was.master_candidate or candidate_pool.is_eligible(was) or not _is_able(node)):
        return ""
    wanted = candidate_pool.candidates_wanted(after)
    others = sum(other.master_candidate for other in after.nodes.values() if other.uuid != node.uuid)
    if node.master_candidate:
        return f"Node {node.name} is a master candidate: the pool wants {wanted} and had {others}."
    if not node.master_capable:
        return f"Node {node.name} is a regular node: it is not master-capable."
    if others >= wanted:
        return f"Node {node.name} is a regular node: the pool has the {_count(others)} that it wants."
    return f"Node {node.name} is a regular node, as you asked."


def pool_state(config: ClusterConfig) -> str:
    """Return what is unusual about the number of candidates, empty if nothing is."""
    wanted, now = candidate_pool.candidates_wanted(config), sum(n.master_candidate for n in config.nodes.values())
    if now > wanted:
        return (
            f"The cluster has {_count(now)}, {now - wanted} more than the pool wants. Nobody is demoted for that; "
            "to demote a node: gnt-mesh node modify NAME -C no"
        )
    if now < wanted:
        command = "gnt-mesh node modify NAME -C yes"
        return f"The cluster has {_count(now)}, and the pool wants {wanted}; to promote a node: {command}"
    return ""


def withdrawn(
    before: ClusterConfig, after: ClusterConfig, manifests: Mapping[ScopeName, Manifest]
) -> tuple[Withdrawn, ...]:
    """Return what each node must give back because of a change; `manifests` are those that were published before it.

    The master's node holds the sources and gives nothing back.
    """
    return tuple(
        Withdrawn(node=node.name, path=entry.path, scope=scope, secret=is_sensitive(entry, scope))
        for node in before.sorted_nodes()
        if node.uuid != before.cluster.master_node
        for scope, entry in _lost(before, after, node, manifests)
    )


def to_rotate(taken: Iterable[Withdrawn], *, config_data: ManagedPath) -> tuple[ManagedPath, ...]:
    """Return the secrets that somebody has held who must not know them any more. config.data itself has no key."""
    return tuple(sorted({item.path for item in taken if item.secret and item.path != config_data}))


def is_sensitive(entry: FileEntry, scope: ScopeName) -> bool:
    """True for what not every user of a node may read: who has held it may know a secret."""
    return entry.secret or is_secret(scope) or not entry.mode & _READABLE_BY_ALL


def withdrawal_lines(
    taken: Iterable[Withdrawn], rotate: Iterable[ManagedPath], *, unreachable: Iterable[NodeName] = ()
) -> Iterator[str]:
    """Yield what an operator should know of it: what goes from where, and what to do now."""
    by_node: dict[NodeName, list[Withdrawn]] = {}
    for item in taken:
        by_node.setdefault(item.node, []).append(item)
    late = {*unreachable}
    for node, items in by_node.items():
        if items[0].left_behind:
            yield f"Still on the disk of {node}, which has not given it back:"
            yield from _listed(_folded(items, lambda item: str(item.scope)))
            continue
        when = "; it is not online, so that happens when it is back" if node in late else ""
        yield f"Withdrawn from {node}{when}:"
        yield from _listed(_folded(items, _provenance))
    secrets = list(rotate)
    if secrets:
        held = " and ".join(dict.fromkeys(item.node for items in by_node.values() for item in items if item.secret))
        yield f"{held} has held these secrets, so renew them now:"
        yield from _listed(secrets)


def _lost(
    before: ClusterConfig, after: ClusterConfig, node: Node, manifests: Mapping[ScopeName, Manifest]
) -> Iterator[tuple[ScopeName, FileEntry]]:
    kept = after.scopes_of(after.nodes[node.uuid]) if node.uuid in after.nodes else ()
    still = {entry.path for scope in kept if scope in manifests for entry in manifests[scope].files}
    for scope in before.scopes_of(node):
        if scope in manifests:
            yield from ((scope, entry) for entry in manifests[scope].files if entry.path not in still)


def _folded(items: Collection[Withdrawn], remark: Callable[[Withdrawn], str]) -> Iterator[str]:
    """Yield a line per file, secrets first, and one for all ssconf files together: nobody reads those one by one."""
    ssconf = [item for item in items if item.path.rpartition("/")[2].startswith(PREFIX)]
    for item in sorted(items, key=lambda item: not item.secret):
        if item not in ssconf:
            yield f"{item.path} ({remark(item)})"
    if ssconf:
        directory = ssconf[0].path.rpartition("/")[0]
        yield f"{len(ssconf)} ssconf files in {directory} ({remark(ssconf[0])})"


def _provenance(item: Withdrawn) -> str:
    return f"{item.scope}, no copy is kept" if is_secret(item.scope) else f"{item.scope}, a dated backup is kept"


def _is_able(node: Node) -> bool:
    return node.master_capable and not node.offline and not node.drained


def _listed(items: Iterable[str]) -> Iterator[str]:
    lines = list(items)
    yield from (f" - {line}" for line in lines[:LISTED_MAX])
    if len(lines) > LISTED_MAX:
        yield f"   and {len(lines) - LISTED_MAX} more, see --json"


def _count(candidates: int) -> str:
    return "1 master candidate" if candidates == 1 else f"{candidates} master candidates"
