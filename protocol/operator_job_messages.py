"""What operators ask of the master about jobs on `mesh.api.job.…`, and what it answers."""

from dataclasses import dataclass

from protocol.job_messages import JobProgress, JobStatus
from protocol.names import NodeName
from protocol.os_messages import OsAction
from protocol.os_names import JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """No ids: all jobs that the master has kept, the newest last."""

    ids: tuple[str, ...] = ()
    node: str = ""
    instance: str = ""
    only_active: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """One job. No OS parameter is in it."""

    id: JobId
    node: NodeName
    instance: str
    """Empty for a job that is about no instance."""
    action: OsAction
    os: str
    status: JobStatus
    exit_code: int | None
    requested: float
    started: float | None
    ended: float | None
    reason: str
    """Why it ended so, or what it waits for."""
    progress: JobProgress | None
    is_cancelled: bool
    """It has been asked to end."""
    log_end: int
    """How many bytes of its output there are; the master keeps the beginning and the end of a long one."""
    script: str | None = None
    """Of one that has ended: the script that was the last to begin, empty if none did; None if nobody can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfos:
    jobs: tuple[JobInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancel:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFollow:
    """Answer with what is new of a job: output from `offset` on, or a state other than the one with this `revision`.

    If there is nothing new the answer is delayed, by `patience_s` at most (bounded by the master to 5 s).
    """

    id: str
    offset: int = 0
    revision: int = -1
    patience_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNews:
    job: JobInfo
    revision: int
    text: bytes
    """Output, as harmless text in UTF-8."""
    offset: int
    """To ask for next."""
    has_more: bool
    """True if output was kept that did not fit into this answer, or is still on its way from the node."""
