"""The master's record of jobs on its own disk: one file for each, replaced durably, and the output that is kept of it.

The output is a file of lines, each a part as it came from the node: where it begins and ends in the job's whole output,
and its text. It is not durable: the node has it too, for a while.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from master.core.job_queue import JobRecord
from protocol import durable
from protocol.errors import Refused, Unavailable
from protocol.job_messages import JobLogPart
from protocol.os_names import JobId

RECORD: Final = ".json"
OUTPUT: Final = ".output"


@dataclass(frozen=True, slots=True)
class Piece:
    """Where a part of the output lies in the file."""

    begin: int
    end: int
    place: int
    length: int


class Line(msgspec.Struct):
    begin: int
    end: int
    text: str


class JobStore:
    """Every method blocks for as long as the disk does; OSErrors arrive as Unavailable."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pieces: dict[JobId, list[Piece]] = {}

    def open(self) -> dict[JobId, JobRecord]:
        """Return every record. Refused if one is damaged: a job that is forgotten might be asked for again."""
        try:
            durable.make_directory(self._directory)
            durable.sweep(self._directory)
            records = [self._read(path) for path in self._directory.glob(f"*{RECORD}")]
        except OSError as error:
            raise Refused(f"{error.filename or self._directory}: {error.strerror}") from error
        return {record.job.id: record for record in records}

    def save(self, record: JobRecord) -> None:
        with _unavailable(f"cannot record job {record.job.id}"):
            durable.write_file(self._directory / f"{record.job.id}{RECORD}", msgspec.json.encode(record))

    def drop(self, job: JobId) -> None:
        """Forget a job and its output."""
        self._pieces.pop(job, None)
        with _unavailable(f"cannot remove job {job}"):
            (self._directory / f"{job}{OUTPUT}").unlink(missing_ok=True)
            (self._directory / f"{job}{RECORD}").unlink(missing_ok=True)

    def output_end(self, job: JobId) -> int:
        """Return up to where the output is kept."""
        pieces = self._index(job)
        return pieces[-1].end if pieces else 0

    def output_kept_bytes(self, job: JobId) -> int:
        return sum(piece.length for piece in self._index(job))

    def add_output(self, part: JobLogPart) -> None:
        """Keep a part that begins where the output ended, or later."""
        pieces = self._index(part.id)
        if part.end <= self.output_end(part.id):
            return
        line = msgspec.json.encode(Line(part.begin, part.end, part.text.decode("utf-8", "replace"))) + b"\n"
        place = pieces[-1].place + pieces[-1].length if pieces else 0
        path, mode = self._directory / f"{part.id}{OUTPUT}", "r+b" if pieces else "wb"
        with _unavailable(f"cannot keep output of job {part.id}"), path.open(mode) as file:
            file.seek(place)
            file.write(line)
            file.truncate()
        pieces.append(Piece(part.begin, part.end, place, len(line)))

    def output(self, job: JobId, offset: int) -> JobLogPart | None:
        """Return the first part that goes beyond an offset, None if no such part is kept."""
        piece = next((piece for piece in self._index(job) if piece.end > offset), None)
        if piece is None:
            return None
        path = self._directory / f"{job}{OUTPUT}"
        with _unavailable(f"cannot read output of job {job}"), path.open("rb") as file:
            file.seek(piece.place)
            raw = file.read(piece.length)
        try:
            line = msgspec.json.decode(raw, type=Line)
        except msgspec.DecodeError:
            return None
        return JobLogPart(id=job, begin=line.begin, end=line.end, text=line.text.encode())

    def _read(self, path: Path) -> JobRecord:
        try:
            return msgspec.json.decode(path.read_bytes(), type=JobRecord)
        except (msgspec.DecodeError, ValueError) as error:
            raise Refused(f"{path} is damaged: {error}; move it away, and the master forgets this job") from error

    def _index(self, job: JobId) -> list[Piece]:
        if job not in self._pieces:
            self._pieces[job] = list(self._read_index(job))
        return self._pieces[job]

    def _read_index(self, job: JobId) -> Iterator[Piece]:
        """A line that a crash cut off ends what is kept; the node is asked for the rest again."""
        place = 0
        path = self._directory / f"{job}{OUTPUT}"
        with contextlib.suppress(OSError, msgspec.DecodeError), path.open("rb") as file:
            for raw in file:
                line = msgspec.json.decode(raw, type=Line)
                yield Piece(line.begin, line.end, place, len(raw))
                place += len(raw)


@contextlib.contextmanager
def _unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{what}: {error.strerror}") from error
