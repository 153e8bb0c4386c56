"""`gnt-mesh cluster init`: a new cluster on its first node, where production has everything.

All is checked before anything is written. config.data comes last: where it is there is a cluster, and that is never
touched; a try that was interrupted before is completed by the next one.
"""

import os
import socket
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from master import founding
from master.core.cluster import DEFAULT_HYPERVISORS, Cluster, ClusterConfig, new_cluster
from master.core.hypervisors import BUILT_IN
from master.founding import Listener, put, toml_text
from master.settings import CONFIG_DATA
from master.store import save_config
from protocol import durable, identity
from protocol.errors import Refused
from protocol.names import NodeName, node_name

PORT_DEFAULT: Final = 4222
POOL_SIZE_DEFAULT: Final = 10

_ETC = Path("etc/gnt-mesh")
_STATE = Path("var/lib/gnt-mesh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line asks for."""

    name: str
    node: str = ""
    """Empty: this machine's host name."""
    address: str = ""
    """Under which the nodes reach the broker; empty: the node's name."""
    port: int = PORT_DEFAULT
    candidate_pool_size: int = POOL_SIZE_DEFAULT
    enabled_hypervisors: tuple[str, ...] = DEFAULT_HYPERVISORS
    root: Path = Path("/")


@dataclass(frozen=True, slots=True)
class FirstNode:
    """Where everything of the first node lies below a root, which is absolute."""

    root: Path

    @property
    def etc(self) -> Path:
        return self.root / _ETC

    def settings(self, program: str) -> Path:
        """Return the settings file of `master`, `agent` or `operator`."""
        return self.etc / f"{program}.toml"

    def seed(self, user: str) -> Path:
        return self.etc / "keys" / f"{user}.nk"

    @property
    def agent_seed(self) -> Path:
        return self.etc / "agent.nk"

    @property
    def authority_key(self) -> Path:
        return self.etc / "keys" / "ca.key"

    @property
    def authority(self) -> Path:
        return self.etc / "ca.pem"

    @property
    def master_keys(self) -> Path:
        return self.etc / founding.MASTER_KEYS_FILE

    @property
    def broker_dir(self) -> Path:
        return self.etc / "broker"

    @property
    def broker_config(self) -> Path:
        return self.broker_dir / "nats-server.conf"

    @property
    def broker_nodes(self) -> Path:
        return self.broker_dir / founding.NODES_FILE

    @property
    def broker_key(self) -> Path:
        return self.broker_dir / "server.key"

    @property
    def broker_certificate(self) -> Path:
        return self.broker_dir / "server.pem"

    @property
    def store_dir(self) -> Path:
        return self.root / _STATE / "broker"

    def state_dir(self, daemon: str) -> Path:
        return self.root / _STATE / daemon

    @property
    def nats_context(self) -> Path:
        return self.etc / "nats-context.json"

    def config_data(self, path: Path = CONFIG_DATA) -> Path:
        return self.root / str(path).lstrip("/")


@dataclass(frozen=True, slots=True)
class Founded:
    """A new cluster: its config, how its broker is reached, and where its files are."""

    config: ClusterConfig
    url: str
    place: FirstNode


def init(wishes: Wishes, version: tuple[int, int, int]) -> Founded:
    """Found a cluster; Refused, with nothing touched, if that cannot be or there is one. `version` is the broker's."""
    place = FirstNode(wishes.root.absolute())
    node, listener = _check(wishes)
    _check_vacant(place)
    try:
        _make_directories(place)
        users = founding.make_identities(place, wishes.name, listener)
        config = _first_config(wishes, node, identity.ensure_seed(place.agent_seed))
        url = f"tls://{_bracketed(listener.names[0])}:{listener.port}"
        put(place.broker_nodes, founding.nodes_text(config))
        put(place.broker_config, founding.broker_text(place, listener, users, version))
        put(place.master_keys, founding.master_keys_text(place), mode=0o644)
        put(place.nats_context, founding.nats_context_text(place, wishes.name, url))
        _put_settings(place, node, url)
        save_config(place.config_data(), config)
    except OSError as error:
        where = error.filename or place.root
        raise Refused(f"{where}: {os.strerror(error.errno or 0)}; no cluster was made, so try again then") from error
    return Founded(config, url, place)


def _check(wishes: Wishes) -> tuple[NodeName, Listener]:
    """Return the first node's name and how its broker will be reached; Refused names what cannot be."""
    try:
        node_name(wishes.name)
    except ValueError:
        raise Refused(
            f"cluster name {wishes.name!r}: letters, digits, '-' and single dots, at most 63 characters"
        ) from None
    try:
        node = node_name(wishes.node or socket.gethostname())
    except ValueError as error:
        raise Refused(f"{error}; give this node's name with --node") from error
    if not 1 <= wishes.port <= 65535:
        raise Refused(f"--port {wishes.port}: 1 to 65535")
    for hypervisor in wishes.enabled_hypervisors:
        if hypervisor not in BUILT_IN:
            raise Refused(f"hypervisor {hypervisor!r} is unknown here; there are {', '.join(sorted(BUILT_IN))}")
    try:
        Cluster(
            cluster_name=wishes.name,
            uuid="",
            master_node="",
            candidate_pool_size=wishes.candidate_pool_size,
            enabled_hypervisors=wishes.enabled_hypervisors,
        )
    except ValueError as error:
        raise Refused(str(error)) from error
    if not wishes.root.is_dir():
        raise Refused(f"{wishes.root} is no directory")
    address = wishes.address or node
    names = tuple(dict.fromkeys((address, node, "localhost", "127.0.0.1")))
    host = "127.0.0.1" if address in ("localhost", "127.0.0.1") else "0.0.0.0"  # nodes come from afar
    return node, Listener(server_name=f"{wishes.name}-broker-{node}", host=host, port=wishes.port, names=names)


def _check_vacant(place: FirstNode) -> None:
    """Refused if a cluster, or what is left of one, is here: it is not ours to touch."""
    config_data = place.config_data()
    if config_data.exists() or config_data.is_symlink():
        raise Refused(f"{config_data}: there is a cluster here already, and nothing of it was touched")
    for state in (place.state_dir("master") / "history", place.store_dir / "jetstream"):
        if state.exists():
            raise Refused(
                f"{state}: a cluster has lived here, and its config.data is gone; copy that back from a master "
                "candidate, or move this away to begin anew"
            )


def _make_directories(place: FirstNode) -> None:
    for path, mode in (
        (place.etc, 0o755),
        (place.seed("master").parent, 0o700),
        (place.broker_dir, 0o700),
        (place.store_dir, 0o700),
        (place.state_dir("master"), 0o700),
        (place.state_dir("agent"), 0o700),
        (place.config_data().parent, 0o755),
    ):
        durable.make_directory(path, mode=mode)
        durable.sweep(path)


def _first_config(wishes: Wishes, node: NodeName, key: str) -> ClusterConfig:
    config = new_cluster(
        wishes.name,
        nodes=[(node, key)],
        uuids=[str(uuid.uuid4()) for _ in range(3)],
        now=time.time(),
        candidate_pool_size=wishes.candidate_pool_size,
    )
    return replace(config, cluster=replace(config.cluster, enabled_hypervisors=wishes.enabled_hypervisors))


def _put_settings(place: FirstNode, node: NodeName, url: str) -> None:
    """Below another root than the real one paths are relative to their file, so that the whole can be moved."""

    def seen(path: Path) -> str:
        return str(path) if place.root == Path("/") else os.path.relpath(path, place.etc)

    reach = {"server": url, "ca_file": seen(place.authority)}
    root = {"root": seen(place.root)}
    files: dict[str, dict[str, str | int]] = {
        "master": {
            **reach,
            "seed_file": seen(place.seed("master")),
            "system_seed_file": seen(place.seed("system")),
            "signing_seed_file": seen(place.seed(founding.SIGNING)),
            "broker_nodes_file": seen(place.broker_nodes),
            **root,
            "state_dir": seen(place.state_dir("master")),
        },
        "agent": {
            "node": node,
            **reach,
            "seed_file": seen(place.agent_seed),
            "master_keys_file": seen(place.master_keys),
            **root,
            "state_dir": seen(place.state_dir("agent")),
        },
        "operator": {**reach, "seed_file": seen(place.seed("admin"))},
    }
    comments = {
        "master": "The master daemon: gnt-mesh-master.",
        "agent": "The agent of this node: gnt-mesh-agent.",
        "operator": "How gnt-mesh reaches the cluster.",
    }
    for program, values in files.items():
        put(place.settings(program), toml_text(comments[program], values))


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name
