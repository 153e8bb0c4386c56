"""What to wait for after a change or on request, and what of it is missing on the master itself."""

from dataclasses import replace

from master.core.cluster import ClusterConfig, Node
from protocol.operator_messages import Goal


def of_scopes(goal: Goal, scopes: set[str]) -> Goal:
    """Return the part of a goal that concerns these scopes."""
    generations = {scope: number for scope, number in goal.generations.items() if scope in scopes}
    return replace(goal, generations=generations, serials={})


def of_node(goal: Goal, config: ClusterConfig, node: Node) -> Goal:
    """One node has all it must, and so have others whose role changed with it; an offline one is not waited for."""
    waited_for = [name for name in sorted({node.name, *goal.serials}) if not config.node(name).offline]
    if not waited_for:
        return replace(goal, generations={}, serials={})
    return replace(goal, nodes=tuple(waited_for))
