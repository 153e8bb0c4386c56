"""Whose directory is it: nobody's yet, a mesh's, or something else's; and does another `up` run on it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from master.up.layout import LOCK_FILE, Layout, Marker, read_marker
from protocol import durable
from protocol.errors import Refused


def look(layout: Layout) -> Marker | None:
    """Return the marker of the mesh here, None for a directory that is empty or not there. Changes nothing.

    Refused if the directory is somebody else's, or cannot be read.
    """
    directory = layout.directory
    try:
        names = {entry.name for entry in directory.iterdir()}
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise Refused(f"{directory} is not a directory; choose another --dir") from None
    except OSError as error:
        raise unusable(layout, error) from error
    if layout.marker.name in names:
        return read_marker(layout)
    strange = sorted(name for name in names if name != LOCK_FILE and not durable.is_temporary(name))
    if strange:
        raise Refused(
            f"{directory} is not empty and was not made by gnt-mesh up (it has {strange[0]!r}); "
            "choose an empty or a new directory"
        )
    return None


def is_claimed(layout: Layout) -> bool:
    """True if an `up` runs on the directory."""
    try:
        fd = os.open(layout.lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def claimed(layout: Layout) -> Iterator[None]:
    """Hold the directory, made first if need be, so that no other `up` runs on it; Refused names the one that does."""
    durable.make_directory(layout.directory, mode=0o755)
    fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(layout, os.pread(fd, 32, 0)) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def unusable(layout: Layout, error: OSError) -> Refused:
    """Return the sentence for a directory in which the operating system does not let us work."""
    where = error.filename or layout.directory
    reason = os.strerror(error.errno or 0).lower()
    return Refused(f"{where}: {reason}; choose a --dir where you may write")


def _taken(layout: Layout, holder: bytes) -> Refused:
    pid = holder.decode(errors="replace").strip()
    if not pid.isdecimal():
        return Refused(f"another gnt-mesh up is starting on {layout.directory}; wait for it, or choose another --dir")
    return Refused(
        f"another gnt-mesh up (pid {pid}) runs on {layout.directory}; end it with: kill {pid}, or choose another --dir"
    )
