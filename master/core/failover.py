"""Another node becomes the master: the cluster config of the new term, and what that node has nothing of. Pure."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from master.core.cluster import AncillaryFile, ClusterConfig, Node, next_serial, with_cluster, with_nodes
from protocol.errors import Refused


def fail_over(config: ClusterConfig, name: str, *, now: float) -> ClusterConfig:
    """Return the config with another master, a candidate, in the next epoch; Refused names those who can be it.

    The former master stays a candidate. Every node's serial grows, because every node is told of it.
    """
    node = config.node(name)
    if node == config.master:
        raise Refused(f"node {name} is the master already")
    if not node.master_candidate:
        others = [other.name for other in config.sorted_nodes() if other.master_candidate and other != config.master]
        who = f"those that are: {', '.join(others)}" if others else "there is none beside the master"
        raise Refused(f"node {name} is not a master candidate, so it has nothing to take over from; {who}")
    cluster = replace(config.cluster, master_node=node.uuid, epoch=config.cluster.epoch + 1)
    serial_no = next_serial(config)
    nodes = {uuid: replace(other, serial_no=serial_no, mtime=now) for uuid, other in config.nodes.items()}
    return with_nodes(with_cluster(config, cluster, now), nodes, now)


def not_held(config: ClusterConfig, node: Node, files: Iterable[AncillaryFile]) -> Iterator[AncillaryFile]:
    """Yield those files that other nodes hold by their scope, and this one does not: their sources may be lost."""
    held = config.scopes_of(node)
    elsewhere: Collection[str] = {
        scope for other in config.nodes.values() if other != node for scope in config.scopes_of(other)
    }
    for file in files:
        if file.scope not in held and file.scope in elsewhere:
            yield file
