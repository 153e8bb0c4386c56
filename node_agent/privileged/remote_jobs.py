"""A node's jobs in the hands of the privileged process: the agent carries what is said, and decides nothing."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Final

import structlog

from node_agent.job_keeper import JobBus
from node_agent.privileged import messages as m
from node_agent.privileged.client import Client
from node_agent.privileged.frames import Line
from node_agent.privileged.word import SignedWord
from protocol import codec
from protocol.bus import Handler
from protocol.errors import DecodeError, Refused, Unavailable
from protocol.job_messages import JobLogPart, JobLogWanted, JobReport

RETRY_S: Final = 0.5

log = structlog.get_logger()


class RemoteJobs:
    """Implements `Jobs`."""

    def __init__(self, client: Client, word: SignedWord) -> None:
        self._client = client
        self._word = word
        self._look_due = asyncio.Event()

    def look(self) -> None:
        """The board may have changed."""
        self._look_due.set()

    def handlers(self) -> Mapping[str, tuple[type, Handler]]:
        return {"job-output": (JobLogWanted, self.output)}

    async def output(self, wanted: JobLogWanted) -> JobLogPart:
        answer = await self._client.ask(m.Output(job=wanted.id, offset=wanted.offset), m.Encoded)
        return codec.decode(answer.data, JobLogPart)

    async def run(self, bus: JobBus) -> None:
        """Carry until cancelled."""
        while True:
            try:
                async with self._client.asking(m.Jobs()) as line:
                    await self._carry(line, bus)
            except (Refused, Unavailable) as error:
                log.warning("jobs_interrupted", reason=str(error))
            await asyncio.sleep(RETRY_S)

    async def _carry(self, line: "Line[m.Answered]", bus: JobBus) -> None:
        looking = asyncio.create_task(self._pass_looks_on(line))
        try:
            while True:
                match await line.receive():
                    case m.BoardWanted():
                        await line.send(await self._board(bus))
                    case m.Report(data=data):
                        await _try(bus.report_jobs(codec.decode(data, JobReport)))
                    case m.Printed(job=job, text=text):
                        await _try(bus.say_output(job, text))
                    case m.Failed(reason=reason):
                        raise Unavailable(reason)
                    case other:
                        raise DecodeError(f"a {type(other).__name__} where word of jobs belongs")
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _pass_looks_on(self, line: "Line[m.Answered]") -> None:
        while True:
            await self._look_due.wait()
            self._look_due.clear()
            await line.send(m.Look())

    async def _board(self, bus: JobBus) -> m.Board:
        try:
            return m.Board(data=self._word.board if await bus.board() else b"")
        except (Unavailable, DecodeError) as error:
            return m.Board(reason=str(error))


async def _try(saying: Coroutine[None, None, None]) -> None:
    """What cannot be said now is said again by who says it."""
    try:
        await saying
    except Unavailable as error:
        log.warning("jobs_not_said", reason=str(error))
