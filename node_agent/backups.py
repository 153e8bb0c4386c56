"""Dated copies of what a write or a removal took away from this node, in one private directory outside of the tree.

A name says whose copy it is and from when: `etc=2Fganeti=2Fx.20261122T153000.123456Z`.
"""

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from node_agent.tree import look, name_of
from protocol import durable
from protocol.names import ManagedPath
from protocol.subjects import path_key

KEPT_PER_PATH_MAX: Final = 10
STEM_BYTES_MAX: Final = 200
COPY_BYTES: Final = 1024 * 1024

_DATE = re.compile(r"\.[0-9]{8}T[0-9]{6}\.[0-9]{6}Z")
_LINK_REFUSED = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
)

Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Kept:
    """One backup, and which file in which state it holds."""

    name: str
    identity: Identity


class Backups:
    """At most ten per path; the oldest go. Made on the node's own clock, never two at the same microsecond."""

    def __init__(self, directory: Path, now: Callable[[], int]) -> None:
        self._directory = directory
        self._now = now
        self._last = 0

    def keep(self, path: ManagedPath, directory: int) -> Kept | None:
        """Return the durable backup of the file at a path, None if there is no file. `directory` is the path's."""
        present = look(directory, path)
        if present is None:
            return None
        durable.make_directory(self._directory)
        with self._opened() as vault:
            kept = self._fresh_name(vault, path)
            copied = (
                None if _link(directory, name_of(path), vault, kept) else _copy(directory, name_of(path), vault, kept)
            )
            try:
                linked = _sync(vault, kept)
                os.fsync(vault)
            except OSError:
                os.unlink(kept, dir_fd=vault)
                raise
        return Kept(kept, copied or linked)

    def drop(self, kept: Kept) -> None:
        """Take back a backup of a file that has stayed after all: a retry must not push older ones out."""
        with self._opened() as vault:
            os.unlink(kept.name, dir_fd=vault)

    def prune(self, path: ManagedPath, latest: Kept) -> None:
        """Let the oldest backups of a path go, but never `latest`, whatever the clock said when it was made."""
        self._forget(path, spared=latest.name, others_max=KEPT_PER_PATH_MAX - 1)

    def purge(self, path: ManagedPath) -> int:
        """Remove every backup of a path, durably; return how many there were."""
        return self._forget(path, spared="", others_max=0)

    def sweep(self) -> int:
        """Remove what interrupted copies left; return how many."""
        return durable.sweep(self._directory) if self._directory.is_dir() else 0

    def _forget(self, path: ManagedPath, spared: str, others_max: int) -> int:
        if not self._directory.is_dir():
            return 0
        with self._opened() as vault:
            others = [name for name in _names(vault, path) if name != spared]
            surplus = others[: max(len(others) - others_max, 0)]
            for name in surplus:
                os.unlink(name, dir_fd=vault)
            if surplus:
                os.fsync(vault)
        return len(surplus)

    def _fresh_name(self, vault: int, path: ManagedPath) -> str:
        while True:
            self._last = max(self._now() // 1000, self._last + 1)
            date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._last)
            name = f"{_stem(path)}.{date:%Y%m%dT%H%M%S.%f}Z"
            try:
                os.stat(name, dir_fd=vault, follow_symlinks=False)
            except FileNotFoundError:
                return name

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        vault = os.open(self._directory, durable.DIRECTORY_FLAGS)
        try:
            yield vault
        finally:
            os.close(vault)


def identity_of(status: os.stat_result) -> Identity:
    """Return what tells one file in one state from another. Not its ctime: a new link changes that."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _stem(path: ManagedPath) -> str:
    """Return the first part of the names of a path's backups: no two paths share one.

    A path too long for one file name is cut and gets its digest; `=-` occurs in no other stem.
    """
    key = path_key(path).replace("/", "=2F")
    if len(key) <= STEM_BYTES_MAX:
        return key
    mark = "=-" + hashlib.sha256(path.encode()).hexdigest()[:32]
    return key[: STEM_BYTES_MAX - len(mark)] + mark


def _names(vault: int, path: ManagedPath) -> list[str]:
    stem = _stem(path)
    return sorted(
        name for name in os.listdir(vault) if name.startswith(stem) and _DATE.fullmatch(name.removeprefix(stem))
    )


def _link(directory: int, name: str, vault: int, kept: str) -> bool:
    """Give a file a second name; False where links are refused."""
    try:
        os.link(name, kept, src_dir_fd=directory, dst_dir_fd=vault, follow_symlinks=False)
    except OSError as error:
        if error.errno in _LINK_REFUSED:
            return False
        raise
    return True


def _sync(vault: int, name: str) -> Identity:
    """Make a backup's content durable: whoever wrote the linked file may not have."""
    fd = os.open(name, durable.READ_FLAGS, dir_fd=vault)
    try:
        os.fsync(fd)
        return identity_of(os.fstat(fd))
    finally:
        os.close(fd)


def _copy(directory: int, name: str, vault: int, kept: str) -> Identity:
    """Copy where a link cannot be: a copy keeps the mode without its set-id bits, and is its maker's."""
    source = os.open(name, durable.READ_FLAGS, dir_fd=directory)
    try:
        status = os.fstat(source)
        temporary = durable.Temporary(vault)
        try:
            while chunk := os.read(source, COPY_BYTES):
                temporary.write(chunk)
            os.fchmod(temporary.fd, status.st_mode & 0o777)
            temporary.replace(vault, kept)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.discard(vault)
            raise
        finally:
            temporary.close()
        return identity_of(status)
    finally:
        os.close(source)
