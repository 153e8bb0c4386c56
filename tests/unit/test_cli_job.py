"""`gnt-mesh job`: what it asks, what it prints, and above all its exit codes."""

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from protocol.bus import Reply
from protocol.errors import Refused, Unavailable
from protocol.job_messages import JobProgress
from protocol.names import NodeName
from protocol.operator_job_messages import JobCancel, JobFollow, JobInfo, JobInfos, JobNews, JobQuery
from protocol.os_names import JobId
from tests.support.fake_operator_bus import FakeOperatorBus

RUNNING = JobInfo(
    id=JobId("17"),
    node=NodeName("node2"),
    instance="web",
    action="create",
    os="tiny+small",
    status="running",
    exit_code=None,
    requested=1000.0,
    started=1001.5,
    ended=None,
    reason="",
    progress=JobProgress(percent=40.0, text="unpacking"),
    is_cancelled=False,
    log_end=6,
)
DONE = replace(RUNNING, status="success", exit_code=0, ended=1003.0, progress=None)
FAILED = replace(DONE, status="failed", exit_code=3, reason="create: exit code 3")


@dataclass
class FollowedBus(FakeOperatorBus):
    """As the master does, an answer without news uses up the patience."""

    async def ask(self, verb: str, request: object, reply: type[Reply], *, timeout_s: float = 10.0) -> Reply:
        answer = await super().ask(verb, request, reply, timeout_s=timeout_s)
        if isinstance(request, JobFollow) and isinstance(answer, JobNews) and not answer.text:
            self.now += request.patience_s
        return answer


def news(job: JobInfo, text: bytes = b"", *, offset: int = 0, has_more: bool = False) -> JobNews:
    return JobNews(job=job, revision=1, text=text, offset=offset, has_more=has_more)


def test_the_json_of_a_job_is_what_scripts_rely_on() -> None:
    """Design, section 3."""
    bus = FakeOperatorBus({"job.list": [JobInfos(jobs=(FAILED,))]})

    result = bus.run("job", "info", "17", "--json")

    shown = json.loads(result.stdout)
    assert result.exit_code == 0
    for key in ("id", "node", "instance", "action", "os", "status", "exit_code", "started", "ended", "reason"):
        assert shown[key] == getattr(FAILED, key)
    assert bus.requests("job.list") == [JobQuery(ids=("17",))]


def test_a_list_is_a_table_or_json_and_asks_for_what_was_named() -> None:
    bus = FakeOperatorBus({"job.list": [JobInfos(jobs=(RUNNING, DONE))]})

    table = bus.run("job", "list", "-n", "node2", "-i", "web", "--active")
    listed = bus.run("job", "list", "--json")

    assert [line.split()[0] for line in table.stdout.splitlines()] == ["Id", "17", "17"]
    assert [job["status"] for job in json.loads(listed.stdout)] == ["running", "success"]
    assert bus.requests("job.list")[0] == JobQuery(node="node2", instance="web", only_active=True)


def test_a_job_that_is_not_known_is_refused_by_name() -> None:
    result = FakeOperatorBus({"job.list": [Refused("job 9 is not known; see: gnt-mesh job list")]}).run(
        "job", "info", "9"
    )

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "gnt-mesh: job 9 is not known; see: gnt-mesh job list\n"


def test_watching_prints_every_line_once_and_ends_with_the_job() -> None:
    script = [
        news(RUNNING, b"one\n", offset=4),
        Unavailable("the master is starting"),
        news(RUNNING, b"two\n", offset=8),
        news(DONE, b"three", offset=13, has_more=True),
        news(DONE, b"\n", offset=14),
    ]
    bus = FollowedBus({"job.follow": list(script)})

    result = bus.run("job", "watch", "17")

    assert result.exit_code == 0
    assert result.stdout == "one\ntwo\nthree\n"
    assert [request.offset for request in bus.requests("job.follow")] == [0, 4, 4, 8, 13]  # type: ignore[attr-defined]
    assert "40 % unpacking" in result.stderr


