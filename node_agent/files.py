"""A node's managed files: looks at them and writes them. Nothing else in the mesh writes below a node's root.

The parts: `tree` (the way to a path), `staging` (one plan's way to the disk), `backups`, `owners`. Here is what the
daemon calls. Only `perform` waits for content; its blocking work, and all of the rest, belongs in a thread.
"""

import asyncio
import contextlib
import functools
import os
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from node_agent.backups import Backups
from node_agent.core.reconcile import ABSENT, Found, Outcome, Plan, Write
from node_agent.owners import Owners, as_found
from node_agent.staging import Abandoned, Staging
from node_agent.tree import Directories, Impediment, Tree, clipped, look, name_of, parent_of, reason_of, shown
from protocol import durable
from protocol.errors import MeshError
from protocol.messages import FileEntry
from protocol.names import Digest, ManagedPath, ScopeName

FETCHES_MAX: Final = 4
SMALL_FETCHES_MAX: Final = 16
"""Contents on their way at the same time: what fits into memory together waits for the way and not for the bytes."""
GATHERED_BYTES_MAX: Final = 2 * 1024 * 1024
RACY_NS: Final = 2_000_000_000
LOOKS_MAX: Final = 3

Fetch = Callable[[ScopeName, FileEntry], AsyncIterator[bytes]]
"""Yields a content in order and in chunks; raises Unavailable."""

_P = ParamSpec("_P")
_R = TypeVar("_R")

Fingerprint = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A content as it was read, and the fingerprint that the file had then."""

    fingerprint: Fingerprint
    digest: Digest


class NodeFiles:
    """The managed files below one root, as far as this node allows them to be touched."""

    def __init__(
        self,
        root: Path,
        *,
        allowed: Sequence[str],
        protected: Sequence[str],
        backups: Path,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._tree = Tree(root, allowed, protected)
        self._backups = Backups(backups, now)
        self._now = now
        self._seen: dict[ManagedPath, _Seen] = {}

    def observe(self, paths: Iterable[ManagedPath], *, afresh: bool = False) -> dict[ManagedPath, Found]:
        """Return what is really at each path. A file with an unchanged fingerprint is read again only if `afresh`."""
        owners = Owners()
        with Directories(self._tree) as directories:
            return {path: self._observe(directories, owners, path, afresh) for path in paths}

    async def perform(self, plan: Plan, fetch: Fetch, *, first: Callable[[], None] = lambda: None) -> Outcome:
        """Do the whole plan: stage every write, then replace, then remove. A path is in `found` or in `errors`.

        What hinders one path is that path's error. What hinders staging as such (a full disk, a content that cannot
        be had or is not what it claims to be) holds back the whole plan, and nothing has changed. Cancelled, it
        leaves the plan wholly undone, or done if the first target had been replaced. `plan.errors` is not looked at.
        `first` is called, in a thread, before anything is done to the disk; what it raises ends the plan.
        """
        if plan.is_empty:
            return Outcome({}, {})
        staging = Staging(self._tree, self._backups)
        try:
            inbox = _Inbox(staging)
            ahead = _fetched_ahead(plan, self._tree)
            await _fetch_all(ahead, fetch, inbox, staging, at_once=SMALL_FETCHES_MAX)
            if lacking := await _in_thread(_begin, staging, inbox, plan, {*ahead}, first):
                await _fetch_all(lacking, fetch, inbox, staging)
                await _in_thread(_finish, staging, inbox, plan)
        except Abandoned as stop:
            held_back = clipped(f"held back: {shown(stop.path)}: {stop.reason}")
            paths = [*(write.entry.path for write in plan.writes), *(removal.path for removal in plan.removals)]
            return Outcome({}, dict.fromkeys(paths, held_back) | staging.errors | {stop.path: stop.reason})
        finally:
            if staging.is_open:
                await _in_thread(staging.discard)
        return Outcome(staging.found, staging.errors)

    def sweep(self, paths: Iterable[ManagedPath]) -> int:
        """Remove what interrupted writes left beside these paths and among the backups; return how many."""
        count = 0
        with Directories(self._tree) as directories:
            for path in _one_per_directory(path for path in paths if self._tree.refusal(path) is None):
                with contextlib.suppress(OSError, Impediment):
                    count += durable.sweep_at(directories.parent(path))
        with contextlib.suppress(OSError):
            count += self._backups.sweep()
        return count

    def watch_directories(self, paths: Iterable[ManagedPath]) -> set[Path]:
        """Return the real directories to watch, each by itself, to see every change of these paths.

        Where a path's directory is absent or barred it is the nearest one above, in which it would appear.
        """
        with Directories(self._tree) as directories:
            allowed = _one_per_directory(path for path in paths if self._tree.refusal(path) is None)
            nearest = {directories.nearest(path) for path in allowed}
        return {directory for directory in nearest if directory is not None}

    def managed_path_of(self, real: Path) -> ManagedPath | None:
        """Return the managed path of a real one; None outside the root, and for temporaries of ours."""
        return self._tree.managed_path_of(real)

    def purge_backups(self, path: ManagedPath) -> int:
        """Remove every backup of a path, durably; return how many there were."""
        return self._backups.purge(path)

    def _observe(self, directories: Directories, owners: Owners, path: ManagedPath, afresh: bool) -> Found:
        refusal = self._tree.refusal(path)
        if refusal is not None:
            return Found("blocked", reason=refusal)
        try:
            found = self._read(directories.parent(path), owners, path, afresh)
        except FileNotFoundError:
            found = ABSENT
        except Impediment as error:
            found = Found("blocked", reason=clipped(str(error)))
        except OSError as error:
            found = Found("blocked", reason=clipped(f"{shown(path)} cannot be read: {reason_of(error)}"))
        if found.kind != "file":
            self._seen.pop(path, None)
        return found

    def _read(self, directory: int, owners: Owners, path: ManagedPath, afresh: bool) -> Found:
        status = look(directory, path)
        if status is None:
            return ABSENT
        seen = self._seen.get(path)
        if seen is None or afresh or seen.fingerprint != _fingerprint(status):
            status, seen = self._read_content(directory, path)
        return as_found(status, seen.digest, status.st_size, owners)

    def _read_content(self, directory: int, path: ManagedPath) -> tuple[os.stat_result, _Seen]:
        """Hash a file; remember it unless it is changing, or changed so recently that a next change might not show."""
        fd = os.open(name_of(path), durable.READ_FLAGS, dir_fd=directory)
        try:
            for _ in range(LOOKS_MAX):
                looked_at = self._now()
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise Impediment(f"{shown(path)} is no longer a regular file")
                os.lseek(fd, 0, os.SEEK_SET)
                seen = _Seen(_fingerprint(status), durable.read_digest(fd)[0])
                is_stable = seen.fingerprint == _fingerprint(os.fstat(fd))
                if is_stable:
                    break
        finally:
            os.close(fd)
        self._seen.pop(path, None)
        if is_stable and status.st_ctime_ns < looked_at - RACY_NS:
            self._seen[path] = seen
        return status, seen


class _Inbox:
    """Content on its way to the disk, gathered so that many small files cost one call into a thread."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._pieces: list[tuple[Write, bytes]] = []
        self._size_bytes = 0
        self._one_at_a_time = asyncio.Lock()

    async def put(self, write: Write, piece: bytes) -> None:
        """Add a piece. Whoever adds too much waits until it is on its way."""
        self._pieces.append((write, piece))
        self._size_bytes += len(piece)
        if self._size_bytes >= GATHERED_BYTES_MAX:
            async with self._one_at_a_time:
                if pieces := self.take():
                    await _in_thread(self._staging.receive, pieces)

    def take(self) -> list[tuple[Write, bytes]]:
        """Return what has gathered, for the caller to hand on."""
        pieces, self._pieces, self._size_bytes = self._pieces, [], 0
        return pieces


