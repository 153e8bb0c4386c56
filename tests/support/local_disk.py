"""A node's disk as an agent has it that does all of it itself, around files that a test has made."""

from pathlib import Path

from node_agent.disk import LocalDisk
from node_agent.files import NodeFiles
from node_agent.ledger import Ledger
from node_agent.os_search import OsSearch
from protocol.names import NodeName


def a_disk(files: NodeFiles, state_dir: Path, *, root: Path = Path("/nowhere"), watch_step_ms: int = 50) -> LocalDisk:
    search = OsSearch(NodeName("node2"), root, ["/srv/ganeti/os"])
    return LocalDisk(files, Ledger(state_dir), search, watch_step_ms=watch_step_ms)
