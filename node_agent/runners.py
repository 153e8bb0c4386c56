"""Starts runners: each a process in a session of its own, which goes on when we are gone.

One is kept waiting, with Python started and nothing to do, so that a job begins within milliseconds. It ends by itself
when we do.
"""

import os
import sys

from node_agent import os_run
from node_agent.core import run_plan
from node_agent.core.run_plan import RunPlan
from protocol import durable
from protocol.errors import Unavailable
from protocol.os_names import JobId


class Runners:
    """Used from one task alone, in threads."""

    def __init__(self, *, keeps_spare: bool) -> None:
        self._keeps_spare = keeps_spare
        self._spare: Runner | None = None
        self._launched: dict[JobId, Runner] = {}

    def warm_up(self) -> None:
        """Have a runner waiting, if one is to be kept."""
        if self._keeps_spare and (self._spare is None or self._spare.has_ended):
            self._spare = Runner()

    def launch(self, plan: RunPlan) -> None:
        """Hand a job to a runner; Unavailable if there cannot be one."""
        spare, self._spare = self._spare, None
        runner = spare if spare and spare.take(plan) else Runner()
        if runner is spare or runner.take(plan):
            self._launched[JobId(plan.job)] = runner
            return
        raise Unavailable(f"job {plan.job}: its runner ended before it could be told what to do")

    def stop(self, job: JobId) -> None:
        """A runner of ours sees by itself that its job is cancelled."""

    @property
    def alive(self) -> frozenset[JobId]:
        """The jobs of which a runner that we started was alive when we last reaped."""
        return frozenset(self._launched)

    def reap(self) -> set[JobId]:
        """Return the jobs of which the runner has ended since."""
        ended = {job for job, runner in self._launched.items() if runner.has_ended}
        for job in ended:
            del self._launched[job]
        return ended

    def dismiss(self) -> None:
        """Let the one that waits go; those at work stay."""
        if self._spare:
            self._spare.dismiss()


class Runner:
    """One process. It is spawned, not forked: this process has threads."""

    def __init__(self) -> None:
        read, self._plan = os.pipe2(os.O_CLOEXEC)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", os_run.__name__],
                _ENVIRONMENT,
                file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)],
                setsid=True,
            )
        except OSError as error:
            os.close(self._plan)
            raise Unavailable(f"no runner can be started: {error.strerror}") from error
        finally:
            os.close(read)
        self._has_ended = False

    @property
    def has_ended(self) -> bool:
        if not self._has_ended:
            try:
                self._has_ended = os.waitpid(self._pid, os.WNOHANG)[0] != 0
            except ChildProcessError:
                self._has_ended = True
        return self._has_ended

    def take(self, plan: RunPlan) -> bool:
        """Tell it what to run; False if it is not there any more."""
        try:
            durable.write_all(self._plan, run_plan.to_json(plan))
        except BrokenPipeError:
            return False
        finally:
            os.close(self._plan)
        return True

    def dismiss(self) -> None:
        """Have it end, having run nothing."""
        os.close(self._plan)
        os.waitpid(self._pid, 0)


_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""Of the runner; a script gets its own alone."""
