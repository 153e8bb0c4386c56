"""Keeps a node's jobs going: board and journal in, runners, reports and output out. It owns their clock.

Level-triggered: whatever wakes it (a node's bell, a runner's, a connection, a tick) it looks at everything, does what
`core/jobs` decides, and looks again until there is nothing to do.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, assert_never

import structlog

from node_agent import os_run, processes
from node_agent.core import jobs
from node_agent.core.jobs import Action, Entry, Phase
from node_agent.core.retries import Retries
from node_agent.core.run_plan import RunPlan, Verdict
from node_agent.journal import Journal
from protocol import durable
from protocol.bus import Handler
from protocol.errors import DecodeError, Refused, Unavailable
from protocol.job_messages import JobBoard, JobLogPart, JobLogWanted, JobReport
from protocol.os_messages import OsJob
from protocol.os_names import JobId
from protocol.readiness import Pulse

TICK_S: Final = 1.0
TURN_PAUSE_S: Final = 0.01
"""Between two looks, so that a script that prints all the time costs little."""
BURY_S: Final = 5.0
OUTPUT_BURST_BYTES: Final = 256 * 1024
OUTPUT_BYTES_PER_S: Final = 64 * 1024
"""What of a job's output is said aloud, for people who listen; the master asks for what it keeps."""

log = structlog.get_logger()


class JobBus(Protocol):
    """What is needed of the bus for jobs."""

    async def board(self) -> JobBoard | None: ...

    async def report_jobs(self, report: JobReport) -> None: ...

    async def say_output(self, job: JobId, text: bytes) -> None: ...


class Jobs(Protocol):
    """What the daemon needs for the jobs of its node."""

    def look(self) -> None:
        """The board may have changed."""

    def handlers(self) -> Mapping[str, tuple[type, Handler]]:
        """Return what the bus is to serve."""

    async def run(self, bus: JobBus) -> None:
        """Keep the jobs going until cancelled."""


class Starter(Protocol):
    """Starts runners (`runners`, `unit_runners`). Used from one task alone, in threads."""

    def warm_up(self) -> None:
        """Have a runner waiting, if one is to be kept."""

    def launch(self, plan: RunPlan) -> None:
        """Hand a job to a runner; Unavailable if there cannot be one."""

    def stop(self, job: JobId) -> None:
        """Ask whoever keeps the runner to end it, its cancellation having been noted."""

    @property
    def alive(self) -> frozenset[JobId]:
        """The jobs of which a runner that we started was alive when we last reaped."""

    def reap(self) -> set[JobId]:
        """Return the jobs of which the runner has ended since."""

    def dismiss(self) -> None:
        """Let the one that waits go; those at work stay."""


