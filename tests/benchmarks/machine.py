"""On what the numbers were measured: without it they mean nothing."""

import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.child import REPOSITORY

_MOUNTS = Path("/proc/self/mounts")


def facts(directory: Path) -> dict[str, Any]:
    """Return the machine, the versions and the commit, and the file system that the mesh's files lie on."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": _said_by("git", "-C", str(REPOSITORY), "rev-parse", "HEAD"),
        "changed_files": len(_said_by("git", "-C", str(REPOSITORY), "status", "--porcelain").splitlines()),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _line_of(Path("/proc/cpuinfo"), "model name"),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "file_system": file_system(directory),
        "python": platform.python_version(),
        "nats_server": _said_by(str(Path(sys.prefix) / "bin" / "nats-server"), "--version"),
        "load_before": os.getloadavg()[0],
    }


def file_system(directory: Path) -> str:
    """Return the type of the file system that holds a directory."""
    here = directory.resolve()
    mounts = [line.split()[1:3] for line in _MOUNTS.read_text().splitlines()]
    holding = [(len(point), kind) for point, kind in mounts if here.is_relative_to(point)]
    return max(holding)[1] if holding else "unknown"


class Noise:
    """How busy everybody else kept the machine while we measured."""

    def __init__(self) -> None:
        self._busy_s, self._all_s = _machine_s()

    def percent(self) -> float:
        """Return the share of the machine's time that went neither to us nor to idling. After our processes ended."""
        busy_s, all_s = _machine_s()
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        ours_s = sum(one.ru_utime + one.ru_stime for one in used)
        return round(100 * max(busy_s - self._busy_s - ours_s, 0.0) / (all_s - self._all_s), 1)


def _machine_s() -> tuple[float, float]:
    """Return seconds of all cores: busy (for anybody, a hypervisor's other guests included), and in all."""
    first = Path("/proc/stat").read_text().splitlines()[0]
    user, nice, system, idle, waiting, irq, softirq, steal = (int(word) for word in first.split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    ticks = os.sysconf("SC_CLK_TCK")
    return busy / ticks, (busy + idle + waiting) / ticks


def _said_by(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _line_of(path: Path, key: str) -> str:
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
