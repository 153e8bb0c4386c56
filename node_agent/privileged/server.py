"""Who may ask the privileged process. A bad question is refused with a reason, and harms nobody else's."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import structlog

from node_agent.privileged import messages as m
from node_agent.privileged.frames import Line, asked_on
from protocol.errors import DecodeError, Refused, Unavailable

CONNECTIONS_MAX: Final = 32
_CREDENTIALS: Final = struct.Struct("3i")

log = structlog.get_logger()


class Server:
    """Answers on a listening socket those whom the kernel says to be of `uids`."""

    def __init__(self, answer: Callable[["Line[m.Asked]"], Awaitable[None]], uids: Collection[int]) -> None:
        self._answer = answer
        self._uids = frozenset(uids)
        self._connections: set[asyncio.Task[None]] = set()

    async def run(self, listening: socket.socket) -> None:
        """Answer until cancelled; what is being done then is ended in order."""
        server = await asyncio.start_unix_server(self._accept, sock=listening)
        try:
            await server.serve_forever()
        finally:
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        line = asked_on(reader, writer)
        try:
            self._check_peer(writer.get_extra_info("socket"))
            await self._answer(line)
        except (Refused, DecodeError) as error:
            log.warning("question_refused", reason=str(error))
            await _fail(line, m.Failed(reason=str(error), is_refusal=True))
        except Unavailable as error:
            await _fail(line, m.Failed(reason=str(error)))
        except TimeoutError:
            await _fail(line, m.Failed(reason="the question took too long to be said"))
        finally:
            self._connections.discard(task)
            await line.finish()

    def _check_peer(self, connection: socket.socket) -> None:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(raw)
        if uid not in self._uids:
            raise Refused(f"user {uid} may not ask: this socket is for the agent of this node")
        if len(self._connections) > CONNECTIONS_MAX:
            raise Unavailable(f"{CONNECTIONS_MAX} questions are being answered already")


async def _fail(line: "Line[m.Asked]", failed: m.Failed) -> None:
    with contextlib.suppress(Unavailable):
        await line.send(failed)


def listen(path: str, *, uid: int) -> socket.socket:
    """Return a socket of our own, where systemd has not made one: for that user and root."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - a socket's name is text
    listening.bind(path)
    os.chmod(path, 0o600)  # noqa: PTH101
    os.chown(path, uid, -1)
    listening.listen(CONNECTIONS_MAX)
    return listening
