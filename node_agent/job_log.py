"""The output of one job on the node's disk: its beginning and its end, whatever lies between them, within bounds.

The first bytes go to `log`, the rest to segments `tail.0`, `tail.1`, … of which the last two stay. An offset counts the
bytes of the whole output, so that it means the same whether or not what lies there was kept.
"""

import os
from pathlib import Path
from typing import Final

HEAD: Final = "log"
TAIL: Final = "tail."

FLAGS: Final = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class JobLog:
    """Written by the runner alone; not durable: after a power cut its end may be missing, which harms nobody."""

    def __init__(self, directory: Path, *, head_bytes: int, tail_bytes: int) -> None:
        self._directory = directory
        self._head_bytes = head_bytes
        self._tail_bytes = tail_bytes
        self.end = 0
        """How many bytes were taken in."""
        self._lost = 0
        self._fd = os.open(directory / HEAD, FLAGS | os.O_WRONLY | os.O_TRUNC, 0o600)
        self._segment = -1
        self._last = b""

    @property
    def last(self) -> bytes:
        """The last 4 KiB of the output."""
        return self._last

    def write(self, data: bytes) -> None:
        """Take in output. What the disk does not take is left out, and said so once it takes something again."""
        self._last = (self._last + data)[-4096:]
        if self._lost:
            data = f"\n[{self._lost} bytes of output are lost: the disk did not take them]\n".encode() + data
        view = memoryview(data)
        try:
            while view:
                view = view[self._write_some(view) :]
        except OSError:
            self._lost += len(view)
            return
        self._lost = 0

    def close(self) -> None:
        os.close(self._fd)

    def _write_some(self, view: memoryview) -> int:
        segment, room = self._place()
        if segment != self._segment:
            self._begin(segment)
        written = os.write(self._fd, view[:room])
        self.end += written
        return written

    def _place(self) -> tuple[int, int]:
        """Return which segment comes now (-1: the head), and how much fits into it."""
        if self.end < self._head_bytes:
            return -1, self._head_bytes - self.end
        segment, within = divmod(self.end - self._head_bytes, self._tail_bytes)
        return segment, self._tail_bytes - within

    def _begin(self, segment: int) -> None:
        fd = os.open(self._directory / f"{TAIL}{segment}", FLAGS | os.O_WRONLY | os.O_TRUNC, 0o600)
        os.close(self._fd)
        self._fd, self._segment = fd, segment
        (self._directory / f"{TAIL}{segment - 2}").unlink(missing_ok=True)


def read(directory: Path, offset: int, size_max: int, *, head_bytes: int, tail_bytes: int) -> tuple[int, bytes]:
    """Return output from `offset`, or from the first byte after it that is still there, and where it begins."""
    if offset < head_bytes:
        data = _part(directory / HEAD, offset, size_max)
        if data or not _tails(directory):
            return offset, data
    for segment in _tails(directory):
        start = head_bytes + segment * tail_bytes
        if offset < start + tail_bytes:
            begin = max(offset, start)
            if data := _part(directory / f"{TAIL}{segment}", begin - start, size_max):
                return begin, data
    return offset, b""


def end_of(directory: Path, *, head_bytes: int, tail_bytes: int) -> int:
    """Return how long the output is so far."""
    tails = _tails(directory)
    path, start = directory / HEAD, 0
    if tails:
        path, start = directory / f"{TAIL}{tails[-1]}", head_bytes + tails[-1] * tail_bytes
    try:
        return start + path.stat().st_size
    except FileNotFoundError:
        return start


def _tails(directory: Path) -> list[int]:
    try:
        names = [path.name.removeprefix(TAIL) for path in directory.iterdir() if path.name.startswith(TAIL)]
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if name.isdecimal())


def _part(path: Path, offset: int, size_max: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, size_max, offset)
    finally:
        os.close(fd)
