"""Jobs from the master to the script and back, on a real server with real agents."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from master.core.instance import Instance
from protocol.change_messages import ChangeRequest
from protocol.errors import Refused
from protocol.operator_job_messages import JobCancel, JobFollow, JobInfos, JobNews, JobQuery
from protocol.operator_messages import Changed, NodeRemove
from protocol.os_names import JobId, instance_name
from tests.support.job_mesh import CONFIG_DATA, MASTER, NODE, JobMesh, create, job_mesh
from tests.support.job_rig import is_alive


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[JobMesh]:
    async with job_mesh(tmp_path) as mesh:
        gate = mesh.tmp_path / "gate"
        os.mkfifo(gate)
        mesh.os("good", "echo hello from $INSTANCE_NAME")
        mesh.os("bad", "echo no such suite >&2; exit 9")
        mesh.os("slow", f"echo first; echo $$ > {mesh.tmp_path}/pid; exec 3<{gate}; read line <&3; echo $line")
        yield mesh


async def through(mesh: JobMesh) -> None:
    """Open the gate for whoever waits there."""
    await asyncio.to_thread((mesh.tmp_path / "gate").write_text, "go\n")


async def test_a_job_runs_and_its_end_and_output_are_on_the_master(mesh: JobMesh) -> None:
    taken = await mesh.submit(create("17", "good", instance="web"))
    assert taken.status == "queued"

    info = await mesh.status("17")

    assert (info.status, info.exit_code, info.instance, info.action) == ("success", 0, "web", "create")
    assert info.started and info.ended and info.requested <= info.started <= info.ended
    assert await mesh.output("17") == "hello from web\n"
    assert mesh.runs() == ["web"]


async def test_a_job_that_fails_says_why(mesh: JobMesh) -> None:
    await mesh.submit(create("17", "bad"))

    info = await mesh.status("17")

    assert (info.status, info.exit_code) == ("failed", 9)
    assert "no such suite" in info.reason


async def test_the_same_request_again_is_the_same_job(mesh: JobMesh) -> None:
    await mesh.submit(create("17", "good", instance="web"))
    await mesh.status("17")

    again = await mesh.submit(create("17", "good", instance="web"))

    assert again.status == "success"
    assert mesh.runs() == ["web"]


async def test_output_comes_while_the_script_runs(mesh: JobMesh) -> None:
    await mesh.submit(create("17", "slow"))

    async with mesh.operator() as operator:
        text, question = b"", JobFollow(id="17")
        while b"first\n" not in text:
            news = await operator.ask("job.follow", question, JobNews)
            text += news.text
            question = JobFollow(id="17", offset=news.offset, revision=news.revision)
        assert news.job.status == "running"
        await through(mesh)

    assert (await mesh.status("17")).status == "success"
    assert await mesh.output("17") == "first\ngo\n"


async def test_a_running_job_is_cancelled_within_5_seconds(mesh: JobMesh) -> None:
    mesh.os("stubborn", f"trap '' TERM; echo $$ > {mesh.tmp_path}/pid; sleep 1000 & wait; sleep 1000")
    await mesh.submit(create("17", "stubborn"))
    await mesh.status("17", "running")
    await mesh.until((mesh.tmp_path / "pid").exists)
    asked_s = time.monotonic()

    async with mesh.operator() as operator:
        await operator.ask("job.cancel", JobCancel(id="17"), JobInfos)
    info = await mesh.status("17")

    assert info.status == "cancelled"
    assert time.monotonic() - asked_s < 5
    assert not is_alive(int((mesh.tmp_path / "pid").read_text()))


async def test_a_job_for_a_node_that_is_not_online_waits_or_is_refused(mesh: JobMesh) -> None:
    mesh.kill_agent()
    await mesh.until(lambda: not mesh.daemon.fleet.is_online(NODE, time.monotonic()))

    with pytest.raises(Refused, match="node node2 is not online"):
        await mesh.submit(create("1", "good"), waits_for_node=False)
    waiting = await mesh.submit(create("2", "good", instance="web"))
    assert (waiting.status, waiting.reason) == ("queued", "node node2 is not online")
    mesh.start_agent()

    assert (await mesh.status("2")).status == "success"
    assert mesh.runs() == ["web"]


async def test_a_waiting_job_that_is_cancelled_never_runs(mesh: JobMesh) -> None:
    mesh.kill_agent()
    await mesh.submit(create("17", "good"))
    async with mesh.operator() as operator:
        await operator.ask("job.cancel", JobCancel(id="17"), JobInfos)
    mesh.start_agent()

    assert (await mesh.status("17")).status == "cancelled"
    assert mesh.runs() == []


async def test_jobs_of_a_node_that_is_removed_are_not_left_open(mesh: JobMesh) -> None:
    mesh.kill_agent()
    await mesh.submit(create("17", "good"))
    async with mesh.operator() as operator:
        await operator.ask("node.remove", NodeRemove(name=NODE), Changed)

    info = await mesh.status("17")

    assert (info.status, info.reason.split(":")[0]) == (
        "interrupted",
        "its node was removed from the cluster, so nobody will say how it ended",
    )


async def test_jobs_are_listed_by_node_instance_and_state(mesh: JobMesh) -> None:
    await mesh.submit(create("1", "good", instance="web"))
    await mesh.status("1")
    await mesh.submit(create("2", "good", node=MASTER, instance="mail"))

    async with mesh.operator() as operator:

        async def listed(**query: object) -> list[str]:
            found = await operator.ask("job.list", JobQuery(**query), JobInfos)  # type: ignore[arg-type]
            return [job.id for job in found.jobs]

        assert await listed() == ["1", "2"]
        assert await listed(node=NODE) == ["1"]
        assert await listed(instance="mail") == ["2"]
        assert await listed(only_active=True) == ["2"]
        with pytest.raises(Refused, match="job 3 is not known"):
            await listed(ids=("3",))


async def test_much_output_is_kept_at_its_beginning_and_its_end(mesh: JobMesh) -> None:
    mesh.os("loud", "echo first; head -c 20000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo last")
    await mesh.submit(create("17", "loud"))
    await mesh.status("17")

    output = await mesh.output("17")

    assert output.startswith("first\nxxx")
    assert output.endswith("xlast\n")
    assert 1_000_000 < len(output) < 1_400_000


async def test_the_history_of_jobs_and_their_output_are_bounded(mesh: JobMesh) -> None:
    bounds = {"job_history": 2, "job_output_bytes_max": 100_000}
    await mesh.stop_master()
    await mesh.start_master(**bounds)
    mesh.os("loud", "echo first; head -c 2000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo last")
    await mesh.submit(create("open", "slow"))
    for job in ("1", "2", "3", "4"):
        await mesh.submit(create(job, "loud"))
        assert (await mesh.status(job)).status == "success"
        output = await mesh.output(job)
    await mesh.until(lambda: len(mesh.daemon.jobs.records) == 3)

    assert output.startswith("first\nxxx") and output.endswith("xlast\n")
    assert 100_000 < len(output) < 400_000
    assert set(mesh.daemon.jobs.records) == {"open", "3", "4"}, "the last that ended, and whatever is open"
    kept = {path.name for path in (mesh.tmp_path / "master/jobs").iterdir()}
    assert kept - {"open.output"} == {"open.json", "3.json", "3.output", "4.json", "4.output"}
    with pytest.raises(Refused, match="job 1 is not known; see: gnt-mesh job list"):
        mesh.daemon.jobs.info("1")
    await mesh.stop_master()
    await mesh.start_master(**bounds)
    assert set(mesh.daemon.jobs.records) == {"open", "3", "4"}
    await through(mesh)
    assert (await mesh.status("open")).status == "success"
    assert await mesh.output("4") == output


async def test_a_job_stays_until_its_end_is_settled_in_the_record_of_its_instance(mesh: JobMesh) -> None:
    """Here a config.data that was changed by hand holds that up. Without the job nobody would know that create ran."""
    await mesh.stop_master()
    await mesh.start_master(job_history=1)
    node, desired = mesh.daemon.desired.config.node(NODE), mesh.daemon.desired
    web = Instance(name=instance_name("web"), uuid="w", primary_node=node.uuid, os="good", hypervisor="kvm")
    noted = replace(web, install=JobId("1"))
    await desired.change(lambda config, _: replace(config, instances={"w": noted}), ChangeRequest(), why="a test")
    config = mesh.tmp_path / "root" / CONFIG_DATA
    kept = config.read_text()
    config.write_text(kept + "\n")

    for job in ("1", "2", "3"):
        await mesh.submit(create(job, "good"))
        await mesh.status(job)
    await mesh.until(lambda: "2" not in mesh.daemon.jobs.records)

    assert set(mesh.daemon.jobs.records) == {"1", "3"}
    config.write_text(kept)
    await mesh.until(lambda: set(mesh.daemon.jobs.records) == {"3"})
    assert desired.config.instances == {"w": web}


async def test_binary_output_arrives_as_harmless_text(mesh: JobMesh) -> None:
    mesh.os("binary", r"printf '\033[2J\377\000done\n'")
    await mesh.submit(create("17", "binary"))
    await mesh.status("17")

    assert await mesh.output("17") == "\\x1b[2J\\xff\\x00done\n"


async def test_a_board_that_the_bus_loses_without_a_word_is_posted_again(mesh: JobMesh) -> None:
    mesh.kill_agent()
    await mesh.submit(create("17", "good", instance="web"))
    await mesh.lose_board()
    mesh.start_agent()

    assert (await mesh.status("17")).status == "success"
    assert mesh.runs() == ["web"]


async def test_the_store_of_the_bus_may_be_lost_while_a_job_runs_and_another_waits(mesh: JobMesh) -> None:
    """Design, D1."""
    mesh.kill_agent()
    mesh.start_agent(jobs_at_once=1)
    await mesh.submit(create("1", "slow", instance="web"))
    await mesh.status("1", "running")
    await mesh.submit(create("2", "good", instance="mail"))
    await mesh.server.kill()
    mesh.server.lose_store()
    await mesh.server.start()
    await through(mesh)

    assert (await mesh.status("1")).status == "success"
    assert (await mesh.status("2")).status == "success"
    assert mesh.runs() == ["web", "mail"]
