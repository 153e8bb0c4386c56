"""Reads the files to be distributed from the master's own disk, and stores their contents by hash.

A file is taken only while nobody has it open for writing and only if size, times and inode are the same before and
after: a half-written file is never published. What a content costs is one read, which hashes and stores it at once.
"""

import errno
import fcntl
import grp
import os
import pwd
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from master.core.plan import Source
from protocol import durable
from protocol.errors import Unavailable
from protocol.names import Digest, ManagedPath

READ_BYTES: Final = 1024 * 1024
STAGED_MAX: Final = 64
"""So many contents are synced together; each keeps a descriptor until then."""

CLOCK_STEP_NS: Final = 10_000_000
"""Two changes within one step of the kernel's clock have the same time: such a file is read a moment later."""

RACY_NS: Final = 50_000_000
"""The content of a file that changed less than this before is read again next time, to be on the safe side."""

READING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

IS_A_LINK: Final = "is a symbolic link on the master; manage the file it points to"
BEING_WRITTEN: Final = "is being written on the master"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells an unchanged file without reading it."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Fingerprint":
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Sources:
    """The sources below one root. Blocking; called from one thread at a time."""

    def __init__(
        self,
        root: Path,
        blobs_dir: Path,
        *,
        size_bytes_max: int,
        now: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._root = root
        self._blobs_dir = blobs_dir
        self._size_bytes_max = size_bytes_max
        self._now = now
        self._sleep = sleep
        self._seen: dict[ManagedPath, tuple[Fingerprint, Source]] = {}
        self._staged: list[tuple[ManagedPath, durable.Temporary]] = []
        self._directory = -1
        self._has_new_names = False

    def real(self, path: ManagedPath) -> Path:
        """Return where a managed path lies on this machine."""
        return self._root / path[1:]

    def managed(self, real: Path) -> ManagedPath | None:
        """Return the managed path of a real one, None if it is not below the root."""
        return ManagedPath(f"/{real.relative_to(self._root)}") if real.is_relative_to(self._root) else None

    def read(self, paths: Iterable[ManagedPath]) -> dict[ManagedPath, Source]:
        """Return what is at each path. A content that was not seen before is stored, durably, before this returns."""
        found = {}
        with self._staging():
            for path in paths:
                found[path] = self._read(path)
                if len(self._staged) >= STAGED_MAX:
                    found |= self._make_durable()
            found |= self._make_durable()
        return found

    def forget(self, path: ManagedPath) -> None:
        """Read this path's content again next time, even if nothing about it changed."""
        self._seen.pop(path, None)

    def directories(self, paths: Iterable[ManagedPath]) -> set[Path]:
        """Return the directories to watch: each path's own, or the nearest one that exists."""
        found = set()
        for directory in {self.real(path).parent for path in paths}:
            nearest = directory
            while not nearest.is_dir() and nearest != nearest.parent:
                nearest = nearest.parent
            found.add(nearest)
        return found

    def glance(self, path: ManagedPath) -> Source:
        """Return what is at a path without reading it: of a file that is fit to be shipped nothing but that."""
        try:
            status = os.lstat(self.real(path))
            if stat.S_ISLNK(status.st_mode):
                return Source("unusable", reason=IS_A_LINK)
            if unfit := self._unfit(status):
                return unfit
            os.close(os.open(self.real(path), READING))
        except (FileNotFoundError, NotADirectoryError):
            return Source("absent")
        except OSError as error:
            return Source("unusable", reason=_why_not_opened(error))
        return Source("ready", size_bytes=status.st_size)

    def names(self, directory: str) -> list[str]:
        """Return the names of the regular files in a managed directory; links are none. Without it there are none."""
        try:
            with os.scandir(self.real(ManagedPath(directory))) as entries:
                return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise Unavailable(f"{directory} cannot be read on the master: {error.strerror}") from error

    def _read(self, path: ManagedPath) -> Source:
        try:
            fd = os.open(self.real(path), READING)
        except (FileNotFoundError, NotADirectoryError):
            self.forget(path)
            return Source("absent")
        except OSError as error:
            return Source("unusable", reason=_why_not_opened(error))
        try:
            return self._read_open(path, fd)
        except OSError as error:
            return _unstored(error)
        finally:
            os.close(fd)

    def _read_open(self, path: ManagedPath, fd: int) -> Source:
        before = os.fstat(fd)
        if unfit := self._unfit(before):
            return unfit
        seen = self._seen.get(path)
        if seen and seen[0] == Fingerprint.of(before) and self._is_stored(seen[1]):
            return seen[1]
        if _has_writer(fd):
            return Source("unsettled", reason=BEING_WRITTEN)
        self._let_the_clock_step(before)
        digest = self._stage(path, fd, before.st_size)
        after = os.fstat(fd)
        if digest is None or Fingerprint.of(after) != Fingerprint.of(before) or _has_writer(fd):
            return Source("unsettled", reason=BEING_WRITTEN)
        source = Source(
            "ready",
            digest=digest,
            size_bytes=after.st_size,
            mode=stat.S_IMODE(after.st_mode),
            owner=_owner(after.st_uid),
            group=_group(after.st_gid),
        )
        self._note(path, after, source)
        return source

    def _unfit(self, status: os.stat_result) -> Source | None:
        if not stat.S_ISREG(status.st_mode):
            return Source("unusable", reason=f"is not a regular file on the master but {_kind(status)}")
        if status.st_size > self._size_bytes_max:
            return Source("unusable", reason=f"has {status.st_size} bytes, limit {self._size_bytes_max}")
        return None

    def _let_the_clock_step(self, status: os.stat_result) -> None:
        """Wait until a change that comes from now on has another time than the last one."""
        age_ns = max(self._now() - status.st_ctime_ns, 0)
        if age_ns < CLOCK_STEP_NS:
            self._sleep((CLOCK_STEP_NS - age_ns) / 1e9)

    def _note(self, path: ManagedPath, status: os.stat_result, source: Source) -> None:
        """Remember the content by its fingerprint, unless a change within the clock's grain could hide in it."""
        if self._now() - status.st_ctime_ns > RACY_NS:
            self._seen[path] = (Fingerprint.of(status), source)
        else:
            self.forget(path)

    def _is_stored(self, source: Source) -> bool:
        """False if the content has been collected since, because no kept generation named it."""
        try:
            return (self._blobs_dir / source.digest).stat().st_size == source.size_bytes
        except OSError:
            return False

    @contextmanager
    def _staging(self) -> Iterator[None]:
        """Leave nothing unfinished behind in the store, and its directory closed."""
        try:
            yield
        finally:
            for _, copy in self._staged:
                self._discard(copy)
            self._staged.clear()
            if self._directory >= 0:
                os.close(self._directory)
                self._directory = -1

    def _stage(self, path: ManagedPath, fd: int, size_bytes: int) -> Digest | None:
        """Copy the content beside the stored ones, for the master's eyes only; None if its size has changed."""
        if self._directory < 0:
            self._directory = os.open(self._blobs_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        copy = durable.Temporary(self._directory)
        try:
            digest = self._copy(fd, copy, size_bytes)
            if digest and not self._is_stored(Source("ready", digest=digest, size_bytes=size_bytes)):
                copy.start_write_back()
                self._staged.append((path, copy))
                return digest
        except BaseException:
            self._discard(copy)
            raise
        self._discard(copy)
        return digest

    def _copy(self, fd: int, copy: durable.Temporary, size_bytes: int) -> Digest | None:
        while part := os.read(fd, READ_BYTES):
            copy.write(part)
            if copy.size_bytes > size_bytes:
                return None
        return copy.digest if copy.size_bytes == size_bytes else None

    def _make_durable(self) -> dict[ManagedPath, Source]:
        """Sync what is staged, all together, and give it its names; return what could not be stored.

        Several syncs of files whose writing has begun cost little more than one (performance facts, 1).
        """
        failed = {}
        for step in (self._sync, self._name):
            for path, copy in self._staged:
                try:
                    if path not in failed:
                        step(copy)
                except OSError as error:
                    self.forget(path)
                    self._discard(copy)
                    failed[path] = _unstored(error)
        self._staged.clear()
        if self._has_new_names:
            try:
                durable.sync_directory(self._blobs_dir)
            except OSError as error:
                raise Unavailable(f"{self._blobs_dir}: {error.strerror}") from error
            self._has_new_names = False
        return failed

    def _sync(self, copy: durable.Temporary) -> None:
        os.fsync(copy.fd)

    def _name(self, copy: durable.Temporary) -> None:
        copy.replace(self._directory, copy.digest)
        copy.close()
        self._has_new_names = True

    def _discard(self, copy: durable.Temporary) -> None:
        copy.close()
        with suppress(OSError):
            os.unlink(copy.name, dir_fd=self._directory)


def _unstored(error: OSError) -> Source:
    return Source("unusable", reason=f"cannot be read and stored on the master: {error.strerror}")


def _has_writer(fd: int) -> bool:
    """True if somebody has the file open for writing.

    The kernel grants a read lease only while nobody does. It is given back at once, so that no writer ever waits for
    it. Where leases cannot be had (a foreign file without privilege, some file systems) the answer is False, and the
    comparison of times and size before and after has to do.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _kind(status: os.stat_result) -> str:
    if stat.S_ISDIR(status.st_mode):
        return "a directory"
    if stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        return "a device"
    return "a FIFO" if stat.S_ISFIFO(status.st_mode) else "a socket"


def _why_not_opened(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return IS_A_LINK
    if error.errno == errno.ENXIO:
        return "is not a regular file on the master"
    return f"cannot be read on the master: {error.strerror}"


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
