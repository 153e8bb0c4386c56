"""The processes of one job, however they hide from their parent, and how all of them are ended.

While the runner lives, it is the subreaper: whatever its script started, double-forked children included, descends from
it. When the runner was killed, its children went to another parent; what is left of the job is then known by the job's
output pipe, by the sessions of who holds it, and by the job's control group if it could have one.
"""

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_HIERARCHY_2: Final = "0::"


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table. `started` is in ticks since the machine's start."""

    pid: int
    parent: int
    session: int
    started: int
    is_zombie: bool


def table() -> dict[int, Process]:
    """Return all processes that can be seen now."""
    found = {}
    with os.scandir(PROC) as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdecimal()]
    for pid in pids:
        if process := of(pid):
            found[pid] = process
    return found


def of(pid: int) -> Process | None:
    """Return one process, None if there is none of that number."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    state, parent, _, session, *rest = text[text.rindex(")") + 2 :].split()
    return Process(pid, int(parent), int(session), int(rest[15]), state in "ZX")


def descendants(roots: Iterable[int], among: Mapping[int, Process]) -> set[int]:
    """Return the live processes below `roots`, without them."""
    children: dict[int, list[int]] = {}
    for process in among.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in found:
                found.add(pid)
                waiting.append(pid)
    return {pid for pid in found if not among[pid].is_zombie}


def orphans(*, pipe: int, cgroup: str, started: int) -> set[int]:
    """Return what is left of a job whose runner is gone.

    `pipe` is the inode of its output pipe. A process older than the runner cannot be of the job.
    """
    among = {pid: process for pid, process in table().items() if process.started >= started}
    holders = {pid for pid in among if pid != os.getpid() and _holds(pid, pipe)} | members(cgroup)
    sessions = {among[pid].session for pid in holders if pid in among} - {os.getsid(0)}
    found = holders | {pid for pid, process in among.items() if process.session in sessions}
    found |= descendants(found, among)
    return {pid for pid in found if pid in among and not among[pid].is_zombie and pid != os.getpid()}


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes; those that have ended meanwhile are none of our business any more."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def new_cgroup(name: str) -> str:
    """Return the path of a control group made for a job below our own; empty if there cannot be one."""
    try:
        own = next(line for line in _lines(PROC / "self/cgroup") if line.startswith(_HIERARCHY_2))
        mounts = (line.split(" ") for line in _lines(PROC / "self/mountinfo"))
        mount = next(fields[4] for fields in mounts if fields[fields.index("-") + 1] == "cgroup2")
        path = Path(mount + own.removeprefix(_HIERARCHY_2).rstrip("/")) / name
        path.mkdir(mode=0o755)
        if (path / "cgroup.kill").exists() and os.access(path / "cgroup.procs", os.W_OK):
            return str(path)
        path.rmdir()
    except (OSError, StopIteration, ValueError):
        return ""
    return ""


def enter_cgroup(path: str) -> None:
    """Put this process, and what it will start, into a control group."""
    with contextlib.suppress(OSError):
        (Path(path) / "cgroup.procs").write_text("0")


def members(cgroup: str) -> set[int]:
    """Return who is in a control group; nobody if it is empty, gone or was never made."""
    if not cgroup:
        return set()
    with contextlib.suppress(OSError):
        return {int(line) for line in _lines(Path(cgroup) / "cgroup.procs") if line}
    return set()


def kill_cgroup(cgroup: str) -> None:
    """Kill all in a control group, at once and without a way out."""
    if cgroup:
        with contextlib.suppress(OSError):
            (Path(cgroup) / "cgroup.kill").write_text("1")


def drop_cgroup(cgroup: str) -> None:
    if cgroup:
        with contextlib.suppress(OSError):
            Path(cgroup).rmdir()


def boot_id() -> str:
    """Return what names this run of the machine."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _holds(pid: int, pipe: int) -> bool:
    wanted = f"pipe:[{pipe}]"
    try:
        with os.scandir(PROC / str(pid) / "fd") as entries:
            return any(_target(entry) == wanted for entry in entries)
    except OSError:
        return False


def _target(entry: os.DirEntry[str]) -> str:
    try:
        return str(Path(entry.path).readlink())
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
