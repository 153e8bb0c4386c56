"""Keeps the bus saying what the disk says, whatever happens to either: restores, patrols, beats, answers lost blobs."""

import asyncio
import contextlib
import random
import time

import structlog

from master.core.cluster import Node
from master.core.fleet import Fleet
from master.desired import Desired
from master.progress import Progress
from master.settings import MasterSettings
from protocol.bus import BlobAsked, MasterBus
from protocol.errors import Deposed, Refused, Unavailable
from protocol.messages import BlobWanted
from protocol.names import Digest, ScopeName
from protocol.readiness import Pulse

RESTORE_PAUSE_S = (0.5, 1.0, 2.0, 5.0, 10.0)
BLOB_ANSWER_PAUSE_S = 1.0
"""Many nodes miss a blob at the same moment; it is stored again once."""

log = structlog.get_logger()


class Upkeep:
    """Works on `desired` alone; whoever finds that the bus may be wrong sets its `restore_due`."""

    def __init__(
        self,
        settings: MasterSettings,
        desired: Desired,
        bus: MasterBus,
        *,
        fleet: Fleet,
        progress: Progress,
        pulse: Pulse,
    ) -> None:
        self._settings = settings
        self._desired = desired
        self._bus = bus
        self._fleet = fleet
        self._progress = progress
        self._pulse = pulse
        self._reconnected = asyncio.Event()
        self._collected = 0
        self._blobs_answered_s: dict[tuple[ScopeName, Digest], float] = {}

    async def begin(self) -> None:
        """Bring the bus up to date once, before anything else; if it cannot be had now, `run` goes on trying."""
        if not await self._restore_now(afresh=False):
            self._desired.restore_due.set()

    async def run(self) -> None:
        """Keep everything up, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._restore_when_due())
            tasks.create_task(self._beat())
            tasks.create_task(self._patrol())

    def note_connected(self) -> None:
        self._reconnected.set()
        self._desired.restore_due.set()

    async def answer_blob(self, asked: BlobAsked) -> None:
        """Store a content again that a node could not get. The caller has made sure that it may have it."""
        wanted = asked.wanted
        if time.monotonic() - self._blobs_answered_s.get((wanted.scope, wanted.digest), 0.0) < BLOB_ANSWER_PAUSE_S:
            return
        log.info("blob_asked", node=asked.node, scope=wanted.scope, digest=wanted.digest[:12])
        async with self._desired.lock:
            try:
                await self._store_again(wanted)
            except Unavailable as error:
                self._desired.note_bus_failure("storing a blob again", error)
        self._blobs_answered_s = {(wanted.scope, wanted.digest): time.monotonic()}

    async def _store_again(self, wanted: BlobWanted) -> None:
        desired = self._desired
        if wanted.scope not in desired.manifests:
            return
        for entry in desired.publisher.entries_named(desired.manifests[wanted.scope], wanted.digest)[:1]:
            if not await asyncio.to_thread(desired.store.is_intact, entry.digest):
                await desired.read_lost_content(entry.digest)
        await desired.publisher.restore_blob(desired.manifests[wanted.scope], wanted.digest)

    async def _restore_when_due(self) -> None:
        """After a connect, a failure or a finding of the patrol: until the bus says what the disk says."""
        failures = 0
        while True:
            await self._desired.restore_due.wait()
            self._desired.restore_due.clear()
            if await self._restore_now(afresh=failures > 1):
                failures = 0
                continue
            self._reconnected.clear()
            with contextlib.suppress(TimeoutError):
                pause_s = RESTORE_PAUSE_S[min(failures, len(RESTORE_PAUSE_S) - 1)]
                async with asyncio.timeout(pause_s):
                    await self._reconnected.wait()
            failures = 0 if self._reconnected.is_set() else failures + 1
            self._desired.restore_due.set()

    async def _restore_now(self, *, afresh: bool) -> bool:
        try:
            async with self._desired.lock:
                await self._restore(afresh=afresh)
        except Deposed:
            raise
        except (Refused, Unavailable) as error:
            log.warning("restore_failed", reason=str(error))
            return False
        return True

    async def _restore(self, *, afresh: bool) -> None:
        await self._desired.restore(afresh=afresh)
        for heard in await self._bus.statuses():
            self._fleet.recall(heard.status)
        self._progress.note()

    async def _beat(self) -> None:
        silence_checked_s = time.monotonic()
        while True:
            await asyncio.sleep(self._settings.beat_interval_s)
            self._pulse.beat()
            now_s = time.monotonic()
            if self._fleet.turned_silent(silence_checked_s, now_s):
                self._progress.note()
            silence_checked_s = now_s
            try:
                for manifest in list(self._desired.manifests.values()):
                    await self._desired.publisher.ring(manifest, is_beat=True)
            except Unavailable:
                continue  # the connection says so itself

    async def _patrol(self) -> None:
        """What nobody reports: a bus that lost or changed something, nodes that missed their role, old generations."""
        while True:
            await asyncio.sleep(self._settings.patrol_interval_s * random.uniform(1.0, 1.1))
            async with self._desired.lock:
                try:
                    if not await self._desired.publisher.patrol(self._desired.config, self._desired.manifests):
                        log.warning("bus_differs")
                        self._desired.restore_due.set()
                    behind = [node for node in self._desired.config.nodes.values() if self._missed_its_role(node)]
                    await self._desired.publisher.assign(self._desired.config, behind)
                    await self._ring_for_looks()
                except Unavailable as error:
                    self._desired.note_bus_failure("patrol", error)
                await self._collect()

    async def _ring_for_looks(self) -> None:
        """A node that has missed the bell for a look hears it again; one that is looking goes on."""
        for node in self._desired.config.sorted_nodes():
            look = self._fleet.look_owed(node.name)
            if look and not node.offline and self._fleet.is_online(node.name, time.monotonic()):
                await self._desired.publisher.ring_node(self._desired.config, node, look=look)

    async def _collect(self) -> None:
        """Let old generations go, once per new one; what the disk does not let go is tried again with the next."""
        if self._collected == self._desired.store.generation:
            return
        self._collected = self._desired.store.generation
        try:
            await asyncio.to_thread(
                self._desired.store.collect, self._settings.history_generations, self._desired.config.scopes()
            )
        except Unavailable as error:
            log.warning("collect_failed", reason=str(error))

    def _missed_its_role(self, node: Node) -> bool:
        status = self._fleet.status(node.name)
        is_online = self._fleet.is_online(node.name, time.monotonic())
        return is_online and status is not None and status.serial < node.serial_no
