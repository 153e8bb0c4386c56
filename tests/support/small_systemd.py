"""Starts gnt-mesh-os@ units as systemd does, as far as the helper can tell: program, input, what comes after it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from node_agent import os_run
from protocol.errors import Unavailable


class SmallSystemd:
    """`refuses` is what it says instead of starting anything."""

    def __init__(self, plans_dir: Path, jobs_dir: Path) -> None:
        self.units: dict[str, subprocess.Popen[bytes]] = {}
        self.refuses = ""
        self.breaks = False
        """Whatever is started ends at once."""
        self.started: list[str] = []
        self._plans_dir = plans_dir
        self._jobs_dir = jobs_dir

    def start(self, unit: str) -> None:
        self.started.append(unit)
        if self.refuses:
            raise Unavailable(self.refuses)
        plan = self._plans_dir / f"{_job_of(unit)}.plan"
        program = ["/bin/false"] if self.breaks else [sys.executable, "-m", os_run.__name__]
        with plan.open("rb") as given, (self._plans_dir / "journal").open("ab") as journal:
            self.units[unit] = subprocess.Popen(program, stdin=given, stdout=journal, start_new_session=True)
        plan.unlink()

    def stop(self, unit: str) -> None:
        self.units[unit].send_signal(signal.SIGTERM)

    def is_active(self, unit: str) -> bool:
        return self.units[unit].poll() is None

    def kill(self, unit: str) -> None:
        """kill -9 of the main process: the rest of the group goes with it, and then ExecStopPost= runs."""
        process = self.units[unit]
        process.kill()
        process.wait()
        environment = os.environ | {"SERVICE_RESULT": "signal", "EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}
        place = str(self._jobs_dir / _job_of(unit))
        subprocess.run([sys.executable, "-m", os_run.__name__, "--ended", place], env=environment, check=True)

    @property
    def journal(self) -> str:
        return (self._plans_dir / "journal").read_text()

    def close(self) -> None:
        for process in self.units.values():
            process.kill()
            process.wait()


def _job_of(unit: str) -> str:
    return unit.removeprefix("gnt-mesh-os@").removesuffix(".service")
