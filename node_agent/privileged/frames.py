"""Messages over a local stream socket: four bytes of length, then msgpack. What is too long or unknown is refused."""

import asyncio
import contextlib
from typing import Final, Generic, TypeVar

import msgspec

from node_agent.privileged.messages import Answered, Asked, Message
from protocol.errors import DecodeError, Unavailable

FRAME_BYTES_MAX: Final = 8 * 1024 * 1024
LENGTH_BYTES: Final = 4
FINISH_S: Final = 5.0
READ_BYTES: Final = 64 * 1024

Heard = TypeVar("Heard", bound=Message)
One = TypeVar("One", bound=Message)

_ASKED: Final = msgspec.msgpack.Decoder(Asked)
_ANSWERED: Final = msgspec.msgpack.Decoder(Answered)


class Line(Generic[Heard]):
    """One side of a connection. Unavailable: the other side has gone; DecodeError: it says what nobody understands."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoder: "msgspec.msgpack.Decoder[Heard]"
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = decoder

    async def send(self, message: Message) -> None:
        body = msgspec.msgpack.encode(message)
        assert len(body) <= FRAME_BYTES_MAX, f"{type(message).__name__} of {len(body)} bytes"
        try:
            self._writer.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
            await self._writer.drain()
        except OSError as error:
            raise Unavailable(f"the connection was lost: {error.strerror or error}") from error

    async def receive(self) -> Heard:
        try:
            size_bytes = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
            if size_bytes > FRAME_BYTES_MAX:
                raise DecodeError(f"message of {size_bytes} bytes, limit {FRAME_BYTES_MAX}")
            body = await self._reader.readexactly(size_bytes)
        except asyncio.IncompleteReadError as error:
            raise Unavailable("the connection was closed") from error
        except OSError as error:
            raise Unavailable(f"the connection was lost: {error.strerror or error}") from error
        try:
            return self._decoder.decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise DecodeError(f"not understood: {error}") from error

    async def receive_one(self, kind: type[One]) -> One:
        """Return the next message; DecodeError if it is of another kind."""
        message = await self.receive()
        if not isinstance(message, kind):
            raise DecodeError(f"a {type(message).__name__} where a {kind.__name__} belongs")
        return message

    async def finish(self) -> None:
        """Close when the other side has, or does not for long: what it still says must not cost it our last answer."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(FINISH_S):
                self._writer.write_eof()
                while await self._reader.read(READ_BYTES):
                    continue
        await self.close()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def asked_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> "Line[Asked]":
    """Return the privileged side of a connection."""
    return Line(reader, writer, _ASKED)


def answered_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> "Line[Answered]":
    """Return the agent's side of a connection."""
    return Line(reader, writer, _ANSWERED)
