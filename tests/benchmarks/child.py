"""A process of the measured mesh: started and ended here, and asked the kernel what it uses."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
END_TIMEOUT_S = 10.0

_CPUCLOCK_SCHED = 2
_RESET_PEAK = "5"


class Child:
    """One role in the mesh, which may die and be started again; its CPU time counts over all of its lives."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._cpu_ns_before = 0

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert self._process is None, f"{self.name} runs already"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def terminate(self) -> None:
        """End it in order; at once if it does not end in time."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def cpu_ns(self) -> int:
        """CPU time of all threads since the first start, user and system, to the nanosecond."""
        running_ns = time.clock_gettime_ns((~self.pid << 3) | _CPUCLOCK_SCHED) if self.is_running else 0
        return self._cpu_ns_before + running_ns

    def rss_mb(self) -> float:
        """Resident memory now."""
        return self._status_mb("VmRSS")

    def peak_mb(self) -> float:
        """The most resident memory since its start or the last `forget_peak`."""
        return self._status_mb("VmHWM")

    def forget_peak(self) -> None:
        """Begin a new peak; where the kernel does not allow it the peak is that since the start."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{self.pid}/clear_refs").write_text(_RESET_PEAK)

    def log_tail(self, lines: int = 5) -> str:
        """Return the last words of the process."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._cpu_ns_before = self.cpu_ns()
        process, self._process = self._process, None
        process.send_signal(number)
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _status_mb(self, key: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return round(int(line.split()[1]) / 1024, 1)
        return 0.0


def own_cpu_ns() -> int:
    """CPU time of the measuring process itself."""
    return time.clock_gettime_ns((~os.getpid() << 3) | _CPUCLOCK_SCHED)
