"""`gnt-mesh job ...`: what is being installed, exported, imported where, and how it ended."""

from collections.abc import Sequence

import click

from master.cli import options
from master.cli.connect import Session, ask, with_bus
from master.cli.formats import moment, took
from master.cli.job_following import follow, progress_sentence, tell_end
from master.cli.lazy import MeshCommand, MeshGroup
from master.cli.output import emit_json, emit_lines, show
from protocol.operator_job_messages import JobCancel, JobInfo, JobInfos, JobQuery

Json = dict[str, object]


@click.group(cls=MeshGroup)
def job() -> None:
    """OS jobs: list, info, watch, cancel.

    The commands of instances make them: instance add, reinstall, rename, export, import. A job runs at most once: what
    a crash left half done is reported as interrupted, and is not run again by itself.
    """


@job.command("list", cls=MeshCommand)
@click.option("-n", "--node", type=options.node_name, metavar="NODE", help="Only the jobs of this node.")
@click.option("-i", "--instance", metavar="NAME", help="Only the jobs about this instance.")
@click.option("--active", is_flag=True, help="Only those that wait or run.")
@options.json_option
def list_jobs(node: str | None, instance: str | None, active: bool, as_json: bool) -> None:
    """List the jobs that the master has kept, the newest last."""
    query = JobQuery(node=node or "", instance=instance or "", only_active=active)
    jobs = ask("job.list", query, JobInfos).jobs
    if as_json:
        emit_json([job_shape(one) for one in jobs])
        return
    from master.cli.tables import table

    show(table(("Id", "Node", "Instance", "Action", "OS", "Status", "Started", "Took"), [_row(one) for one in jobs]))


@job.command(cls=MeshCommand)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@options.json_option
def info(ids: tuple[str, ...], as_json: bool) -> None:
    """Show all that is known of some jobs.

    \b
    gnt-mesh job info 17 --json | jq -r .status
    """
    jobs = ask("job.list", JobQuery(ids=ids), JobInfos).jobs
    if as_json:
        shapes = [job_shape(one) for one in jobs]
        emit_json(shapes[0] if len(shapes) == 1 else shapes)
        return
    from rich.console import Group

    from master.cli.tables import facts

    show(Group(*(facts(_facts(one)) for one in jobs)))


@job.command(cls=MeshCommand)
@click.argument("id", metavar="ID")
@click.option("--timeout", type=options.seconds, metavar="SECONDS", help="Give up watching after so long: exit code 2.")
def watch(id: str, timeout: float | None) -> int:
    """Follow a job: all its output, from the beginning and as it comes, until it has ended.

    Exit code 0: it succeeded. 1: it failed, was cancelled or interrupted. Ctrl-C ends the watching, not the job.
    """

    async def work(session: Session) -> int:
        return tell_end(id, await follow(session, id, timeout_s=timeout, show_output=True), timeout_s=timeout)

    return with_bus(work)


@job.command(cls=MeshCommand)
@click.argument("id", metavar="ID")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Return when it has ended, or at once.")
@click.option(
    "--timeout",
    type=options.seconds,
    default="30",
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for it.",
)
def cancel(id: str, wait: bool, timeout: float) -> int:
    """Cancel a job. One that waits never begins; one that runs is ended, with all its processes.

    Exit code 0: it has ended, and how is said: it may have come to its own end meanwhile. With --no-wait: it is asked
    to end. 1: it had ended before it was asked to, and stays as it was. 2: its node has not said so yet, for instance
    because it is not online.
    """

    async def work(session: Session) -> int:
        [asked] = (await session.bus.ask("job.cancel", JobCancel(id=id), JobInfos)).jobs
        if not wait:
            emit_lines([f"Job {id} is asked to end."])
            return 0
        end = await follow(session, id, timeout_s=timeout, show_output=False)
        if end is None:
            return tell_end(id, None, timeout_s=timeout)
        emit_lines([f"Job {id} on {asked.node} has ended: {end.status}."])
        return 0

    return with_bus(work)


def job_took(one: JobInfo) -> str:
    """Return how long a job's scripts ran, `-` if they have not ended or never began."""
    return "-" if one.started is None or one.ended is None else took(max(one.ended - one.started, 0.0))


def job_shape(one: JobInfo) -> Json:
    """Return what scripts rely on (design, section 3)."""
    progress = one.progress
    return {
        "id": one.id,
        "node": one.node,
        "instance": one.instance or None,
        "action": one.action,
        "os": one.os,
        "status": one.status,
        "exit_code": one.exit_code,
        "requested": one.requested,
        "started": one.started,
        "ended": one.ended,
        "reason": one.reason,
        "progress": {"percent": progress.percent, "text": progress.text} if progress else None,
        "cancel_asked": one.is_cancelled,
        "output_bytes": one.log_end,
        "script": one.script,
    }


def _row(one: JobInfo) -> Sequence[str]:
    started = moment(one.started) if one.started is not None else "-"
    return (one.id, one.node, one.instance or "-", one.action, one.os, one.status, started, job_took(one))


def _facts(one: JobInfo) -> Sequence[tuple[str, str]]:
    return (
        ("Job", one.id),
        ("Status", progress_sentence(one) if one.status in ("queued", "running") else one.status),
        ("Reason", one.reason or "-"),
        ("Exit code", "-" if one.exit_code is None else str(one.exit_code)),
        ("Action", one.action),
        ("Instance", one.instance or "-"),
        ("OS", one.os),
        ("Node", one.node),
        ("Requested", moment(one.requested)),
        ("Started", moment(one.started) if one.started is not None else "-"),
        ("Ended", moment(one.ended) if one.ended is not None else "-"),
        ("Output", f"{one.log_end} bytes; see: gnt-mesh job watch {one.id}"),
    )
