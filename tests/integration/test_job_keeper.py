"""A node's jobs from the board to the verdict, on real runners: at most once, whatever is killed when."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node_agent import os_run
from protocol.errors import Unavailable
from protocol.job_messages import JobLogWanted
from protocol.os_names import JobId
from tests.support.job_rig import is_alive, number_in
from tests.support.keeper_rig import KeeperRig, job_of
from tests.support.waiting import until


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[KeeperRig]:
    rig = KeeperRig(tmp_path)
    rig.os("good", "echo hello")
    rig.os("bad", "echo oh no >&2; exit 3")
    rig.os("slow", f"echo $$ > {tmp_path}/pid; exec 3<{tmp_path}/gate; read line <&3; echo $line")
    os.mkfifo(tmp_path / "gate")
    await rig.start()
    yield rig
    await rig.stop()


def open_gate(rig: KeeperRig) -> None:
    (rig.tmp_path / "gate").write_text("go\n")


async def test_a_job_runs_and_its_end_is_reported_until_the_board_shows_that_it_is_known(rig: KeeperRig) -> None:
    await rig.post(job_of("good"))

    state = await rig.state("job-1", "success")

    assert (state.exit_code, state.log_end) == (0, len("hello\n"))
    assert rig.runs() == ["job-1"]
    assert (await rig.state("job-1", "success")) == state, "said again"
    await rig.acted_on(await rig.post())
    assert not (rig.jobs_dir / "job-1").exists()
    assert (rig.jobs_dir / "old/job-1/log").read_text() == "hello\n"


async def test_a_job_that_fails_says_why(rig: KeeperRig) -> None:
    await rig.post(job_of("bad"))

    state = await rig.state("job-1", "failed")

    assert (state.exit_code, state.reason) == (3, "create: exit code 3; at last it said: oh no")


async def test_a_job_that_cannot_be_prepared_fails_and_runs_nothing(rig: KeeperRig) -> None:
    await rig.post(job_of("absent"))

    state = await rig.state("job-1", "failed")

    assert state.reason == "OS absent is not on this node"
    assert state.exit_code is None


async def test_the_same_board_again_and_again_is_one_run(rig: KeeperRig) -> None:
    for _ in range(3):
        await rig.post(job_of("good"))
    await rig.state("job-1", "success")
    for _ in range(3):
        await rig.post(job_of("good"))
    await rig.state("job-1", "success")

    assert rig.runs() == ["job-1"]


async def test_a_job_that_was_forgotten_is_not_run_again_when_an_old_board_comes_back(rig: KeeperRig) -> None:
    await rig.post(job_of("good"))
    await rig.state("job-1", "success")
    await rig.acted_on(await rig.post())

    again = await rig.post(job_of("good"))
    await rig.acted_on(again)
    await rig.stop()
    await rig.start()

    assert (await rig.state("job-1", "success")).exit_code == 0
    assert rig.runs() == ["job-1"]


async def test_an_older_board_is_not_followed(rig: KeeperRig) -> None:
    """A master that was deposed, or a store that went back."""
    await rig.acted_on(await rig.post(epoch=2, serial=5))

    await rig.post(job_of("good"), epoch=1, serial=99)
    await rig.acted_on(await rig.post(epoch=2, serial=6))

    assert rig.runs() == []


async def test_50_jobs_respect_the_limit_and_all_end(rig: KeeperRig) -> None:
    most = rig.tmp_path / "most"
    rig.os("counted", f"ls {rig.jobs_dir}/*/started | wc -l; ls {rig.jobs_dir}/*/.verdict | wc -l >> {most}")

    await rig.post(*(job_of("counted", f"j{number}") for number in range(50)))
    for number in range(50):
        await rig.state(f"j{number}", "success")
        rig.ears._read = 0

    assert sorted(rig.runs()) == sorted(f"j{number}" for number in range(50))
    assert max(int(line) for line in most.read_text().split()) <= rig.limit


async def test_output_can_be_asked_for_while_it_grows_and_when_all_is_forgotten(rig: KeeperRig) -> None:
    await rig.post(job_of("slow"))
    await rig.state("job-1", "running")
    open_gate(rig)
    await rig.state("job-1", "success")

    part = await rig.keeper.output(JobLogWanted(id=JobId("job-1"), offset=1))
    assert (part.begin, part.end, part.text) == (1, 3, b"o\n")
    await rig.acted_on(await rig.post())
    assert (await rig.keeper.output(JobLogWanted(id=JobId("job-1"), offset=0))).text == b"go\n"
    assert b"".join(rig.broker.output["mesh.os.log.node1_example_com.job-1"]) == b"go\n", "and it was said aloud"


async def test_of_jobs_that_are_over_the_node_keeps_the_last_ones_and_their_output(rig: KeeperRig) -> None:
    names = [f"j{number}" for number in range(8)]
    for name in names:
        await rig.post(job_of("good", name))
        await rig.state(name, "success")
        await rig.acted_on(await rig.post())

    assert sorted(path.name for path in (rig.jobs_dir / "old").iterdir()) == names[-5:]
    assert (await rig.keeper.output(JobLogWanted(id=JobId("j7"), offset=0))).text == b"hello\n"
    with pytest.raises(Unavailable, match="job j0: its output is not on the node any more"):
        await rig.keeper.output(JobLogWanted(id=JobId("j0"), offset=0))


async def test_a_cancelled_job_is_ended(rig: KeeperRig) -> None:
    await rig.post(job_of("slow"), "waits")
    await rig.state("job-1", "running")
    pid = number_in(rig.tmp_path / "pid")

    await rig.post(job_of("slow"), cancelled=["job-1"])

    state = await rig.state("job-1", "cancelled")
    assert state.reason == "cancelled on request"
    assert not is_alive(pid)


async def test_a_job_that_is_cancelled_before_it_began_never_runs(rig: KeeperRig) -> None:
    await rig.post(job_of("good"), cancelled=["job-1"])

    assert (await rig.state("job-1", "cancelled")).reason == "cancelled before it began"
    assert rig.runs() == []


async def test_a_script_survives_the_restart_of_the_agent(rig: KeeperRig) -> None:
    await rig.post(job_of("slow"))
    await rig.state("job-1", "running")
    await rig.stop()
    await rig.start()
    await rig.state("job-1", "running")
    open_gate(rig)

    assert (await rig.state("job-1", "success")).exit_code == 0
    assert rig.runs() == ["job-1"]


async def test_a_job_that_ends_while_there_is_no_agent_is_reported_as_it_ended(rig: KeeperRig) -> None:
    await rig.post(job_of("slow"))
    await rig.state("job-1", "running")
    await rig.stop()
    open_gate(rig)
    until((rig.jobs_dir / "job-1" / os_run.VERDICT).exists, near=rig.jobs_dir)
    await rig.start()

    assert (await rig.state("job-1", "success")).exit_code == 0
    assert rig.runs() == ["job-1"]


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_killed_runner_makes_the_job_interrupted_and_ends_what_is_left(rig: KeeperRig, is_there: bool) -> None:
    """Whether the agent is there to see it or comes later."""
    rig.os("daemonising", f"(setsid sleep 1000 & echo $! > {rig.tmp_path}/pid); sleep 1000")
    await rig.post(job_of("daemonising"))
    await rig.state("job-1", "running")
    pid = number_in(rig.tmp_path / "pid")
    if not is_there:
        await rig.stop()
    os.kill(rig.journal.mark(JobId("job-1")).pid, signal.SIGKILL)
    if not is_there:
        await rig.start()

    state = await rig.state("job-1", "interrupted")

    assert "half done" in state.reason
    assert not is_alive(pid)
    assert rig.runs() == ["job-1"]


async def test_what_a_power_cut_left_half_done_is_interrupted(rig: KeeperRig) -> None:
    """Every state of the files that a crash of everything at once can leave, but the last: nothing of it runs again."""
    await rig.acted_on(await rig.post())
    await rig.stop()
    for name in ("noted", "marked", "garbled", "begun"):
        rig.journal.note(job_of("good", name))
    for name, mark in (("marked", b""), ("garbled", b'{"pid": 1'), ("begun", b'{"pid": 1, "boot": "another"}')):
        (rig.jobs_dir / name / os_run.STARTED).write_bytes(mark)
    (rig.jobs_dir / "unnoted").mkdir()

    await rig.start()
    await rig.post(*(job_of("good", name) for name in ("noted", "marked", "garbled", "begun", "unnoted")))

    for name in ("marked", "garbled", "begun"):
        assert (await rig.state(name, "success", "interrupted")).status == "interrupted"
        rig.ears._read = 0
    for name in ("noted", "unnoted"):
        assert (await rig.state(name, "success", "interrupted")).status == "success"
        rig.ears._read = 0
    assert sorted(rig.runs()) == ["noted", "unnoted"]


async def test_a_disk_that_takes_no_note_holds_the_job_up_and_nothing_runs(rig: KeeperRig) -> None:
    rig.jobs_dir.mkdir(exist_ok=True)
    (rig.jobs_dir / "job-1").write_text("in the way")
    await rig.post(job_of("good"))
    await rig.post(job_of("good"), job_of("good", "job-2"))
    await rig.state("job-2", "success")
    assert rig.runs() == ["job-2"], "and it holds up nobody else"

    (rig.jobs_dir / "job-1").unlink()

    assert (await rig.state("job-1", "success")).exit_code == 0
    assert rig.runs() == ["job-2", "job-1"]
