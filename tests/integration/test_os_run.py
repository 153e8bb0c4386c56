"""The runner of a job on real processes: what a script gets, how it ends, and that nothing of it is left."""

import json
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from node_agent import job_log, os_run, processes
from node_agent.core.run_plan import PROGRESS_FD, SIZE_FD, Step
from tests.support.forked import enter_mount_namespace, in_child, mount_tmpfs
from tests.support.job_rig import RunnerRig, is_alive, number_in

CANCEL_LIMIT_S = 5.0


@pytest.fixture
def rig(tmp_path: Path) -> RunnerRig:
    return RunnerRig(tmp_path)


def test_a_script_that_exits_0_succeeds_and_its_output_is_kept(rig: RunnerRig) -> None:
    verdict = rig.run(rig.step("echo to stdout; echo to stderr >&2"))

    assert (verdict["status"], verdict["exit_code"], verdict["reason"]) == ("success", 0, "")
    assert rig.log == b"to stdout\nto stderr\n"
    assert verdict["log_end"] == len(rig.log)
    assert verdict["started"] <= verdict["ended"] <= time.time()


def test_a_script_that_fails_says_how_and_what_it_said_last(rig: RunnerRig) -> None:
    verdict = rig.run(rig.step("echo no such suite >&2; echo; exit 7"))

    assert (verdict["status"], verdict["exit_code"]) == ("failed", 7)
    assert verdict["reason"] == "create: exit code 7; at last it said: no such suite"


def test_a_script_that_a_signal_ends_failed(rig: RunnerRig) -> None:
    verdict = rig.run(rig.step("kill -SEGV $$"))

    assert (verdict["status"], verdict["exit_code"]) == ("failed", None)
    assert "SIGSEGV" in verdict["reason"]


def test_a_script_gets_its_environment_and_nothing_else(rig: RunnerRig) -> None:
    """Not even what the runner was started with."""
    env = {"INSTANCE_NAME": "web 1", "EMPTY": "", "PATH": "/usr/bin"}

    verdict = rig.run(Step(name="create", argv=("/usr/bin/env",), env=env, cwd="/"))

    assert verdict["status"] == "success"
    assert sorted(rig.log.splitlines()) == [b"EMPTY=", b"INSTANCE_NAME=web 1", b"PATH=/usr/bin"]


def test_a_script_gets_its_directory_umask_arguments_and_no_input(rig: RunnerRig) -> None:
    text = 'pwd; umask; echo "$@"; cat; readlink /proc/self/fd/0 | sed s/:.*//'

    rig.run(rig.step(text, arguments=("parameters", "a b"), umask=0o027))

    assert rig.log.decode().splitlines() == [str(rig.os_directory), "0027", "parameters a b", "pipe"]


GLIBC_OWN = 0b11 << 31
"""Signals 32 and 33: posix_spawn of glibc leaves them ignored, and lets nobody change them."""


def test_a_script_inherits_no_descriptor_no_signal_and_no_terminal(rig: RunnerRig) -> None:
    verdict = rig.run(rig.step("ls /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status; ps -o sid= -p $$; echo $$"))

    lines = rig.log.decode().split("\n")
    assert lines[:4] == ["0", "1", "2", "3"], "3 is the directory that ls reads"
    blocked, ignored = (int(line.split()[1], 16) for line in lines[4:6])
    assert (blocked, ignored & ~GLIBC_OWN) == (0, 0)
    assert lines[6].strip() == lines[7], "the script leads a session of its own"
    assert verdict["status"] == "success"


def test_an_import_reads_its_file_and_an_export_is_there_whole_or_not_at_all(rig: RunnerRig, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(os.urandom(300_000))

    verdict = rig.run(rig.step("cat; echo said >&2", stdin_file=str(source), stdout_file=str(target), umask=0o077))

    assert verdict["status"] == "success"
    assert target.read_bytes() == source.read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert rig.log == b"said\n"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "os", "jobs"}


def test_an_export_that_fails_leaves_what_was_there_before(rig: RunnerRig, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"yesterday's")

    verdict = rig.run(rig.step("echo half; exit 1", stdout_file=str(target)))

    assert verdict["status"] == "failed"
    assert target.read_bytes() == b"yesterday's"
    assert not target.with_name("out.part").exists()


def test_an_import_without_its_file_fails_by_name(rig: RunnerRig, tmp_path: Path) -> None:
    verdict = rig.run(rig.step("cat", stdin_file=str(tmp_path / "absent")))

    assert verdict["status"] == "failed"
    assert f"{tmp_path}/absent cannot be opened: No such file" in verdict["reason"]


def test_steps_run_in_order_and_the_first_that_fails_is_the_last(rig: RunnerRig) -> None:
    steps = (rig.step("echo 1", name="a"), rig.step("echo 2; exit 3", name="b"), rig.step("echo 3", name="c"))

    verdict = rig.run(*steps)

    assert verdict["reason"].startswith("b: exit code 3")
    assert rig.log == b"1\n2\n"


