"""A change that ends as a job: ask, say what was done, follow the job, say how that ended."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import click

from master.cli import options
from master.cli.change import ask_for, tell_preview
from master.cli.connect import Session, with_bus
from master.cli.failures import DONE
from master.cli.job import job_shape, job_took
from master.cli.job_following import follow, tell_end
from master.cli.options import remarks
from master.cli.os_options import sealed
from master.cli.output import emit_json, emit_lines
from master.cli.shapes import changed_shape
from protocol.instance_messages import InstanceAdd, InstanceExport, InstanceReinstall, InstanceRename, JobWishes
from protocol.os_names import job_id

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Following:
    """The flags of `job_options`."""

    submit: bool
    no_wait: bool
    own_id: str | None
    time_limit: float
    debug: int

    @property
    def wishes(self) -> JobWishes:
        return JobWishes(
            id=job_id(self.own_id or secrets.token_hex(6)),
            waits_for_node=not self.no_wait,
            debug_level=min(self.debug, 9),
            timeout_s=self.time_limit,
        )


@dataclass(frozen=True, slots=True)
class Confidences:
    """Private and secret OS parameters as given on the command line."""

    private: dict[str, str] = field(default_factory=dict, repr=False)
    secret: dict[str, str] = field(default_factory=dict, repr=False)


def job_options(command: F) -> F:
    """`--submit`, `--no-wait`, `--job-id`, `--time-limit` and `-d`."""
    for option in (
        click.option("-d", "--debug", count=True, help="The DEBUG_LEVEL of the script; repeatable."),
        click.option(
            "--time-limit",
            type=options.seconds,
            default="86400",
            show_default=True,
            metavar="SECONDS",
            help="End the script after so long.",
        ),
        click.option("--job-id", "own_id", type=_job_id, metavar="ID", help="The same id twice is one job."),
        click.option("--no-wait", is_flag=True, help="Refuse instead of waiting for a node that is not online."),
        click.option("--submit", is_flag=True, help="Print the job's id and return, instead of following it."),
    ):
        command = option(command)
    return command


def change_with_job(
    verb: str,
    request: InstanceAdd | InstanceReinstall | InstanceRename | InstanceExport,
    following: Following,
    *,
    confidences: Confidences | None = None,
    as_json: bool,
) -> int:
    """Ask for a change and follow its job. Returns 0 for success alone."""
    given = remarks(click.get_current_context())

    async def work(session: Session) -> int:
        asked: Any = replace(request, by=session.asker(), reason=given.reason, dry_run=given.dry_run)
        if confidences and (confidences.private or confidences.secret):
            asked = replace(asked, sealed=await sealed(session, confidences.private, confidences.secret))
        changed = await ask_for(session, verb, asked)
        if changed.preview:
            return tell_preview(changed.done, changed.preview, as_json=as_json)
        job = changed.job
        if not as_json:
            emit_lines(changed.done)
        if not job or following.submit:
            if as_json:
                emit_json({**changed_shape(changed), "job_id": job or None})
            return DONE
        end = await follow(session, job, timeout_s=None, show_output=not as_json)
        if end and end.status == "success" and not as_json:
            emit_lines([f"Job {job} has succeeded, after {job_took(end)}."])
        if as_json:
            emit_json({**changed_shape(changed), "job_id": job, "job": job_shape(end) if end else None})
        return tell_end(job, end, timeout_s=None)

    return with_bus(work)


def _job_id(text: str) -> str:
    try:
        return job_id(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
