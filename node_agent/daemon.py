"""The agent's loop: it carries events to the state machine and its effects to the bus and the disk, and owns the clock.

Every action ends in one event, also when it fails. Effects of one event are begun in order; `Remember` is finished
before anything that comes after it is done to a file or said: one trip to the disk does for both.
"""

import asyncio
import contextlib
import hashlib
import random
import time
from collections.abc import AsyncIterator
from typing import assert_never

import structlog

from node_agent.core import events as e
from node_agent.core.agent import Agent
from node_agent.disk import Disk
from node_agent.job_keeper import Jobs
from node_agent.os_service import OsService
from node_agent.presence import Presence
from node_agent.renewing import Keeping, Renewing
from node_agent.settings import AgentSettings
from node_agent.verifying import Verifying
from protocol.bus import AgentBus, AgentEvent, Connected, Disconnected, Garbled
from protocol.errors import DecodeError, Unavailable
from protocol.messages import BlobWanted, FileEntry, NodeBell, ScopeBell
from protocol.names import ScopeName
from protocol.readiness import Pulse, Readiness

TICK_S = 1.0
EVENTS_WAITING_MAX = 10_000
DRAIN_S = 5.0

log = structlog.get_logger()


class AgentDaemon:
    """One agent. `hear` is what the bus is given; `run` ends only by cancellation or by a fault of ours."""

    def __init__(
        self,
        settings: AgentSettings,
        agent: Agent,
        disk: Disk,
        os_service: OsService,
        jobs: Jobs,
        readiness: Readiness | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self._settings = settings
        self.pulse = Pulse("the agent's loop")
        self._presence = Presence(readiness or Readiness(), settings.server)
        self._settled = asyncio.Event()
        self._agent = agent
        self._disk = disk
        self._verifying = Verifying(settings.node, disk)
        self._keeping = keeping or Keeping()
        self._os_service = os_service
        self._os_look_due = asyncio.Event()
        self._jobs = jobs
        self._log = log.bind(node=settings.node)
        self._events: asyncio.Queue[e.Event] = asyncio.Queue(EVENTS_WAITING_MAX)
        self._fetches: asyncio.Queue[ScopeName | None] = asyncio.Queue()
        self._bus: AgentBus

    def hear(self, event: AgentEvent) -> None:
        """Take an event from the bus. What does not fit any more is dropped: beats bring it again."""
        match event:
            case Connected():
                self._log.info("connected")
                self._presence.note_connected()
                self._put(e.BusUp())
                self._jobs.look()
            case Disconnected(reason):
                reason = reason or "the server closed the connection"
                self._log.warning("disconnected", reason=reason)
                self._presence.note_disconnected(reason)
                self._put(e.BusDown(reason))
            case Garbled(subject, reason):
                self._put(e.MessageRefused(f"{subject}: {reason}"))
                self._log.warning("message_refused", subject=subject, reason=reason)
            case ScopeBell():
                self._put(event)
            case NodeBell():
                self._put(event)
                self._jobs.look()

    async def run(self, bus: AgentBus) -> None:
        """Carry events and effects until cancelled."""
        self._bus = bus
        renewing = Renewing(self._settings, bus, self._keeping)
        served = (self._verifying, self._os_service, self._jobs, renewing)
        await bus.serve({verb: handler for each in served for verb, handler in each.handlers().items()})
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._disk.run())
            self._tasks.create_task(self._follow_hints())
            self._tasks.create_task(self._look_at_os_definitions())
            self._tasks.create_task(self._fetch_in_order())
            self._tasks.create_task(self._jobs.run(bus))
            self._tasks.create_task(self._keep_time())
            self._tasks.create_task(self._rescan())
            while True:
                effects = self._agent.handle(await self._events.get())
                for effect in effects:
                    await self._begin(effect)
                kinds = {type(effect) for effect in effects}
                if e.Remember in kinds and e.Perform not in kinds:
                    await self._remember()
                self._take_stock()

    async def drain(self) -> None:
        """Return when nothing of the disk is half done and what came of it is reported, or when it takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self._agent.is_busy:
                    self._settled.clear()
                    await self._settled.wait()

    def _take_stock(self) -> None:
        self.pulse.beat()
        if self._agent.is_caught_up:
            self._presence.note_caught_up()
        if not self._agent.is_busy:
            self._settled.set()

    async def _begin(self, effect: e.Effect) -> None:
        match effect:
            case e.Listen(scopes):
                await self._listen(scopes)
            case e.FetchAssignment():
                self._fetches.put_nowait(None)
            case e.FetchManifest(scope):
                self._fetches.put_nowait(scope)
            case e.Observe():
                self._tasks.create_task(self._observe(effect))
            case e.Perform():
                self._tasks.create_task(self._perform(effect))
            case e.Remember(memory):
                self._disk.owe(memory)
            case e.Watch(paths):
                self._disk.watch(paths)
            case e.Report():
                await self._remember()
                await self._report(effect)
            case _:
                assert_never(effect)

    async def _listen(self, scopes: tuple[ScopeName, ...]) -> None:
        try:
            await self._bus.listen(scopes)
        except Unavailable as error:
            self._log.warning("listen_failed", reason=str(error))

    async def _fetch_in_order(self) -> None:
        """One fetch after another, so that what was published first arrives first."""
        while True:
            scope = await self._fetches.get()
            try:
                if scope is None:
                    event: e.Event = e.AssignmentFetched(await self._bus.assignment())
                else:
                    event = e.ManifestFetched(scope, await self._bus.manifest(scope))
            except DecodeError as error:
                self._put(e.MessageRefused(str(error)))
                self._log.warning("message_refused", scope=scope, reason=str(error))
                event = e.FetchFailed(scope, str(error))
            except Unavailable as error:
                self._log.warning("fetch_failed", scope=scope, reason=str(error))
                event = e.FetchFailed(scope, str(error))
            await self._events.put(event)

    async def _observe(self, effect: e.Observe) -> None:
        """What cannot be looked at now is looked at when it can be: nothing else can be known or done before."""
        while True:
            try:
                found = await self._disk.observe(effect.paths, afresh=effect.afresh)
                break
            except Unavailable as error:
                self._log.warning("observe_failed", reason=str(error))
            await asyncio.sleep(self._settings.retry_first_s)
        await self._events.put(e.DiskObserved(found))

    async def _perform(self, effect: e.Perform) -> None:
        started = time.monotonic()
        outcome = await self._disk.perform(effect.plan, self._content)
        took_ms = round((time.monotonic() - started) * 1000, 1)
        for write in effect.plan.writes:
            if write.entry.path in outcome.found:
                facts = {"scope": write.scope, "generation": write.entry.generation}
                if not write.is_secret:  # a short secret could be found by trying
                    facts["digest"] = write.entry.digest[:12]
                self._log.info("file_written", path=write.entry.path, **facts)
        for removal in effect.plan.removals:
            if removal.path in outcome.found:
                event = "backups_purged" if removal.is_gone else "file_removed"
                self._log.info(event, path=removal.path, scope=removal.scope, backup=removal.keep_backup)
        for path, reason in outcome.errors.items():
            self._log.warning("file_failed", path=path, reason=reason)
        self._log.info("plan_performed", done=len(outcome.found), failed=len(outcome.errors), took_ms=took_ms)
        await self._events.put(e.PlanFinished(effect.plan, outcome))

    async def _content(self, scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        """Yield a content from the bus; if the bus lacks it, or has it wrong, the master is asked to store it again."""
        hasher = hashlib.sha256()
        left = entry.size_bytes
        try:
            async for part in self._parts(scope, entry):
                hasher.update(part)
                left -= len(part)
                if left == 0 and hasher.hexdigest() != entry.digest:
                    raise Unavailable("what the broker has as its content belies the digest")
                yield part
        except Unavailable:
            await self._ask_for(scope, entry)
            raise

    def _parts(self, scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        if entry.secret:
            return self._bus.secret(scope, entry)
        return self._bus.blob(scope, entry.digest, entry.size_bytes)

    async def _ask_for(self, scope: ScopeName, entry: FileEntry) -> None:
        name = self._bus.blob_name(scope, entry)
        if name is None:
            return
        try:
            await self._bus.ask_blob(BlobWanted(node=self._settings.node, scope=scope, digest=name))
        except Unavailable as error:
            self._log.warning("ask_failed", reason=str(error))

    async def _remember(self) -> None:
        """Without its memory the agent could not say what it wrote: until the disk takes it, nothing goes on."""
        pause_s = self._settings.retry_first_s
        while True:
            try:
                return await self._disk.settle()
            except Unavailable as error:
                self._log.error("ledger_not_written", reason=str(error), retry_s=pause_s)
            self.pulse.beat()  # it is alive, and says what it waits for: to start it again would help nobody
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._settings.retry_longest_s)

    async def _report(self, effect: e.Report) -> None:
        try:
            await self._bus.report(effect.status)
            self._presence.note_status(effect.status)
        except Unavailable as error:
            self._log.warning("report_failed", reason=str(error))

    async def _follow_hints(self) -> None:
        while True:
            touched = await self._disk.touched()
            if touched.has_os_definitions:
                self._os_look_due.set()
            if touched.paths is None or touched.paths:
                self._put(e.FilesTouched(touched.paths))

    async def _look_at_os_definitions(self) -> None:
        """Once at the start, and again whenever something in their directories may have changed."""
        while True:
            self._os_look_due.clear()
            try:
                self._put(e.OsDefinitionsRead(await self._os_service.look()))
            except Unavailable as error:
                self._log.warning("os_definitions_not_read", reason=str(error))
                self._os_look_due.set()
                await asyncio.sleep(self._settings.retry_first_s)
            await self._os_look_due.wait()

    async def _keep_time(self) -> None:
        while True:
            self._put(e.Tick(time.monotonic()))
            await asyncio.sleep(TICK_S)

    async def _rescan(self) -> None:
        while True:
            await asyncio.sleep(self._settings.rescan_interval_s * random.uniform(1.0, 1.2))
            self._put(e.FilesTouched(None))
            self._os_look_due.set()

    def _put(self, event: e.Event) -> None:
        if not self._events.full():
            self._events.put_nowait(event)
