"""The master's loop: watch, plan, publish; collect receipts; answer operators (`api`). It owns the clock and the lock.

One change happens at a time, under the lock: decided in core, durable on disk, then carried to the bus. If the bus
fails in the middle the disk is right all the same, and `restore` carries everything again.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import assert_never

import structlog

from master.core.cluster import AncillaryFile, ClusterConfig, Node, with_nodes
from master.core.fleet import Fleet
from master.core.plan import Publication, managed_files, plan
from master.publisher import Publisher, assignment_of
from master.settings import MasterSettings
from master.source_watch import SourceWatch
from master.sources import Sources
from master.store import Generation, Store
from protocol.bus import BlobAsked, Connected, Disconnected, Garbled, MasterBus, MasterEvent, NodeLeft, StatusHeard
from protocol.errors import Unavailable
from protocol.messages import FileError, Manifest, Refusals
from protocol.names import Digest, ManagedPath, ScopeName
from protocol.operator_messages import Goal

RESTORE_PAUSE_S = (0.5, 1.0, 2.0, 5.0, 10.0)
EVENTS_WAITING_MAX = 100_000
FIRST_REPORTS_S = 0.5
BLOB_ANSWER_PAUSE_S = 1.0
"""Many nodes miss a blob at the same moment; it is stored again once."""

log = structlog.get_logger()


class MasterDaemon:
    """One master. `hear` is what the bus is given; `run` ends only by cancellation or by a fault of ours."""

    def __init__(self, settings: MasterSettings, config: ClusterConfig, store: Store, sources: Sources) -> None:
        self.settings = settings
        self.config = config
        self.store = store
        self.manifests: dict[ScopeName, Manifest] = store.manifests()
        self.problems: tuple[FileError, ...] = ()
        self.refusals = Refusals()
        self.fleet = Fleet(silent_after_s=settings.silent_after_s)
        self._sources = SourceWatch(settings, sources)
        self._config_data = ManagedPath(str(settings.config_data))
        self._generation_floor = 0
        self._collected = 0
        self._blobs_answered_s: dict[tuple[ScopeName, Digest], float] = {}
        self._lock = asyncio.Lock()
        self._progress = asyncio.Event()
        self._bell_due = asyncio.Event()
        self._events: asyncio.Queue[MasterEvent] = asyncio.Queue(EVENTS_WAITING_MAX)
        self._restore_due = asyncio.Event()
        self._reconnected = asyncio.Event()
        self._bus: MasterBus
        self._publisher: Publisher

    def hear(self, event: MasterEvent) -> None:
        """Take an event from the bus. What does not fit any more is dropped: nodes repeat what they say."""
        if not self._events.full():
            self._events.put_nowait(event)

    async def run(self, bus: MasterBus, serve: Callable[[], Awaitable[None]]) -> None:
        """Bring the bus up to date, `serve`, then watch, plan, publish and listen until cancelled."""
        self._bus = bus
        self._publisher = Publisher(bus, self.store, self.settings.broker_nodes_file, refuse=self.refuse)
        while not self._events.empty():
            self._events.get_nowait()
        self._restore_due.clear()
        await self._restore_now(afresh=False)
        await self.refresh(None, "the master started")
        async with asyncio.TaskGroup() as tasks:
            for task in (
                self._sources.run(self.refresh),
                self._restore_when_due(),
                self._beat(),
                self._patrol(),
                self._ring_operators(),
            ):
                tasks.create_task(task)
            tasks.create_task(self._serve(serve))
            while True:
                await self._take_in(await self._events.get())

    async def _serve(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Let the nodes that were there before say how they are now, so that the first status does not deny them."""
        deadline_s = time.monotonic() + FIRST_REPORTS_S
        while (now_s := time.monotonic()) < deadline_s and self.fleet.is_expecting(now_s):
            await self.progress(deadline_s - now_s)
        await serve()

    async def change(self, make: Callable[[ClusterConfig, float], ClusterConfig], *, why: str) -> Goal:
        """Have the cluster config changed by `make`, durably, and carried to the bus. Refused leaves all as it was.

        Returns what proves that the change has reached the nodes: the generations now published, and the serials of
        the nodes whose role changed.
        """
        async with self._lock:
            before = self.config
            after = make(before, time.time())
            await asyncio.to_thread(self.store.save_config, after)
            self.config = after
            log.info("cluster_changed", why=why, serial_no=after.serial_no)
            touched = _reassigned(before, after)
            try:
                await self._carry(before, after, touched, why)
            except Unavailable as error:
                self._note_bus_failure("carrying a change", error)
            self._progressed()
            return self.goal_now(serials={node.name: node.serial_no for node in touched})

    async def refresh(self, paths: frozenset[ManagedPath] | None, why: str) -> None:
        """Read sources again (all, or these), and publish what changed as one generation."""
        async with self._lock:
            try:
                await self._refresh(paths, why)
            except Unavailable as error:
                self._note_bus_failure("publishing", error)

    def goal_now(self, *, serials: dict[str, int] | None = None, looks: str = "") -> Goal:
        """Return the goal that everything published now is on the nodes."""
        generations = {str(scope): manifest.generation for scope, manifest in self.manifests.items()}
        return Goal(epoch=self.config.cluster.epoch, generations=generations, serials=serials or {}, looks=looks)

    async def look_everywhere(self) -> Goal:
        """Read every source again and have every node that is not offline read its own disk again."""
        self._sources.forget()
        await self.refresh(None, "redist-conf")
        token = secrets.token_hex(8)
        self.fleet.note_look(token)
        for node in self.config.sorted_nodes():
            if not node.offline:
                await self._publisher.ring_node(self.config, node, look=token)
        return self.goal_now(looks=token)

    async def progress(self, timeout_s: float) -> None:
        """Return when something was published or a node reported, or when the time is over."""
        try:
            await asyncio.wait_for(self._progress.wait(), timeout_s)
        except TimeoutError:
            return

    def refuse(self, what: str, reason: str) -> None:
        """Count a message that was not understood, or not believed."""
        self.refusals = self.refusals.and_one_more(f"{what}: {reason}")
        log.warning("message_refused", subject=what, reason=reason)
        self._progressed()

    @property
    def broker_version(self) -> str:
        return self._bus.broker_version

    def files(self) -> tuple[AncillaryFile, ...]:
        """Return every managed file, the built-in ones included."""
        return managed_files(self.config, self._config_data)

    async def _take_in(self, event: MasterEvent) -> None:
        match event:
            case Connected():
                log.info("connected", broker=self._bus.broker_version)
                self._reconnected.set()
                self._restore_due.set()
            case Disconnected(reason):
                log.warning("disconnected", reason=reason or "the server closed the connection")
            case Garbled(subject, reason):
                self.refuse(subject, reason)
            case StatusHeard(node, status):
                if any(member.name == node for member in self.config.nodes.values()):
                    if self.fleet.hear(status, time.monotonic()):
                        self._progressed()
                else:
                    self.refuse(f"status of {node}", "not a node of this cluster")
            case NodeLeft(public_key):
                for member in self.config.nodes.values():
                    if member.public_key == public_key:
                        log.info("node_left", node=member.name)
                        self.fleet.leave(member.name)
                        self._progressed()
            case BlobAsked():
                await self._answer_blob(event)
            case _:
                assert_never(event)

    async def _carry(self, before: ClusterConfig, after: ClusterConfig, touched: list[Node], why: str) -> None:
        """The order matters: a demoted node is shut out before anything new is published, a promoted one let in."""
        gone = [scope for scope in before.scopes() if scope not in after.scopes()]
        for scope in gone:
            self.manifests.pop(scope, None)  # before anything that can fail: `restore` would publish it for ever
        if set(after.scopes()) - set(before.scopes()):
            await self._publisher.open_scopes(after.scopes())
        await self._publisher.let_in(after)
        await self._refresh(None if before.cluster != after.cluster else frozenset({self._config_data}), why)
        await self._publisher.assign(after, touched)
        for uuid in before.nodes.keys() - after.nodes.keys():
            self.fleet.forget(before.nodes[uuid].name)
            await self._publisher.unassign(before.nodes[uuid].name)
        for scope in gone:
            await self._publisher.drop_scope(scope)

    async def _refresh(self, paths: frozenset[ManagedPath] | None, why: str) -> None:
        files = self.files()
        await self._sources.read([file.path for file in files], paths)
        generation = max(self.store.generation, self._generation_floor) + 1
        publication = plan(self.config, files, self._sources.seen, self.manifests, generation=generation)
        self._note_problems(publication.problems)
        if publication.manifests:
            await self._issue(publication, why)

    async def _issue(self, publication: Publication, why: str) -> None:
        """Make a generation durable, then public."""
        before = dict(self.manifests)
        entry = Generation(
            generation=publication.generation,
            time=time.time(),
            why=why,
            manifests=publication.manifests,
        )
        await asyncio.to_thread(self.store.add_generation, entry)
        self.manifests |= {manifest.scope: manifest for manifest in publication.manifests}
        scopes = [manifest.scope for manifest in publication.manifests]
        facts = {"generation": publication.generation, "scopes": scopes, "changed": len(publication.events)}
        log.info("generation_made", **facts, why=why)
        self._progressed()
        await self._publisher.publish(publication, before)

    def _note_problems(self, problems: tuple[FileError, ...]) -> None:
        if problems == self.problems:
            return
        for problem in problems:
            if problem not in self.problems:
                log.warning("source_problem", path=problem.path, reason=problem.reason)
        self.problems = problems
        self._progressed()

    def _note_bus_failure(self, doing: str, error: Unavailable) -> None:
        log.warning("bus_failed", doing=doing, reason=str(error))
        self._restore_due.set()

    async def _restore_when_due(self) -> None:
        """After a connect, a failure or a finding of the patrol: until the bus says what the disk says."""
        failures = 0
        while True:
            await self._restore_due.wait()
            self._restore_due.clear()
            if await self._restore_now(afresh=failures > 1):
                failures = 0
                continue
            self._reconnected.clear()
            with contextlib.suppress(TimeoutError):
                pause_s = RESTORE_PAUSE_S[min(failures, len(RESTORE_PAUSE_S) - 1)]
                await asyncio.wait_for(self._reconnected.wait(), pause_s)
            failures = 0 if self._reconnected.is_set() else failures + 1
            self._restore_due.set()

    async def _restore_now(self, *, afresh: bool) -> bool:
        try:
            async with self._lock:
                await self._restore(afresh=afresh)
        except Unavailable as error:
            log.warning("restore_failed", reason=str(error))
            return False
        return True

    async def _restore(self, *, afresh: bool) -> None:
        generation, serial = await self._publisher.restore(self.config, self.manifests, afresh=afresh)
        for heard in await self._bus.statuses():
            self.fleet.recall(heard.status)
        if generation:
            log.warning("bus_was_ahead", generation=generation, ours=self.store.generation)
            self._generation_floor = generation
            await self._reissue()
        if serial:
            log.warning("assignments_were_ahead", serial=serial)
            await self._renumber(serial)
        self._progressed()

    async def _reissue(self) -> None:
        """Publish what the disk says under a generation beyond the one found on the bus."""
        generation = max(self.store.generation, self._generation_floor) + 1
        manifests = tuple(replace(manifest, generation=generation) for manifest in self.manifests.values())
        await self._issue(Publication(generation, manifests, (), self.problems), "the bus was ahead of the disk")
        self._restore_due.set()

    async def _renumber(self, serial: int) -> None:
        """Go beyond the assignments found on the bus: this disk is an older one."""
        nodes = {uuid: replace(node, serial_no=serial + 1) for uuid, node in self.config.nodes.items()}
        self.config = with_nodes(self.config, nodes, time.time())
        await asyncio.to_thread(self.store.save_config, self.config)
        self._restore_due.set()

    async def _answer_blob(self, asked: BlobAsked) -> None:
        node, wanted = asked.node, asked.wanted
        members = [member for member in self.config.nodes.values() if member.name == node]
        if not members or wanted.scope not in self.config.scopes_of(members[0]):
            return self.refuse(f"blob asked by {node}", f"is not in scope {wanted.scope}")
        if time.monotonic() - self._blobs_answered_s.get((wanted.scope, wanted.digest), 0.0) < BLOB_ANSWER_PAUSE_S:
            return None
        log.info("blob_asked", node=node, scope=wanted.scope, digest=wanted.digest[:12])
        async with self._lock:
            try:
                if not await asyncio.to_thread(self.store.is_intact, wanted.digest):
                    await self._read_lost_content(wanted.digest)
                if wanted.scope in self.manifests:
                    await self._publisher.restore_blob(self.manifests[wanted.scope], wanted.digest)
            except Unavailable as error:
                self._note_bus_failure("storing a blob again", error)
        self._blobs_answered_s = {(wanted.scope, wanted.digest): time.monotonic()}
        return None

    async def _read_lost_content(self, digest: Digest) -> None:
        """The store has lost or damaged a content: its source may still have it."""
        log.warning("content_damaged", digest=digest[:12])
        self.store.blob_path(digest).unlink(missing_ok=True)
        await self._refresh(self._sources.forget(digest), "a stored content was damaged")

    async def _beat(self) -> None:
        silence_checked_s = time.monotonic()
        while True:
            await asyncio.sleep(self.settings.beat_interval_s)
            now_s = time.monotonic()
            if self.fleet.turned_silent(silence_checked_s, now_s):
                self._progressed()
            silence_checked_s = now_s
            try:
                for manifest in list(self.manifests.values()):
                    await self._publisher.ring(manifest, is_beat=True)
            except Unavailable:
                continue  # the connection says so itself

    async def _patrol(self) -> None:
        """What nobody reports: a bus that lost or changed something, nodes that missed their role, old generations."""
        while True:
            await asyncio.sleep(self.settings.patrol_interval_s * random.uniform(1.0, 1.1))
            async with self._lock:
                try:
                    if not await self._publisher.patrol(self.config, self.manifests):
                        log.warning("bus_differs")
                        self._restore_due.set()
                    behind = [node for node in self.config.nodes.values() if self._missed_its_role(node)]
                    await self._publisher.assign(self.config, behind)
                    await self._ring_for_looks()
                except Unavailable as error:
                    self._note_bus_failure("patrol", error)
                await self._collect()

    async def _ring_for_looks(self) -> None:
        """A node that has missed the bell for a look hears it again; one that is looking goes on."""
        for node in self.config.sorted_nodes():
            look = self.fleet.look_owed(node.name)
            if look and not node.offline and self.fleet.is_online(node.name, time.monotonic()):
                await self._publisher.ring_node(self.config, node, look=look)

    async def _collect(self) -> None:
        """Let old generations go, once per new one; what the disk does not let go is tried again with the next."""
        if self._collected == self.store.generation:
            return
        self._collected = self.store.generation
        try:
            await asyncio.to_thread(self.store.collect, self.settings.history_generations, self.config.scopes())
        except Unavailable as error:
            log.warning("collect_failed", reason=str(error))

    def _missed_its_role(self, node: Node) -> bool:
        status = self.fleet.status(node.name)
        is_online = self.fleet.is_online(node.name, time.monotonic())
        return is_online and status is not None and status.serial < node.serial_no

    def _progressed(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()
        self._bell_due.set()

    async def _ring_operators(self) -> None:
        """Tell operators who watch, at most ten times a second."""
        while True:
            await self._bell_due.wait()
            self._bell_due.clear()
            with contextlib.suppress(Unavailable):  # nobody watches through a bus that is not there
                await self._bus.ring_cluster()
            await asyncio.sleep(0.1)


def _reassigned(before: ClusterConfig, after: ClusterConfig) -> list[Node]:
    """Return the nodes of `after` whose assignment is not the one they had."""
    return [
        node
        for uuid, node in after.nodes.items()
        if uuid not in before.nodes or assignment_of(before, before.nodes[uuid]) != assignment_of(after, node)
    ]
