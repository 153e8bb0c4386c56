"""Starts runners as units of systemd, gnt-mesh-os@JOB.service: each with its own control group, sandbox and limits.

What they run is told in a file that only root can read, on a file system in memory; it is gone once the runner has it.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from node_agent import os_run
from node_agent.core import run_plan
from node_agent.core.run_plan import RunPlan
from protocol import durable
from protocol.errors import Unavailable
from protocol.os_names import JobId, job_id

PLANS_DIR: Final = Path("/run/gnt-mesh-jobs")
LOOK_AFTER_S: Final = 2.0
"""Who has not begun by then is asked for."""


class Manager(Protocol):
    """What is needed of systemd (`systemd_bus`)."""

    def start(self, unit: str) -> None: ...

    def stop(self, unit: str) -> None: ...

    def is_active(self, unit: str) -> bool: ...


class UnitRunners:
    """Used from one task alone, in threads."""

    def __init__(self, systemd: Manager, plans_dir: Path = PLANS_DIR) -> None:
        self._systemd = systemd
        self._plans_dir = plans_dir
        self._launched: dict[JobId, tuple[Path, float]] = {}

    def warm_up(self) -> None:
        """No unit waits for work."""

    def launch(self, plan: RunPlan) -> None:
        """Have systemd run a job; Unavailable in its words if it does not."""
        job = job_id(plan.job)
        file = self._plans_dir / f"{job}.plan"
        try:
            durable.write_file(file, run_plan.to_json(replace(plan, is_echoed=True)))
        except OSError as error:
            raise Unavailable(f"{file}: {error.strerror}") from error
        try:
            self._systemd.start(unit_of(job))
        except Unavailable:
            file.unlink(missing_ok=True)
            raise
        self._launched[job] = (Path(plan.directory), time.monotonic())

    def stop(self, job: JobId) -> None:
        """End the unit: its runner in order, and in the end whatever is left."""
        self._systemd.stop(unit_of(job))

    @property
    def alive(self) -> frozenset[JobId]:
        return frozenset(self._launched)

    def reap(self) -> set[JobId]:
        """Return the jobs whose unit ended before they began; those that began are told by their lock from then on."""
        now_s = time.monotonic()
        ended = set()
        for job, (directory, launched_s) in list(self._launched.items()):
            if (directory / os_run.STARTED).exists():
                del self._launched[job]
            elif now_s - launched_s > LOOK_AFTER_S and not self._systemd.is_active(unit_of(job)):
                del self._launched[job]
                ended.add(job)
        return ended

    def dismiss(self) -> None:
        """Nobody waits, and who works stays."""


def unit_of(job: JobId) -> str:
    return f"gnt-mesh-os@{job}.service"
