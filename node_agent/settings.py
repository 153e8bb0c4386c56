"""The agent's own knobs, from one TOML file that only this node's administrator writes."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from protocol import settings_file
from protocol.names import NodeName, node_name

AGENT_SETTINGS: Final = Path("/etc/gnt-mesh/agent.toml")

ALLOWED_PATHS: Final = ("/etc", "/var/lib/ganeti", "/usr/local", "/opt", "/srv")

PROTECTED_PATHS: Final = (
    "/etc/gnt-mesh",
    "/var/lib/gnt-mesh",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/group",
    "/etc/gshadow",
)
"""The mesh's own keys, settings and records, and this machine's accounts: never written on the master's word, whatever
is allowed."""


NOT_SPLIT: Final = Path()
"""The agent does by itself what needs rights."""

NO_TETHER: Final = Path()
"""Jobs depend on nobody."""

TRANSFER_PATHS: Final = ("/srv/ganeti/export",)
"""Ganeti's export directory."""

OS_SEARCH_PATH: Final = ("/srv/ganeti/os", "/usr/local/lib/ganeti/os", "/usr/lib/ganeti/os", "/usr/share/ganeti/os")
"""Debian's, of Ganeti."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What the agent needs to know before it can hear the master, and what it refuses to do even then."""

    node: NodeName
    server: str
    ca_file: Path
    """The certificates of the authorities that may vouch for the server."""
    seed_file: Path
    master_keys_file: Path
    """The public keys, one per line, with which the master signs: nothing else is acted on."""
    root: Path = Path("/")
    """Below it lies every path the node speaks of."""
    state_dir: Path = Path("/var/lib/gnt-mesh/agent")
    helper_socket: Path = NOT_SPLIT
    """Where gnt-mesh-helper listens, which does for the agent what needs rights. Empty: the agent does it, as root."""
    helper_state_dir: Path = Path("/var/lib/gnt-mesh/helper")
    """What the helper remembers, the backups and the jobs: the agent cannot read it."""
    agent_user: str = "gnt-mesh-agent"
    """As whom the agent runs, beside the helper: nobody else is answered."""
    allowed_paths: tuple[str, ...] = ALLOWED_PATHS
    """Only files below one of these are ever written (design, D5)."""
    os_search_path: tuple[str, ...] = OS_SEARCH_PATH
    """Where OS definitions are: below `root` first, then the machine's own."""
    jobs_at_once: int = 2
    """How many OS jobs may run at the same time; two about one instance never do."""
    transfer_paths: tuple[str, ...] = TRANSFER_PATHS
    """Exports are written, and imports read, only below one of these. They are the machine's, not below `root`."""
    tether: Path = NO_TETHER
    """A file that somebody keeps locked. When nobody does any more, running jobs are ended: for `gnt-mesh up`."""
    spare_runner: bool = True
    """Keep a process waiting, so that a job begins without the start of one."""
    watch_step_ms: int = 200
    """How long after a change by hand it is looked at; smaller costs more when idle."""
    rescan_interval_s: float = 600.0
    """Every managed file is looked at this often even if no change was seen, with up to a fifth more at random."""
    beat_interval_s: float = 4.0
    """How often the status is repeated."""
    deaf_after_s: float = 4.0
    """Without a beat of a scope for this long its subscription counts as dead: look and subscribe again."""
    retry_first_s: float = 1.0
    retry_longest_s: float = 60.0

    @property
    def is_split(self) -> bool:
        return self.helper_socket != NOT_SPLIT

    def __post_init__(self) -> None:
        node_name(self.node)
        for key in ("allowed_paths", "os_search_path", "transfer_paths"):
            if not all(path.startswith("/") for path in getattr(self, key)):
                raise ValueError(f"{key}: absolute paths only")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise ValueError(f"{field.name} is {value}, but has to be positive")
        if self.retry_longest_s < self.retry_first_s:
            raise ValueError(f"retry_longest_s is {self.retry_longest_s}, less than retry_first_s")


def agent_settings(path: Path) -> AgentSettings:
    """Return the agent's settings; Refused names the file, the key and the reason."""
    return settings_file.read(path, AgentSettings)
