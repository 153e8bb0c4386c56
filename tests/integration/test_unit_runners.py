"""Jobs as units: what systemd is asked for, and what becomes of a job whichever of the two is killed."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node_agent import os_run, unit_runners
from node_agent.unit_runners import UnitRunners
from tests.support.job_rig import is_alive, number_in
from tests.support.keeper_rig import KeeperRig, job_of
from tests.support.small_systemd import SmallSystemd

UNIT = "gnt-mesh-os@job-1.service"


@pytest.fixture
def systemd(tmp_path: Path) -> SmallSystemd:
    (tmp_path / "plans").mkdir(mode=0o700)
    return SmallSystemd(tmp_path / "plans", tmp_path / "jobs")


@pytest.fixture
async def rig(tmp_path: Path, systemd: SmallSystemd) -> AsyncIterator[KeeperRig]:
    rig = KeeperRig(tmp_path, starter=lambda: UnitRunners(systemd, tmp_path / "plans"))
    rig.os("good", "echo hello")
    rig.os("slow", f"echo $$ > {tmp_path}/pid; exec 3<{tmp_path}/gate; read line <&3; echo $line")
    os.mkfifo(tmp_path / "gate")
    await rig.start()
    yield rig
    await rig.stop()
    systemd.close()


async def test_a_job_is_a_unit_that_is_told_its_plan_and_prints_into_the_journal(
    rig: KeeperRig, systemd: SmallSystemd, tmp_path: Path
) -> None:
    await rig.post(job_of("good"))
    state = await rig.state("job-1", "success")
    assert (state.exit_code, state.log_end) == (0, len("hello\n"))
    assert systemd.started == [UNIT] and rig.runs() == ["job-1"]
    assert systemd.journal == "hello\n"
    assert list((tmp_path / "plans").glob("*.plan")) == [], "an environment may hold secrets"


async def test_a_job_goes_on_while_the_helper_is_away(rig: KeeperRig, systemd: SmallSystemd, tmp_path: Path) -> None:
    await rig.post(job_of("slow"))
    await rig.state("job-1", "running")
    await rig.stop()
    await rig.start()
    (tmp_path / "gate").write_text("go\n")
    assert (await rig.state("job-1", "success")).exit_code == 0
    assert systemd.started == [UNIT]


async def test_a_cancelled_job_has_its_unit_stopped(rig: KeeperRig, tmp_path: Path) -> None:
    await rig.post(job_of("slow"))
    await rig.state("job-1", "running")
    script = number_in(tmp_path / "pid")
    await rig.post(job_of("slow"), cancelled=["job-1"])
    assert (await rig.state("job-1", "cancelled")).reason == "cancelled on request"
    assert not is_alive(script)


async def test_kill_9_leaves_a_verdict_without_the_helper(
    rig: KeeperRig, systemd: SmallSystemd, tmp_path: Path
) -> None:
    await rig.post(job_of("slow"))
    await rig.state("job-1", "running")
    number_in(tmp_path / "pid")
    await rig.stop()
    systemd.kill(UNIT)
    verdict = json.loads((rig.jobs_dir / "job-1" / os_run.VERDICT).read_bytes())
    assert (verdict["status"], verdict["log_end"]) == ("interrupted", 0)
    assert "its runner was killed while it ran" in verdict["reason"]
    await rig.start()
    await rig.state("job-1", "interrupted")
    assert systemd.started == [UNIT], "it is not run again"


async def test_what_ends_in_order_keeps_its_own_verdict(rig: KeeperRig) -> None:
    await rig.post(job_of("good"))
    await rig.state("job-1", "success")
    os_run.conclude_lost(rig.jobs_dir / "job-1", "success", "0")
    assert json.loads((rig.jobs_dir / "job-1" / os_run.VERDICT).read_bytes())["status"] == "success"


async def test_systemd_that_refuses_is_asked_again(rig: KeeperRig, systemd: SmallSystemd, tmp_path: Path) -> None:
    systemd.refuses = "no"
    await rig.post(job_of("good"))
    while len(systemd.started) < 2:
        await rig.post(job_of("good"))
        await rig.acted_on(await rig.post(job_of("good")))
    assert list((tmp_path / "plans").glob("*.plan")) == []
    systemd.refuses = ""
    await rig.state("job-1", "success")
    assert rig.runs() == ["job-1"]


async def test_a_unit_that_ends_before_its_job_began_is_started_again(
    rig: KeeperRig, systemd: SmallSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_runners, "LOOK_AFTER_S", 0.0)
    systemd.breaks = True
    await rig.post(job_of("good"))
    while len(systemd.started) < 2:
        await rig.acted_on(await rig.post(job_of("good")))
    systemd.breaks = False
    await rig.state("job-1", "success")
    assert rig.runs() == ["job-1"]
