"""A node's tree in a temporary directory, with everything that a test of `node_agent.files` needs around it."""

import grp
import hashlib
import os
import pwd
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from node_agent.core.reconcile import Outcome, Plan, Remove, Write
from node_agent.files import NodeFiles
from protocol import durable
from protocol.errors import Unavailable
from protocol.messages import FileEntry
from protocol.names import ALL, Digest, ManagedPath, ScopeName

CHUNK_BYTES = 512 * 1024
ALLOWED = ("/etc", "/opt")
PROTECTED = ("/etc/gnt-mesh",)


def my_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def my_group() -> str:
    try:
        return grp.getgrgid(os.getegid()).gr_name
    except KeyError:
        return str(os.getegid())


def digest_of(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).hexdigest())


class NodeTree:
    """One node's root, its backups, and a bus that has every content an entry was made of."""

    def __init__(self, directory: Path, *, now: Callable[[], int] | None = None) -> None:
        self.root = directory / "root"
        self.backups = directory / "backups"
        self.contents: dict[Digest, bytes] = {}
        self.fetched: list[ManagedPath] = []
        (self.root / "etc").mkdir(parents=True, exist_ok=True)
        self.files = NodeFiles(
            self.root, allowed=ALLOWED, protected=PROTECTED, backups=self.backups, **({"now": now} if now else {})
        )

    def real(self, path: str) -> Path:
        return self.root / path[1:]

    def put(self, path: str, content: bytes = b"old\n", mode: int = 0o644) -> Path:
        """Put a file there as an administrator would."""
        real = self.real(path)
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_bytes(content)
        real.chmod(mode)
        return real

    def entry(
        self, path: str, content: bytes = b"new\n", *, mode: int = 0o644, owner: str = "", group: str = ""
    ) -> FileEntry:
        digest = digest_of(content)
        self.contents[digest] = content
        return FileEntry(
            path=ManagedPath(path),
            digest=digest,
            size_bytes=len(content),
            mode=mode,
            owner=owner or my_user(),
            group=group or my_group(),
            generation=1,
        )

    def write(
        self,
        path: str,
        content: bytes = b"new\n",
        *,
        mode: int = 0o644,
        owner: str = "",
        group: str = "",
        copy_of: str | None = None,
        keep_backup: bool = False,
    ) -> Write:
        source = None if copy_of is None else ManagedPath(copy_of)
        entry = self.entry(path, content, mode=mode, owner=owner, group=group)
        return Write(ALL, entry, copy_of=source, keep_backup=keep_backup)

    async def fetch(self, scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        self.fetched.append(entry.path)
        if entry.digest not in self.contents:
            raise Unavailable(f"no blob {entry.digest[:8]}")
        content = self.contents[entry.digest]
        for start in range(0, len(content), CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]

    async def perform(self, *actions: Write | Remove) -> Outcome:
        return await self.files.perform(a_plan(*actions), self.fetch)

    def leftovers(self) -> list[Path]:
        """Every temporary of ours, wherever it lies."""
        return [path for top in (self.root, self.backups) for path in top.rglob("*") if durable.is_temporary(path.name)]

    def backup_contents(self) -> list[bytes]:
        """What lies in the backups directory, by name, so of one path the oldest first."""
        return [path.read_bytes() for path in sorted(self.backups.iterdir())] if self.backups.exists() else []


def a_plan(*actions: Write | Remove) -> Plan:
    return Plan(
        writes=tuple(action for action in actions if isinstance(action, Write)),
        removals=tuple(action for action in actions if isinstance(action, Remove)),
    )


def a_removal(path: str, *, keep_backup: bool = False, purge: bool = False, is_gone: bool = False) -> Remove:
    return Remove(ALL, ManagedPath(path), keep_backup=keep_backup, purge=purge, is_gone=is_gone)


def paths(*texts: str) -> Sequence[ManagedPath]:
    return [ManagedPath(text) for text in texts]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def picture(top: Path) -> dict[str, tuple[object, ...]]:
    """Return everything below a directory in a form that shows any touch of it: inode, mode, times, content."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        is_file = stat.S_ISREG(status.st_mode)
        times = (status.st_size, status.st_mtime_ns, status.st_ctime_ns) if is_file else ()
        content = path.read_bytes() if is_file else path.readlink() if path.is_symlink() else b""
        seen[str(path.relative_to(top))] = (status.st_ino, status.st_mode, *times, content)
    return seen


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def open_descriptors() -> list[str]:
    return names_in(Path("/proc/self/fd"))


@contextmanager
def no_descriptor_leaks() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before
