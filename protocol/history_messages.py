"""What operators ask about the generations that the master keeps, and how they go back to one."""

from dataclasses import dataclass

from protocol.change_messages import ChangeRequest, FileChange
from protocol.messages import FileEntry
from protocol.names import ManagedPath

CONTENT_BYTES_MAX = 512 * 1024
"""How much of a content travels in one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """The newest `limit` generations older than `before`; 0 is none: the newest of all."""

    path: str = ""
    """If set: only generations that changed this file."""
    before: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One generation. `changes` is cut off at a bound, `changes_count` is not."""

    generation: int
    time: float
    why: str
    """The command, or what the master noticed."""
    by: str
    """Who asked, as told by the client; for an edit on the master's disk, whose file it is."""
    reason: str
    changes: tuple[FileChange, ...]
    changes_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReply:
    """Newest first."""

    entries: tuple[LogEntry, ...]
    is_all: bool
    """No older generation that was asked for is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffQuery:
    """No paths: every file that differs."""

    before: int
    after: int
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDiff:
    """One file that differs between two generations; an entry is None where it was not published."""

    path: ManagedPath
    before: FileEntry | None
    after: FileEntry | None
    scope_before: str = ""
    scope_after: str = ""
    is_secret: bool = False
    """Its content is given only to who asks for secrets; digests tell no more than whether it is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffReply:
    """`files` is cut off at a bound, `files_count` is not."""

    files: tuple[FileDiff, ...]
    files_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentQuery:
    """A part of what a file held in a generation, from `offset` on."""

    generation: int
    path: str
    offset: int = 0
    show_secrets: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPart:
    """Up to 512 KiB; an empty one is the end."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileConfirm(ChangeRequest):
    """Do what is held back on the master: ship these files as they are, and with `removals` withdraw what has left."""

    paths: tuple[str, ...] = ()
    removals: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRollback(ChangeRequest):
    """No paths: every managed file that was published in that generation."""

    generation: int
    paths: tuple[str, ...] = ()
