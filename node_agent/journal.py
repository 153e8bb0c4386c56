"""The node's own record of its jobs, durable: one directory for each, made before anything of the job runs.

    JOBS/<id>/job       the job, as it came: the note that it is known here (design, D7)
              started   made by its runner, or by us for one that never will be: who makes it decides, and only one can
              verdict   how it ended
    JOBS/former         a line for each job that was forgotten: it is not taken up again
    JOBS/old/<id>/      the last ones that were forgotten, with their output, for a person

What else lies in a job's directory is in `os_run`. Errors of the operating system come out as Unavailable.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node_agent import job_log, os_run
from node_agent.core import job_text
from node_agent.core.jobs import Entry, Phase
from node_agent.script import PROGRESS
from protocol import codec, durable
from protocol.errors import DecodeError, Unavailable
from protocol.job_messages import JobLogPart, JobProgress, JobState, JobStatus
from protocol.os_messages import OsJob
from protocol.os_names import JobId, job_id

JOB: Final = "job"
FORMER: Final = "former"
OLD: Final = "old"

FORMER_MAX: Final = 10_000
PART_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Mark:
    """What a runner wrote before it began."""

    pid: int = 0
    ticks: int = 0
    boot: str = ""
    pipe: int = 0
    cgroup: str = ""
    time: float | None = None
    log_head_bytes: int = 1
    log_tail_bytes: int = 1


class Journal:
    """Called from one task alone, in threads: it waits for the disk."""

    def __init__(self, directory: Path, *, old_max: int) -> None:
        self.directory = directory
        self._old_max = old_max
        self._jobs: dict[JobId, OsJob] = {}
        self._ended: dict[JobId, JobState] = {}
        self.former: dict[JobId, JobState] = {}

    def open(self) -> None:
        """Read what is there."""
        with _translated("read"):
            durable.make_directory(self.directory / OLD)
            durable.sweep(self.directory)
            self.former = {state.id: state for state in self._read_former()}
            self._jobs = {}
            for path in self.directory.iterdir():
                if path.name not in (OLD, FORMER) and path.is_dir():
                    self._open_job(path)

    def note(self, job: OsJob) -> None:
        """Write a job down; when this returns it is known here for good."""
        with _translated("note"):
            path = self.path(job.id)
            path.mkdir(mode=0o700, exist_ok=True)
            durable.write_file(path / JOB, codec.encode(job))
            durable.sync_directory(self.directory)
        self._jobs[job.id] = job

    def entries(self, launched: frozenset[JobId]) -> list[Entry]:
        """Return every job as it is now. `launched` are those of which a runner of ours is alive."""
        with _translated("read"):
            return [self._entry(job, launched) for job in list(self._jobs.values())]

    def claim(self, job: JobId) -> bool:
        """Make sure that a job that has not begun never will; False if it has begun after all."""
        with _translated("note"):
            try:
                fd = os.open(self.path(job) / os_run.STARTED, durable.CREATE_FLAGS, 0o600)
            except FileExistsError:
                return False
            os.close(fd)
            durable.sync_directory(self.path(job))
            return True

    def conclude(self, job: JobId, status: JobStatus, reason: str) -> None:
        """Write a verdict that no runner will write."""
        started = self.mark(job).time
        verdict = {"status": status, "reason": reason, "started": started, "ended": time.time()}
        verdict["log_end"] = self._log_end(job)
        with _translated("note"):
            durable.write_file(self.path(job) / os_run.VERDICT, json.dumps(verdict).encode())

    def cancel(self, job: JobId) -> None:
        with _translated("note"):
            durable.write_file(self.path(job) / os_run.CANCEL, b"")

    def forget(self, job: JobId) -> None:
        """Let a job go that has ended: all but its id and its end, and for a while its output."""
        state = self._state_of_ended(job) or JobState(id=job, status="interrupted")
        with _translated("note"):
            self._add_former(state)
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.directory / OLD / job)
            self.path(job).rename(self.directory / OLD / job)
            self._jobs.pop(job, None)
            self._ended.pop(job, None)
            self._prune()

    def mark(self, job: JobId) -> Mark:
        """Return what a runner wrote before it began, an empty one if there is none to be read."""
        return _mark_in(self.path(job))

    def output(self, job: JobId, offset: int) -> JobLogPart:
        """Return output from an offset on, as harmless text; Unavailable if nothing is known of the job."""
        directory = next((path for path in (self.path(job), self.directory / OLD / job) if path.is_dir()), None)
        if directory is None:
            raise Unavailable(f"job {job}: its output is not on the node any more")
        mark = _mark_in(directory)
        sizes = {"head_bytes": mark.log_head_bytes, "tail_bytes": mark.log_tail_bytes}
        with _translated("read"):
            begin, data = job_log.read(directory, offset, PART_BYTES, **sizes)
            is_end = (directory / os_run.VERDICT).exists() and len(data) < PART_BYTES
        data = job_text.whole(data, is_end=is_end)
        return JobLogPart(id=job, begin=begin, end=begin + len(data), text=job_text.harmless(data).encode())

    def path(self, job: JobId) -> Path:
        return self.directory / job_id(job)

    def _open_job(self, path: Path) -> None:
        """A directory without a note was being made when the agent died: nothing of it has run."""
        durable.sweep(path)
        try:
            job = codec.decode((path / JOB).read_bytes(), OsJob)
        except (FileNotFoundError, DecodeError):
            if not (path / os_run.STARTED).exists():
                shutil.rmtree(path)
            return
        self._jobs[job.id] = job

    def _entry(self, job: OsJob, launched: frozenset[JobId]) -> Entry:
        if state := self._ended.get(job.id) or self._state_of_ended(job.id):
            self._ended[job.id] = state
            return Entry(job, Phase.ENDED, state)
        directory = self.path(job.id)
        is_cancelled = (directory / os_run.CANCEL).exists()
        if not (directory / os_run.STARTED).exists():
            phase = Phase.BEGUN if job.id in launched else Phase.NOTED
            return Entry(job, phase, JobState(id=job.id, status="queued"), is_cancelled)
        is_running = os_run.is_held(directory / os_run.LOCK)
        if not is_running and (state := self._state_of_ended(job.id)):
            return Entry(job, Phase.ENDED, state)  # its runner has ended since we looked first
        phase = Phase.BEGUN if is_running else Phase.LOST
        state = JobState(
            id=job.id,
            status="running",
            started=self.mark(job.id).time,
            progress=self._progress(job.id),
            log_end=self._log_end(job.id),
        )
        return Entry(job, phase, state, is_cancelled)

    def _state_of_ended(self, job: JobId) -> JobState | None:
        try:
            return _state(job, json.loads((self.path(job) / os_run.VERDICT).read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            return JobState(id=job, status="interrupted", reason="its verdict cannot be read")

    def _progress(self, job: JobId) -> JobProgress | None:
        try:
            return JobProgress(**json.loads((self.path(job) / PROGRESS).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def _log_end(self, job: JobId) -> int:
        mark = self.mark(job)
        return job_log.end_of(self.path(job), head_bytes=mark.log_head_bytes, tail_bytes=mark.log_tail_bytes)

    def _read_former(self) -> Iterator[JobState]:
        """A last line that a crash cut off was never acted on."""
        try:
            lines = (self.directory / FORMER).read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines[:-1][-FORMER_MAX:]:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                facts = json.loads(line)
                yield _state(job_id(facts.pop("id")), facts)

    def _add_former(self, state: JobState) -> None:
        self.former[state.id] = state
        if len(self.former) > 2 * FORMER_MAX:
            self.former = dict(list(self.former.items())[-FORMER_MAX:])
            return durable.write_file(self.directory / FORMER, b"".join(map(_line, self.former.values())))
        is_new = not (self.directory / FORMER).exists()
        fd = os.open(self.directory / FORMER, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            durable.write_all(fd, _line(state))
            os.fsync(fd)
        finally:
            os.close(fd)
        return durable.sync_directory(self.directory) if is_new else None

    def _prune(self) -> None:
        old = sorted((self.directory / OLD).iterdir(), key=lambda path: path.stat().st_mtime)
        for path in old[: -self._old_max]:
            shutil.rmtree(path)


def _mark_in(directory: Path) -> Mark:
    try:
        return Mark(**json.loads((directory / os_run.STARTED).read_bytes()))
    except (OSError, ValueError, TypeError):
        return Mark()


def _state(job: JobId, facts: Mapping[str, Any]) -> JobState:
    return JobState(
        id=job,
        status=facts["status"],
        exit_code=facts.get("exit_code"),
        started=facts.get("started"),
        ended=facts.get("ended"),
        reason=facts.get("reason", ""),
        log_end=facts.get("log_end", 0),
        script=facts.get("script"),
    )


def _line(state: JobState) -> bytes:
    names = ("id", "status", "exit_code", "reason", "started", "ended", "log_end", "script")
    return json.dumps({name: getattr(state, name) for name in names}).encode() + b"\n"


@contextlib.contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"cannot {doing} a job: {error.filename or 'the journal'}: {error.strerror}") from error
