"""What a cluster is founded on, on its first machine: identities, its authority, the broker's configuration.

`gnt-mesh up` and `gnt-mesh cluster init` differ in where things lie and in who runs them, and share this. Every step is
durable and leaves alone what is there, so that one that was interrupted is completed by the next try.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from master import certificates
from master.certificates import Pair
from master.core import broker_config
from master.core.cluster import ClusterConfig, with_cluster
from master.core.grants import Access
from protocol import durable, identity
from protocol.errors import Refused

USERS: Final = (*broker_config.OWN_USERS, "operator")

OPERATOR: Final = "admin"
"""What the audit log calls the one who uses `gnt-mesh` where the cluster was made."""

SIGNING: Final = "signing"
"""The key that the master signs with. It is no user's."""

MASTER_KEYS_FILE: Final = "master.pub"
"""Beside an agent's settings: whose signature it believes."""

NODES_FILE: Final = "nodes.conf"
"""Beside the broker's configuration or below it; the configuration includes it."""


LIST_MODE: Final = 0o644
"""Public keys and what they may do are no secret, and the broker may be another user; the directory lets in who may."""


class Places(Protocol):
    """Where the parts of one cluster lie on its first machine."""

    def seed(self, user: str) -> Path: ...

    @property
    def authority_key(self) -> Path: ...

    @property
    def authority(self) -> Path:
        """The certificate of the cluster's authority."""

    @property
    def broker_certificate(self) -> Path:
        """The server's, with its key."""

    @property
    def broker_nodes(self) -> Path: ...

    @property
    def broker_config(self) -> Path: ...

    @property
    def store_dir(self) -> Path:
        """JetStream's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """How the broker is reached."""

    server_name: str
    host: str
    """Where it listens."""
    port: int
    names: tuple[str, ...]
    """All names and addresses that clients may use for it; they are in its certificate."""


def make_identities(places: Places, cluster_name: str, listener: Listener) -> dict[str, str]:
    """Make what is missing of the authority, the server's certificate and all keys; return the users' public ones.

    The authority's key and the server's stay here; nodes and operators know the authority by its certificate.
    """
    authority = Pair(places.authority_key, places.authority)
    certificates.ensure_authority(authority, cluster_name)
    certificates.ensure_server(places.broker_certificate, authority, listener.names)
    identity.ensure_seed(places.seed(SIGNING))
    return {user: identity.ensure_seed(places.seed(user)) for user in USERS}


def master_keys_text(places: Places) -> bytes:
    """Return what a node needs to know of the key that the master signs with."""
    return identity.public_keys_text([identity.read_public_key(places.seed(SIGNING))])


def with_operator(config: ClusterConfig, key: str) -> ClusterConfig:
    """Return the config with its first operator, who is one like any other; for as long as the master does not run."""
    if any(key in access.keys for access in config.cluster.access):
        return config
    others = [access for access in config.cluster.access if access.name != OPERATOR]
    now = time.time()
    operator = Access(name=OPERATOR, role="operator", public_key=key, ctime=now)
    return with_cluster(config, replace(config.cluster, access=(*others, operator)), now)


def put_own_users(seeds: Mapping[str, Path], nodes_file: Path) -> None:
    """Write whom the broker knows as the cluster's own users: by the key in use, and by one that is being taken up."""
    keys = {
        user: [identity.read_public_key(path) for path in (seed, identity.next_of(seed)) if path.exists()]
        for user, seed in seeds.items()
    }
    for name, content in broker_config.render_own(keys).items():
        put(nodes_file.with_name(name), content, mode=LIST_MODE)


def put_broker(places: Places, config: ClusterConfig, listener: Listener, version: tuple[int, int, int]) -> None:
    """Write the broker's configuration, and all that it includes."""
    nodes, access = broker_config.lists(config)
    put(places.broker_nodes, nodes, mode=LIST_MODE)
    put(places.broker_nodes.with_name(broker_config.ACCESS_FILE), access, mode=LIST_MODE)
    put_own_users({user: places.seed(user) for user in broker_config.OWN_USERS}, places.broker_nodes)
    put(places.broker_config, broker_text(places, listener, version), mode=LIST_MODE)


def broker_text(places: Places, listener: Listener, version: tuple[int, int, int]) -> bytes:
    """Return the broker's configuration. It has absolute paths in it."""
    try:
        text = broker_config.render_server(
            server_name=listener.server_name,
            host=listener.host,
            port=listener.port,
            store_dir=str(places.store_dir),
            nodes_file=str(places.broker_nodes.relative_to(places.broker_config.parent)),
            certificate_file=str(places.broker_certificate),
            server_version=version,
        )
    except ValueError as error:
        where = places.store_dir.parent
        raise Refused(f"{where} cannot be written into nats-server's configuration: {error}") from error
    return text.encode()


def nats_context_text(places: Places, cluster_name: str, url: str) -> bytes:
    """Return what the plain `nats` command needs to know. It takes absolute paths alone."""
    context = {
        "description": f"gnt-mesh {cluster_name}, as administrator",
        "url": url,
        "ca": str(places.authority),
        "tls_first": True,
        "nkey": str(places.seed("admin")),
    }
    return json.dumps(context, indent=2).encode() + b"\n"


def toml_text(comment: str, values: Mapping[str, str | int | list[str]]) -> bytes:
    """Return values as TOML. ASCII strings in JSON's notation are strings in TOML's."""
    lines = [f"# {comment}", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return ("\n".join(lines) + "\n").encode("ascii")


def put(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file durably, unless it says that already."""
    if not path.exists() or path.read_bytes() != content:
        durable.write_file(path, content, mode=mode)
