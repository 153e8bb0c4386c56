"""Who should be a master candidate (ganeti-behaviour a.6). Deterministic: the same cluster, the same answer."""

from dataclasses import replace

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


def to_promote(config: ClusterConfig, *, excluding: str = "") -> tuple[Node, ...]:
    """Return the nodes to promote so that the pool is full, from the groups with the fewest candidates first.

    Nobody is demoted here: a pool above its size is an operator's choice. `excluding` is the UUID of a node that must
    not be chosen.
    """
    vacant = candidates_wanted(config) - sum(node.master_candidate for node in config.nodes.values())
    per_group = dict.fromkeys(config.nodegroups, 0)
    for node in config.nodes.values():
        per_group[node.group] += node.master_candidate
    spare = {uuid: node for uuid, node in config.nodes.items() if is_eligible(node) and uuid != excluding}
    chosen: list[Node] = []
    while len(chosen) < vacant and spare:
        node = min(spare.values(), key=lambda node: (per_group[node.group], natural_key(node.name)))
        per_group[node.group] += 1
        del spare[node.uuid]
        chosen.append(replace(node, master_candidate=True))
    return tuple(chosen)


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
