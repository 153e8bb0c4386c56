"""The bus as the job keeper of the privileged process has it: what the agent carries over one connection.

A board counts only as the master has signed it for this node, and if it is not older than the newest one that was ever
taken in: that is noted durably. While no agent is connected, jobs go on and boards wait.
"""

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import structlog

from node_agent.privileged import messages as m
from node_agent.privileged.frames import Line
from protocol import codec, durable
from protocol.errors import DecodeError, Unavailable
from protocol.job_messages import JobBoard, JobReport
from protocol.names import NodeName
from protocol.os_names import JobId
from protocol.sealing import envelopes

BOARD_TIMEOUT_S: Final = 15.0
NOTE: Final = "board"

log = structlog.get_logger()


class JobLine:
    """Implements `JobBus`. `trusted` reads the master's keys; `state_dir` is where the newest board is noted."""

    def __init__(self, node: NodeName, trusted: Callable[[], Collection[str]], state_dir: Path) -> None:
        self._node = node
        self._trusted = trusted
        self._note = state_dir / NOTE
        self._newest = _read_note(self._note)
        self._line: Line[m.Asked] | None = None
        self._boards: asyncio.Queue[m.Board] = asyncio.Queue(1)
        self._carrying: asyncio.Task[None] | None = None

    async def carry(self, line: "Line[m.Asked]", look: Callable[[], None]) -> None:
        """Be connected until the agent goes; a newer connection takes the place of the one before."""
        if self._carrying:
            self._carrying.cancel()
        self._carrying = asyncio.current_task()
        self._line = line
        look()
        try:
            while True:
                match await line.receive():
                    case m.Look():
                        look()
                    case m.Board() as board:
                        if not self._boards.full():
                            self._boards.put_nowait(board)
                    case other:
                        raise DecodeError(f"a {type(other).__name__} where word of jobs belongs")
        finally:
            if self._line is line:
                self._line = None

    async def board(self) -> JobBoard | None:
        while not self._boards.empty():
            self._boards.get_nowait()
        await self._connected.send(m.BoardWanted())
        try:
            async with asyncio.timeout(BOARD_TIMEOUT_S):
                answer = await self._boards.get()
        except TimeoutError as error:
            raise Unavailable(f"the agent has not handed over a board within {BOARD_TIMEOUT_S:g} s") from error
        if answer.reason:
            raise Unavailable(answer.reason)
        if not answer.data:
            return None
        board = envelopes.open_board(answer.data, self._node, self._trusted())
        if board.version < self._newest:
            raise DecodeError(f"job board {board.serial} is older than {self._newest[1]}, which this node has had")
        if board.version > self._newest:
            await asyncio.to_thread(self._write_note, board.version)
            self._newest = board.version
        return board

    async def report_jobs(self, report: JobReport) -> None:
        await self._connected.send(m.Report(data=codec.encode(report)))

    async def say_output(self, job: JobId, text: bytes) -> None:
        await self._connected.send(m.Printed(job=job, text=text))

    @property
    def _connected(self) -> "Line[m.Asked]":
        if self._line is None:
            raise Unavailable("no agent is connected")
        return self._line

    def _write_note(self, version: tuple[int, int]) -> None:
        try:
            durable.write_file(self._note, f"{version[0]} {version[1]}\n".encode())
        except OSError as error:
            raise Unavailable(f"cannot write {self._note}: {error.strerror}") from error


def _read_note(path: Path) -> tuple[int, int]:
    try:
        epoch, serial = path.read_text(encoding="ascii").split()
        return int(epoch), int(serial)
    except FileNotFoundError:
        return (1, -1)