def test_a_script_that_cannot_be_executed_fails_by_name(rig: RunnerRig) -> None:
    step = rig.step("true")
    (rig.os_directory / "create").chmod(0o600)

    verdict = rig.run(step)

    assert (verdict["status"], verdict["exit_code"]) == ("failed", None)
    assert f"{rig.os_directory}/create cannot be run: Permission denied" in verdict["reason"]


def test_a_job_never_runs_twice(rig: RunnerRig, tmp_path: Path) -> None:
    """Whoever asks, how often, and also at the same time: the kernel lets one runner make the mark."""
    step = rig.step(f"echo once >> {tmp_path}/count; read line < {tmp_path}/gate")
    os.mkfifo(tmp_path / "gate")

    runners = [rig.start(step) for _ in range(4)]
    (tmp_path / "gate").write_text("go\n")
    for runner in runners:
        runner.wait(20)
    again = rig.run(step)

    assert (tmp_path / "count").read_text() == "once\n"
    assert again["status"] == "success"


def test_a_runner_without_a_plan_ends_and_has_done_nothing(rig: RunnerRig) -> None:
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-m", os_run.__name__], stdin=subprocess.DEVNULL, timeout=20, check=False)

    assert done.returncode == 0
    assert list(rig.directory.iterdir()) == []


HIDDEN = """
cat > in-session <<'END'
trap "" TERM HUP
(setsid ./in-silence &)
sleep 1000 & echo $! > %s/b
wait
END
cat > in-silence <<'END'
#!/bin/sh
trap "" TERM
exec > /dev/null 2>&1
sleep 1000 & echo $! > %s/a
wait
END
chmod +x in-silence
(setsid sh ./in-session &)
trap "" TERM
sleep 1000 & echo $! > %s/c
wait
"""
"""A whole tree that ignores TERM: double-forked, in sessions of their own, one without our output."""


def hidden_tree(rig: RunnerRig, tmp_path: Path, tail: str = "") -> list[int]:
    rig.start(rig.step(HIDDEN.replace("%s", str(tmp_path)) + tail), time_limit_s=60.0)
    return [number_in(tmp_path / name) for name in "abc"]


def test_cancelling_ends_the_whole_tree_within_5_seconds(rig: RunnerRig, tmp_path: Path) -> None:
    pids = hidden_tree(rig, tmp_path)
    asked_s = time.monotonic()
    (rig.directory / os_run.CANCEL).touch()

    verdict = rig.wait()

    assert time.monotonic() - asked_s < CANCEL_LIMIT_S
    assert verdict["status"] == "cancelled"
    assert [pid for pid in pids if is_alive(pid)] == []


def test_a_script_that_is_asked_to_end_may_clean_up(rig: RunnerRig, tmp_path: Path) -> None:
    rig.start(rig.step(f"trap 'echo cleaned; exit 0' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.1; done"))
    number_in(tmp_path / "pid")
    (rig.directory / os_run.CANCEL).touch()

    verdict = rig.wait()

    assert verdict["status"] == "cancelled", "also if it then exits with 0"
    assert b"cleaned" in rig.log


def test_a_job_that_was_cancelled_before_it_began_runs_nothing(rig: RunnerRig, tmp_path: Path) -> None:
    (rig.directory / os_run.CANCEL).touch()

    verdict = rig.run(rig.step(f"touch {tmp_path}/ran"))

    assert verdict["status"] == "cancelled"
    assert not (tmp_path / "ran").exists()


def test_a_job_ends_when_its_time_is_over(rig: RunnerRig) -> None:
    verdict = rig.run(rig.step("trap '' TERM; sleep 1000"), time_limit_s=0.5, term_grace_s=0.3)

    assert verdict["status"] == "failed"
    assert verdict["reason"] == "it took longer than its time limit of 0.5 s"


def test_what_a_script_leaves_behind_is_ended_and_said(rig: RunnerRig, tmp_path: Path) -> None:
    verdict = rig.run(rig.step(f"(setsid sleep 1000 & echo $! > {tmp_path}/pid) ; exit 0"))

    assert (verdict["status"], verdict["exit_code"]) == ("success", 0)
    assert verdict["reason"] == "it left 1 process behind, which were ended"
    assert not is_alive(number_in(tmp_path / "pid"))


@pytest.mark.parametrize("knows_its_group", [True, False])
def test_a_script_dies_with_its_runner_and_the_rest_can_be_found(
    rig: RunnerRig, tmp_path: Path, knows_its_group: bool
) -> None:
    """kill -9 of the runner: no verdict, and whoever takes stock finds what is left by pipe, session and group.

    Without a control group, one that left its session and closed its output on purpose cannot be known any more.
    """
    silent, *pids = hidden_tree(rig, tmp_path)
    pids += [silent] if knows_its_group else []
    assert rig.process
    rig.process.kill()
    rig.process.wait()
    started = rig.started()
    assert not (rig.directory / os_run.VERDICT).exists()
    assert not os_run.is_held(rig.directory / os_run.LOCK)

    for _ in range(50):
        cgroup = started["cgroup"] if knows_its_group else ""
        left = processes.orphans(pipe=started["pipe"], cgroup=cgroup, started=started["ticks"])
        processes.send(left, signal.SIGKILL)
        if not left:
            break
    try:
        assert [pid for pid in pids if is_alive(pid)] == []
    finally:
        processes.send([silent, *pids], signal.SIGKILL)