def _fetched_ahead(plan: Plan, tree: Tree) -> Sequence[Write]:
    """Return what is fetched before anything is done: little content, so that the rest is one call into a thread."""
    foreign = [
        write
        for write in plan.writes
        if write.entry.size_bytes and write.copy_of is None and tree.refusal(write.entry.path) is None
    ]
    return foreign if sum(write.entry.size_bytes for write in foreign) < GATHERED_BYTES_MAX else ()


async def _fetch_all(
    writes: Sequence[Write], fetch: Fetch, inbox: _Inbox, staging: Staging, *, at_once: int = FETCHES_MAX
) -> None:
    """Fetch a few files at a time. Abandoned as soon as one cannot be had; the others are then cancelled."""
    if len(writes) == 1:
        await _fetch_one(writes[0], fetch, inbox, staging)
        return
    waiting = iter(writes)
    stops: list[Abandoned] = []

    async def fetch_some() -> None:
        for write in waiting:
            await _fetch_one(write, fetch, inbox, staging)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(writes))):
                group.create_task(fetch_some())
    except* Abandoned as several:
        stops += [error for error in several.exceptions if isinstance(error, Abandoned)]
    if stops:
        raise stops[0]


async def _fetch_one(write: Write, fetch: Fetch, inbox: _Inbox, staging: Staging) -> None:
    entry = write.entry
    received = 0
    try:
        async with _closing(fetch(write.scope, entry)) as pieces:
            async for piece in pieces:
                received += len(piece)
                await inbox.put(write, piece)
                if received >= entry.size_bytes or entry.path in staging.errors:
                    return
    except MeshError as error:
        raise Abandoned(entry.path, str(error) or "the content is unavailable") from error
    raise Abandoned(entry.path, f"content of {received} bytes, the manifest says {entry.size_bytes}")


@contextlib.asynccontextmanager
async def _closing(pieces: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Close an iterator that can be closed, so that an unfinished fetch ends here and not some time later."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


def _begin(
    staging: Staging, inbox: _Inbox, plan: Plan, ahead: Collection[Write], first: Callable[[], None]
) -> list[Write]:
    """Do the whole plan if all of its content is here; otherwise return what is still to be fetched."""
    first()
    lacking = [write for write in staging.prepare(plan.writes) if write not in ahead]
    if not lacking:
        _finish(staging, inbox, plan)
    return lacking


def _finish(staging: Staging, inbox: _Inbox, plan: Plan) -> None:
    staging.receive(inbox.take())
    staging.commit(plan.removals)
    staging.discard()


async def _in_thread(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """As asyncio.to_thread, except that a cancellation waits until the thread has let go of the files."""
    running = asyncio.get_running_loop().run_in_executor(None, functools.partial(function, *args, **kwargs))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()
        raise cancelled
    return running.result()


def _fingerprint(status: os.stat_result) -> Fingerprint:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _one_per_directory(paths: Iterable[ManagedPath]) -> Iterator[ManagedPath]:
    return iter({parent_of(path): path for path in paths}.values())
