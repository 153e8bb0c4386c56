"""The floor: the same bytes fanned out raw to bare readers over loopback, and the same writes, fsyncs and renames.

Nothing else: no hash, no store, no message. As many readers as nodes that write, in as many processes as the mesh
has for them, each with its own directory on the same file system.
`python -m tests.benchmarks.floor PORT DIR...` is one process of readers.
"""

import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.child import Child

BYTES_AT_ONCE = 256 * 1024
DONE = b"."
TIMEOUT_S = 60.0
_LENGTH = struct.Struct("!I")


class Floor:
    """The sender, and the readers it has started."""

    def __init__(self, directory: Path, readers: int, *, processes: int) -> None:
        directory.mkdir(parents=True)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=readers)
        self._listener.settimeout(TIMEOUT_S)
        port = str(self._listener.getsockname()[1])
        places = [directory / f"reader{number}" for number in range(1, readers + 1)]
        for place in places:
            place.mkdir()
        module = [sys.executable, "-m", "tests.benchmarks.floor"]
        self._children = [
            Child(f"floor{number}", [*module, port, *places[number::processes]], directory / f"{number}.log")
            for number in range(processes)
        ]
        self._sockets: list[socket.socket] = []
        self._readers = readers

    def open(self) -> None:
        for child in self._children:
            child.start()
        for _ in range(self._readers):
            accepted, _ = self._listener.accept()
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets.append(accepted)

    def close(self) -> None:
        for connection in self._sockets:
            connection.close()
        for child in self._children:
            child.terminate()
        self._listener.close()

    def measure_ms(self, contents: Sequence[bytes], *, readers: int | None = None) -> float:
        """Return the time from the first byte sent until the last reader has all of it on its disk."""
        frame = b"".join([_LENGTH.pack(len(contents)), *(_LENGTH.pack(len(one)) + one for one in contents)])
        used = self._sockets[:readers]
        started_ns = time.monotonic_ns()
        for connection in used:
            connection.sendall(frame)
        waiting = set(used)
        while waiting:
            ready, _, _ = select.select(waiting, [], [], TIMEOUT_S)
            assert ready, "a reader of the floor does not answer"
            for connection in ready:
                assert connection.recv(1) == DONE, "a reader of the floor has died"
                waiting.discard(connection)
        return (time.monotonic_ns() - started_ns) / 1e6


def main() -> None:
    """Read, write, answer; one thread per connection, until the sender is gone."""
    port, *places = sys.argv[1:]
    threads = [threading.Thread(target=_serve, args=(int(port), Path(place))) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _serve(port: int, place: Path) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while count := connection.recv(_LENGTH.size, socket.MSG_WAITALL):
            names = [f"file{number}" for number in range(_LENGTH.unpack(count)[0])]
            _write(connection, place, names)
            connection.sendall(DONE)


def _write(connection: socket.socket, place: Path, names: Sequence[str]) -> None:
    """All written, then all fsynced, then all renamed, then one fsync of the directory."""
    staged = [
        os.open(place / f".{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644) for name in names
    ]
    for fd in staged:
        left = _LENGTH.unpack(connection.recv(_LENGTH.size, socket.MSG_WAITALL))[0]
        while left:
            part = connection.recv(min(left, BYTES_AT_ONCE))
            left -= os.write(fd, part)
    for fd in staged:
        os.fsync(fd)
        os.close(fd)
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in names:
        os.rename(f".{name}", name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)
    os.close(directory)


if __name__ == "__main__":
    main()
