"""kill -9 of each part while an operator follows an install: it runs once, and what is said of it is so.

Processes as `gnt-mesh up` runs them, which starts again what dies. The master dies at each step; for agent and broker
`test_job_crashes` has the other steps.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh import COMMAND, RunningMesh, environment, running_mesh
from tests.support.os_files import OS_PLACE
from tests.support.waiting import until

HELLO = Path(__file__).parents[2] / "examples/os/hello"
VICTIMS = {"agent": "node2", "master": "master", "broker": "nats-server"}


class Rig:
    """One instance, whose create counts itself and waits at a gate."""

    def __init__(self, mesh: RunningMesh) -> None:
        self.mesh = mesh
        self.place = mesh.dir / "crash"
        self.place.mkdir()
        os.mkfifo(self.place / "gate")
        for node in ("node1", "node2"):
            shutil.copytree(HELLO, mesh.node_root(node) / OS_PLACE / "hello")
        until(lambda: [one for one in mesh.json("os", "list") if one["status"] == "valid"], near=mesh.dir)
        mesh.ok("instance", "add", "web", "-n", "node2", "-o", "hello+plain", "--disk", str(self.place / "disk"))
        (mesh.node_root("node2") / OS_PLACE / "hello/create").write_text(
            f"#!/bin/sh\necho run >> {self.place}/runs; touch {self.place}/begun; read line < {self.place}/gate\n"
            f"echo $INSTANCE_OS_PARAMETER_GREETING > $DISK_0_PATH\n"
        )
        self.number = 0

    def reinstall(self, *more: str) -> "subprocess.Popen[str]":
        """Start what an operator types, with another greeting each time."""
        self.number += 1
        return self.start("instance", "reinstall", "web", "-O", f"greeting={self.greeting}", *more)

    def start(self, *line: str) -> "subprocess.Popen[str]":
        """Start a command of which a create will come."""
        for name in ("begun", "runs"):
            (self.place / name).unlink(missing_ok=True)
        return subprocess.Popen(
            [COMMAND, "--dir", self.mesh.dir, *line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )

    @property
    def greeting(self) -> str:
        return f"hello-{self.number}"

    def kill(self, victim: str) -> None:
        """kill -9, and see that it is started again."""
        name = VICTIMS[victim]
        self.mesh.until_restarted(name, self.mesh.kill(name))

    def until_begun(self) -> None:
        until((self.place / "begun").exists, near=self.place)

    def open_gate(self) -> None:
        (self.place / "gate").write_text("go\n")

    def has_run_once(self) -> None:
        (instance,) = self.mesh.json("instance", "info", "web")
        assert (self.place / "runs").read_text() == "run\n"
        assert (self.place / "disk").read_text() == f"{self.greeting}\n"
        assert instance["osparams"]["greeting"] == self.greeting
        assert instance["reinstalling"] is None


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_mesh(tmp_path_factory.mktemp("crashes"), nodes=2) as mesh:
        yield Rig(mesh)


@pytest.mark.parametrize(
    ("step", "victim"),
    [("waits", "master"), ("runs", "agent"), ("runs", "master"), ("runs", "broker"), ("ends", "master")],
)
def test_a_kill_costs_whoever_follows_time_and_nothing_else(rig: Rig, step: str, victim: str) -> None:
    if step == "waits":
        rig.mesh.kill("node2", signal.SIGSTOP)
    following = rig.reinstall()
    if step == "waits":
        until(lambda: rig.mesh.json("job", "list", "--active"), near=rig.mesh.dir)
        rig.kill(victim)
        rig.mesh.kill("node2", signal.SIGCONT)
    rig.until_begun()
    if step == "ends":
        rig.open_gate()
    if step != "waits":
        rig.kill(victim)
    if step != "ends":
        rig.open_gate()

    said, _ = following.communicate(timeout=90)

    assert following.returncode == 0, said
    assert "has succeeded" in said
    rig.has_run_once()


def test_who_has_had_no_answer_asks_again_with_the_same_id(rig: Rig) -> None:
    """The master dies while it takes the request; whatever it had done of it then, it is one job."""
    asked = rig.reinstall("--job-id", "mine")
    rig.kill("master")
    again = subprocess.Popen(
        [*map(str, asked.args)],  # type: ignore[union-attr]
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )
    rig.until_begun()
    rig.open_gate()

    said, _ = again.communicate(timeout=90)
    asked.communicate(timeout=90)

    assert again.returncode == 0, said
    rig.has_run_once()


def test_an_add_that_ended_before_its_job_was_taken_goes_on_under_the_same_id(rig: Rig) -> None:
    """Its instance is recorded, its job's record could not be written, and then the master dies."""
    line = (
        *("instance", "add", "late", "-n", "node2", "-o", "hello+plain", "-O", "greeting=late", "--job-id", "late-1"),
        *("--disk", str(rig.place / "late")),
    )
    in_the_way = rig.mesh.dir / "nodes/node1/var/lib/gnt-mesh/master/jobs/late-1.json"
    (in_the_way / "not empty").mkdir(parents=True)
    assert "cannot record job late-1" in rig.mesh.run(*line).stderr
    shutil.rmtree(in_the_way)
    rig.kill("master")

    again = rig.start(*line)
    rig.until_begun()
    rig.open_gate()
    said, _ = again.communicate(timeout=90)

    assert again.returncode == 0, said
    assert "not run again" in rig.mesh.ok(*line)
    assert "exists already" in rig.mesh.run(*line[:-3], "late-2", *line[-2:]).stderr
    assert (rig.place / "runs").read_text() == "run\n"
    assert (rig.place / "late").read_text() == "late\n"
    config = json.loads((rig.mesh.node_root("node1") / "var/lib/ganeti/config.data").read_text())
    [record] = [one for one in config["instances"].values() if one["name"] == "late"]
    assert (record["osparams"]["greeting"], record["install"]) == ("late", None)


def test_a_cancellation_survives_a_kill_too(rig: Rig) -> None:
    following = rig.reinstall("--job-id", "cancelled")
    rig.until_begun()
    rig.mesh.ok("job", "cancel", "cancelled", "--no-wait")
    rig.kill("master")

    said, _ = following.communicate(timeout=90)

    assert following.returncode == 1
    assert "was cancelled on node2" in said
    assert (rig.place / "runs").read_text() == "run\n"
    job = rig.mesh.json("job", "info", "cancelled")
    assert (job["status"], job["exit_code"]) == ("cancelled", None)
