"""A node's job keeper on the memory bus, with real runners and scripts, and a master that only posts boards."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from node_agent.core.run_plan import RunPlan, Step
from node_agent.job_keeper import JobKeeper, Starter
from node_agent.journal import Journal
from node_agent.runners import Runners
from protocol.bus import JobsHeard
from protocol.errors import Refused
from protocol.job_messages import JobBoard, JobState
from protocol.names import ALL
from protocol.os_messages import OsJob
from tests.contract.harness import Ears
from tests.support.builders import NODE1
from tests.support.job_rig import script
from tests.support.job_values import a_board, a_job
from tests.support.memory_bus import MemoryBroker

WAIT_S = 30.0
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class KeeperRig:
    """`scripts` is the OS: a job's OS name is the name of its script."""

    def __init__(
        self,
        tmp_path: Path,
        *,
        limit: int = 2,
        starter: Callable[[], Starter] = lambda: Runners(keeps_spare=True),
    ) -> None:
        self._starter = starter
        self.tmp_path = tmp_path
        self.jobs_dir = tmp_path / "jobs"
        self.scripts = tmp_path / "scripts"
        self.count = tmp_path / "count"
        self.limit = limit
        self.time_limit_s = 60.0
        self.broker = MemoryBroker()
        self.broker.grant_only({NODE1: [ALL]})
        self.broker.reload()
        self.ears = Ears()
        self.master = self.broker.master(self.ears)
        self.serial = 0
        self.journal: Journal
        self.keeper: JobKeeper
        self._running: asyncio.Task[None] | None = None

    def os(self, name: str, text: str) -> None:
        """Have an OS whose every run is counted."""
        script(self.scripts, f"echo $JOB >> {self.count}\n{text}", name)

    def runs(self) -> list[str]:
        """Return the ids of the jobs that began, each time that they did."""
        return self.count.read_text().split() if self.count.exists() else []

    def prepare(self, job: OsJob) -> RunPlan:
        path = self.scripts / job.os
        if not path.exists():
            raise Refused(f"OS {job.os} is not on this node")
        step = Step(name=job.action, argv=(str(path),), env={"PATH": PATH, "JOB": job.id}, cwd=str(self.scripts))
        directory = str(self.jobs_dir / job.id)
        return RunPlan(job=job.id, directory=directory, steps=(step,), time_limit_s=self.time_limit_s)

    async def start(self) -> None:
        """Start an agent's keeper, as after the start of its process."""
        self.agent_bus = self.broker.agent(NODE1, lambda event: None)
        self.journal = Journal(self.jobs_dir, old_max=5)
        self.keeper = JobKeeper(
            self.journal,
            self._starter(),
            self.prepare,
            limit=self.limit,
            report_again_s=0.2,
            retry_first_s=0.05,
            retry_longest_s=0.1,
        )
        await self.master.prepare([ALL])
        self._running = asyncio.create_task(self.keeper.run(self.agent_bus))
        self.keeper.look()

    async def stop(self) -> None:
        """End the keeper; runners go on, as when an agent is killed."""
        if self._running:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            await self.agent_bus.close()
            self._running = None

    async def post(self, *jobs: OsJob | str, cancelled: Iterable[str] = (), **more: Any) -> JobBoard:
        self.serial += 1
        board = a_board(*jobs, cancelled=cancelled, **({"serial": self.serial} | more))
        await self.master.post_board(board)
        self.keeper.look()
        return board

    async def state(self, job: str, *statuses: str) -> JobState:
        """Return what the node says of a job as soon as that is one of these statuses."""
        async with asyncio.timeout(WAIT_S):
            while True:
                heard = await self.ears.next(JobsHeard)
                for state in heard.report.states:
                    if state.id == job and state.status in statuses:
                        return state

    async def acted_on(self, board: JobBoard) -> None:
        """Return when the node has said that it acts on this board."""
        async with asyncio.timeout(WAIT_S):
            while (await self.ears.next(JobsHeard)).report.version < board.version:
                continue


def job_of(os: str, job: str = "job-1", **more: Any) -> OsJob:
    return a_job(job, os=os, **more)
