"""`gnt-mesh cluster init`: a new cluster on its first node, where production has everything.

All is checked before anything is written. config.data comes last: where it is there is a cluster, and that is never
touched; a try that was interrupted before is completed by the next one.
"""

import os
import socket
import time
import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from master import founding, service_users
from master.core.cluster import DEFAULT_HYPERVISORS, ClusterConfig, new_cluster
from master.core.from_ganeti import first_config, is_ganetis
from master.core.hypervisors import BUILT_IN
from master.failover import Seat
from master.founding import Listener, put, toml_text
from master.ganeti_watch import read as read_ganeti
from master.settings import CONFIG_DATA
from master.store import save_config
from protocol import durable, identity
from protocol.errors import Refused
from protocol.names import NodeName, managed_path, node_name

PORT_DEFAULT: Final = 4222
POOL_SIZE_DEFAULT: Final = 10

BESIDE_GANETI: Final = Path("/var/lib/ganeti/gnt-mesh/config.data")
"""Where the mesh has its own cluster config while it follows a Ganeti's."""

_MASTER: Final = "The master daemon: gnt-mesh-master."

_ETC = Path("etc/gnt-mesh")
_STATE = Path("var/lib/gnt-mesh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line asks for."""

    name: str = ""
    """May be empty where a Ganeti is followed: it is Ganeti's then."""
    node: str = ""
    """Empty: this machine's host name."""
    address: str = ""
    """Under which the nodes reach the broker; empty: the node's name."""
    port: int = PORT_DEFAULT
    candidate_pool_size: int | None = None
    enabled_hypervisors: tuple[str, ...] | None = None
    root: Path = Path("/")
    ganeti_dir: Path | None = None
    """Where below the root a running Ganeti has its config.data, to be followed."""


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
    def broker_live(self) -> Path:
        """What the master writes for the broker while both run: whom it knows, and its certificate."""
        return self.broker_dir / "live"

    @property
    def broker_nodes(self) -> Path:
        return self.broker_live / founding.NODES_FILE

    @property
    def broker_certificate(self) -> Path:
        return self.broker_live / "tls.pem"

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

    def seen(self, path: Path) -> str:
        """Return a path as settings have it."""
        return str(path) if self.root == Path("/") else os.path.relpath(path, self.etc)


@dataclass(frozen=True, slots=True)
class Founded:
    """A new cluster: its config, how its broker is reached, and where its files are."""

    config: ClusterConfig
    url: str
    place: FirstNode
    config_data: Path


def init(wishes: Wishes, version: tuple[int, int, int]) -> Founded:
    """Found a cluster; Refused, with nothing touched, if that cannot be or there is one. `version` is the broker's."""
    place = FirstNode(wishes.root.absolute())
    if not place.root.is_dir():
        raise Refused(f"{place.root} is no directory")
    config = _followed(wishes, place) if wishes.ganeti_dir else _own(wishes)
    path = BESIDE_GANETI if wishes.ganeti_dir else CONFIG_DATA
    _check_vacant(place, path)
    listener = _listener(wishes, config)
    try:
        _make_directories(place, path)
        users = founding.make_identities(place, config.cluster.cluster_name, listener)
        master = replace(config.master, public_key=identity.ensure_seed(place.agent_seed))
        config = replace(config, nodes={**config.nodes, master.uuid: master})
        url = f"tls://{_bracketed(listener.names[0])}:{listener.port}"
        config = founding.with_operator(config, users["operator"])
        founding.put_broker(place, config, listener, version)
        put(place.master_keys, founding.master_keys_text(place), mode=0o644)
        put(place.nats_context, founding.nats_context_text(place, config.cluster.cluster_name, url))
        _put_settings(place, config.master.name, url, path)
        save_config(place.config_data(path), config)
        if place.root == Path("/"):
            service_users.hand_over(place.seed("master").parent, place.broker_live, place.config_data(path))
    except OSError as error:
        where = error.filename or place.root
        raise Refused(f"{where}: {os.strerror(error.errno or 0)}; no cluster was made, so try again then") from error
    return Founded(config, url, place, place.config_data(path))


def seat(root: Path) -> Seat:
    """Return where a node, which is to become the master, has what a master works with."""
    place = FirstNode(root.absolute())
    follows = place.config_data(BESIDE_GANETI).exists()
    path = managed_path(str(BESIDE_GANETI if follows else CONFIG_DATA))
    return Seat(root=place.root, config_data=path, state_dir=place.state_dir("master"))


def prepare_master(root: Path, *, dry_run: bool) -> None:
    """Write the master's settings where a node has none yet; Refused names what of the former master is missing here.

    Its keys and the broker's configuration never travel by themselves: whoever has them is the cluster.
    """
    place = FirstNode(root.absolute())
    seeds = [place.seed(user) for user in ("master", "system", founding.SIGNING, "join")]
    for path in (*seeds, place.authority, place.broker_config):
        if not path.exists():
            raise Refused(
                f"{path} is not here; copy {place.seed('master').parent} and {place.broker_dir} from the former "
                "master, or from its backup"
            )
    if dry_run:
        return
    if place.root == Path("/"):
        service_users.hand_over(place.seed("master").parent, place.broker_live)
    if place.settings("master").exists():
        return
    url = _server_of(place.settings("agent"))
    durable.make_directory(place.state_dir("master").parent)
    values = _master_values(place, url, Path(seat(root).config_data))
    put(place.settings("master"), toml_text(_MASTER, values), mode=0o644)


def _server_of(settings: Path) -> str:
    try:
        return str(tomllib.loads(settings.read_text(encoding="utf-8"))["server"])
    except (OSError, ValueError, KeyError) as error:
        raise Refused(f"{settings} does not say where the broker is: {error}") from error


def _own(wishes: Wishes) -> ClusterConfig:
    """Return the config of a new cluster; Refused names what cannot be."""
    try:
        name = node_name(wishes.name)
    except ValueError:
        rule = "letters, digits, '-' and single dots, at most 63 characters"
        raise Refused(f"cluster name {wishes.name!r}: {rule}") from None
    try:
        node = node_name(wishes.node or socket.gethostname())
    except ValueError as error:
        raise Refused(f"{error}; give this node's name with --node") from error
    hypervisors = DEFAULT_HYPERVISORS if wishes.enabled_hypervisors is None else wishes.enabled_hypervisors
    for hypervisor in hypervisors:
        if hypervisor not in BUILT_IN:
            raise Refused(f"hypervisor {hypervisor!r} is unknown here; there are {', '.join(sorted(BUILT_IN))}")
    pool_size = POOL_SIZE_DEFAULT if wishes.candidate_pool_size is None else wishes.candidate_pool_size
    try:
        config = new_cluster(
            name,
            nodes=[(node, "")],
            uuids=[str(uuid.uuid4()) for _ in range(3)],
            now=time.time(),
            candidate_pool_size=pool_size,
        )
        return replace(config, cluster=replace(config.cluster, enabled_hypervisors=hypervisors))
    except ValueError as error:
        raise Refused(str(error)) from error


def _followed(wishes: Wishes, place: FirstNode) -> ClusterConfig:
    """Return the config of a cluster that follows a running Ganeti; Refused names what cannot be."""
    path = Path("/") / str(wishes.ganeti_dir).lstrip("/") / CONFIG_DATA.name
    for option, value in (
        ("--candidate-pool-size", wishes.candidate_pool_size),
        ("--enabled-hypervisors", wishes.enabled_hypervisors),
    ):
        if value is not None:
            raise Refused(f"{option} is Ganeti's to say; change it there, with gnt-cluster modify")
    ganeti = read_ganeti(place.config_data(path))
    try:
        config = first_config(ganeti, path=managed_path(str(path)), master_key="", now=time.time())
    except ValueError as error:
        raise Refused(f"--from-ganeti {wishes.ganeti_dir}: {error}") from error
    if wishes.name not in ("", config.cluster.cluster_name):
        raise Refused(f"Ganeti's cluster is {config.cluster.cluster_name}, not {wishes.name}; leave the name out")
    here = wishes.node or socket.gethostname()
    if here.split(".")[0] != config.master.name.split(".")[0]:
        raise Refused(f"this machine is {here}, and Ganeti's master is {config.master.name}: found the cluster there")
    return config


def _listener(wishes: Wishes, config: ClusterConfig) -> Listener:
    if not 1 <= wishes.port <= 65535:
        raise Refused(f"--port {wishes.port}: 1 to 65535")
    node = config.master.name
    address = wishes.address or node
    names = tuple(dict.fromkeys((address, node, "localhost", "127.0.0.1")))
    host = "127.0.0.1" if address in ("localhost", "127.0.0.1") else "0.0.0.0"  # nodes come from afar
    server_name = f"{config.cluster.cluster_name}-broker-{node}"
    return Listener(server_name=server_name, host=host, port=wishes.port, names=names)


def _check_vacant(place: FirstNode, path: Path) -> None:
    """Refused if a cluster, or what is left of one, is here: it is not ours to touch."""
    config_data = place.config_data(path)
    if config_data.exists() or config_data.is_symlink():
        if path == CONFIG_DATA and config_data.is_file() and is_ganetis(config_data.read_bytes()):
            command = f"gnt-mesh cluster init --from-ganeti {path.parent}"
            raise Refused(f"{config_data} is a Ganeti cluster's, and was not touched; to follow that: {command}")
        raise Refused(f"{config_data}: there is a cluster here already, and nothing of it was touched")
    for state in (place.state_dir("master") / "history", place.store_dir / "jetstream"):
        if state.exists():
            raise Refused(
                f"{state}: a cluster has lived here, and its config.data is gone; copy that back from a master "
                "candidate, or move this away to begin anew"
            )


def _make_directories(place: FirstNode, path: Path) -> None:
    for directory, mode in (
        (place.etc, 0o755),
        (place.seed("master").parent, 0o700),
        (place.broker_dir, 0o755),
        (place.broker_live, 0o700),
        (place.store_dir, 0o700),
        (place.state_dir("master"), 0o700),
        (place.state_dir("agent"), 0o700),
        (place.config_data(path).parent, 0o755),
    ):
        durable.make_directory(directory, mode=mode)
        durable.sweep(directory)


def _master_values(place: FirstNode, url: str, path: Path) -> dict[str, str]:
    return {
        "server": url,
        "ca_file": place.seen(place.authority),
        "seed_file": place.seen(place.seed("master")),
        "system_seed_file": place.seen(place.seed("system")),
        "signing_seed_file": place.seen(place.seed(founding.SIGNING)),
        "join_seed_file": place.seen(place.seed("join")),
        "admin_seed_file": place.seen(place.seed("admin")),
        "authority_key_file": place.seen(place.authority_key),
        "broker_certificate_file": place.seen(place.broker_certificate),
        "broker_nodes_file": place.seen(place.broker_nodes),
        "root": place.seen(place.root),
        "state_dir": place.seen(place.state_dir("master")),
        "config_data": str(path),
    }


def _put_settings(place: FirstNode, node: NodeName, url: str, path: Path) -> None:
    """Below another root than the real one paths are relative to their file, so that the whole can be moved."""
    seen = place.seen
    reach = {"server": url, "ca_file": seen(place.authority)}
    root = {"root": seen(place.root)}
    files: dict[str, Mapping[str, str | int]] = {
        "master": _master_values(place, url, path),
        "agent": {
            "node": node,
            **reach,
            "seed_file": seen(place.agent_seed),
            "master_keys_file": seen(place.master_keys),
            **root,
            "state_dir": seen(place.state_dir("agent")),
        },
        "operator": {"name": founding.OPERATOR, **reach, "seed_file": seen(place.seed("operator"))},
    }
    comments = {
        "master": _MASTER,
        "agent": "The agent of this node: gnt-mesh-agent.",
        "operator": "How gnt-mesh reaches the cluster.",
    }
    for program, values in files.items():
        put(place.settings(program), toml_text(comments[program], values), mode=0o644)


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name
