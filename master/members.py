"""What a change of the cluster config means for those who are in it: who is told, and which scopes were left. Pure."""

from master.core.cluster import ClusterConfig, Node
from master.publisher import assignment_of
from protocol.names import ScopeName


def scopes_that_lost(before: ClusterConfig, after: ClusterConfig) -> set[ScopeName]:
    """Return the scopes that some node, as the identity that it was, is no longer in.

    A node that has taken up the key that was made known for it is still who it was.
    """
    return {
        scope
        for uuid, node in before.nodes.items()
        for scope in before.scopes_of(node)
        if uuid not in after.nodes
        or scope not in after.scopes_of(after.nodes[uuid])
        or (node.public_key and after.nodes[uuid].public_key not in (node.public_key, node.next_public_key))
    }


def reassigned(before: ClusterConfig, after: ClusterConfig) -> list[Node]:
    """Return the nodes of `after` whose assignment is not the one they had."""
    return [
        node
        for uuid, node in after.nodes.items()
        if uuid not in before.nodes
        or assignment_of(before, before.nodes[uuid]) != assignment_of(after, node)
        or _identities(before.nodes[uuid]) != _identities(node)
    ]


def _identities(node: Node) -> tuple[str, str]:
    """Return for whom a node's keys are wrapped."""
    return (node.public_key, node.next_public_key)
