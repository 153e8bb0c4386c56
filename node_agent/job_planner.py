"""Makes a runner's plan of a job, with the OS definition as it is on the disk now and the node's own key."""

from collections.abc import Callable
from pathlib import Path

from node_agent.core import job_plan
from node_agent.core.job_plan import Limits
from node_agent.core.run_plan import RunPlan
from node_agent.os_search import OsSearch
from protocol import durable
from protocol.errors import Refused, Unavailable
from protocol.os_messages import Confidential, OsJob


class JobPlanner:
    """`directory` is where the journal keeps jobs. Waits for the disk."""

    def __init__(
        self, search: OsSearch, unseal: Callable[[bytes], Confidential], limits: Limits, directory: Path
    ) -> None:
        self._search = search
        self._unseal = unseal
        self._limits = limits
        self._directory = directory

    def plan(self, job: OsJob) -> RunPlan:
        """Return what to run; Refused says why this node cannot."""
        definition = self._search.definition(job.os)
        if definition is None:
            raise Refused(f"there is no OS {job.os} on {job.node}; see: gnt-mesh os diagnose")
        plan = job_plan.plan(job, definition, self._unseal(job.sealed), self._limits, str(self._directory / job.id))
        for step in plan.steps:
            if step.stdout_file:
                _make_room(Path(step.stdout_file))
        return plan


def _make_room(target: Path) -> None:
    """An export's own directory is made for it."""
    try:
        durable.make_directory(target.parent)
    except OSError as error:
        raise Unavailable(f"{target.parent}: {error.strerror}") from error
