"""Durable writes: what an acknowledgement promises, on both sides of the mesh.

When a function here returns, the bytes and the name survive a power cut. A reader of the target sees the old
content or the new one, never a part, never nothing (design, D5). Errors are the operating system's own.

`write_file` is for a daemon's own records. `Temporary` is the same in single steps, for who stages many files
before the first becomes visible; there the caller does the two fsyncs, of the file and then of its directory.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from protocol.names import Digest

TEMPORARY_PREFIX: Final = ".gnt-mesh."
TEMPORARY_SUFFIX: Final = ".tmp"
READ_BYTES: Final = 256 * 1024

DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""To read what should be a regular file: neither a link nor a FIFO put there meanwhile does harm."""


def temporary_name() -> str:
    """Return a fresh name that begins with a dot, so that no `conf.d/*` reader takes it for a file of its own."""
    return f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"


def is_temporary(name: str) -> bool:
    """True for a name that `temporary_name` made: a leftover if no write is under way."""
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


def write_all(fd: int, data: bytes) -> None:
    """Write the whole of `data` at the descriptor's position."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Temporary:
    """A file in the making, in its target's own directory: hidden, for its maker alone (0600), counted and hashed.

    It ends as the target (`replace`) or not at all (`discard`); after a crash a sweep ends it.
    """

    def __init__(self, directory: int) -> None:
        self.name = temporary_name()
        self.size_bytes = 0
        self._hash = hashlib.sha256()
        self.fd = os.open(self.name, CREATE_FLAGS, 0o600, dir_fd=directory)

    @property
    def digest(self) -> Digest:
        """The hash of what was handed to `write`, not of what is on the disk: for that, `read_back`."""
        return Digest(self._hash.hexdigest())

    def write(self, data: bytes) -> None:
        write_all(self.fd, data)
        self._hash.update(data)
        self.size_bytes += len(data)

    def start_write_back(self) -> None:
        """Have the kernel begin to write, without waiting: the fsyncs of many files then overlap."""
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def read_back(self) -> tuple[Digest, int]:
        """Return hash and size of what the file really holds."""
        os.lseek(self.fd, 0, os.SEEK_SET)
        return read_digest(self.fd)

    def replace(self, directory: int, target: str) -> None:
        """Become `target`, in one step. The name is durable when the directory is synced."""
        os.rename(self.name, target, src_dir_fd=directory, dst_dir_fd=directory)

    def discard(self, directory: int) -> None:
        """Take the file away again."""
        self.close()
        os.unlink(self.name, dir_fd=directory)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def read_digest(fd: int) -> tuple[Digest, int]:
    """Return hash and size of a file from the descriptor's position to its end."""
    found, size_bytes = hashlib.sha256(), 0
    while part := os.read(fd, READ_BYTES):
        found.update(part)
        size_bytes += len(part)
    return Digest(found.hexdigest()), size_bytes


def write_file(path: Path, content: bytes | Iterable[bytes], *, mode: int = 0o600) -> None:
    """Replace `path` by `content`, durably. For a daemon's own records, in directories that only it writes."""
    parts = (content,) if isinstance(content, bytes) else content
    directory = os.open(path.parent, DIRECTORY_FLAGS)
    try:
        temporary = Temporary(directory)
        try:
            os.fchmod(temporary.fd, mode)
            for part in parts:
                temporary.write(part)
            os.fsync(temporary.fd)
            temporary.replace(directory, path.name)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.discard(directory)
            raise
        finally:
            temporary.close()
        os.fsync(directory)
    finally:
        os.close(directory)


def overwrite(path: Path, content: bytes) -> None:
    """Overwrite a file of ours in place, durably. What is cut off leaves it torn: who reads it has to notice.

    A tenth of what `write_file` costs, as long as the size stays the same, since no name changes.
    """
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        write_all(fd, content)
        if os.fstat(fd).st_size > len(content):
            os.ftruncate(fd, len(content))
        os.fdatasync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path, *, mode: int = 0o700) -> None:
    """Make a directory and its missing parents, durably. An existing one is left as it is."""
    if path.is_dir():
        return
    make_directory(path.parent, mode=mode)
    path.mkdir(mode=mode, exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sweep(directory: Path) -> int:
    """Remove what interrupted writes left in a directory; return how many."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return sweep_at(fd)
    finally:
        os.close(fd)


def sweep_at(directory: int) -> int:
    """As `sweep`, for an open directory. A name like ours that is no regular file is not ours and stays."""
    with os.scandir(directory) as entries:
        leftovers = [entry.name for entry in entries if is_temporary(entry.name) and _is_file(entry)]
    for name in leftovers:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
    return len(leftovers)


def _is_file(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False)
