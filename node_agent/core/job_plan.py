"""A job and the node's own OS definition -> what its runner has to run. Pure.

What a script gets besides its environment is Ganeti's (ganeti-behaviour, d.2): its directory, an input that ends at
once, no argument but verify's, and a umask that keeps an export private.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final

from node_agent.core import os_env
from node_agent.core.os_env import Descriptors
from node_agent.core.run_plan import PROGRESS_FD, SIZE_FD, RunPlan, Step
from protocol.errors import Refused
from protocol.os_messages import Confidential, OsDefinition, OsJob, OsTransfer

VERIFY_SINCE: Final = 20
"""The API version with which the script `verify` came."""

UMASK: Final = 0o022
PRIVATE_UMASK: Final = 0o077


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the node's own settings say of every job."""

    transfer_paths: tuple[str, ...]
    """An export is written, and an import read, only below one of these."""
    tether: str = ""
    log_head_bytes: int = 8 * 1024 * 1024
    log_tail_bytes: int = 1024 * 1024


def plan(job: OsJob, definition: OsDefinition, confidential: Confidential, limits: Limits, directory: str) -> RunPlan:
    """Return the job's steps, in order. Refused if this node cannot, or by its settings will not, run it.

    Before a create the OS's own verify looks at the parameters, so that a wrong one harms no disk.
    """
    if job.action in ("create", "verify"):
        os_env.check(definition, job, confidential)
    version = definition.api_version or 0
    steps = []
    if job.action in ("create", "verify") and version >= VERIFY_SINCE:
        steps.append(_verify(job, definition, confidential))
    if job.action == "verify" and not steps:
        raise Refused(f"OS {job.os} on {job.node} has no verify script: that came with OS API {VERIFY_SINCE}")
    if job.action != "verify":
        steps += _runs(job, definition, confidential, limits.transfer_paths)
    return RunPlan(
        job=job.id,
        directory=directory,
        steps=tuple(steps),
        time_limit_s=job.timeout_s,
        tether=limits.tether,
        log_head_bytes=limits.log_head_bytes,
        log_tail_bytes=limits.log_tail_bytes,
    )


def descriptors(job: OsJob) -> Descriptors:
    """Return the descriptors that a job's script is told of."""
    return Descriptors(size=SIZE_FD if job.action == "export" else None, progress=PROGRESS_FD)


def _verify(job: OsJob, definition: OsDefinition, confidential: Confidential) -> Step:
    asked = replace(job, action="verify", instance=None, is_reinstall=False)
    step = _step(asked, definition, confidential, None)
    return replace(step, argv=(*step.argv, "parameters"))


def _runs(
    job: OsJob, definition: OsDefinition, confidential: Confidential, transfer_paths: Collection[str]
) -> Iterator[Step]:
    """One run of the script, or one for each disk that is exported or imported."""
    if not job.transfers:
        yield _step(job, definition, confidential, None)
    for transfer in job.transfers:
        if not any(transfer.path.startswith(f"{path.rstrip('/')}/") for path in transfer_paths):
            raise Refused(
                f"{transfer.path} is not below a path that {job.node} allows for exports and imports "
                f"({', '.join(transfer_paths)}); allow it there: transfer_paths in agent.toml"
            )
        yield _step(job, definition, confidential, transfer)


def _step(job: OsJob, definition: OsDefinition, confidential: Confidential, transfer: OsTransfer | None) -> Step:
    told = descriptors(job)
    variables = os_env.environment(definition, job, confidential, transfer=transfer, descriptors=told).variables
    many = transfer is not None and len(job.transfers) > 1
    return Step(
        name=f"{job.action} of disk {transfer.disk}" if transfer and many else job.action,
        argv=(f"{definition.directory}/{job.action}",),
        env=dict(variables),
        cwd=definition.directory,
        umask=PRIVATE_UMASK if transfer else UMASK,
        stdin_file=transfer.path if transfer and job.action == "import" else "",
        stdout_file=transfer.path if transfer and job.action == "export" else "",
        has_size_fd=os_env.SIZE_FD in variables,
        has_progress_fd=os_env.PROGRESS_FD in variables,
    )