class JobKeeper:
    """The jobs of one node. `prepare` makes a plan of a job, or refuses it with the reason."""

    def __init__(
        self,
        journal: Journal,
        runners: Starter,
        prepare: Callable[[OsJob], RunPlan],
        *,
        limit: int,
        report_again_s: float = 4.0,
        retry_first_s: float = 1.0,
        retry_longest_s: float = 60.0,
    ) -> None:
        self._journal = journal
        self._runners = runners
        self._prepare = prepare
        self._limit = limit
        self.pulse = Pulse("the job keeper")
        self._report_again_s = report_again_s
        self._retries: Retries[JobId | None] = Retries(retry_first_s, retry_longest_s)
        self._wake = asyncio.Event()
        self._board: JobBoard | None = None
        self._is_board_due = False
        self._is_quiet = True
        self._said: JobReport | None = None
        self._said_s = float("-inf")
        self._aloud: dict[JobId, int] = {}
        self._is_first_look = True
        self._is_waiting = False
        self._bus: JobBus

    def look(self) -> None:
        """The board may have changed."""
        self._is_board_due = True
        self._wake.set()

    def handlers(self) -> Mapping[str, tuple[type, Handler]]:
        """Return what the bus is to serve."""
        return {"job-output": (JobLogWanted, self.output)}

    async def output(self, wanted: JobLogWanted) -> JobLogPart:
        """Answer the master, who asks for output."""
        return await asyncio.to_thread(self._journal.output, wanted.id, wanted.offset)

    async def run(self, bus: JobBus) -> None:
        """Keep the jobs going until cancelled; runners go on."""
        self._bus = bus
        await self._open_journal()
        directory = os.open(self._journal.directory, durable.DIRECTORY_FLAGS)
        bell = _hang_bell(directory)
        loop = asyncio.get_running_loop()
        loop.add_reader(bell, self._on_bell, bell)
        try:
            await asyncio.to_thread(self._runners.warm_up)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tick())
                self._wake.set()
                while True:
                    self._is_waiting = True
                    await self._wake.wait()
                    self._is_waiting = False
                    self._wake.clear()
                    await self._turn()
                    self.pulse.beat()
                    await asyncio.sleep(TURN_PAUSE_S)
        finally:
            loop.remove_reader(bell)
            bell.close()
            os.close(directory)
            self._runners.dismiss()

    async def _open_journal(self) -> None:
        """Without it nothing can be said of any job, so nothing else is done until the disk gives it."""
        while True:
            try:
                return await asyncio.to_thread(self._journal.open)
            except Unavailable as error:
                log.error("journal_not_read", reason=str(error))
            self.pulse.beat()
            await asyncio.sleep(TICK_S)

    def _on_bell(self, bell: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                bell.recv(1)
                self._wake.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self._is_waiting:
                self.pulse.beat()
            if not self._is_quiet:
                self._wake.set()

    async def _turn(self) -> None:
        try:
            await self._fetch_board()
            entries = await self._settle()
            await self._say_aloud(entries)
            await self._report(entries)
            await asyncio.to_thread(self._runners.warm_up)
            self._is_quiet = not entries and not self._is_board_due and not self._retries.reasons
        except Unavailable as error:
            log.warning("jobs_held_up", reason=str(error))
            self._is_quiet = False

    async def _fetch_board(self) -> None:
        if not self._is_board_due or self._retries.is_held(None, time.monotonic()):
            return None
        self._is_board_due = False
        try:
            board = await self._bus.board()
        except (Unavailable, DecodeError) as error:
            log.warning("board_not_fetched", reason=str(error))
            self._is_board_due = True
            return self._retries.fail(None, str(error), time.monotonic())
        self._retries.clear(None)
        if board and (self._board is None or board.version >= self._board.version):
            self._board = board
        return None

    async def _settle(self) -> list[Entry]:
        """Do what is to be done until nothing is; return how the jobs are then."""
        while True:
            entries = await asyncio.to_thread(self._look_at_journal)
            now_s = time.monotonic()
            held = {job for job in self._retries.reasons if job and self._retries.is_held(job, now_s)}
            actions = jobs.decide(self._board, entries, self._journal.former.keys(), limit=self._limit, held=held)
            if not actions:
                return entries
            for action in actions:
                self.pulse.beat()
                job = jobs.job_of(action)
                try:
                    await self._perform(action)
                except Unavailable as error:
                    log.warning("job_held_up", job=job, reason=str(error))
                    self._retries.fail(job, str(error), time.monotonic())

    def _look_at_journal(self) -> list[Entry]:
        """A runner that we started and that is gone without a mark could not begin: it is tried again, not at once."""
        ended = self._runners.reap()
        entries = self._journal.entries(self._runners.alive)
        for entry in entries:
            if entry.phase is Phase.NOTED and entry.job.id in ended:
                self._retries.fail(entry.job.id, "its runner could not begin", time.monotonic())
        return entries

    async def _perform(self, action: Action) -> None:
        match action:
            case jobs.Note(job):
                await asyncio.to_thread(self._journal.note, job)
                self._retries.clear(job.id)
                log.info("job_noted", job=job.id, action=job.action, os=job.full_os)
            case jobs.Begin(job):
                await self._begin(job)
            case jobs.Cancel(job_id):
                await asyncio.to_thread(self._journal.cancel, job_id)
                await asyncio.to_thread(self._runners.stop, job_id)
                log.info("job_cancelled", job=job_id)
            case jobs.Drop(job_id, reason):
                await asyncio.to_thread(self._drop, job_id, "cancelled", reason)
            case jobs.Bury(job_id):
                await asyncio.to_thread(self._bury, job_id)
            case jobs.Forget(job_id):
                await asyncio.to_thread(self._journal.forget, job_id)
                self._aloud.pop(job_id, None)
                self._retries.clear(job_id)
            case _:
                assert_never(action)

    async def _begin(self, job: OsJob) -> None:
        try:
            plan = await asyncio.to_thread(self._prepare, job)
        except Refused as error:
            return await asyncio.to_thread(self._drop, job.id, "failed", str(error))
        await asyncio.to_thread(self._runners.launch, plan)
        log.info("job_handed_over", job=job.id)
        return None

    def _drop(self, job: JobId, status: Verdict, reason: str) -> None:
        """If it has begun after all, the next look sees it."""
        if self._journal.claim(job):
            self._journal.conclude(job, status, reason)
            log.info("job_dropped", job=job, status=status, reason=reason)

    def _bury(self, job: JobId) -> None:
        """Nobody owns these processes any more; a job that is called over must not go on."""
        mark = self._journal.mark(job)
        left: set[int] = set()
        if mark.pipe and mark.boot == processes.boot_id():
            deadline_s = time.monotonic() + BURY_S
            while left := processes.orphans(pipe=mark.pipe, cgroup=mark.cgroup, started=mark.ticks):
                processes.kill_cgroup(mark.cgroup)
                processes.send(left, signal.SIGKILL)
                if time.monotonic() > deadline_s:
                    break
            processes.drop_cgroup(mark.cgroup)
        reason = "the node or the job's runner was killed while it ran: what it did may be half done"
        if left:
            reason += f"; processes {', '.join(map(str, sorted(left)[:5]))} cannot be ended"
        self._journal.conclude(job, "interrupted", reason)
        log.error("job_interrupted", job=job, reason=reason)

    async def _say_aloud(self, entries: Sequence[Entry]) -> None:
        """Say what was printed since, to whoever listens: each job so much at once and so much in a second."""
        for entry in entries:
            job, now = entry.job.id, time.time()
            if job not in self._aloud:
                self._aloud[job] = 0 if entry.phase is Phase.NOTED or not self._is_first_look else entry.state.log_end
            until = (entry.state.ended or now) - (entry.state.started or now)
            allowed = OUTPUT_BURST_BYTES + int(OUTPUT_BYTES_PER_S * max(until, 0.0))
            while self._aloud[job] < min(entry.state.log_end, allowed):
                part = await asyncio.to_thread(self._journal.output, job, self._aloud[job])
                if part.end == self._aloud[job]:
                    break
                await self._bus.say_output(job, part.text)
                self._aloud[job] = part.end
        self._is_first_look = False

    async def _report(self, entries: Sequence[Entry]) -> None:
        """Tell the master what is new, and all of it again every few seconds as long as there is something to tell."""
        report = jobs.report(self._board, entries, tuple(self._journal.former.values()))
        now_s = time.monotonic()
        is_due = now_s - self._said_s >= self._report_again_s and not self._is_quiet
        if report and (report != self._said or is_due):
            await self._bus.report_jobs(report)
            self._said, self._said_s = report, now_s


def _hang_bell(directory: int) -> socket.socket:
    """Return the socket on which runners ring, in a directory that is ours alone."""
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os_run.BELL, dir_fd=directory)
    bell.bind(os_run.address(directory))
    return bell
