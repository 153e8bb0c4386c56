"""The master's part in OS jobs: takes them, posts boards, takes note of how they end. Nothing here runs anything.

Level-triggered like the rest: a record is durable before it is on a board; a board says all that a node should know;
what a node says is noted until it says the same again. Output is collected by `job_output`.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Final

import structlog

from master.core import job_queue
from master.core.cluster import Node
from master.core.fleet import Fleet
from master.core.job_queue import JobRecord
from master.desired import Desired
from master.job_output import JobOutput
from master.job_store import JobStore
from master.progress import Progress
from protocol import codec
from protocol.bus import JobsHeard, MasterBus
from protocol.errors import DecodeError, Refused, Unavailable
from protocol.job_messages import JobBoard, JobReport
from protocol.names import NodeName
from protocol.operator_job_messages import JobInfo, JobNews
from protocol.os_messages import OsJob
from protocol.os_names import JobId

UPKEEP_S: Final = 2.0
REPOST_S: Final = 0.5
REPORTS_WAITING_MAX: Final = 10_000
NO_SUCH_NODE: Final = "its node was removed from the cluster, so nobody will say how it ended"

log = structlog.get_logger()


class Jobs:
    """All jobs of the cluster. One change at a time, under the lock: decided, durable, posted."""

    def __init__(
        self,
        store: JobStore,
        desired: Desired,
        *,
        fleet: Fleet,
        progress: Progress,
        kept_max: int,
        output_bytes_max: int,
        patrol_interval_s: float,
    ) -> None:
        self.records = store.open()
        self._store = store
        self._desired = desired
        self._fleet = fleet
        self._progress = progress
        self._kept_max = kept_max
        self._patrol_interval_s = patrol_interval_s
        self._serial = job_queue.last_serial(self.records)
        self._output = JobOutput(store, bytes_max=output_bytes_max)
        self._revisions: dict[JobId, int] = {}
        self._changed: dict[JobId, asyncio.Event] = {}
        self._posted: dict[NodeName, JobBoard] = {}
        self._acted_on: dict[NodeName, tuple[int, int]] = {}
        self._lock = asyncio.Lock()
        self._due: set[NodeName] = set()
        self._is_due = asyncio.Event()
        self._heard: asyncio.Queue[JobsHeard] = asyncio.Queue(REPORTS_WAITING_MAX)
        self._bus: MasterBus

    async def run(self, bus: MasterBus) -> None:
        """Keep boards and records right, until cancelled."""
        self._bus = bus
        self.look_again()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._post_when_due())
            tasks.create_task(self._take_reports())
            tasks.create_task(self._keep_up())
            tasks.create_task(self._patrol())
            tasks.create_task(self._output.run(bus, self._output_came))
            for record in self.records.values():
                self._output.want(record)

    def look_again(self) -> None:
        """The bus may have lost or changed any board."""
        self._posted.clear()
        self._post({node.name for node in self._desired.config.nodes.values()})

    def hear(self, heard: JobsHeard) -> None:
        """Take what a node says. What does not fit any more is dropped: nodes repeat what they say."""
        if not self._heard.full():
            self._heard.put_nowait(heard)

    async def submit(self, job: OsJob, *, waits_for_node: bool = True) -> JobInfo:
        """Take a job; when this returns it is durable here. The same id and request again is the same job.

        Refused if the node cannot be given jobs, or is not online and the requester does not want to wait for it.
        """
        async with self._lock:
            self._require_node(job, waits_for_node=waits_for_node)
            size = len(codec.encode(job))
            record = job_queue.add(self.records, job, size_bytes=size, serial=self._serial + 1)
            if self.records.get(job.id) != record:
                await self._record([record])
                log.info("job_taken", job=job.id, node=job.node, action=job.action, os=job.full_os)
        return self.info(record.job.id)

    async def cancel(self, job: str) -> JobInfo:
        """Ask for the end of a job. What its node answers is in its record later."""
        async with self._lock:
            before = job_queue.known(self.records, job)
            record = job_queue.cancel(self.records, before.job.id, serial=self._serial + 1)
            if record != before:
                await self._record([record])
                log.info("job_cancel_asked", job=job, node=record.job.node)
        return self.info(record.job.id)

    async def sign_again(self) -> None:
        """Post every board once more, as it is, because the key to sign with is another one."""
        for node in self._desired.config.sorted_nodes():
            if found := await self._on_bus(node.name):
                await self._bus.post_board(self._posted.get(node.name, found))

    def info(self, job: str) -> JobInfo:
        """Return one job; Refused if there is none of that id."""
        record = job_queue.known(self.records, job)
        state = record.state
        return JobInfo(
            id=record.job.id,
            node=record.job.node,
            instance=record.job.instance.name if record.job.instance else "",
            action=record.job.action,
            os=record.job.full_os,
            status=state.status,
            exit_code=state.exit_code,
            requested=record.job.requested,
            started=state.started,
            ended=state.ended,
            reason=state.reason or self._why_waiting(record),
            progress=state.progress,
            is_cancelled=record.is_cancelled,
            log_end=state.log_end,
            script=state.script,
        )

    def infos(self, records: Iterable[JobRecord]) -> tuple[JobInfo, ...]:
        return tuple(self.info(record.job.id) for record in sorted(records, key=lambda record: record.number))

    async def follow(self, job: str, *, offset: int, revision: int, patience_s: float) -> JobNews:
        """Return what is new of a job, as soon as something is, or when patience ends."""
        record = job_queue.known(self.records, job)
        deadline_s = time.monotonic() + patience_s
        while True:
            changed = self._changed.setdefault(record.job.id, asyncio.Event())
            part = await self._output.read(self.records.get(record.job.id, record), offset)
            info, now = self.info(job), self._revisions.get(record.job.id, 0)
            left_s = deadline_s - time.monotonic()
            if part or now != revision or left_s <= 0:
                end = part.end if part else offset
                more = self._output.has_more(self.records.get(record.job.id, record), end)
                text = part.text if part else b""
                return JobNews(job=info, revision=now, text=text, offset=end, has_more=more)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await changed.wait()

    def _require_node(self, job: OsJob, *, waits_for_node: bool) -> None:
        node = self._desired.config.node(job.node)
        if not node.vm_capable:
            raise Refused(f"node {node.name} is not vm-capable: it runs no OS scripts")
        if (reason := self._why_not_now(node)) and not waits_for_node and job.id not in self.records:
            raise Refused(f"node {node.name} {reason}; without --no-wait the job would wait for it")

    def _why_not_now(self, node: Node) -> str:
        if node.offline:
            return "is marked offline"
        return "" if self._fleet.is_online(node.name, time.monotonic()) else "is not online"

    def _why_waiting(self, record: JobRecord) -> str:
        if not record.is_active:
            return ""
        nodes = [node for node in self._desired.config.nodes.values() if node.name == record.job.node]
        reason = self._why_not_now(nodes[0]) if nodes else ""
        return f"node {record.job.node} {reason}" if reason else ""

    async def _record(self, changed: Iterable[JobRecord]) -> None:
        """Make records durable, then known, then have them posted. The caller holds the lock."""
        for record in changed:
            before = self.records.get(record.job.id)
            if before is None or _is_worth_a_write(before, record):
                await asyncio.to_thread(self._store.save, record)
            self.records[record.job.id] = record
            self._serial = max(self._serial, record.serial)
            self._tell(record.job.id)
            if before is None or record.serial != before.serial:
                self._post({record.job.node})

    def _tell(self, job: JobId) -> None:
        self._revisions[job] = self._revisions.get(job, 0) + 1
        self._changed.pop(job, asyncio.Event()).set()
        self._progress.note()

    def _output_came(self, job: JobId) -> None:
        self._changed.pop(job, asyncio.Event()).set()

    def _post(self, nodes: set[NodeName]) -> None:
        self._due |= nodes
        self._is_due.set()

    async def _post_when_due(self) -> None:
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            due, self._due = self._due, set()
            for name in sorted(due):
                try:
                    await self._post_board(name)
                except Unavailable as error:
                    log.warning("board_not_posted", node=name, reason=str(error))
                    self._due.add(name)
            if self._due:
                await asyncio.sleep(REPOST_S)
                self._is_due.set()

    async def _post_board(self, name: NodeName) -> None:
        """Post what is new, and ring. What the bus has is asked once, after a start or when it may have lost it."""
        members = [node for node in self._desired.config.nodes.values() if node.name == name]
        if not members:
            return
        epoch = self._desired.config.cluster.epoch
        board = job_queue.board(self.records, name, epoch=epoch, serial=self._serial)
        if name not in self._posted:
            found = await self._on_bus(name)
            if found and found.version > board.version:
                self._serial = max(self._serial, found.serial) + 1
                board = job_queue.board(self.records, name, epoch=epoch, serial=self._serial)
            elif found and (found.orders, found.epoch) == (board.orders, epoch):
                self._posted[name] = found
        posted = self._posted.get(name)
        if posted and posted.orders == board.orders and posted.epoch == epoch:
            return
        await self._bus.post_board(board)
        self._posted[name] = board
        await self._desired.publisher.ring_node(self._desired.config, members[0])

    async def _on_bus(self, name: NodeName) -> JobBoard | None:
        try:
            return await self._bus.board(name)
        except DecodeError as error:
            log.warning("board_not_understood", node=name, reason=str(error))
            return None

    async def _take_reports(self) -> None:
        while True:
            heard = await self._heard.get()
            async with self._lock:
                try:
                    await self._take(heard.node, heard.report)
                except Unavailable as error:
                    log.warning("job_report_not_noted", node=heard.node, reason=str(error))

    async def _take(self, node: NodeName, report: JobReport) -> None:
        self._acted_on[node] = report.version
        if report.epoch == self._desired.config.cluster.epoch and report.serial > self._serial:
            log.warning("board_was_ahead", node=node, serial=report.serial)
            self._serial = report.serial + 1
            self.look_again()
        changed = job_queue.take(self.records, node, report.states, serial=self._serial + 1)
        for record in changed:
            self._output.want(record)  # first: who follows the job is told of its end, and of what is still to come
        await self._record(changed)
        for record in changed:
            if not record.is_active:
                facts = {"status": record.state.status, "exit_code": record.state.exit_code}
                log.info("job_ended", job=record.job.id, node=node, **facts, reason=record.state.reason)

    async def _keep_up(self) -> None:
        """Ring for boards that were not looked at, give up on nodes that are gone, let old jobs go."""
        while True:
            await asyncio.sleep(UPKEEP_S)
            async with self._lock:
                try:
                    await self._let_go()
                    await self._ring_again()
                except Unavailable as error:
                    log.warning("jobs_not_kept_up", reason=str(error))

    async def _patrol(self) -> None:
        """The bus may lose a board without a word; where jobs are open it is asked what it has."""
        while True:
            await asyncio.sleep(self._patrol_interval_s)
            doubted = {name for name, board in self._posted.items() if board.orders}
            for name in doubted:
                del self._posted[name]
            self._post(doubted)

    async def _let_go(self) -> None:
        members = {node.name for node in self._desired.config.nodes.values()}
        gone = {record.job.node for record in self.records.values() if record.is_active} - members
        for name in gone:
            serial, now = self._serial + 1, time.time()
            await self._record(job_queue.give_up(self.records, name, reason=NO_SUCH_NODE, serial=serial, now=now))
        noted = {job for instance in self._desired.config.instances.values() for job in instance.noted_jobs}
        for job in job_queue.surplus(self.records, kept_max=self._kept_max, noted=noted):
            await asyncio.to_thread(self._store.drop, job)
            for known in (self.records, self._revisions, self._changed):
                known.pop(job, None)

    async def _ring_again(self) -> None:
        """A bell may be lost; whoever acts on a board with jobs on it says so."""
        config, now_s = self._desired.config, time.monotonic()
        for node in config.sorted_nodes():
            board = self._posted.get(node.name)
            if board is None or not board.orders or not self._fleet.is_online(node.name, now_s):
                continue
            if self._acted_on.get(node.name, (0, 0)) < board.version:
                await self._desired.publisher.ring_node(config, node)


def _is_worth_a_write(before: JobRecord, after: JobRecord) -> bool:
    """Progress and output grow all the time, and the node says them again."""
    return before.serial != after.serial or before.state.status != after.state.status
