"""What a runner is told: it arrives as it was sent, and nonsense is refused before a process exists."""

import json
from typing import Any

import pytest

from node_agent.core.run_plan import RunPlan, Step, from_json, to_json

STEP = Step(
    name="create",
    argv=("/srv/os/create", "süd"),
    env={"A": "1", "EMPTY": ""},
    cwd="/srv/os",
    umask=0o077,
    stdin_file="/in",
    stdout_file="/out",
    has_size_fd=True,
    has_progress_fd=True,
)
PLAN = RunPlan(job="17", directory="/jobs/17", steps=(STEP, STEP), time_limit_s=1.5, tether="/lock")


def test_a_plan_arrives_as_it_was_sent_on_one_line() -> None:
    line = to_json(PLAN)

    assert from_json(line) == PLAN
    assert line.count(b"\n") == 1 and line.endswith(b"\n")


@pytest.mark.parametrize(
    "change",
    [
        {"argv": ()},
        {"argv": ("relative",)},
        {"cwd": "relative"},
        {"env": {"A": "\0"}},
        {"env": {"": "x"}},
        {"env": {"A=B": "x"}},
        {"argv": ("/x", "\0")},
    ],
)
def test_what_cannot_be_executed_is_no_step(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="step create"):
        Step(**({"name": "create", "argv": ("/x",), "env": {}, "cwd": "/"} | change))


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"7", b"\xff", b'{"steps": 7}', b'{"steps": [{}]}'])
def test_what_is_no_plan_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        from_json(line)


def test_a_plan_without_steps_or_limits_is_none() -> None:
    for change in ({"steps": []}, {"time_limit_s": 0}, {"log_head_bytes": 0}):
        with pytest.raises(ValueError, match="job 17"):
            from_json(json.dumps(json.loads(to_json(PLAN)) | change).encode())
