"""Collects the output of jobs from the nodes, within bounds: the beginning of a long one, and its end.

What a node has is asked for (`job-output`), never pushed: how much is kept is decided here, and what was lost on its
way is asked for again. Beyond what is kept, whoever follows a job that runs is answered by the node.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from master.core.job_queue import JobRecord
from master.job_store import JobStore
from protocol.bus import MasterBus
from protocol.errors import DecodeError, Unavailable
from protocol.job_messages import JobLogPart, JobLogWanted
from protocol.os_names import JobId

VERB: Final = "job-output"
"""What the master asks an agent for on mesh.rpc."""

TAIL_BYTES: Final = 64 * 1024
ASK_TIMEOUT_S: Final = 3.0
ASKING_MAX: Final = 8
TRIES: Final = 3
AGAIN_S: Final = 1.0

log = structlog.get_logger()


class JobOutput:
    """`want` says that a job may have more output; `read` is for who follows it."""

    def __init__(self, store: JobStore, *, bytes_max: int) -> None:
        self._store = store
        self._bytes_max = bytes_max
        self._wanted: asyncio.Queue[JobId] = asyncio.Queue()
        self._records: dict[JobId, JobRecord] = {}
        self._asking: set[JobId] = set()
        self._failures: dict[JobId, int] = {}
        self._bus: MasterBus

    def want(self, record: JobRecord) -> None:
        """Collect what a job has printed since, if it is to be kept."""
        job = record.job.id
        self._records[job] = record
        if self._next(record) is None:
            if not record.is_active:
                self._done(job)
        elif job not in self._asking:
            self._asking.add(job)
            self._wanted.put_nowait(job)

    async def run(self, bus: MasterBus, came: Callable[[JobId], None]) -> None:
        """Collect until cancelled; `came` is told of every job with new output."""
        self._bus = bus
        async with asyncio.TaskGroup() as tasks:
            for _ in range(ASKING_MAX):
                tasks.create_task(self._collect(came))

    async def read(self, record: JobRecord, offset: int) -> JobLogPart | None:
        """Return output beyond an offset: what is kept, else from the node if it goes on there."""
        kept = await asyncio.to_thread(self._store.output, record.job.id, offset)
        if kept or offset >= record.state.log_end or not self._is_beyond(record, offset):
            return kept
        try:
            part = await self._ask(record, offset)
        except (Unavailable, DecodeError):
            return None
        return part if part.end > offset else None

    def has_more(self, record: JobRecord, offset: int) -> bool:
        """True if whoever has read up to an offset should ask again."""
        return offset < self._store.output_end(record.job.id) or (
            record.job.id in self._asking and offset < record.state.log_end
        )

    async def _collect(self, came: Callable[[JobId], None]) -> None:
        while True:
            job = await self._wanted.get()
            try:
                while (offset := self._next(self._records[job])) is not None:
                    part = await self._ask(self._records[job], offset)
                    if part.end <= offset:
                        break
                    await asyncio.to_thread(self._store.add_output, part)
                    came(job)
            except (Unavailable, DecodeError) as error:
                log.warning("job_output_not_had", job=job, reason=str(error))
                self._failures[job] = self._failures.get(job, 0) + 1
                if self._failures[job] < TRIES:
                    asyncio.get_running_loop().call_later(AGAIN_S, self._wanted.put_nowait, job)
                    continue
            self._asking.discard(job)
            self._failures.pop(job, None)
            if not self._records[job].is_active:
                self._done(job)
            came(job)

    def _done(self, job: JobId) -> None:
        self._records.pop(job, None)
        self._failures.pop(job, None)

    async def _ask(self, record: JobRecord, offset: int) -> JobLogPart:
        wanted = JobLogWanted(id=record.job.id, offset=offset)
        part = await self._bus.ask_node(record.job.node, VERB, wanted, JobLogPart, timeout_s=ASK_TIMEOUT_S)
        if part.id != record.job.id:
            raise Unavailable(f"node {record.job.node} answered with output of job {part.id}")
        return part

    def _next(self, record: JobRecord) -> int | None:
        """Return from where on output is wanted now, None if none is: the beginning, and at the end the last part."""
        end = self._store.output_end(record.job.id)
        if end >= record.state.log_end:
            return None
        if not self._is_beyond(record, end):
            return end
        return max(end, record.state.log_end - TAIL_BYTES) if not record.is_active else None

    def _is_beyond(self, record: JobRecord, offset: int) -> bool:
        return offset >= self._bytes_max
