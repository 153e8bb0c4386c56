"""Finds OS definitions on this node's disk: the search path, its directories, their files. Decides nothing of them.

A file is read only if it is a regular one of a sane size; links are followed, because definitions share files by links
(debootstrap's `variants.list` is one into /etc/ganeti). The search path is for the node's administrator to guard.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from node_agent.core.os_definition import SCRIPTS, TEXTS, VERIFY, OsDirectory, judge
from protocol.messages import REASON_CHARS_MAX
from protocol.names import NodeName
from protocol.os_messages import DEFINITIONS_MAX, PROBLEMS_MAX, OsDefinition, OsReport

TEXT_BYTES_MAX: Final = 64 * 1024
IGNORED: Final = ("lost+found",)
"""Of mount points; so are names that begin with a dot."""


class OsSearch:
    """The search path of one node: below the node's own root first, and then the system's own."""

    def __init__(self, node: NodeName, root: Path, search_path: Sequence[str]) -> None:
        self._node = node
        root = Path(os.path.abspath(root))  # noqa: PTH100 - the links of the root's own path stay links
        below = [root / path.lstrip("/") for path in search_path]
        self._places = tuple(dict.fromkeys([*below, *map(Path, search_path)]))

    def report(self) -> OsReport:
        """Return every OS definition there is, usable or not, in the order of the search path."""
        problems: list[str] = []
        definitions = [judge(_read(place / name)) for place in self._places for name in _entries(place, problems)]
        if len(definitions) > DEFINITIONS_MAX:
            problems.append(f"{len(definitions)} OS definitions, of which the first {DEFINITIONS_MAX} are looked at")
        return OsReport(
            node=self._node,
            definitions=tuple(definitions[:DEFINITIONS_MAX]),
            problems=tuple(problem[:REASON_CHARS_MAX] for problem in problems[:PROBLEMS_MAX]),
        )

    def definition(self, name: str) -> OsDefinition | None:
        """Return the definition that is used for a base name, as it is on the disk now; None if there is none."""
        for place in self._places:
            if name in _entries(place, []):
                return judge(_read(place / name))
        return None

    def watch_directories(self) -> set[Path]:
        """Return the directories to watch, each by itself, to see every change that matters."""
        watched: set[Path] = set()
        for place in self._places:
            watched.add(_nearest_directory(place))
            for name in _entries(place, []):
                watched |= set(_directories_of(place / name))
        return watched


def _entries(place: Path, problems: list[str]) -> list[str]:
    try:
        names = [entry.name for entry in place.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{_shown(place)}: {os.strerror(error.errno or 0)}")
        return []
    return sorted(name for name in names if not name.startswith(".") and name not in IGNORED)


def _read(directory: Path) -> OsDirectory:
    name, shown = _shown(directory.name)[:255], _shown(directory)[:4096]
    try:
        if not stat.S_ISDIR(directory.stat().st_mode):
            return OsDirectory(name, shown, faults={"": "it is not a directory"})
    except OSError as error:
        return OsDirectory(name, shown, faults={"": os.strerror(error.errno or 0)})
    texts: dict[str, str] = {}
    faults: dict[str, str] = {}
    for file in TEXTS:
        try:
            texts[file] = _text(directory / file)
        except FileNotFoundError:
            if (directory / file).is_symlink():
                faults[file] = "is a link to something that does not exist"
        except (OSError, ValueError) as error:
            faults[file] = _reason(error)
    scripts = set()
    for file in (*SCRIPTS, VERIFY):
        try:
            _check_script(directory / file)
            scripts.add(file)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            faults[file] = _reason(error)
    return OsDirectory(name, shown, texts, frozenset(scripts), faults)


def _text(path: Path) -> str:
    """Return a file's content. A FIFO or a device is not opened for reading: that might never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        raw = file.read(TEXT_BYTES_MAX + 1)
    if len(raw) > TEXT_BYTES_MAX:
        raise ValueError(f"is larger than {TEXT_BYTES_MAX} bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("is not valid UTF-8") from error


def _check_script(path: Path) -> None:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError("is not a regular file")
    if not mode & stat.S_IXUSR:
        raise ValueError("is not executable by its owner")


def _directories_of(directory: Path) -> Iterator[Path]:
    """Yield where a change of one definition shows: its directory, and those that its links lead into."""
    try:
        real = directory.resolve(strict=True)
        if real.is_dir():
            yield real
        elif not directory.is_symlink():
            return
        for file in (*TEXTS, *SCRIPTS, VERIFY):
            if (real / file).is_symlink():
                yield _nearest_directory((real / file).resolve().parent)
    except (OSError, RuntimeError):
        return


def _nearest_directory(path: Path) -> Path:
    """Return the deepest directory on the way to a path that is there: the rest would appear in it."""
    return next(above for above in (path, *path.parents) if above.is_dir())


def _reason(error: OSError | ValueError) -> str:
    return f"cannot be read: {os.strerror(error.errno or 0)}" if isinstance(error, OSError) else str(error)


def _shown(path: Path | str) -> str:
    """Return a path as text that can travel and be shown, whatever bytes it is made of."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
