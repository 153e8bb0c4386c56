"""What every changing request carries beside what it wants, and what a dry run answers.

Who asks is the client's own word. It is kept for people to read; nothing is decided by it.
"""

from dataclasses import dataclass
from typing import Literal

from protocol.messages import FileError
from protocol.names import ManagedPath, NodeName, ScopeName

BY_CHARS_MAX = 200
REASON_CHARS_MAX = 400


Guard = Literal["removals", "wider-scope"]
"""What a change may not do unless its request confirms it; `master/core/guards.py` says when each of them objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRequest:
    """The base of every request that changes something."""

    by: str = ""
    """Who asks, as told by the client: user@host."""
    reason: str = ""
    dry_run: bool = False
    """Decide, and say what would happen; change nothing."""
    confirm: tuple[Guard, ...] = ()

    def __post_init__(self) -> None:
        check_remark("by", self.by, BY_CHARS_MAX)
        check_remark("reason", self.reason, REASON_CHARS_MAX)


def check_remark(name: str, text: str, chars_max: int) -> str:
    """Return a free text that is kept and shown to people; ValueError if it could disturb a screen."""
    if len(text) > chars_max:
        raise ValueError(f"{name} of {len(text)} characters, limit {chars_max}")
    if not text.isprintable():
        raise ValueError(f"{name} {text!r}: one line of printable characters")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """What would become of one file on a node: `details` says what of a changed one is not as it was."""

    path: ManagedPath
    scope: ScopeName
    change: Literal["added", "changed", "removed"]
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChanges:
    """What would happen on these nodes, the same on each. `files` is cut off at a bound, `files_count` is not."""

    nodes: tuple[NodeName, ...]
    files: tuple[FileChange, ...]
    files_count: int
    offline: bool = False
    """These nodes take what is new when they are online again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChange:
    """A node's role letter before and after; empty for a node that is not in the cluster then."""

    node: NodeName
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Why a change has to be confirmed, in words."""

    guard: Guard
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a change would do. The master's own node is not among `nodes`: its disk holds the sources."""

    roles: tuple[RoleChange, ...] = ()
    nodes: tuple[NodeChanges, ...] = ()
    objections: tuple[Objection, ...] = ()
    """Those that the request does not confirm: without the dry run it would be refused."""
    errors: tuple[FileError, ...] = ()
    """Sources that would be held back."""
