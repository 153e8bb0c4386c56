"""What the privileged process does for the agent: each question of the closed list, answered on its own connection.

Nothing is done on the agent's word: `authority` decides by the master's, and what it decides is done by the same
hands as in an agent that does all of it itself.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Final, assert_never

import structlog

from node_agent import trust_files
from node_agent.core.reconcile import Found
from node_agent.disk import LocalDisk
from node_agent.job_keeper import JobKeeper
from node_agent.ledger import Ledger
from node_agent.privileged import messages as m
from node_agent.privileged.authority import Authority
from node_agent.privileged.frames import Line
from node_agent.privileged.job_line import JobLine
from node_agent.settings import AgentSettings
from protocol import codec, durable, identity
from protocol.errors import DecodeError, Refused, Unavailable
from protocol.job_messages import JobLogWanted
from protocol.messages import FileEntry
from protocol.names import ManagedPath, ScopeName
from protocol.os_names import JobId

FRAME_TIMEOUT_S: Final = 60.0
"""How long the agent may take to say what it has begun to say; content may have to come from the bus first."""
PIECES_WAITING_MAX: Final = 4

log = structlog.get_logger()


class Operations:
    """One node's. `authority` is made of `memory`, which `ledger` has been opened with."""

    def __init__(
        self,
        disk: LocalDisk,
        ledger: Ledger,
        authority: Authority,
        jobs: JobKeeper,
        job_line: JobLine,
        *,
        swept: int,
        settings: AgentSettings,
    ) -> None:
        self._disk = disk
        self._ledger = ledger
        self._authority = authority
        self._jobs = jobs
        self._job_line = job_line
        self._swept = swept
        self._settings = settings
        self._changing = asyncio.Lock()
        self._noting = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    async def answer(self, line: "Line[m.Asked]") -> None:
        """Answer the one question of a connection; Refused, DecodeError and Unavailable say why it cannot be."""
        async with asyncio.timeout(FRAME_TIMEOUT_S):
            await self._hear_word(line, (await line.receive_one(m.Hello)).word)
            question = await line.receive()
        match question:
            case m.Recall():
                await self._recall(line)
            case m.Remember():
                await self._note()
                await line.send(m.Done())
            case m.Observe():
                await self._observe(line, question)
            case m.Change():
                await self._change(line, question)
            case m.Watch():
                await self._watch(line, question)
            case m.ReportOs():
                await line.send(m.Encoded(data=codec.encode(await self._disk.os_report())))
            case m.DefineOs(name=name):
                definition = await self._disk.os_definition(name)
                await line.send(m.Encoded(data=codec.encode(definition) if definition else b""))
            case m.KeepSeed(seed=seed):
                await self._keep_seed(seed)
                await line.send(m.Done())
            case m.KeepTrust(word=word):
                await self._keep_trust(word)
                await line.send(m.Done())
            case m.Jobs():
                await self._job_line.carry(line, self._jobs.look)
            case m.Output(job=job, offset=offset):
                part = await self._jobs.output(_log_wanted(job, offset))
                await line.send(m.Encoded(data=codec.encode(part)))
            case m.Hello() | m.Word() | m.Piece() | m.Look() | m.Board():
                raise DecodeError(f"a {type(question).__name__} is no question")
            case _:
                assert_never(question)

    async def _hear_word(self, line: "Line[m.Asked]", word: Mapping[str, str]) -> None:
        """Take what the agent can show of the master's word. What is refused is logged, and changes nothing.

        After an assignment what was shown before may be wanted again.
        """
        while lacking := self._authority.lacking(word):
            await line.send(m.Lacking(names=lacking))
            for _ in lacking:
                await self._take_part(line, word)
        await line.send(m.Lacking(names=[]))

    async def _take_part(self, line: "Line[m.Asked]", word: Mapping[str, str]) -> None:
        part = await line.receive_one(m.Word)
        if hashlib.sha256(part.data).hexdigest() != word.get(part.name):
            raise DecodeError(f"{part.name or 'assignment'}: not what was offered")
        encoded = bytearray()
        while len(encoded) < part.size_bytes:
            encoded += (await line.receive_one(m.Piece)).data
            if len(encoded) > codec.MANIFEST_BYTES_MAX:
                raise DecodeError(f"manifest of more than {codec.MANIFEST_BYTES_MAX} bytes")
        try:
            self._authority.take(part.name, part.data, bytes(encoded))
        except (Refused, DecodeError, ValueError) as error:
            log.warning("word_refused", part=part.name or "assignment", reason=str(error))

    async def _recall(self, line: "Line[m.Asked]") -> None:
        memory = self._authority.memory
        for known, is_last in m.in_parts(list(memory.known.items())):
            recalled = m.Recalled(
                serial=memory.serial,
                versions=dict(memory.versions),
                known=dict(known),
                swept=self._swept,
                is_last=is_last,
            )
            await line.send(recalled)

    async def _observe(self, line: "Line[m.Asked]", question: m.Observe) -> None:
        paths = list(question.paths)
        afresh = question.afresh
        while not question.is_last:
            question = await line.receive_one(m.Observe)
            paths += question.paths
        found = await self._look(paths, afresh=afresh)
        for part, is_last in m.in_parts(list(found.items())):
            await line.send(m.Observed(found=dict(part), is_last=is_last))

    async def _look(self, paths: Collection[ManagedPath], *, afresh: bool = False) -> Mapping[ManagedPath, Found]:
        found = await self._disk.observe(paths, afresh=afresh)
        self._authority.take_stock(found)
        await self._note()
        return found

    async def _change(self, line: "Line[m.Asked]", question: m.Change) -> None:
        puts, removals = list(question.puts), list(question.removals)
        while not question.is_last:
            question = await line.receive_one(m.Change)
            puts += question.puts
            removals += question.removals
        async with self._changing:
            found = await self._look({*(put.entry.path for put in puts), *removals})
            decided = self._authority.decide(puts, removals, found)
            self._authority.intend(decided.plan, found)
            await self._note()
            async with _Contents(line) as contents:
                outcome = await self._disk.perform(decided.plan, contents.fetch)
            self._authority.note_outcome(decided.plan, outcome)
        errors = {**decided.errors, **outcome.errors}
        _log_changes(decided.errors)
        found = {**decided.found, **outcome.found}
        for part, is_last in m.in_parts([*found.keys() | errors.keys()]):
            some_found = {path: found[path] for path in part if path in found}
            some_errors = {path: errors[path] for path in part if path in errors}
            await line.send(m.Changed(found=some_found, errors=some_errors, is_last=is_last))

    async def _note(self) -> None:
        """Make durable what must be before it is acted on. Unavailable if the disk is in the way."""
        async with self._noting:
            if self._authority.is_noted:
                return
            try:
                await asyncio.to_thread(self._ledger.save, self._authority.note())
            except Unavailable:
                self._authority.unnote()
                raise

    async def _watch(self, line: "Line[m.Asked]", question: m.Watch) -> None:
        """The newest that watches is told, and nobody else."""
        if self._watching:
            self._watching.cancel()
        self._watching = asyncio.current_task()
        telling = asyncio.create_task(self._tell(line))
        try:
            while True:
                paths = set(question.paths)
                while not question.is_last:
                    question = await line.receive_one(m.Watch)
                    paths |= set(question.paths)
                if question.again:
                    self._disk.watch_again()
                else:
                    self._disk.watch(paths)
                question = await line.receive_one(m.Watch)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _tell(self, line: "Line[m.Asked]") -> None:
        while True:
            touched = await self._disk.touched()
            paths = sorted(touched.paths)[: m.ITEMS_MAX + 1] if touched.paths is not None else None
            is_much = paths is not None and len(paths) > m.ITEMS_MAX
            has_os = touched.has_os_definitions
            await line.send(m.Touched(paths=None if is_much else paths, has_os_definitions=has_os))

    async def _keep_seed(self, seed: str) -> None:
        key = identity.checked_seed(seed)
        try:
            await asyncio.to_thread(durable.write_file, self._settings.seed_file, f"{seed}\n".encode())
        except OSError as error:
            raise Unavailable(f"{self._settings.seed_file}: {error.strerror}") from error
        log.info("key_kept", public_key=key)

    async def _keep_trust(self, word: bytes) -> None:
        trust = self._authority.open_trust(word)
        await asyncio.to_thread(trust_files.keep, self._settings, trust)
        self._authority.use_master_keys(frozenset(trust.master_keys))
        log.info("trust_kept", master_keys=list(trust.master_keys))


