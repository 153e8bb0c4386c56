"""The agent's end of the line to the privileged process: one connection for each question."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from node_agent.privileged import messages as m
from node_agent.privileged.frames import Line, One, answered_on
from node_agent.privileged.word import SignedWord
from protocol.errors import DecodeError, Refused, Unavailable

PIECE_BYTES: Final = 512 * 1024

T = TypeVar("T")


class Client:
    """Asks on a socket, and shows what it has of the master's word. Unavailable: nobody is there."""

    def __init__(self, path: Path, word: SignedWord) -> None:
        self._path = path
        self._word = word

    @asynccontextmanager
    async def asking(self, question: m.Message) -> AsyncIterator["Line[m.Answered]"]:
        """Yield the line on which a question is being answered."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._path)
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror}; is gnt-mesh-helper.socket started?") from error
        line = answered_on(reader, writer)
        try:
            await line.send(m.Hello(word=self._word.digests))
            while names := (await answer_of(line, m.Lacking)).names:
                for name in names:
                    await self._show(line, name)
            await line.send(question)
            yield line
        except DecodeError as error:
            raise Unavailable(f"{self._path}: {error}; are agent and helper of the same version?") from error
        finally:
            await line.close()

    async def ask(self, question: m.Message, kind: type[One]) -> One:
        """Return the one answer to a question; Refused or Unavailable in the other side's words."""
        async with self.asking(question) as line:
            return await answer_of(line, kind)

    async def _show(self, line: "Line[m.Answered]", name: str) -> None:
        part = self._word.part(name)
        await line.send(m.Word(name=name, data=part.data, size_bytes=len(part.rest)))
        for start in range(0, len(part.rest), PIECE_BYTES):
            await line.send(m.Piece(data=part.rest[start : start + PIECE_BYTES]))


async def answer_of(line: "Line[m.Answered]", kind: type[One]) -> One:
    """Return the next answer; Refused or Unavailable if it says that nothing was done."""
    message = await line.receive()
    if isinstance(message, m.Failed):
        raise Refused(message.reason) if message.is_refusal else Unavailable(message.reason)
    if not isinstance(message, kind):
        raise DecodeError(f"a {type(message).__name__} where a {kind.__name__} belongs")
    return message
