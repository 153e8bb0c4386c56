"""What a daemon says by sd_notify, heard on a real datagram socket, as systemd hears it."""

import secrets
import socket
import time
from types import TracebackType
from typing import Self

WAIT_S = 30.0


class Notices:
    """`heard` is all that was said so far, one line each."""

    def __init__(self) -> None:
        name = f"gnt-mesh-test-{secrets.token_hex(8)}"
        self.address = f"@{name}"
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(f"\0{name}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def until(self, start: str, timeout_s: float = WAIT_S) -> str:
        """Return the next line that starts so; AssertionError with what was said instead when the time is over."""
        deadline_s = time.monotonic() + timeout_s
        since = len(self.heard)
        while True:
            self._socket.settimeout(max(deadline_s - time.monotonic(), 0.001))
            try:
                lines = self._socket.recv(4096).decode().split("\n")
            except TimeoutError:
                raise AssertionError(f"no {start} within {timeout_s:g} s, but {self.heard[since:]}") from None
            self.heard += lines
            for line in lines:
                if line.startswith(start):
                    return line

    def waiting(self) -> list[str]:
        """Return what is there now, without waiting."""
        self._socket.settimeout(0.0)
        lines: list[str] = []
        try:
            while True:
                lines += self._socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            self.heard += lines
            return lines