@pytest.mark.parametrize("status", ["failed", "cancelled", "interrupted"])
def test_watching_a_job_that_does_not_succeed_ends_with_1(status: str) -> None:
    ended = replace(FAILED, status=status)

    result = FollowedBus({"job.follow": [news(ended)]}).run("job", "watch", "17")

    said, next_step = result.stderr.splitlines()
    assert result.exit_code == 1
    assert f"{status} on node2: create: exit code 3" in said
    assert next_step == (
        "gnt-mesh: the disks of web may be half written; again: gnt-mesh instance reinstall web; "
        "all of its output: gnt-mesh job watch 17"
    )


@pytest.mark.parametrize(
    ("how", "next_step"),
    [
        ({"started": None}, "no script has begun; see: gnt-mesh instance info web"),
        (
            {"script": "verify"},
            "create has not begun: the disks of web are as they were; again: gnt-mesh instance reinstall web -O ",
        ),
        ({"action": "import"}, "first: gnt-mesh instance remove web"),
        ({"action": "export"}, "an export from before is as it was; again: gnt-mesh instance export web"),
        ({"action": "rename"}, "it is called web all the same"),
    ],
)
def test_what_became_of_the_instance_and_what_to_do_is_said(how: dict[str, Any], next_step: str) -> None:
    result = FollowedBus({"job.follow": [news(replace(FAILED, **how))]}).run("job", "watch", "17")

    assert next_step in result.stderr.splitlines()[1]


def test_a_deadline_ends_with_2_and_the_job_goes_on() -> None:
    result = FollowedBus({"job.follow": [news(RUNNING)]}).run("job", "watch", "17", "--timeout", "5")

    assert result.exit_code == 2
    assert "after 5 s job 17 has not ended yet; it goes on" in result.stderr


def test_a_master_that_stays_away_is_said_so() -> None:
    result = FollowedBus({"job.follow": [Unavailable("nobody answers")]}).run("job", "watch", "17")

    assert result.exit_code == 1
    assert result.stderr == (
        "gnt-mesh: nobody answers; job 17 goes on all the same; "
        "see: gnt-mesh job watch 17, or end it: gnt-mesh job cancel 17\n"
    )


def test_cancelling_waits_for_the_end_or_does_not() -> None:
    cancelled = replace(FAILED, status="cancelled", reason="cancelled on request")
    bus = FollowedBus({"job.cancel": [JobInfos(jobs=(RUNNING,))], "job.follow": [news(RUNNING), news(cancelled)]})

    waited = bus.run("job", "cancel", "17")
    at_once = bus.run("job", "cancel", "17", "--no-wait")

    assert (waited.exit_code, waited.stdout) == (0, "Job 17 on node2 has ended: cancelled.\n")
    assert (at_once.exit_code, at_once.stdout) == (0, "Job 17 is asked to end.\n")
    assert bus.requests("job.cancel") == [JobCancel(id="17")] * 2


def test_the_help_of_cancel_says_what_becomes_of_a_job_that_has_ended() -> None:
    bus = FollowedBus({"job.cancel": [Refused("job 17 has ended already: success")]})

    for flags in ([], ["--no-wait"]):
        result = bus.run("job", "cancel", "17", *flags)
        assert (result.exit_code, result.stderr) == (1, "gnt-mesh: job 17 has ended already: success\n")

    said = " ".join(bus.run("job", "cancel", "--help").stdout.split())
    assert "1: it had ended before it was asked to, and stays as it was" in said


def test_a_cancel_that_the_node_has_not_heard_ends_with_2() -> None:
    waiting = replace(RUNNING, status="queued", reason="node node2 is not online", progress=None)
    bus = FollowedBus({"job.cancel": [JobInfos(jobs=(waiting,))], "job.follow": [news(waiting)]})

    assert bus.run("job", "cancel", "17", "--timeout", "3").exit_code == 2
