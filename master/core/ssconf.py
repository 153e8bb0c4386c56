"""The ssconf files: what every node may know of the cluster, one small text per key, byte for byte Ganeti's.

Ganeti's own tools and hooks read them on any node (ganeti-behaviour a.4). Keys about what this cluster config does not
have (addresses, storage directories, networks, uid pools) are left out rather than made up.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from master.core.cluster import ClusterConfig
from master.core.hypervisors import BUILT_IN, HvValue

PREFIX: Final = "ssconf_"
MODE: Final = 0o444

VALUE_BYTES_MAX: Final = 131072
"""Ganeti's limit, at write and at read."""

_CHUNK = re.compile(r"[0-9]+|[^0-9]+")


def texts(config: ClusterConfig, *, release: str) -> dict[str, str]:
    """Return the text of every key, without looking at limits."""
    return {key: _text(lines) for key, lines in _lines(config, release)}


def faults(config: ClusterConfig, *, release: str) -> dict[str, str]:
    """Return by key why its text cannot be written. Nothing is ever cut off: a reader could not tell."""
    found = {}
    for key, lines in _lines(config, release):
        size_bytes = len(_text(lines).encode())
        broken = next((line for line in lines if "\n" in line), None)
        if size_bytes > VALUE_BYTES_MAX:
            found[key] = f"would have {size_bytes} bytes, limit {VALUE_BYTES_MAX}, beyond which Ganeti reads none of it"
        elif broken is not None:
            found[key] = f"has one value per line, and {broken[:80]!r} contains a line break"
    return found


def _lines(config: ClusterConfig, release: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each key with its lines, in the order that Ganeti gives them."""
    cluster = config.cluster
    nodes = sorted(config.nodes.values(), key=lambda node: _nice(node.name))
    groups = sorted(config.nodegroups.values(), key=lambda group: _nice(group.name))
    yield "cluster_name", [cluster.cluster_name]
    yield "hypervisor_list", cluster.enabled_hypervisors
    yield "instance_list", sorted((instance.name for instance in config.instances.values()), key=_nice)
    yield "master_candidates", [config.nodes[uuid].name for uuid in sorted(config.nodes) if _is_candidate(config, uuid)]
    yield "master_node", [config.master.name]
    yield "node_list", [node.name for node in nodes]
    yield "node_vm_capable", [f"{node.name}={node.vm_capable}" for node in nodes]
    yield "nodegroups", [f"{group.uuid} {group.name}" for group in groups]
    yield "offline_nodes", [node.name for node in nodes if node.offline]
    yield "online_nodes", [node.name for node in nodes if not node.offline]
    yield "release_version", [release]
    for name in sorted({*BUILT_IN, *cluster.enabled_hypervisors, *cluster.hvparams}):
        yield f"hvparams_{name}", list(_parameters(cluster.hvparams.get(name, {})))


def _text(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    return f"{text}\n" if text else ""


def _is_candidate(config: ClusterConfig, uuid: str) -> bool:
    return config.nodes[uuid].master_candidate or uuid == config.cluster.master_node


def _parameters(parameters: Mapping[str, HvValue]) -> Iterator[str]:
    for key, value in sorted(parameters.items()):
        match value:
            case None:
                yield f"{key}=null"
            case float() if value.is_integer():
                yield f"{key}={int(value)}"
            case _:
                yield f"{key}={value}"


def _nice(name: str) -> list[tuple[bool, int, str]]:
    """Return the key of Ganeti's own order: by runs of digits and of other characters, numbers before text."""
    return [
        (False, int(chunk), "") if chunk.isdecimal() else (True, 0, chunk)  # the runs are ASCII digits
        for chunk in _CHUNK.findall(name)
    ]
