"""The way to a managed file: which paths this node allows, and their directories, opened without following a link.

Nothing here writes a file. A directory is reached from the node's root component by component, each opened relative
to the one above it, so that a link swapped in on the way is refused and not followed.
"""

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from protocol import durable
from protocol.names import PATHS_REMEMBERED_MAX, ManagedPath, managed_path

DIRECTORIES_OPEN_MAX: Final = 200
PATH_SHOWN_CHARS_MAX: Final = 100
REASON_CHARS_MAX: Final = 299


class Impediment(Exception):
    """What stands in the way of one path; other paths are not concerned."""


class Tree:
    """The part of a node's file system that the mesh may see."""

    def __init__(self, root: Path, allowed: Sequence[str], protected: Sequence[str]) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - the links of the root's own path stay links
        self._allowed = tuple(allowed)
        self._protected = tuple(protected)
        for prefix in (*allowed, *protected):
            assert prefix.startswith("/"), f"{prefix!r} is not an absolute path prefix"
        self._refusals = functools.lru_cache(PATHS_REMEMBERED_MAX)(self._refusal)

    def refusal(self, path: ManagedPath) -> str | None:
        """Return why this node does not let the mesh touch a path, None if it does."""
        return self._refusals(path)

    def managed_path_of(self, real: Path) -> ManagedPath | None:
        """Return the managed path of a real one; None outside the root, and for temporaries of ours."""
        try:
            path = managed_path("/" + str(real.relative_to(self.root)))
        except ValueError:
            return None
        return None if any(durable.is_temporary(name) for name in path.split("/")) else path

    def _refusal(self, path: ManagedPath) -> str | None:
        try:
            managed_path(path)
        except ValueError as error:
            return clipped(str(error))
        if any(durable.is_temporary(name) for name in path.split("/")):
            return clipped(f"{shown(path)} is a name of the mesh's own temporary files")
        for prefix in self._protected:
            if path == prefix.rstrip("/") or _is_below(path, prefix):
                return clipped(f"{shown(path)} is protected on this node, as all of {prefix}")
        if not any(_is_below(path, prefix) for prefix in self._allowed):
            return clipped(f"{shown(path)} is outside the paths this node allows: {', '.join(self._allowed)}")
        return None


class Directories:
    """Directories of one tree, kept open while one piece of work needs them. Close after use."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._open: dict[tuple[str, ...], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        return bool(self._open)

    def parent(self, path: ManagedPath, *, make: bool = False) -> int:
        """Return a descriptor of the directory a path lies in, valid until the next call.

        FileNotFoundError if it is absent, unless it is to be made; Impediment if the way is barred.
        """
        components = parent_of(path)
        if components not in self._open:
            if len(self._open) >= DIRECTORIES_OPEN_MAX:
                self.close()
            self._open[components] = self._walk(components, path, make)
        return self._open[components]

    def check_in_place(self, path: ManagedPath) -> None:
        """Impediment if the directory that `parent` returned is no longer the one that the path leads to."""
        components = parent_of(path)
        try:
            now = self._walk(components, path, make=False)
        except FileNotFoundError:
            raise Impediment(f"the directory of {shown(path)} was removed meanwhile") from None
        try:
            if not os.path.samestat(os.fstat(now), os.fstat(self.parent(path))):
                raise Impediment(f"the directory of {shown(path)} was replaced by another one meanwhile")
        finally:
            os.close(now)

    def nearest(self, path: ManagedPath) -> Path | None:
        """Return the deepest real directory on the way to a path; None if not even the root is there."""
        components = parent_of(path)
        for depth in range(len(components), -1, -1):
            with contextlib.suppress(OSError, Impediment):
                os.close(self._walk(components[:depth], path, make=False))
                return self._tree.root.joinpath(*components[:depth])
        return None

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _walk(self, components: tuple[str, ...], path: ManagedPath, make: bool) -> int:
        if make:
            durable.make_directory(self._tree.root, mode=0o755)
        here = os.open(self._tree.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for depth in range(len(components)):
            above = here
            try:
                here = _step(above, components[: depth + 1], path, make)
            finally:
                os.close(above)
        return here


def look(directory: int, path: ManagedPath) -> os.stat_result | None:
    """Return the status of the regular file at a path, None if nothing is there; Impediment names anything else."""
    try:
        status = os.stat(name_of(path), dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise Impediment(f"{shown(path)} is {_kind(status.st_mode)}")
    return status


def name_of(path: ManagedPath) -> str:
    """Return the last component."""
    return path.rpartition("/")[2]


def parent_of(path: ManagedPath) -> tuple[str, ...]:
    """Return the components of the directory a path lies in; the root has none."""
    return tuple(path.split("/")[1:-1])


def shown(path: str) -> str:
    """Return a path as a reason says it: a long one by its end, which tells more."""
    return path if len(path) <= PATH_SHOWN_CHARS_MAX else "…" + path[1 - PATH_SHOWN_CHARS_MAX :]


def clipped(reason: str) -> str:
    """Return a reason, cut to what a receipt carries."""
    return reason if len(reason) <= REASON_CHARS_MAX else reason[: REASON_CHARS_MAX - 1] + "…"


def reason_of(error: OSError) -> str:
    """Return what the operating system says, without the path it may name: a temporary's tells nobody anything."""
    return error.strerror or type(error).__name__


def _is_below(path: str, prefix: str) -> bool:
    return path.startswith(prefix.rstrip("/") + "/")


def _step(above: int, components: tuple[str, ...], path: ManagedPath, make: bool) -> int:
    name = components[-1]
    here = f"{shown('/' + '/'.join(components))} on the way to {shown(path)}"
    try:
        return os.open(name, durable.DIRECTORY_FLAGS, dir_fd=above)
    except FileNotFoundError:
        if not make:
            raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            mode = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
            raise Impediment(f"{here} is {_kind(mode)}") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise Impediment(f"{here}: {reason_of(error)}") from None
        raise
    return _make(above, name)


def _make(above: int, name: str) -> int:
    try:
        os.mkdir(name, 0o755, dir_fd=above)
    except FileExistsError:
        return os.open(name, durable.DIRECTORY_FLAGS, dir_fd=above)
    made = os.open(name, durable.DIRECTORY_FLAGS, dir_fd=above)
    try:
        os.fchmod(made, 0o755)
        os.fsync(above)
    except OSError:
        os.close(made)
        raise
    return made


def _kind(mode: int) -> str:
    match stat.S_IFMT(mode):
        case stat.S_IFREG:
            return "a regular file"
        case stat.S_IFLNK:
            return "a symbolic link"
        case stat.S_IFDIR:
            return "a directory"
        case stat.S_IFIFO:
            return "a FIFO"
        case stat.S_IFSOCK:
            return "a socket"
        case _:
            return "a device"
