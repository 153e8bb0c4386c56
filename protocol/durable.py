"""Durable writes: what an acknowledgement promises, on both sides of the mesh.

When a function here returns, the bytes and the name survive a power cut. A reader of the target sees the old
content or the new one, never a part, never nothing (design, D5). Errors are the operating system's own.
"""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

TEMPORARY_PREFIX: Final = ".gnt-mesh."
TEMPORARY_SUFFIX: Final = ".tmp"

DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


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


def write_file(path: Path, content: bytes | Iterable[bytes], *, mode: int = 0o600) -> None:
    """Replace `path` by `content`, durably. For a daemon's own records, in directories that only it writes."""
    parts = (content,) if isinstance(content, bytes) else content
    directory = os.open(path.parent, DIRECTORY_FLAGS)
    try:
        name = temporary_name()
        fd = os.open(name, CREATE_FLAGS, 0o600, dir_fd=directory)
        try:
            os.fchmod(fd, mode)
            for part in parts:
                write_all(fd, part)
            os.fsync(fd)
            os.rename(name, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(name, dir_fd=directory)
            raise
        finally:
            os.close(fd)
        os.fsync(directory)
    finally:
        os.close(directory)


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
    leftovers = [entry for entry in directory.iterdir() if is_temporary(entry.name)]
    for entry in leftovers:
        entry.unlink(missing_ok=True)
    return len(leftovers)
