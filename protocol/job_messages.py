"""What travels of OS jobs: a node's board, what the node says of each job, and output (SPEC.md, section 8).

A board is the whole of what a node should know of its jobs, in one message, so that any one look brings all of it.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

from protocol.messages import REASON_CHARS_MAX
from protocol.names import NodeName, node_name
from protocol.os_messages import OsJob
from protocol.os_names import JobId, job_id

JobStatus = Literal["queued", "running", "success", "failed", "cancelled", "interrupted"]

ENDED: Final = ("success", "failed", "cancelled", "interrupted")
"""A job in one of these will never be in another one again."""

STATES_MAX: Final = 500
PROGRESS_CHARS_MAX: Final = 200
SCRIPT_CHARS_MAX: Final = 20
LOG_PART_BYTES_MAX: Final = 512 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrder:
    """One line of a board: a job, and whether it is to end now."""

    job: OsJob
    is_cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobBoard:
    """The jobs of one node that are not over, in the order in which they may begin."""

    node: NodeName
    epoch: int
    serial: int
    """Grows with every change of any board."""
    orders: tuple[JobOrder, ...] = ()

    def __post_init__(self) -> None:
        node_name(self.node)
        if self.epoch < 1 or self.serial < 0:
            raise ValueError(f"board of {self.node}: epoch {self.epoch} counts from 1, serial {self.serial} from 0")
        ids = [order.job.id for order in self.orders]
        if len(set(ids)) != len(ids):
            raise ValueError(f"board of {self.node}: a job twice")
        if any(order.job.node != self.node for order in self.orders):
            raise ValueError(f"board of {self.node}: a job of another node")

    @property
    def version(self) -> tuple[int, int]:
        return (self.epoch, self.serial)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """What a script says of its own progress."""

    percent: float | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if self.percent is not None and not 0 <= self.percent <= 100:
            raise ValueError(f"progress of {self.percent} percent")
        if len(self.text) > PROGRESS_CHARS_MAX:
            raise ValueError(f"progress text of {len(self.text)} characters, limit {PROGRESS_CHARS_MAX}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """How one job is, in the words of its node."""

    id: JobId
    status: JobStatus
    exit_code: int | None = None
    """Of the script that ended the job; None if none did, or a signal ended it."""
    started: float | None = None
    ended: float | None = None
    """By the node's clock."""
    reason: str = ""
    progress: JobProgress | None = None
    log_end: int = 0
    """How many bytes its scripts have printed."""
    script: str | None = None
    """Of one that has ended: which script was the last to begin, empty if none did; None if its node cannot say."""

    def __post_init__(self) -> None:
        job_id(self.id)
        if len(self.reason) > REASON_CHARS_MAX:
            raise ValueError(f"job {self.id}: reason of {len(self.reason)} characters, limit {REASON_CHARS_MAX}")
        if not all(math.isfinite(moment) for moment in (self.started, self.ended) if moment is not None):
            raise ValueError(f"job {self.id}: started and ended are seconds")
        if self.script and (len(self.script) > SCRIPT_CHARS_MAX or not self.script.isprintable()):
            raise ValueError(f"job {self.id}: {self.script[:SCRIPT_CHARS_MAX]!r} is no script")
        if self.log_end < 0:
            raise ValueError(f"job {self.id}: log_end {self.log_end} is negative")

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """What a node says of its jobs. One that has ended is in every report until the board does not list it any more."""

    node: NodeName
    epoch: int
    serial: int
    """The board that the node acts on; (1, 0) before it has one."""
    states: tuple[JobState, ...] = ()
    """Not those that wait: they are on the board, and that is all there is to say of them."""

    def __post_init__(self) -> None:
        node_name(self.node)
        if len(self.states) > STATES_MAX:
            raise ValueError(f"{len(self.states)} states in a report, limit {STATES_MAX}")

    @property
    def version(self) -> tuple[int, int]:
        return (self.epoch, self.serial)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLogWanted:
    """The master asks a node for the output of a job, from an offset on."""

    id: JobId
    offset: int

    def __post_init__(self) -> None:
        job_id(self.id)
        if self.offset < 0:
            raise ValueError(f"output of job {self.id}: offset {self.offset} is negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLogPart:
    """Output of a job as harmless text. `begin` is beyond the offset that was asked for where output was not kept."""

    id: JobId
    begin: int
    end: int
    """The offset to ask for next; equal to `begin` if there is no more now."""
    text: bytes = b""
    """UTF-8."""

    def __post_init__(self) -> None:
        job_id(self.id)
        if not 0 <= self.begin <= self.end or len(self.text) > LOG_PART_BYTES_MAX:
            raise ValueError(f"output of job {self.id}: {self.begin} to {self.end}, {len(self.text)} bytes")
