"""What operators ask about one file on one node."""

from dataclasses import dataclass

from protocol.names import ManagedPath, NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class FileExplain:
    path: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileExplanation:
    """Why a file is on a node, or is not."""

    path: ManagedPath
    node: NodeName
    goes: bool
    """What the rules say; the file may still be missing on the master, or the node be offline."""
    scope: str
    """Empty for a file that no rule names."""
    rule: str
    """`cluster`, `hypervisor`, `list`, `hook` or `pattern`; empty for a file that no rule names."""
    reason: str
    """The end of a sentence that begins with "because"."""
    lines: tuple[str, ...]
    """All of it, for people, in sentences."""
