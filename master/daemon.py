"""The master's loop: what comes from the bus is taken in here, and everything that runs is started here.

The parts: `desired` (what should be true, one change at a time), `upkeep` (the bus says what the disk says), `fleet`
(what the nodes have said), `verifier` (what is really on their disks), `progress` (whoever waits is told). Operators
are answered by `api`.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from typing import assert_never

import structlog

from master.core.cluster import ClusterConfig, Node
from master.core.fleet import Fleet
from master.crypto_renewal import CryptoRenewal
from master.desired import Desired
from master.file_hooks import FileHooks
from master.ganeti_watch import GanetiWatch
from master.installs import Installs
from master.job_store import JobStore
from master.jobs import Jobs
from master.managed_files import ManagedFiles
from master.os_reports import OsReports
from master.outcome import Outcome
from master.progress import Progress
from master.publisher import Publisher
from master.settings import MasterSettings
from master.store import Store
from master.upkeep import Upkeep
from master.verifier import Verifier
from protocol.bus import (
    BlobAsked,
    Connected,
    Disconnected,
    Garbled,
    JobsHeard,
    MasterBus,
    MasterEvent,
    NodeLeft,
    StatusHeard,
)
from protocol.change_messages import ChangeRequest
from protocol.errors import Deposed
from protocol.messages import Refusals
from protocol.names import NodeName
from protocol.operator_messages import NodeInfo
from protocol.readiness import PULSE_PATIENCE_S, Pulse

EVENTS_WAITING_MAX = 100_000
FIRST_REPORTS_S = 0.5
HOOKS_PATIENCE_S = 3.0
"""Longer than that no command waits for the file hooks; what they say later travels then."""

log = structlog.get_logger()


class MasterDaemon:
    """One master. `hear` is what the bus is given; `run` ends only by cancellation or by a fault of ours."""

    def __init__(self, settings: MasterSettings, config: ClusterConfig, store: Store, managed: ManagedFiles) -> None:
        self.settings = settings
        self.progress = Progress()
        self.fleet = Fleet(silent_after_s=settings.silent_after_s)
        self.desired = Desired(settings, config, store, managed, fleet=self.fleet, progress=self.progress)
        self.verifier = Verifier(self.desired, fleet=self.fleet, progress=self.progress)
        self.os_reports = OsReports(self.progress)
        self.jobs = Jobs(
            JobStore(settings.state_dir / "jobs"),
            self.desired,
            fleet=self.fleet,
            progress=self.progress,
            kept_max=settings.job_history,
            output_bytes_max=settings.job_output_bytes_max,
            patrol_interval_s=settings.patrol_interval_s,
        )
        self.installs = Installs(self.desired, self.jobs, self.progress)
        self.file_hooks = FileHooks(settings, self.desired)
        self.crypto = CryptoRenewal(settings, self.desired, self.jobs, fleet=self.fleet, progress=self.progress)
        self.refusals = Refusals()
        self._members: tuple[ClusterConfig, dict[NodeName, Node]] = (config, {n.name: n for n in config.nodes.values()})
        self.pulse = Pulse("the master's beat", patience_s=PULSE_PATIENCE_S + 2 * settings.beat_interval_s)
        self._events: asyncio.Queue[MasterEvent] = asyncio.Queue(EVENTS_WAITING_MAX)
        self._bus: MasterBus
        self._upkeep: Upkeep

    def hear(self, event: MasterEvent) -> None:
        """Take an event from the bus. What does not fit any more is dropped: nodes repeat what they say."""
        if not self._events.full():
            self._events.put_nowait(event)

    async def run(self, bus: MasterBus, serve: Callable[[], Awaitable[None]]) -> None:
        """Bring the bus up to date, `serve`, then watch, plan, publish and listen until cancelled, or until Deposed."""
        self._bus = bus
        desired = self.desired
        nodes_file = self.settings.broker_nodes_file
        desired.publisher = Publisher(bus, desired.store, desired.vault, nodes_file, refuse=self.refuse)
        upkeep = Upkeep(self.settings, desired, bus, fleet=self.fleet, progress=self.progress, pulse=self.pulse)
        self._upkeep = upkeep
        while not self._events.empty():
            self._events.get_nowait()
        await self._upkeep.begin()
        await desired.refresh(None, self._why_started())
        deposed: BaseException | None = None
        try:
            await self._work(bus, serve)
        except* Deposed as several:
            deposed = several
        while isinstance(deposed, BaseExceptionGroup):
            deposed = deposed.exceptions[0]
        if deposed:
            raise deposed

    def _why_started(self) -> str:
        cluster = self.desired.config.cluster
        if self.desired.store.generation or cluster.epoch == 1:
            return "the master started"
        return f"cluster master-failover: {self.desired.config.master.name} is the master of epoch {cluster.epoch}"

    async def _work(self, bus: MasterBus, serve: Callable[[], Awaitable[None]]) -> None:
        desired = self.desired
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(desired.watch())
            tasks.create_task(GanetiWatch(self.settings, desired).run())
            tasks.create_task(self.file_hooks.run())
            tasks.create_task(self._upkeep.run())
            tasks.create_task(self.verifier.work(bus))
            tasks.create_task(self.os_reports.run(bus))
            tasks.create_task(self.jobs.run(bus))
            tasks.create_task(self.installs.run())
            tasks.create_task(self.crypto.run(bus))
            tasks.create_task(self.progress.ring(bus.ring_cluster))
            tasks.create_task(self._serve(serve))
            while True:
                await self._take_in(await self._events.get())

    async def look_everywhere(self, request: ChangeRequest) -> Outcome:
        """Ask the file hooks, read every source again, and have every node not offline read its own disk again."""
        if not request.dry_run:
            await self.file_hooks.ask(patience_s=HOOKS_PATIENCE_S)
        outcome = await self.desired.read_everything(request, why="cluster redist-conf")
        if request.dry_run:
            return outcome
        token = secrets.token_hex(8)
        self.fleet.note_look(token)
        config = self.desired.config
        for node in config.sorted_nodes():
            if not node.offline:
                await self.desired.publisher.ring_node(config, node, look=token)
        return replace(outcome, goal=self.desired.goal_now(looks=token))

    def refuse(self, what: str, reason: str) -> None:
        """Count a message that was not understood, or not believed."""
        self.refusals = self.refusals.and_one_more(f"{what}: {reason}")
        log.warning("message_refused", subject=what, reason=reason)
        self.progress.note()

    def node_infos(self, nodes: Iterable[Node]) -> Iterator[NodeInfo]:
        """Yield how these nodes are now."""
        desired, now_s = self.desired, time.monotonic()
        return (self.fleet.info(desired.config, node, desired.manifests, now_s) for node in nodes)

    @property
    def bus(self) -> MasterBus:
        """The bus, once `run` has been given it."""
        return self._bus

    @property
    def broker_version(self) -> str:
        return self._bus.broker_version

    async def _serve(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Let the nodes that were there before say how they are now, so that the first status does not deny them."""
        deadline_s = time.monotonic() + FIRST_REPORTS_S
        while (now_s := time.monotonic()) < deadline_s and self.fleet.is_expecting(now_s):
            await self.progress.wait(deadline_s - now_s)
        await serve()

    async def _take_in(self, event: MasterEvent) -> None:
        match event:
            case Connected():
                log.info("connected", broker=self._bus.broker_version)
                self._upkeep.note_connected()
                self.jobs.look_again()
            case Disconnected(reason):
                log.warning("disconnected", reason=reason or "the server closed the connection")
            case Garbled(subject, reason):
                self.refuse(subject, reason)
            case StatusHeard():
                self._take_status(event)
            case NodeLeft(public_key):
                self._take_leave(public_key)
            case BlobAsked(node, wanted):
                member = self._member(node)
                if member and wanted.scope in self.desired.config.scopes_of(member):
                    await self._upkeep.answer_blob(event)
                else:
                    self.refuse(f"blob asked by {node}", f"is not in scope {wanted.scope}")
            case JobsHeard(node):
                if self._member(node):
                    self.jobs.hear(event)
                else:
                    self.refuse(f"jobs of {node}", "not a node of this cluster")
            case _:
                assert_never(event)

    def _take_status(self, heard: StatusHeard) -> None:
        if self._member(heard.node) is None:
            self.refuse(f"status of {heard.node}", "not a node of this cluster")
            return
        self.os_reports.note(heard.status)
        if self.fleet.hear(heard.status, time.monotonic()):
            self.progress.note()

    def _take_leave(self, public_key: str) -> None:
        """A node that is taking up another key leaves with the one before; it has come with the other."""
        for member in self.desired.config.nodes.values():
            if member.public_key == public_key and not member.next_public_key:
                log.info("node_left", node=member.name)
                self.fleet.leave(member.name)
                self.progress.note()

    def _member(self, name: NodeName) -> Node | None:
        """Return a node of the cluster; every status asks, so they are looked up and not searched."""
        config = self.desired.config
        if self._members[0] is not config:
            self._members = config, {node.name: node for node in config.nodes.values()}
        return self._members[1].get(name)