def test_a_runner_that_is_told_to_end_says_interrupted(rig: RunnerRig, tmp_path: Path) -> None:
    rig.start(rig.step(f"echo $$ > {tmp_path}/pid; sleep 1000"))
    number_in(tmp_path / "pid")
    assert rig.process
    rig.process.terminate()

    assert rig.wait()["status"] == "interrupted"


def test_a_runner_ends_also_if_its_directory_is_put_elsewhere_meanwhile(rig: RunnerRig, tmp_path: Path) -> None:
    """Agent and master may take note of a verdict, and put the job away, before its runner has ended."""
    os.mkfifo(tmp_path / "gate")
    runner = rig.start(rig.step(f"echo $$ > {tmp_path}/pid; read line < {tmp_path}/gate"))
    number_in(tmp_path / "pid")
    rig.directory.rename(tmp_path / "elsewhere")
    (tmp_path / "gate").write_text("go\n")

    assert runner.wait(20) == 0
    assert json.loads((tmp_path / "elsewhere" / os_run.VERDICT).read_bytes())["status"] == "success"


def test_a_job_ends_with_what_it_is_tethered_to(rig: RunnerRig, tmp_path: Path) -> None:
    import fcntl

    tether = tmp_path / "lock"
    with tether.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        rig.start(rig.step(f"echo $$ > {tmp_path}/pid; sleep 1000"), tether=str(tether))
        number_in(tmp_path / "pid")

    assert rig.wait()["status"] == "interrupted"


def test_a_gigabyte_of_output_stays_within_bounds(rig: RunnerRig) -> None:
    limits = {"log_head_bytes": 1_000_000, "log_tail_bytes": 100_000}
    verdict = rig.run(rig.step("echo first; head -c 1000000000 /dev/zero; echo last"), **limits)

    kept = sum(path.stat().st_size for path in rig.directory.iterdir())
    assert verdict["status"] == "success"
    assert verdict["log_end"] == 1_000_000_000 + len("first\nlast\n")
    assert kept < 1_000_000 + 3 * 100_000
    assert rig.log.startswith(b"first\n")
    start, end = job_log.read(rig.directory, verdict["log_end"] - 5, 100, head_bytes=1_000_000, tail_bytes=100_000)
    assert (start, end) == (verdict["log_end"] - 5, b"last\n")


def test_a_script_that_fills_the_disk_has_its_verdict_all_the_same(tmp_path: Path) -> None:
    """Also of its own output: what the disk does not take is lost, and nothing else."""

    def scenario() -> None:
        enter_mount_namespace()
        mount_tmpfs(tmp_path / "jobs", size="1m")
        rig = RunnerRig(tmp_path)
        fill = f"cat /dev/zero > {tmp_path}/jobs/fill; seq 100000; echo last; exit 7"

        verdict = rig.run(rig.step(fill))

        assert (verdict["status"], verdict["exit_code"], verdict["script"]) == ("failed", 7, "create")
        assert verdict["reason"] == "create: exit code 7; at last it said: last"
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "jobs/more").write_bytes(b"x" * 65536)

    in_child(scenario)


def test_progress_is_told_in_json_lines(rig: RunnerRig) -> None:
    text = f"""echo nonsense >&{PROGRESS_FD}; echo '[1]' >&{PROGRESS_FD}
        echo '{{"percent": 250}}' >&{PROGRESS_FD}
        echo '{{"percent": 40, "text": "unpacking", "more": 1}}' >&{PROGRESS_FD}"""

    rig.run(rig.step(text, has_progress_fd=True))

    assert json.loads((rig.directory / "progress").read_text()) == {"percent": 40.0, "text": "unpacking"}


def test_an_export_tells_its_size_as_in_ganeti(rig: RunnerRig, tmp_path: Path) -> None:
    text = f"echo 2000 >&{SIZE_FD}; head -c 1000 /dev/zero; read x < {tmp_path}/gate; head -c 1000 /dev/zero"
    os.mkfifo(tmp_path / "gate")
    rig.start(rig.step(text, has_size_fd=True, stdout_file=str(tmp_path / "out")))

    progress = rig.directory / "progress"
    deadline_s = time.monotonic() + 20
    while not progress.exists() or json.loads(progress.read_text()) != {"percent": 50.0}:
        assert time.monotonic() < deadline_s
        os.sched_yield()
    (tmp_path / "gate").write_text("go\n")

    assert rig.wait()["status"] == "success"
