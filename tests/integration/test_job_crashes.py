"""kill -9 of each part at each step of a job: nothing runs twice, nothing is called done that is not (design, D7)."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node_agent import os_run
from tests.support.job_mesh import NODE, JobMesh, create, job_mesh
from tests.support.job_rig import is_alive

SEED = int(os.environ.get("GNT_MESH_TEST_SEED", "20261122"))
JOBS = 12
KILLS = 14


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[JobMesh]:
    async with job_mesh(tmp_path) as mesh:
        os.mkfifo(tmp_path / "gate")
        mesh.os(
            "first",
            f"echo $$ > {tmp_path}/pid; exec 3<{tmp_path}/gate; read line <&3; touch {tmp_path}/done-$INSTANCE_NAME",
        )
        mesh.os("second", f"touch {tmp_path}/done-$INSTANCE_NAME")
        yield mesh


async def kill(mesh: JobMesh, victim: str, job: str) -> None:
    """kill -9, and start again what is started again in life."""
    match victim:
        case "agent":
            mesh.kill_agent()
            mesh.start_agent(jobs_at_once=1)
        case "helper":
            mesh.kill_helper()
            mesh.start_helper()
        case "runner":
            mesh.kill_runner(job)
        case "master":
            await mesh.stop_master()
            await mesh.start_master()
        case "broker":
            await mesh.server.kill()
            await mesh.server.start()


@pytest.mark.parametrize("victim", ["agent", "master", "broker"])
@pytest.mark.parametrize("step", ["taken", "runs", "ends"])
async def test_a_kill_costs_time_and_nothing_else(mesh: JobMesh, victim: str, step: str) -> None:
    """Of two jobs the second waits for the first: it is killed around what waits, too."""
    mesh.kill_agent()
    mesh.start_agent(jobs_at_once=1)
    await mesh.submit(create("1", "first", instance="one"))
    await mesh.submit(create("2", "second", instance="two"))
    if step != "taken":
        await mesh.status("1", "running")
        await mesh.until((mesh.tmp_path / "pid").exists)
    if step == "ends":
        await asyncio.to_thread((mesh.tmp_path / "gate").write_text, "go\n")
    await kill(mesh, victim, "1")
    if step != "ends":
        await asyncio.to_thread((mesh.tmp_path / "gate").write_text, "go\n")

    assert [(await mesh.status(job)).status for job in "12"] == ["success", "success"]
    assert mesh.runs() == ["one", "two"]
    assert (mesh.tmp_path / "done-one").exists() and (mesh.tmp_path / "done-two").exists()


@pytest.mark.parametrize("and_then", ["", "agent", "master", "broker"])
async def test_a_killed_runner_is_an_interrupted_job_whatever_else_is_killed(mesh: JobMesh, and_then: str) -> None:
    await mesh.submit(create("1", "first", instance="one"))
    await mesh.status("1", "running")
    await mesh.until((mesh.tmp_path / "pid").exists)
    await kill(mesh, "runner", "1")
    await kill(mesh, and_then, "1")

    info = await mesh.status("1")

    assert (info.status, info.exit_code) == ("interrupted", None)
    assert "half done" in info.reason
    assert not is_alive(int((mesh.tmp_path / "pid").read_text()))
    assert not (mesh.tmp_path / "done-one").exists()
    assert mesh.runs() == ["one"]


async def test_everything_at_once_is_a_power_cut(mesh: JobMesh) -> None:
    """Agent, runner and script die in the same moment; the machine comes back with the same disk."""
    await mesh.submit(create("1", "first", instance="one"))
    await mesh.status("1", "running")
    await mesh.until((mesh.tmp_path / "pid").exists)
    mesh.kill_agent()
    mesh.kill_runner("1")
    await mesh.stop_master()
    await mesh.server.kill()
    await mesh.server.start()
    await mesh.start_master()
    mesh.start_agent()

    assert (await mesh.status("1")).status == "interrupted"
    assert mesh.runs() == ["one"]


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
async def test_random_kills_under_load(tmp_path: Path, split: bool) -> None:
    async with job_mesh(tmp_path, split=split) as mesh:
        await random_kills(mesh, ["agent", "agent", "runner", "runner", "master", "broker"] + ["helper"] * 2 * split)


async def random_kills(mesh: JobMesh, victims: list[str]) -> None:
    """Every job ends; what is called success ran once and to its end; what is called anything else ran at most once."""
    chance = random.Random(SEED)
    mesh.os("work", f"sleep 0.1; touch {mesh.tmp_path}/done-$INSTANCE_NAME")
    for number in range(JOBS):
        await mesh.submit(create(f"j{number}", "work", instance=f"i{number}"))
    for _ in range(KILLS):
        victim = chance.choice(victims)
        running = [path.parent.name for path in mesh.jobs_dir().glob(f"*/{os_run.STARTED}")]
        if victim != "runner":
            await kill(mesh, victim, "")
        elif running:
            with contextlib.suppress(OSError, KeyError, ProcessLookupError):
                await kill(mesh, victim, chance.choice(running))
        await mesh.daemon.progress.wait(chance.uniform(0.0, 0.2))

    ends = {job: (await mesh.status(job)).status for job in (f"j{number}" for number in range(JOBS))}

    runs = mesh.runs()
    assert len(runs) == len(set(runs)), f"seed {SEED}: {runs}"
    for number in range(JOBS):
        status, is_done = ends[f"j{number}"], (mesh.tmp_path / f"done-i{number}").exists()
        assert status in ("success", "interrupted"), f"seed {SEED}"
        if status == "success":
            assert is_done and f"i{number}" in runs, f"seed {SEED}: job {number} is called done and is not"


async def test_a_master_with_yesterdays_disk_has_no_job_run_again(mesh: JobMesh) -> None:
    """Its records are older than what happened: the node knows better, and the boards go on from where they were."""
    import shutil

    jobs = mesh.tmp_path / "master/jobs"
    await mesh.submit(create("1", "second", instance="one"))
    await mesh.stop_master()
    shutil.copytree(jobs, mesh.tmp_path / "backup")
    await mesh.start_master()
    await mesh.status("1")
    await mesh.submit(create("2", "second", instance="two"))
    await mesh.status("2")
    await mesh.stop_master()
    shutil.rmtree(jobs)
    shutil.copytree(mesh.tmp_path / "backup", jobs)
    await mesh.start_master()

    assert (await mesh.status("1")).status == "success", "the node says it again"
    await mesh.submit(create("3", "second", instance="three"))
    assert (await mesh.status("3")).status == "success"
    assert sorted(mesh.runs()) == ["one", "three", "two"]


async def test_a_stopped_agent_goes_on_where_it_was(mesh: JobMesh) -> None:
    """SIGTERM, as systemctl restart sends it: what runs goes on."""
    await mesh.submit(create("1", "first", instance="one"))
    await mesh.status("1", "running")
    mesh.kill_agent(NODE, signal.SIGTERM)
    mesh.start_agent()
    await mesh.online()
    await asyncio.to_thread((mesh.tmp_path / "gate").write_text, "go\n")

    assert (await mesh.status("1")).status == "success"
    assert mesh.runs() == ["one"]
