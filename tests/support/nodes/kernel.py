"""What the lab asks of the kernel: commands, mounts, control groups."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

COMMAND_TIMEOUT_S = 120.0
DROP_TIMEOUT_S = 10.0


class Failed(Exception):
    """A command that should have worked has not; the message has its output."""


def run(*words: str | Path, check: bool = True, text: str = "") -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    done = subprocess.run(
        [str(word) for word in words],
        input=text,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if check and done.returncode:
        raise Failed(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def mount(source: str | Path, target: str | Path, kind: str = "", options: str = "", *flags: str) -> None:
    kinds = ("-t", kind) if kind else ()
    chosen = ("-o", options) if options else ()
    run("mount", *flags, *kinds, *chosen, source, target)


def bind(source: str | Path, target: str | Path) -> None:
    mount(source, target, "", "", "--rbind")


def start_time(pid: int) -> str:
    """Return when a process was started, in the kernel's count; empty if there is none. With the pid it is unique."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rsplit(")", 1)[1].split()[19]


def own_group() -> Path | None:
    """Return the directory of this process' group in the unified hierarchy, None where that is not mounted."""
    mounted = None
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 ") and left.split()[3] == "/":
            mounted = left.split()[4]
    own = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    return Path(mounted + own[0].rstrip("/")) if mounted and own else None


def in_group(group: Path, command: list[str]) -> list[str]:
    """Return a command that enters a control group and then is the other one: nothing of Python runs after a fork."""
    return ["sh", "-c", 'echo 0 >"$0" && exec "$@"', str(group / "cgroup.procs"), *command]


def drop_group(group: Path) -> None:
    """Kill whatever lives in a control group, and remove it."""
    deadline_s = time.monotonic() + DROP_TIMEOUT_S
    while group.exists():
        with contextlib.suppress(OSError):
            (group / "cgroup.kill").write_text("1")
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(directory).rmdir()
        if time.monotonic() > deadline_s:
            raise Failed(f"control group {group} cannot be removed")