class _Contents:
    """The contents that the agent fetches from the bus, asked for over the connection of one change."""

    def __init__(self, line: "Line[m.Asked]") -> None:
        self._line = line
        self._waiting: dict[str, asyncio.Queue[m.Piece]] = {}
        self._reading: asyncio.Task[None]
        self._failure = ""

    async def __aenter__(self) -> "_Contents":
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def fetch(self, scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        """Yield a content; what is wrong with it is found by who writes it."""
        queue: asyncio.Queue[m.Piece] = asyncio.Queue(PIECES_WAITING_MAX)
        self._waiting[entry.path] = queue
        try:
            await self._line.send(m.Wanted(path=entry.path))
            while True:
                piece = await self._next(queue)
                if piece.reason:
                    raise Unavailable(piece.reason)
                if not piece.data:
                    return
                yield piece.data
        finally:
            del self._waiting[entry.path]
            while not queue.empty():
                queue.get_nowait()  # who reads for all may be waiting for room here

    async def _next(self, queue: "asyncio.Queue[m.Piece]") -> m.Piece:
        taking = asyncio.ensure_future(queue.get())
        try:
            await asyncio.wait((taking, self._reading), return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                raise Unavailable(self._failure or "the agent says no more")
            return taking.result()
        finally:
            taking.cancel()

    async def _read(self) -> None:
        try:
            while True:
                piece = await self._line.receive_one(m.Piece)
                if queue := self._waiting.get(piece.path):
                    await queue.put(piece)
        except (Unavailable, DecodeError) as error:
            self._failure = str(error)


def _log_wanted(job: JobId, offset: int) -> JobLogWanted:
    try:
        return JobLogWanted(id=job, offset=offset)
    except ValueError as error:
        raise DecodeError(str(error)) from error


def _log_changes(refused: Mapping[ManagedPath, str]) -> None:
    for path, reason in refused.items():
        log.warning("change_refused", path=path, reason=reason)
