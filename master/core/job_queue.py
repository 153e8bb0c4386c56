"""The jobs that the master knows, and what each node's board should say of them. Pure.

A record changes in three ways: it is added, it is asked to end, its node says how it is. An end is final: whatever a
node says of it later changes nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from protocol.errors import Refused
from protocol.job_messages import JobBoard, JobOrder, JobState
from protocol.names import NodeName
from protocol.os_messages import OsJob
from protocol.os_names import JobId

BOARD_BYTES_MAX: Final = 768 * 1024
"""What does not fit any more waits on the master's disk; one message takes 1 MiB."""

WAITING_MAX: Final = 5000
"""Of all nodes together, so that a script that runs wild does not fill the master's disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job as the master keeps it. `number` is the order in which it came, `size_bytes` what it takes on a board."""

    number: int
    job: OsJob
    size_bytes: int
    state: JobState
    serial: int
    """Of the boards, when this last changed."""
    is_cancelled: bool = False

    @property
    def is_active(self) -> bool:
        return not self.state.has_ended

    def is_about(self, instance: str) -> bool:
        """True if this is, or was before a rename, the job's instance."""
        return instance == self.job.old_name or (self.job.instance is not None and instance == self.job.instance.name)

    @property
    def has_begun_create(self) -> bool:
        """True unless it is known that no create script began: what nobody knows may have happened."""
        return self.state.started is not None and self.state.script in (None, "create")


Records = Mapping[JobId, JobRecord]


def add(records: Records, job: OsJob, *, size_bytes: int, serial: int) -> JobRecord:
    """Return the record of a new job; the one that there is, if the id was used before for the same job.

    Refused if it was used for another one: whoever chose it would be told of a job that is not his.
    """
    if known := records.get(job.id):
        if _request(known.job) != _request(job):
            raise is_another(known.job)
        return known
    check_room(records)
    if size_bytes > BOARD_BYTES_MAX:
        raise Refused(f"job {job.id} is {size_bytes} bytes, limit {BOARD_BYTES_MAX}")
    number = max((record.number for record in records.values()), default=0) + 1
    state = JobState(id=job.id, status="queued")
    return JobRecord(number=number, job=job, size_bytes=size_bytes, state=state, serial=serial)


def check_room(records: Records) -> None:
    """Refused if no further job can be taken."""
    if sum(record.is_active for record in records.values()) >= WAITING_MAX:
        raise Refused(f"{WAITING_MAX} jobs wait or run already; cancel some, or wait for them: gnt-mesh job list")


def is_another(job: OsJob) -> Refused:
    """Return what to say to who asks for something else with the id of this job."""
    about = f" of {job.instance.name}" if job.instance else ""
    return Refused(f"job {job.id} is another one already ({job.action}{about} on {job.node}); choose another id")


def cancel(records: Records, job: JobId, *, serial: int) -> JobRecord:
    """Return the record of a job that is asked to end. Refused if it has ended."""
    record = known(records, job)
    if not record.is_active:
        raise Refused(f"job {job} has ended already: {record.state.status}")
    return record if record.is_cancelled else replace(record, is_cancelled=True, serial=serial)


def known(records: Records, job: str) -> JobRecord:
    """Return the record of a job; Refused if there is none."""
    record = records.get(JobId(job))
    if record is None:
        raise Refused(f"job {job} is not known; see: gnt-mesh job list")
    return record


def take(records: Records, node: NodeName, states: Iterable[JobState], *, serial: int) -> list[JobRecord]:
    """Return the records that are new by what a node says. A job of another node is none of its business."""
    changed = []
    for state in states:
        record = records.get(state.id)
        if record and record.job.node == node and record.is_active and state != record.state:
            changed.append(_with_state(record, state, serial))
    return changed


def give_up(records: Records, node: NodeName, *, reason: str, serial: int, now: float) -> list[JobRecord]:
    """Return the records of a node that will never say how its jobs ended."""
    return [
        _with_state(record, replace(record.state, status="interrupted", ended=now, reason=reason), serial)
        for record in records.values()
        if record.job.node == node and record.is_active
    ]


def board(records: Records, node: NodeName, *, epoch: int, serial: int) -> JobBoard:
    """Return a node's board: its jobs that have not ended, in the order they came, as many as one message takes."""
    orders: list[JobOrder] = []
    room = BOARD_BYTES_MAX
    for record in sorted(records.values(), key=lambda record: record.number):
        if record.job.node != node or not record.is_active:
            continue
        room -= record.size_bytes
        if room < 0:
            break
        orders.append(JobOrder(job=record.job, is_cancelled=record.is_cancelled))
    return JobBoard(node=node, epoch=epoch, serial=serial, orders=tuple(orders))


def surplus(records: Records, *, kept_max: int, noted: Collection[JobId]) -> Sequence[JobId]:
    """Return the jobs that ended first, beyond those that are kept. What is `noted` has to be known yet."""
    over = (record for record in records.values() if not record.is_active and record.job.id not in noted)
    ended = sorted(over, key=lambda record: record.serial)
    return [record.job.id for record in ended[: max(len(ended) - kept_max, 0)]]


def last_serial(records: Records) -> int:
    return max((record.serial for record in records.values()), default=0)


def _with_state(record: JobRecord, state: JobState, serial: int) -> JobRecord:
    """An end changes the board, and what was confidential is not needed any more."""
    if not state.has_ended:
        return replace(record, state=state)
    job = replace(record.job, sealed=b"", private_names=(), secret_names=())
    return replace(record, job=job, state=state, serial=serial)


def _request(job: OsJob) -> OsJob:
    """What makes two jobs the same: all that was asked for, but not when, nor how it was sealed this time."""
    instance = replace(job.instance, mtime=0.0) if job.instance else None
    return replace(job, epoch=1, requested=0.0, instance=instance, sealed=b"", private_names=(), secret_names=())
