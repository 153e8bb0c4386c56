"""A node's disk in the hands of the privileged process: what an agent without rights does in place of `LocalDisk`."""

import asyncio
import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Final

import structlog

from node_agent.core.events import Memory
from node_agent.core.reconcile import Found, Known, Outcome, Plan, Write
from node_agent.disk import Touched
from node_agent.files import Fetch
from node_agent.privileged import messages as m
from node_agent.privileged.client import Client, answer_of
from node_agent.privileged.frames import Line
from protocol import codec
from protocol.errors import MeshError, Refused, Unavailable
from protocol.names import ManagedPath
from protocol.os_messages import OsDefinition, OsReport

RETRY_S: Final = 0.5
TOUCHED_WAITING_MAX: Final = 1000

log = structlog.get_logger()


class RemoteDisk:
    """Implements `Disk`. What the privileged process remembers is its own: it is shown the master's word, not told."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._owed: Memory | None = None
        self._paths: frozenset[ManagedPath] = frozenset()
        self._watch_due = asyncio.Event()
        self._touched: asyncio.Queue[Touched] = asyncio.Queue(TOUCHED_WAITING_MAX)

    async def recall(self) -> tuple[Memory, int]:
        known: dict[ManagedPath, Known] = {}
        async with self._client.asking(m.Recall()) as line:
            while True:
                part = await answer_of(line, m.Recalled)
                known |= part.known
                if part.is_last:
                    return Memory(part.serial, part.versions, known), part.swept

    def owe(self, memory: Memory) -> None:
        self._owed = memory

    async def settle(self) -> None:
        if (owed := self._owed) is not None:
            await self._client.ask(m.Remember(), m.Done)
            self._note_settled(owed)

    def _note_settled(self, owed: Memory | None) -> None:
        if self._owed is owed:
            self._owed = None

    async def observe(self, paths: Collection[ManagedPath], *, afresh: bool) -> Mapping[ManagedPath, Found]:
        found: dict[ManagedPath, Found] = {}
        first, *others = ((list(part), is_last) for part, is_last in m.in_parts(list(paths)))
        async with self._client.asking(m.Observe(paths=first[0], afresh=afresh, is_last=first[1])) as line:
            for part, is_last in others:
                await line.send(m.Observe(paths=part, afresh=afresh, is_last=is_last))
            while True:
                answer = await answer_of(line, m.Observed)
                found |= answer.found
                if answer.is_last:
                    return found

    async def perform(self, plan: Plan, fetch: Fetch) -> Outcome:
        if plan.is_empty:
            return Outcome({}, {})
        owed = self._owed
        try:
            outcome = await self._perform(plan, fetch)
            self._note_settled(owed)  # it notes for itself before it writes
            return outcome
        except (Refused, Unavailable) as error:
            return Outcome({}, dict.fromkeys(plan.paths, f"not done: {error}"[:300]))

    async def _perform(self, plan: Plan, fetch: Fetch) -> Outcome:
        first, *others = _in_parts(plan)
        found: dict[ManagedPath, Found] = {}
        errors: dict[ManagedPath, str] = {}
        writes = {write.entry.path: write for write in plan.writes}
        async with self._client.asking(first) as line:
            for part in others:
                await line.send(part)
            sending: set[asyncio.Task[None]] = set()
            try:
                while True:
                    match await line.receive():
                        case m.Wanted(path=path) if path in writes:
                            sending.add(asyncio.create_task(_send_content(line, writes[path], fetch)))
                        case m.Changed() as done:
                            found |= done.found
                            errors |= done.errors
                            if done.is_last:
                                return Outcome(found, errors)
                        case m.Failed(reason=reason):
                            raise Unavailable(reason)
            finally:
                for task in sending:
                    task.cancel()
                await asyncio.gather(*sending, return_exceptions=True)

    def watch(self, paths: Collection[ManagedPath]) -> None:
        self._paths = frozenset(paths)
        self._watch_due.set()

    async def touched(self) -> Touched:
        return await self._touched.get()

    async def run(self) -> None:
        """Watch over there until cancelled; after every interruption anything may have changed."""
        while True:
            try:
                self._watch_due.clear()
                watched, questions = self._paths, _watches(self._paths)
                async with self._client.asking(next(questions)) as line:
                    for question in questions:
                        await line.send(question)
                    await self._follow(line, watched)
            except (Refused, Unavailable) as error:
                log.warning("watching_interrupted", reason=str(error))
            await asyncio.sleep(RETRY_S)
            self._tell(Touched(None, has_os_definitions=True))

    async def _follow(self, line: "Line[m.Answered]", watched: frozenset[ManagedPath]) -> None:
        saying = asyncio.create_task(self._say_anew(line, watched))
        try:
            while True:
                touched = await answer_of(line, m.Touched)
                paths = None if touched.paths is None else frozenset(touched.paths)
                self._tell(Touched(paths, has_os_definitions=touched.has_os_definitions))
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)

    async def _say_anew(self, line: "Line[m.Answered]", watched: frozenset[ManagedPath]) -> None:
        while True:
            await self._watch_due.wait()
            self._watch_due.clear()
            if self._paths == watched:
                await line.send(m.Watch(again=True))
                continue
            watched = self._paths
            for question in _watches(watched):
                await line.send(question)

    def _tell(self, touched: Touched) -> None:
        if self._touched.full():
            while not self._touched.empty():
                self._touched.get_nowait()
            touched = Touched(None, has_os_definitions=True)
        self._touched.put_nowait(touched)

    async def os_report(self) -> OsReport:
        return codec.decode((await self._client.ask(m.ReportOs(), m.Encoded)).data, OsReport)

    async def os_definition(self, name: str) -> OsDefinition | None:
        data = (await self._client.ask(m.DefineOs(name=name), m.Encoded)).data
        return codec.decode(data, OsDefinition) if data else None

    async def keep_seed(self, seed: str) -> None:
        """Have the node's new key kept where the old one was."""
        await self._client.ask(m.KeepSeed(seed=seed), m.Done)

    async def keep_trust(self, word: bytes) -> None:
        """Have it kept whom to believe, on the master's word."""
        await self._client.ask(m.KeepTrust(word=word), m.Done)


async def _send_content(line: "Line[m.Answered]", write: Write, fetch: Fetch) -> None:
    """Send a content to its end, or why there is none. The other side checks it, and may be gone."""
    path = write.entry.path
    with contextlib.suppress(Unavailable):
        try:
            async for data in fetch(write.scope, write.entry):
                await line.send(m.Piece(path=path, data=data))
            await line.send(m.Piece(path=path, data=b""))
        except MeshError as error:
            await line.send(m.Piece(path=path, data=b"", reason=str(error) or "the content is unavailable"))


def _in_parts(plan: Plan) -> Iterator[m.Change]:
    puts = [m.Put(write.scope, write.entry, write.copy_of) for write in plan.writes]
    removals = [removal.path for removal in plan.removals]
    for part, is_last in m.in_parts(puts):
        yield m.Change(puts=list(part), is_last=is_last and not removals)
    if removals:
        for part_, is_last in m.in_parts(removals):
            yield m.Change(removals=list(part_), is_last=is_last)


def _watches(paths: frozenset[ManagedPath]) -> Iterator[m.Watch]:
    for part, is_last in m.in_parts(sorted(paths)):
        yield m.Watch(paths=list(part), is_last=is_last)
