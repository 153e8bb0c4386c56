"""Writes sources on the master's own disk, for a rollback alone: all of them or, if it is not possible, none.

The decision is on the disk before the first temporary, so a master that is killed anywhere finishes it when it starts
again. All temporaries are written, fsynced and read back before the first source is replaced. What somebody has
changed meanwhile is theirs, and left.
"""

import grp
import os
import pwd
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from master.core.plan import Source
from master.core.rollback import Rollback, Step, progress_of
from master.sources import Sources
from master.store import Store
from protocol import durable
from protocol.errors import Refused, Unavailable
from protocol.names import ManagedPath

READ_BYTES: Final = 1024 * 1024
DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
JOURNAL: Final = "rollback.json"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Staged:
    step: Step
    directory: int
    temporary: durable.Temporary


class SourceWriter:
    """One rollback at a time. Every method blocks; OSErrors arrive as Unavailable."""

    def __init__(self, state_dir: Path, store: Store, sources: Sources) -> None:
        self._journal = state_dir / JOURNAL
        self._store = store
        self._sources = sources

    def pending(self) -> Rollback | None:
        """Return the rollback that was decided and is not known to be done. Refused if its record is damaged."""
        try:
            return msgspec.json.decode(self._journal.read_bytes(), type=Rollback)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, ValueError) as error:
            raise Refused(f"{self._journal} is damaged: {error}; move it away to forget this rollback") from error

    def now(self, paths: Iterable[ManagedPath]) -> dict[ManagedPath, Source]:
        """Return what the sources are."""
        return self._sources.read(paths)

    def check(self, steps: tuple[Step, ...]) -> None:
        """Refused by name for a content that is not kept any more, or that this machine cannot give to its owner."""
        for step in steps:
            if not self._store.is_intact(step.wanted.digest):
                raise Refused(f"{step.path}: its content of then is not kept any more, so nothing was rolled back")
            _uid(step), _gid(step)
            if not self._sources.real(step.path).parent.is_dir():
                raise Refused(f"{step.path}: its directory is not there any more, so nothing was rolled back")

    def begin(self, rollback: Rollback) -> None:
        """Make the decision durable."""
        with _unavailable("the rollback cannot be noted"):
            durable.write_file(self._journal, msgspec.json.format(msgspec.json.encode(rollback), indent=1) + b"\n")

    def perform(self, rollback: Rollback) -> None:
        """Replace what is still to be replaced. Nothing is replaced if not everything can be written."""
        self._sweep(rollback)
        now = self._sources.read([step.path for step in rollback.steps])
        due = [step for step in rollback.steps if progress_of(step, now[step.path]) == "due"]
        for step in rollback.steps:
            if progress_of(step, now[step.path]) == "overtaken":
                log.warning("rollback_overtaken", path=step.path)
        with _unavailable("the rollback cannot be written"), ExitStack() as stack:
            self._replace_all([self._stage(step, stack) for step in due])

    def is_untouched(self, rollback: Rollback) -> bool:
        """True if every source still is what it was when the rollback was decided."""
        now = self._sources.read([step.path for step in rollback.steps])
        return all(progress_of(step, now[step.path]) == "due" for step in rollback.steps)

    def end(self) -> None:
        """Forget the decision: it is done, or was given up before anything was replaced."""
        with _unavailable("the record of the rollback cannot be removed"):
            self._journal.unlink(missing_ok=True)
            durable.sync_directory(self._journal.parent)

    def _sweep(self, rollback: Rollback) -> None:
        """Remove the temporaries of a master that was killed."""
        for directory in {self._sources.real(step.path).parent for step in rollback.steps}:
            with _unavailable("the rollback cannot be written"), suppress(FileNotFoundError):
                durable.sweep(directory)

    def _stage(self, step: Step, stack: ExitStack) -> _Staged:
        directory = os.open(self._sources.real(step.path).parent, DIRECTORY_FLAGS)
        stack.callback(os.close, directory)
        temporary = durable.Temporary(directory)
        stack.callback(_discard, temporary, directory)
        with self._store.blob_path(step.wanted.digest).open("rb") as content:
            while part := content.read(READ_BYTES):
                temporary.write(part)
        os.fchown(temporary.fd, _uid(step), _gid(step))
        os.fchmod(temporary.fd, step.wanted.mode)  # after the owner, whose change takes set-user-id away
        os.fsync(temporary.fd)
        if temporary.read_back()[0] != step.wanted.digest:
            raise Unavailable(f"{step.path}: what was written is not what was read")
        return _Staged(step, directory, temporary)

    def _replace_all(self, staged: list[_Staged]) -> None:
        for one in staged:
            one.temporary.replace(one.directory, self._sources.real(one.step.path).name)
        for one in staged:
            os.fsync(one.directory)


def _discard(temporary: durable.Temporary, directory: int) -> None:
    with suppress(FileNotFoundError):  # it has become its target
        temporary.discard(directory)


def _uid(step: Step) -> int:
    return _number(step, "user", step.wanted.owner, lambda name: pwd.getpwnam(name).pw_uid)


def _gid(step: Step) -> int:
    return _number(step, "group", step.wanted.group, lambda name: grp.getgrnam(name).gr_gid)


def _number(step: Step, what: str, name: str, look_up: Callable[[str], int]) -> int:
    try:
        return look_up(name)
    except KeyError:
        if name.isascii() and name.isdecimal():
            return int(name)
    raise Refused(f"{step.path}: there is no {what} {name} on the master any more, so nothing was rolled back")


@contextmanager
def _unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{what}: {error.filename or ''} {error.strerror}") from error
