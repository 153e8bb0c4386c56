"""The knobs of the master daemon and of the operator's tool, each from one TOML file, with every default here."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from protocol import settings_file
from protocol.names import managed_path

OPERATOR_SETTINGS_FILE: Final = "operator.toml"
UP_MARKER_FILE: Final = "gnt-mesh.toml"
"""What says that a directory holds a whole mesh, made by `gnt-mesh up`."""
OPERATOR_SETTINGS: Final = Path("/etc/gnt-mesh") / OPERATOR_SETTINGS_FILE
MASTER_SETTINGS: Final = Path("/etc/gnt-mesh/master.toml")
NO_HELPER: Final = Path()
CONFIG_DATA: Final = Path("/var/lib/ganeti/config.data")


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterSettings:
    """What the master daemon needs to know before it can read anything else."""

    server: str
    ca_file: Path
    """The certificates of the authorities that may vouch for the server."""
    seed_file: Path
    system_seed_file: Path
    signing_seed_file: Path
    """What nodes act on is signed with this key, which opens nothing by itself."""
    broker_nodes_file: Path
    """The part of the broker's configuration that the master writes: one user per node."""
    admin_seed_file: Path = Path("/etc/gnt-mesh/keys/admin.nk")
    """The administrator's, with which the plain `nats` command sees everything."""
    authority_key_file: Path = Path("/etc/gnt-mesh/keys/ca.key")
    """The authority's key and certificate: whoever has this can be the cluster's server."""
    broker_certificate_file: Path = Path("/etc/gnt-mesh/broker/live/tls.pem")
    """The broker's key and certificate, which it reads again whenever it is asked to reload."""
    join_seed_file: Path = Path("/etc/gnt-mesh/join.nk")
    """With this key, which is in every join token, a node that is not in yet may ask to be let in."""
    server_for_nodes: str = ""
    """The server's address in join tokens, if nodes reach it by another one than the master."""
    join_token_valid_s: float = 3600.0
    root: Path = Path("/")
    """Where the sources are: the root of the master's own node."""
    state_dir: Path = Path("/var/lib/gnt-mesh/master")
    config_data: Path = CONFIG_DATA
    """As a managed path, below `root`."""
    rollback_socket: Path = NO_HELPER
    """Where root does rollbacks for a master that is not; empty: the master does them."""
    file_hooks_dir: Path = Path("/etc/gnt-mesh/file-hooks.d")
    """Executables that say which files there are, as a managed path: below `root`."""
    file_hook_timeout_s: float = 10.0
    file_hook_output_bytes_max: int = 1024 * 1024
    watch_step_ms: int = 5
    """A source counts as changed once this long passed without another change."""
    watch_debounce_ms: int = 100
    """However long changes go on, look after this long."""
    rescan_interval_s: float = 60.0
    """A full look at every source, with up to a fifth more at random."""
    beat_interval_s: float = 2.0
    patrol_interval_s: float = 10.0
    """How often what is on the bus is compared with what should be."""
    silent_after_s: float = 12.0
    """A node that has said nothing for this long is not online."""
    file_size_bytes_max: int = 1024 * 1024 * 1024
    job_history: int = 1000
    """How many jobs that have ended are kept."""
    job_output_bytes_max: int = 1024 * 1024
    """How much of the beginning of a job's output is kept here; its end is kept as well."""
    history_generations: int = 50
    """How many generations stay on the master's disk, contents included."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value <= 0:
                raise ValueError(f"{field.name} is {value}, but has to be positive")
        for name in ("config_data", "file_hooks_dir"):
            try:
                managed_path(str(getattr(self, name)))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """Where the operator's tool finds the mesh, and as whom."""

    server: str
    ca_file: Path
    seed_file: Path
    name: str = "operator"
    """The name of this access, as `gnt-mesh cluster access list` shows it."""


def master_settings(path: Path) -> MasterSettings:
    """Return the master's settings; Refused names the file, the key and the reason."""
    return settings_file.read(path, MasterSettings)


def operator_settings(path: Path) -> OperatorSettings:
    """Return the operator's settings; Refused names the file, the key and the reason."""
    return settings_file.read(path, OperatorSettings)
