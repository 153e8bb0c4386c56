"""Jobs for tests: scripts in a directory of the test's own, run by the real runner as the agent would."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from node_agent import os_run
from node_agent.core import run_plan
from node_agent.core.run_plan import RunPlan, Step

RUN_TIMEOUT_S = 30.0


def script(directory: Path, text: str, name: str = "create") -> Path:
    """Write an executable shell script."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


class RunnerRig:
    """One job's directory, and the runner that works there."""

    def __init__(self, tmp_path: Path, job: str = "job-1") -> None:
        self.os_directory = tmp_path / "os"
        self.directory = tmp_path / "jobs" / job
        self.directory.mkdir(parents=True)
        self.job = job
        self.process: subprocess.Popen[bytes] | None = None

    def step(self, text: str, **more: Any) -> Step:
        name = more.pop("name", "create")
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **more.pop("env", {})}
        argv = (str(script(self.os_directory, text, name)), *more.pop("arguments", ()))
        return Step(name=name, argv=argv, env=env, cwd=str(self.os_directory), **more)

    def plan(self, *steps: Step, **more: Any) -> RunPlan:
        limits = {"time_limit_s": 20.0} | more
        return RunPlan(job=self.job, directory=str(self.directory), steps=steps, **limits)

    def start(self, *steps: Step, **more: Any) -> "subprocess.Popen[bytes]":
        """Start a runner on these steps; the test ends it."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", os_run.__name__], stdin=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stdin
        self.process.stdin.write(run_plan.to_json(self.plan(*steps, **more)))
        self.process.stdin.close()
        return self.process

    def run(self, *steps: Step, **more: Any) -> dict[str, Any]:
        """Run these steps to their verdict."""
        self.start(*steps, **more).wait(RUN_TIMEOUT_S)
        return self.verdict()

    def verdict(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / os_run.VERDICT).read_bytes())
        return found

    def started(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / os_run.STARTED).read_bytes())
        return found

    @property
    def log(self) -> bytes:
        return (self.directory / "log").read_bytes()

    def wait(self) -> dict[str, Any]:
        assert self.process
        self.process.wait(RUN_TIMEOUT_S)
        return self.verdict()


def is_alive(pid: int) -> bool:
    """True if this process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def number_in(path: Path, timeout_s: float = RUN_TIMEOUT_S) -> int:
    """Return the number that a script writes into a file, as soon as it has."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            text = path.read_text()
        except FileNotFoundError:
            text = ""
        if text.endswith("\n"):
            return int(text)
        assert time.monotonic() < deadline_s, f"nothing in {path}"
        os.sched_yield()
