"""Hears what one child says of itself, by the datagrams of sd_notify (`protocol.readiness` sends them)."""

import asyncio
import secrets
import socket
import struct
from typing import Final, Self

_CREDENTIALS: Final = struct.Struct("3i")
_DATAGRAM_BYTES_MAX: Final = 4096


class NotifySocket:
    """One address for one process. It is abstract: no path that may be too long, no file that a crash leaves."""

    def __init__(self) -> None:
        name = f"gnt-mesh-{secrets.token_hex(8)}"
        self.address = f"@{name}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(f"\0{name}")

    async def until_ready(self, pid: int) -> None:
        """Return when the process `pid` has said READY=1. The kernel says who speaks; nobody else is believed."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def take() -> None:
            if self._take() == pid and not ready.done():
                ready.set_result(None)

        loop.add_reader(self._socket, take)
        try:
            await ready
        finally:
            loop.remove_reader(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _take(self) -> int | None:
        """Take one datagram; return its sender's pid if it says READY=1."""
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_DATAGRAM_BYTES_MAX, socket.CMSG_SPACE(_CREDENTIALS.size))
        except OSError:
            return None
        if b"READY=1" not in data.split(b"\n"):
            return None
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(value) >= _CREDENTIALS.size:
                pid: int = _CREDENTIALS.unpack_from(value)[0]
                return pid
        return None
