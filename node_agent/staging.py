"""One plan's way to the disk: every write is staged beside its target before the first one is made visible.

Blocking, and for one thread at a time. Nothing here waits for content: it is handed in by `receive`.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from node_agent.backups import Backups, Kept, identity_of
from node_agent.core.reconcile import ABSENT, Found, Remove, Write
from node_agent.owners import Owners, as_found
from node_agent.tree import Directories, Impediment, Tree, clipped, look, name_of, parent_of, reason_of, shown
from protocol import durable
from protocol.messages import FileEntry
from protocol.names import ManagedPath

UNSETTLED_MAX: Final = 64
COPY_BYTES: Final = 1024 * 1024

WORLD_WIDE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What stands in the way of every path alike: a generation is then held back as a whole."""


class Abandoned(Exception):
    """Staging was given up before any target was touched, because of what happened to one path."""

    def __init__(self, path: ManagedPath, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = clipped(reason)


@dataclass(slots=True)
class _Staged:
    """A write that has its temporary file."""

    write: Write
    temporary: durable.Temporary
    found: Found = ABSENT

    @property
    def path(self) -> ManagedPath:
        return self.write.entry.path


class Staging:
    """Stages, replaces, removes; holds what is unfinished so that `discard` can undo it. Close by `discard`.

    `found` and `errors` tell what came of each path. Abandoned is raised only while no target has been touched.
    """

    def __init__(self, tree: Tree, backups: Backups) -> None:
        self.found: dict[ManagedPath, Found] = {}
        self.errors: dict[ManagedPath, str] = {}
        self._tree = tree
        self._backups = backups
        self._owners = Owners()
        self._directories = Directories(tree)
        self._staged: dict[ManagedPath, _Staged] = {}
        self._unsettled: list[_Staged] = []
        self._kept: dict[ManagedPath, Kept] = {}
        self._is_visible = False

    @property
    def is_open(self) -> bool:
        """True while there is something for `discard` to do."""
        return bool(self._staged) or self._directories.is_open

    def prepare(self, writes: Iterable[Write]) -> list[Write]:
        """Check every write and stage those whose content is on this node; return those to be fetched."""
        lacking = []
        for write in writes:
            with self._attempt(write.entry.path):
                self._check(write.entry)
                if not self._stage_locally(write):
                    lacking.append(write)
        return lacking

    def receive(self, pieces: list[tuple[Write, bytes]]) -> None:
        """Append pieces of content to their temporaries; a file that has all of its bytes is checked and set aside.

        Empties the list on the way, so that memory is free again before the next pieces come.
        """
        pieces.reverse()
        while pieces:
            write, piece = pieces.pop()
            path = write.entry.path
            if path in self.errors:
                continue
            with self._attempt(path):
                staged = self._staged.get(path) or self._open(write)
                staged.temporary.write(piece)
                if staged.temporary.size_bytes >= write.entry.size_bytes:
                    self._complete(staged)

    def commit(self, removals: Sequence[Remove]) -> None:
        """Make every staged write durable, then visible; then remove. What fails from there on fails alone."""
        self._settle()
        self._keep_old()
        self._is_visible = True
        self._replace()
        self._remove(removals)

    def discard(self) -> None:
        """Take away whatever did not become visible. Does nothing after a complete commit, or a second time."""
        for path in list(self._staged):
            self._forget(path)
        self._unsettled.clear()
        self._directories.close()

    def _check(self, entry: FileEntry) -> None:
        refusal = self._tree.refusal(entry.path)
        if refusal is not None:
            raise Impediment(refusal)
        with contextlib.suppress(FileNotFoundError):
            look(self._directories.parent(entry.path), entry.path)
        self._owners.uid(entry.owner)
        self._owners.gid(entry.group)

    def _stage_locally(self, write: Write) -> bool:
        if write.entry.size_bytes == 0:
            self._complete(self._open(write))
            return True
        return write.copy_of is not None and self._copy(write, write.copy_of)

    def _copy(self, write: Write, source: ManagedPath) -> bool:
        """Stage the content of a local file; False if it is not what it was."""
        fd = self._open_source(source)
        if fd is None:
            return False
        try:
            staged = self._open(write)
            while staged.temporary.size_bytes <= write.entry.size_bytes and (chunk := _read(fd)):
                staged.temporary.write(chunk)
        finally:
            os.close(fd)
        if staged.temporary.digest != write.entry.digest:
            self._forget(staged.path)
            return False
        self._complete(staged)
        return True

    def _open_source(self, source: ManagedPath) -> int | None:
        if self._tree.refusal(source) is not None:
            return None
        try:
            directory = self._directories.parent(source)
            if look(directory, source) is None:
                return None
            return os.open(name_of(source), durable.READ_FLAGS, dir_fd=directory)
        except (Impediment, OSError):
            return None

    def _open(self, write: Write) -> _Staged:
        path = write.entry.path
        staged = _Staged(write, durable.Temporary(self._directories.parent(path, make=True)))
        self._staged[path] = staged
        return staged

    def _complete(self, staged: _Staged) -> None:
        entry, temporary = staged.write.entry, staged.temporary
        if temporary.size_bytes != entry.size_bytes:
            reason = f"content of {temporary.size_bytes} bytes, the manifest says {entry.size_bytes}"
            if staged.write.is_secret:
                reason = "content of another size than the manifest says"
            raise Abandoned(entry.path, reason)
        if temporary.digest != entry.digest:
            raise Abandoned(entry.path, "content with another digest than the manifest says")
        self._unsettled.append(staged)
        if len(self._unsettled) >= UNSETTLED_MAX:
            self._settle()

    def _settle(self) -> None:
        """Give complete files their owner and mode, sync them together, and read each back."""
        batch, self._unsettled = self._unsettled, []
        steps: tuple[Callable[[_Staged], None], ...] = (self._dress, self._sync, self._prove)
        for step in steps:
            for staged in batch:
                if staged.path not in self.errors:
                    with self._attempt(staged.path):
                        step(staged)

    def _dress(self, staged: _Staged) -> None:
        entry, fd = staged.write.entry, staged.temporary.fd
        uid, gid = self._owners.uid(entry.owner), self._owners.gid(entry.group)
        status = os.fstat(fd)
        if (status.st_uid, status.st_gid) != (uid, gid):
            os.fchown(fd, uid, gid)
        os.fchmod(fd, entry.mode)
        staged.temporary.start_write_back()

    def _sync(self, staged: _Staged) -> None:
        os.fsync(staged.temporary.fd)

    def _prove(self, staged: _Staged) -> None:
        """Read back what a receipt will promise (design, D4)."""
        entry = staged.write.entry
        digest, size_bytes = staged.temporary.read_back()
        status = os.fstat(staged.temporary.fd)
        staged.temporary.close()
        staged.found = as_found(status, digest, size_bytes, self._owners)
        if (digest, size_bytes) != (entry.digest, entry.size_bytes):
            raise Abandoned(entry.path, "what was read back is not what was written")
        if staged.found.mode != entry.mode:
            raise Impediment(f"mode {entry.mode:04o} cannot be set here, it becomes {staged.found.mode:04o}")

    def _keep_old(self) -> None:
        for staged in list(self._staged.values()):
            if staged.write.keep_backup:
                with self._attempt(staged.path):
                    self._keep(staged.path)

    def _keep(self, path: ManagedPath) -> None:
        try:
            kept = self._backups.keep(path, self._directories.parent(path))
        except OSError as error:
            raise OSError(error.errno, f"no backup could be kept: {reason_of(error)}") from error
        if kept is not None:
            self._kept[path] = kept

    def _check_kept(self, path: ManagedPath, present: os.stat_result | None) -> None:
        """Impediment unless what is about to go is what the backup holds, or neither is there."""
        kept = self._kept.get(path)
        if (present and identity_of(present)) != (kept and kept.identity):
            raise Impediment(f"{shown(path)} was changed by someone else just now")

    def _replace(self) -> None:
        for paths in _by_directory(self._staged):
            self._check_in_place(paths)
        replaced = []
        for staged in list(self._staged.values()):
            with self._attempt(staged.path):
                self._rename(staged)
                replaced.append(staged)
        self._sync_directories(staged.path for staged in replaced)
        for staged in replaced:
            if staged.path not in self.errors:
                self.found[staged.path] = staged.found
                self._prune(staged.path)

    def _check_in_place(self, paths: Sequence[ManagedPath]) -> None:
        """Fail all paths of a directory that was swapped for another one while they were staged."""
        try:
            self._directories.check_in_place(paths[0])
        except (Impediment, OSError) as error:
            for path in paths:
                self._fail(path, _reason(error))

    def _rename(self, staged: _Staged) -> None:
        directory = self._directories.parent(staged.path)
        present = look(directory, staged.path)
        if staged.write.keep_backup:
            self._check_kept(staged.path, present)
        staged.temporary.replace(directory, name_of(staged.path))
        del self._staged[staged.path]

    def _remove(self, removals: Sequence[Remove]) -> None:
        removed = []
        for removal in removals:
            with self._attempt(removal.path):
                if self._unlink(removal):
                    removed.append(removal.path)
        self._sync_directories(removed)
        for removal in removals:
            if removal.path not in self.errors:
                with self._attempt(removal.path):
                    self._settle_backups(removal)
                    self.found[removal.path] = ABSENT

    def _settle_backups(self, removal: Remove) -> None:
        if removal.purge:
            self._backups.purge(removal.path)
        else:
            self._prune(removal.path)

    def _unlink(self, removal: Remove) -> bool:
        """Take a file away; False if there was none."""
        path = removal.path
        refusal = self._tree.refusal(path)
        if refusal is not None:
            raise Impediment(refusal)
        if removal.is_gone:
            return False
        try:
            directory = self._directories.parent(path)
        except FileNotFoundError:
            return False
        if look(directory, path) is None:
            return False
        if removal.keep_backup:
            self._keep(path)
            self._check_kept(path, look(directory, path))
        os.unlink(name_of(path), dir_fd=directory)
        return True

    def _sync_directories(self, paths: Iterable[ManagedPath]) -> None:
        for together in _by_directory(paths):
            try:
                os.fsync(self._directories.parent(together[0]))
            except (Impediment, OSError) as error:
                reason = clipped(f"done, but perhaps not durable: {_reason(error)}")
                self.errors.update(dict.fromkeys(together, reason))

    @contextlib.contextmanager
    def _attempt(self, path: ManagedPath) -> Iterator[None]:
        """Turn what stands in the way of one path into its error; what is world-wide abandons the staging."""
        try:
            yield
        except (Impediment, OSError) as error:
            if isinstance(error, OSError) and error.errno in WORLD_WIDE and not self._is_visible:
                raise Abandoned(path, _reason(error)) from error
            self._fail(path, _reason(error))

    def _fail(self, path: ManagedPath, reason: str) -> None:
        self.errors[path] = clipped(reason)
        self._forget(path)

    def _forget(self, path: ManagedPath) -> None:
        """Undo what was done for a path, as far as the disk lets us; what remains, a sweep finds."""
        staged, kept = self._staged.pop(path, None), self._kept.pop(path, None)
        if staged is not None:
            with contextlib.suppress(OSError):
                staged.temporary.close()
            with contextlib.suppress(OSError, Impediment):
                staged.temporary.discard(self._directories.parent(path))
        if kept is not None:
            with contextlib.suppress(OSError):
                self._backups.drop(kept)

    def _prune(self, path: ManagedPath) -> None:
        """Let old backups go. This is housekeeping: that it failed is no reason to call a file undone."""
        kept = self._kept.get(path)
        if kept is not None:
            with contextlib.suppress(OSError):
                self._backups.prune(path, kept)


def _read(fd: int) -> bytes:
    """Return the next piece of a local source, b"" at its end or when it can be read no further."""
    try:
        return os.read(fd, COPY_BYTES)
    except OSError:
        return b""


def _reason(error: Impediment | OSError) -> str:
    return reason_of(error) if isinstance(error, OSError) else str(error)


def _by_directory(paths: Iterable[ManagedPath]) -> list[list[ManagedPath]]:
    together: dict[tuple[str, ...], list[ManagedPath]] = {}
    for path in paths:
        together.setdefault(parent_of(path), []).append(path)
    return list(together.values())
