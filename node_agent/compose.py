"""How one node's parts are put together of its settings: for the agent, and for the privileged process beside it."""

from collections.abc import Callable
from pathlib import Path

from node_agent.core.job_plan import Limits
from node_agent.disk import LocalDisk
from node_agent.files import NodeFiles
from node_agent.job_keeper import JobKeeper, Starter
from node_agent.job_planner import JobPlanner
from node_agent.journal import Journal
from node_agent.ledger import Ledger
from node_agent.os_search import OsSearch
from node_agent.runners import Runners
from node_agent.settings import NO_TETHER, PROTECTED_PATHS, AgentSettings
from protocol import durable, identity, sealing
from protocol.os_messages import Confidential

OLD_JOBS_MAX = 20
"""How many jobs that the master has taken note of keep their output on the node."""


def local_disk(settings: AgentSettings, ledger: Ledger, state_dir: Path) -> LocalDisk:
    """Return the node's disk as the settings allow it; backups are below `state_dir`."""
    backups = state_dir / "backups"
    durable.make_directory(backups)
    files = NodeFiles(settings.root, allowed=settings.allowed_paths, protected=PROTECTED_PATHS, backups=backups)
    return LocalDisk(files, ledger, os_search(settings), watch_step_ms=settings.watch_step_ms)


def job_keeper(settings: AgentSettings, directory: Path, runners: Starter | None = None) -> JobKeeper:
    """Return what keeps the node's jobs going, with its journal in `directory`. Without `runners` they are ours."""
    tether = str(settings.tether.absolute()) if settings.tether != NO_TETHER else ""
    limits = Limits(transfer_paths=settings.transfer_paths, tether=tether)
    planner = JobPlanner(os_search(settings), unsealing(settings), limits, directory)
    return JobKeeper(
        Journal(directory, old_max=OLD_JOBS_MAX),
        runners or Runners(keeps_spare=settings.spare_runner),
        planner.plan,
        limit=settings.jobs_at_once,
        report_again_s=settings.beat_interval_s,
        retry_first_s=settings.retry_first_s,
        retry_longest_s=settings.retry_longest_s,
    )


def os_search(settings: AgentSettings) -> OsSearch:
    return OsSearch(settings.node, settings.root, settings.os_search_path)


def unsealing(settings: AgentSettings) -> Callable[[bytes], Confidential]:
    """Return what opens what was sealed for this node, whose key may have been renewed since the agent started."""
    return lambda sealed: sealing.unseal(sealed, identity.read_seed(settings.seed_file))
