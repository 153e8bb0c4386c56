"""New keys of nodes: the old one and the new one are both valid until the node has come back with the new one."""

from collections.abc import Mapping
from dataclasses import replace

from master.core.cluster import ClusterConfig, Node, with_nodes
from protocol.errors import Refused
from protocol.names import NodeName


def add_keys(config: ClusterConfig, keys: Mapping[NodeName, str], *, now: float) -> ClusterConfig:
    """Let these nodes in with these keys too."""
    taken = {node.public_key for node in config.nodes.values()} | {
        key for one in config.cluster.access for key in one.keys
    }
    for name, key in keys.items():
        if key in taken:
            raise Refused(f"node {name}: the key that it has made is somebody's already")
    return _changed(config, {name: {"next_public_key": key} for name, key in keys.items()}, now)


def settle_keys(config: ClusterConfig, keys: Mapping[NodeName, str], *, now: float) -> ClusterConfig:
    """These nodes use these keys: their others are void."""
    known = {node.name: node for node in config.nodes.values()}
    settled = {
        name: {"public_key": key, "next_public_key": "", "key_time": now}
        for name, key in keys.items()
        if name in known and known[name].next_public_key == key
    }
    return _changed(config, settled, now)


def void_tokens(config: ClusterConfig, *, now: float) -> ClusterConfig:
    """Join tokens that nobody has used are void: they name keys of the cluster that are about to be."""
    unused = [node.name for node in config.nodes.values() if node.join and not node.join.used_by]
    return _changed(config, {name: {"join": None} for name in unused}, now)


def _changed(config: ClusterConfig, fields: Mapping[NodeName, Mapping[str, object]], now: float) -> ClusterConfig:
    """The nodes' serials stay: no assignment changes, and no node has to look."""
    if not fields:
        return config
    nodes: dict[str, Node] = {
        uuid: replace(node, **fields.get(node.name, {}))  # type: ignore[arg-type]
        for uuid, node in config.nodes.items()
    }
    return with_nodes(config, nodes, now)
