"""Makes what a mesh needs before its first process starts, and whatever of it is missing later.

Every step is durable and leaves alone what is there, so a start that was killed anywhere is completed by the next.
"""

import os
import re
import shlex
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from master import failover, founding
from master.core.cluster import ClusterConfig, from_text, new_cluster
from master.founding import Listener, put, toml_text
from master.store import save_config
from master.up import broker
from master.up.layout import HOST, Layout, Marker, write_marker
from protocol import durable, identity
from protocol.errors import Refused
from protocol.names import NodeName, node_name

NODES_DEFAULT: Final = 3
NODES_MAX: Final = 200
POOL_SIZE_DEFAULT: Final = 1
CLUSTER_NAME_DEFAULT: Final = "mesh"

_NEW_KEYS: Final = frozenset(
    {"ca_file", "master_keys_file", "signing_seed_file"}
    | {"admin_seed_file", "authority_key_file", "broker_certificate_file"}
)
"""Settings that a mesh made before there was TLS, signatures or renewals does not have."""

_SERVER_LINE = re.compile(r"(?m)^server\s*=.*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asks for; None is what the mesh has already, or the default."""

    nodes: int | None = None
    candidate_pool_size: int | None = None
    cluster_name: str | None = None
    port: int | None = None

    def __post_init__(self) -> None:
        if self.nodes is not None and not 1 <= self.nodes <= NODES_MAX:
            raise Refused(f"--nodes {self.nodes}: a mesh on one machine has 1 to {NODES_MAX} nodes")
        if self.candidate_pool_size is not None and self.candidate_pool_size < 1:
            raise Refused(f"--candidate-pool-size {self.candidate_pool_size}: at least 1, the master")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise Refused(f"--port {self.port}: 1 to 65535")
        if self.cluster_name is not None:
            try:
                node_name(self.cluster_name)
            except ValueError:
                rule = "letters, digits, '-' and single dots, at most 63 characters"
                raise Refused(f"--cluster-name {self.cluster_name!r}: {rule}") from None


def first_marker(wanted: Wanted) -> Marker:
    """Return what a new mesh is to be made from; Refused if its port is in use."""
    if wanted.port is not None:
        broker.check_port(wanted.port, next_step="choose another --port, or leave it out to get a free one")
    return Marker(
        cluster_name=wanted.cluster_name or CLUSTER_NAME_DEFAULT,
        port=wanted.port or broker.free_port(),
        nodes=wanted.nodes or NODES_DEFAULT,
        candidate_pool_size=wanted.candidate_pool_size or POOL_SIZE_DEFAULT,
    )


def check_fits(layout: Layout, marker: Marker, config: ClusterConfig | None, wanted: Wanted) -> None:
    """Refused if an option contradicts the mesh that is there."""
    cluster_name = config.cluster.cluster_name if config else marker.cluster_name
    pool_size = config.cluster.candidate_pool_size if config else marker.candidate_pool_size
    for option, asked, actual in (
        ("--cluster-name", wanted.cluster_name, cluster_name),
        ("--candidate-pool-size", wanted.candidate_pool_size, pool_size),
        ("--port", wanted.port, marker.port),
    ):
        if asked not in (None, actual):
            raise Refused(f"the mesh in {layout.directory} has {option} {actual}, not {asked}; leave the option out")
    nodes = len(config.nodes) if config else marker.nodes
    if wanted.nodes is not None and wanted.nodes < nodes:
        remove = f"gnt-mesh --dir {shlex.quote(str(layout.directory))} node remove NAME"
        raise Refused(
            f"the mesh in {layout.directory} has {nodes} nodes, not {wanted.nodes}; "
            f"start it without --nodes, then remove a node with: {remove}"
        )


def missing_nodes(marker: Marker, config: ClusterConfig, wanted: Wanted) -> tuple[NodeName, ...]:
    """Return the names of the nodes to add so that there are as many as wanted: the first that are not taken."""
    taken = {node.name for node in config.nodes.values()}
    names = (marker.name_of(number) for number in range(1, NODES_MAX + len(taken) + 1))
    free = [name for name in names if name not in taken]
    return tuple(free[: max((wanted.nodes or 0) - len(taken), 0)])


def read_config(layout: Layout, marker: Marker) -> ClusterConfig | None:
    """Return the cluster config on the master's disk, None if the first start has not come that far.

    Refused if it is damaged, or gone from a mesh that had one: a new one would begin again at generation 1.
    """
    path = layout.config_data(marker.master)
    try:
        return from_text(path.read_bytes())
    except FileNotFoundError:
        if layout.operator_settings.exists():
            raise Refused(
                f"{path} is gone; copy it back from a master candidate's node, or choose another --dir"
            ) from None
        return None
    except Refused as error:
        raise Refused(f"{path}: {error}; copy it back from a master candidate's node") from error


def complete(layout: Layout, marker: Marker, version: tuple[int, int, int]) -> ClusterConfig:
    """Make all that the broker and the master need, where it is missing, and return the cluster config."""
    durable.sweep(layout.directory)  # what a start that was killed may have left of a write
    if not layout.marker.exists():
        write_marker(layout, marker)
    layout.make_directories()
    for directory in (layout.seed("master").parent, layout.broker_dir):
        durable.sweep(directory)
    listener = listener_of(marker)
    users = founding.make_identities(layout, marker.cluster_name, listener)
    layout.make_node_root(marker.master)
    durable.sweep(layout.config_data(marker.master).parent)
    config = read_config(layout, marker) or _first_config(layout, marker)
    if config.master.name != marker.master:
        config = failover.take_over(layout.seat(marker.master), marker.master)
    if (known := founding.with_operator(config, users["operator"])) != config:
        save_config(layout.config_data(marker.master), config := known)
    _put_settings(layout.settings(marker.master, "master"), "The master daemon.", layout.master_values(marker.url))
    founding.put_broker(layout, config, listener, version)
    operator = {
        "name": founding.OPERATOR,
        "server": marker.url,
        "ca_file": os.path.relpath(layout.authority, layout.directory),
        "seed_file": os.path.relpath(layout.seed("operator"), layout.directory),
    }
    put(layout.nats_context, founding.nats_context_text(layout, marker.cluster_name, marker.url))
    _put_settings(layout.operator_settings, "How `gnt-mesh --dir` reaches this mesh.", operator)
    return config


def make_node(layout: Layout, node: str, url: str) -> str:
    """Make a node's root, key, trust and agent settings, where they are missing; return its public key."""
    layout.make_node_root(node)
    durable.sweep(layout.agent_seed(node).parent)
    key = identity.ensure_seed(layout.agent_seed(node))
    put(layout.master_keys(node), founding.master_keys_text(layout), mode=0o644)
    put(layout.agent_authority(node), layout.authority.read_bytes(), mode=0o644)
    _put_settings(layout.settings(node, "agent"), "The agent of this node.", layout.agent_values(node, url))
    return key


def node_key(layout: Layout, node: str) -> str:
    """Return the public key in a node's root, empty if there is none; Refused if it cannot be read."""
    seed = layout.agent_seed(node)
    return identity.read_public_key(seed) if seed.exists() else ""


def server_name(marker: Marker) -> str:
    """Return the name by which the mesh's broker greets."""
    return f"{marker.cluster_name}-broker"


def listener_of(marker: Marker) -> Listener:
    """Return how this mesh's broker is reached: from this machine alone."""
    return Listener(server_name=server_name(marker), host=HOST, port=marker.port, names=(HOST, "localhost"))


def _first_config(layout: Layout, marker: Marker) -> ClusterConfig:
    nodes = [(name, make_node(layout, name, marker.url)) for name in marker.first_nodes]
    config = new_cluster(
        marker.cluster_name,
        nodes=nodes,
        uuids=[str(uuid.uuid4()) for _ in range(len(nodes) + 2)],
        now=time.time(),
        candidate_pool_size=marker.candidate_pool_size,
        master_candidates=marker.candidate_pool_size,
    )
    save_config(layout.config_data(marker.master), config)
    return config


def _put_settings(path: Path, comment: str, values: Mapping[str, str | int | list[str]]) -> None:
    """Write a settings file; in one that is there the server's address and what an older one lacks are ours to set."""
    if not path.exists():
        put(path, toml_text(comment, values))
        return
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    line = f'server = "{values["server"]}"'
    missing = {
        key: value for key, value in values.items() if key in _NEW_KEYS and not re.search(rf"(?m)^{key}\s*=", text)
    }
    added = (
        toml_text("Added to what an older gnt-mesh had written.", missing).decode("ascii") + text if missing else text
    )
    put(path, _SERVER_LINE.sub(line, added, count=1).encode(errors="surrogateescape"))
