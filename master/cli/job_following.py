"""Follows one job to its end: its output as it comes, its progress, and what to say of how it ended.

A broker or a master that restarts only costs time: the question is plain data and is asked again.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, assert_never

import click

from master.cli.connect import Session
from master.cli.failures import DEADLINE_PASSED, DONE, FAILED, complain
from master.cli.formats import one_line
from protocol.errors import Unavailable
from protocol.job_messages import ENDED
from protocol.operator_job_messages import JobFollow, JobInfo, JobNews

PATIENCE_S: Final = 2.0
ANSWER_S: Final = 8.0
"""How much longer than its patience an answer may take: the master may have to ask the node."""
PAUSE_S: Final = 0.5
SILENCE_S_MAX: Final = 60.0
"""How long the master may be away before whoever follows without a deadline is told."""


async def follow(session: Session, job: str, *, timeout_s: float | None, show_output: bool) -> JobInfo | None:
    """Return the job once it has ended, None if `timeout_s` has passed first. Output goes to stdout as it comes."""
    deadline_s = session.clock() + timeout_s if timeout_s is not None else float("inf")
    heard_s = session.clock()
    question = JobFollow(id=job)
    with _progress_line() as progress:
        while True:
            now_s = session.clock()
            patience_s = max(min(PATIENCE_S, deadline_s - now_s), 0.0)
            question = JobFollow(id=job, offset=question.offset, revision=question.revision, patience_s=patience_s)
            try:
                news = await session.bus.ask("job.follow", question, JobNews, timeout_s=patience_s + ANSWER_S)
            except Unavailable as error:
                if session.clock() - heard_s > SILENCE_S_MAX:
                    raise Unavailable(f"{error}; {_goes_on(job)}") from error
                await session.sleep(PAUSE_S)
            except asyncio.CancelledError:  # Ctrl-C
                complain(_goes_on(job))
                raise
            else:
                heard_s = session.clock()
                if news.text and show_output:
                    _print(news.text)
                progress(news.job)
                question = JobFollow(id=job, offset=news.offset, revision=news.revision)
                if news.job.status in ENDED and not news.has_more:
                    return news.job
            if session.clock() >= deadline_s:
                return None


def tell_end(job: str, end: JobInfo | None, *, timeout_s: float | None) -> int:
    """Say how it ended and return the exit code: 0 for success alone, 2 if it has not ended yet."""
    if end is None:
        complain(f"after {timeout_s:g} s job {job} has not ended yet; it goes on, see: gnt-mesh job watch {job}")
        return DEADLINE_PASSED
    if end.status == "success":
        if end.reason:
            complain(f"job {job}: {end.reason}")
        return DONE
    reason = f": {end.reason}" if end.reason else ""
    complain(f"job {job} {VERDICTS[end.status]} on {end.node}{reason}")
    complain(what_next(end))
    return FAILED


def what_next(end: JobInfo) -> str:
    """Return what has become of the instance of a job that has not succeeded, and what to do now."""
    name, output = end.instance, f"all of its output: gnt-mesh job watch {end.id}"
    if end.started is None:
        return f"no script has begun; see: gnt-mesh instance info {name}"
    match end.action:
        case "create" if end.script in ("", "verify"):
            again = f"gnt-mesh instance reinstall {name} -O NAME=VALUE"
            return f"create has not begun: the disks of {name} are as they were; again: {again}; {output}"
        case "create":
            return f"the disks of {name} may be half written; again: gnt-mesh instance reinstall {name}; {output}"
        case "import":
            return f"the disks of {name} may be half written; first: gnt-mesh instance remove {name}; {output}"
        case "export":
            return f"an export from before is as it was; again: gnt-mesh instance export {name}; {output}"
        case "rename":
            return f"it is called {name} all the same; its disks may know the old name; {output}"
        case "verify":
            return output
        case _:
            assert_never(end.action)


def _goes_on(job: str) -> str:
    return f"job {job} goes on all the same; see: gnt-mesh job watch {job}, or end it: gnt-mesh job cancel {job}"


VERDICTS: Final = {"failed": "failed", "cancelled": "was cancelled", "interrupted": "was interrupted"}


def progress_sentence(job: JobInfo) -> str:
    """Return how far a job is, in a few words."""
    if job.progress is not None:
        percent = f"{job.progress.percent:.0f} %" if job.progress.percent is not None else ""
        if said := " ".join(filter(None, (percent, job.progress.text))):
            return one_line(said)
    return f"{job.status}, {job.reason}" if job.status == "queued" and job.reason else job.status


def _print(text: bytes) -> None:
    """The node has made it harmless; what a terminal cannot show is escaped."""
    click.echo(text.decode("utf-8", "backslashreplace"), nl=False, file=sys.stdout)


@contextmanager
def _progress_line() -> Iterator[Callable[[JobInfo], None]]:
    """On a terminal a line that changes in place; elsewhere a line on stderr for each new word of the script's."""
    if sys.stderr.isatty() and sys.stdout.isatty():
        from rich.console import Console

        with Console(file=sys.stderr, highlight=False, markup=False).status("") as line:
            yield lambda job: line.update(f"{job.action} {job.instance}: {progress_sentence(job)}")
        return
    said = ""

    def tell(job: JobInfo) -> None:
        nonlocal said
        text = job.progress.text if job.progress else ""
        if text and text != said:
            said = text
            click.echo(f"job {job.id}: {progress_sentence(job)}", file=sys.stderr)

    yield tell
