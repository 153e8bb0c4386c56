"""Where everything of one mesh lies below its directory, and the marker that says what it is.

Every path written into a file is relative to that file, so that the directory can be moved while the mesh is down.
"""

import os
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from master.failover import Seat
from master.founding import MASTER_KEYS_FILE, NODES_FILE, toml_text
from master.settings import OPERATOR_SETTINGS_FILE, UP_MARKER_FILE
from protocol import durable, settings_file
from protocol.errors import Refused
from protocol.names import ManagedPath, NodeName, node_name

FORMAT: Final = 1
"""Grows when an older gnt-mesh could no longer run what a newer one made."""

LOCK_FILE: Final = ".lock"
HOST: Final = "127.0.0.1"

BROKER: Final = "nats-server"
MASTER: Final = "master"

_ETC = Path("etc/gnt-mesh")
_STATE = Path("var/lib/gnt-mesh")
_GANETI = Path("var/lib/ganeti")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What a mesh is made from, written before anything else of it, so that an interrupted start can be completed."""

    cluster_name: str
    port: int
    nodes: int
    """How many nodes it was made with; the first is the master. From then on the cluster config says who is in it."""
    candidate_pool_size: int
    node_prefix: str = "node"
    master_node: str = ""
    """Who is the master since the last failover; empty: the first node still is."""
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535 or self.nodes < 1 or self.candidate_pool_size < 1:
            raise ValueError("port is 1 to 65535, nodes and candidate_pool_size are at least 1")
        for name in (f"{self.node_prefix}1", self.master_node or self.node_prefix):
            node_name(name)

    @property
    def url(self) -> str:
        return f"tls://{HOST}:{self.port}"

    def name_of(self, number: int) -> NodeName:
        return node_name(f"{self.node_prefix}{number}")

    @property
    def master(self) -> NodeName:
        return NodeName(self.master_node) if self.master_node else self.name_of(1)

    @property
    def first_nodes(self) -> tuple[NodeName, ...]:
        return tuple(self.name_of(number) for number in range(1, self.nodes + 1))


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one mesh. `directory` is absolute."""

    directory: Path

    def __post_init__(self) -> None:
        assert self.directory.is_absolute()

    @property
    def marker(self) -> Path:
        return self.directory / UP_MARKER_FILE

    @property
    def lock(self) -> Path:
        return self.directory / LOCK_FILE

    @property
    def operator_settings(self) -> Path:
        """Written last: where it is, the first start was completed."""
        return self.directory / OPERATOR_SETTINGS_FILE

    def seed(self, user: str) -> Path:
        return self.directory / "keys" / f"{user}.nk"

    @property
    def nats_context(self) -> Path:
        """What the plain `nats` command needs to know: `nats --context FILE`."""
        return self.directory / "nats-context.json"

    @property
    def authority_key(self) -> Path:
        return self.directory / "keys" / "ca.key"

    @property
    def authority(self) -> Path:
        """Its certificate: whoever connects to this mesh's server has a copy of it."""
        return self.directory / "keys" / "ca.pem"

    @property
    def broker_dir(self) -> Path:
        return self.directory / "broker"

    @property
    def broker_config(self) -> Path:
        return self.broker_dir / "nats-server.conf"

    @property
    def broker_certificate(self) -> Path:
        return self.broker_dir / "tls.pem"

    @property
    def broker_nodes(self) -> Path:
        return self.broker_dir / NODES_FILE

    @property
    def store_dir(self) -> Path:
        return self.broker_dir / "jetstream"

    def node_root(self, node: str) -> Path:
        return self.directory / "nodes" / node

    def settings(self, node: str, daemon: str) -> Path:
        """Where a node has the settings of one of its daemons, `agent` or `master`."""
        return self.node_root(node) / _ETC / f"{daemon}.toml"

    def agent_seed(self, node: str) -> Path:
        return self.node_root(node) / _ETC / "agent.nk"

    def agent_authority(self, node: str) -> Path:
        return self.node_root(node) / _ETC / "ca.pem"

    def master_keys(self, node: str) -> Path:
        """Where a node has the public keys that it believes."""
        return self.node_root(node) / _ETC / MASTER_KEYS_FILE

    def config_data(self, master: str) -> Path:
        return self.node_root(master) / _GANETI / "config.data"

    def seat(self, node: str) -> Seat:
        """Where a node has what a master works with."""
        root = self.node_root(node)
        return Seat(
            root=root, config_data=ManagedPath(f"/{_GANETI / 'config.data'}"), state_dir=root / _STATE / "master"
        )

    def log(self, child: str) -> Path:
        return self.directory / "log" / f"{child}.log"

    def pid_file(self, child: str) -> Path:
        return self.directory / "run" / f"{child}.pid"

    def forget_pids(self) -> None:
        """Remove the pid files of an `up` that was killed: the numbers may be anybody's by now."""
        for path in (self.directory / "run").glob("*.pid"):
            path.unlink(missing_ok=True)

    def make_directories(self) -> None:
        """Make what is not any node's. Keys and the broker's data are for their owner alone."""
        durable.make_directory(self.directory, mode=0o755)
        for name, mode in (("keys", 0o700), ("broker", 0o700), ("nodes", 0o755), ("log", 0o755), ("run", 0o755)):
            durable.make_directory(self.directory / name, mode=mode)

    def make_node_root(self, node: str) -> None:
        """Make a node's root with what a Ganeti node has before its first file arrives."""
        root = self.node_root(node)
        for path, mode in ((root, 0o755), (root / "etc", 0o755), (root / _GANETI, 0o755), (root / _ETC, 0o700)):
            durable.make_directory(path, mode=mode)

    def agent_values(self, node: str, url: str) -> dict[str, str | int | list[str]]:
        """Return the settings of a node's agent. Seen from its settings file the node's root is two levels up.

        Jobs end with the mesh, however it ends; on one's own machine exports may go where one may write.
        """
        root, top = Path("../.."), Path("../../../..")
        return {
            "node": node,
            "server": url,
            "ca_file": "ca.pem",
            "seed_file": "agent.nk",
            "master_keys_file": MASTER_KEYS_FILE,
            "root": str(root),
            "state_dir": str(root / _STATE / "agent"),
            "tether": str(top / LOCK_FILE),
            "transfer_paths": ["/"],
        }

    def master_values(self, url: str) -> dict[str, str]:
        """Return the settings of the master; this directory is four levels above its settings file."""
        root, top = Path("../.."), Path("../../../..")
        return {
            "server": url,
            "ca_file": str(top / "keys" / "ca.pem"),
            "seed_file": str(top / "keys" / "master.nk"),
            "system_seed_file": str(top / "keys" / "system.nk"),
            "signing_seed_file": str(top / "keys" / "signing.nk"),
            "join_seed_file": str(top / "keys" / "join.nk"),
            "admin_seed_file": str(top / "keys" / "admin.nk"),
            "authority_key_file": str(top / "keys" / "ca.key"),
            "broker_certificate_file": str(top / "broker" / "tls.pem"),
            "broker_nodes_file": str(top / "broker" / NODES_FILE),
            "root": str(root),
            "state_dir": str(root / _STATE / "master"),
        }


def read_marker(layout: Layout) -> Marker | None:
    """Return what the mesh here is made from, None if there is none; Refused if it is newer or damaged."""
    path = layout.marker
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"{path}: {os.strerror(error.errno or 0)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path} is damaged: {error}; repair it by hand, or choose another --dir") from error
    found = raw.get("format")
    if isinstance(found, int) and found > FORMAT:
        raise Refused(
            f"{layout.directory} was made by a newer gnt-mesh (format {found}, this one knows {FORMAT}); "
            "upgrade gnt-mesh, or choose another --dir"
        )
    return settings_file.read(path, Marker)


def write_marker(layout: Layout, marker: Marker) -> None:
    """Write the marker durably: from now on the directory is ours."""
    durable.write_file(layout.marker, toml_text("A mesh made by `gnt-mesh up`.", asdict(marker)), mode=0o644)
