"""Who should be a master candidate (ganeti-behaviour a.6). Deterministic: the same cluster, the same answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from master.core.cluster import ClusterConfig, Node, natural_key
from protocol.errors import Refused


def is_eligible(node: Node) -> bool:
    """True for a node that may become a master candidate."""
    return node.master_capable and not node.offline and not node.drained and not node.master_candidate


def candidates_wanted(config: ClusterConfig) -> int:
    """Return how many candidates there should be: the pool size, or all that can be if they are fewer."""
    able = sum(node.master_capable and not node.offline and not node.drained for node in config.nodes.values())
    return min(able, config.cluster.candidate_pool_size)


def has_vacancy(config: ClusterConfig) -> bool:
    """True if the pool is not full."""
    now = sum(node.master_candidate for node in config.nodes.values())
    return now < candidates_wanted(config)


@dataclass(frozen=True, slots=True)
class Choice:
    """A node to promote, as it is then, and why it is this one: the end of a sentence."""

    node: Node
    reason: str


def to_promote(config: ClusterConfig, *, excluding: str = "") -> tuple[Node, ...]:
    """Return the nodes of `choices`."""
    return tuple(choice.node for choice in choices(config, excluding=excluding))


def choices(config: ClusterConfig, *, excluding: str = "") -> Iterator[Choice]:
    """Yield whom to promote so that the pool is full: from the groups with the fewest candidates first, then by name.

    Nobody is demoted here: a pool above its size is an operator's choice. `excluding` is the UUID of a node that must
    not be chosen.
    """
    wanted = candidates_wanted(config)
    now = sum(node.master_candidate for node in config.nodes.values())
    per_group = dict.fromkeys(config.nodegroups, 0)
    for node in config.nodes.values():
        per_group[node.group] += node.master_candidate
    spare = {uuid: node for uuid, node in config.nodes.items() if is_eligible(node) and uuid != excluding}
    while now < wanted and spare:
        node = min(spare.values(), key=lambda node: (per_group[node.group], natural_key(node.name)))
        shortage = f"the pool wants {wanted} master candidates and had {now}"
        reason = _preference(config, node, spare, per_group)
        yield Choice(replace(node, master_candidate=True), f"{shortage}, and {reason}")
        per_group[node.group] += 1
        now += 1
        del spare[node.uuid]


def _preference(config: ClusterConfig, node: Node, spare: Mapping[str, Node], per_group: Mapping[str, int]) -> str:
    """Why this node and no other that could be one."""
    others = [other for other in spare.values() if other != node]
    rivals = [other for other in others if per_group[other.group] == per_group[node.group]]
    if not others:
        return "no other node can be one"
    if len(rivals) == len(others):
        return "it is the first by name of those that can"
    group = config.nodegroups[node.group].name
    first = ", where it is the first by name" if any(other.group == node.group for other in rivals) else ""
    tie = ", of groups alike the first by name" if any(other.group != node.group for other in rivals) else ""
    return f"its node group {group} had the fewest ({per_group[node.group]}){first or tie}"


def check_demotion(config: ClusterConfig, demoted: Node) -> None:
    """Refuse a demotion that leaves fewer candidates than there should be; `config` is as it would be afterwards."""
    left = sum(node.master_candidate for node in config.nodes.values())
    able = sum(
        node.master_capable and not node.offline and not node.drained and node.uuid != demoted.uuid
        for node in config.nodes.values()
    )
    should = min(able, config.cluster.candidate_pool_size)
    if left < should:
        raise Refused(
            f"not enough master candidates (desired {should}, left {left}) without {demoted.name}: "
            "give --auto-promote to have others promoted, or lower the candidate pool size"
        )
