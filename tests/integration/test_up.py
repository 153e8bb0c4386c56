"""`gnt-mesh up` as a user starts it: a real server, real daemons, real signals; nothing of it is ever left behind."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import identity
from tests.support.mesh import (
    RunningMesh,
    Up,
    processes_left,
    processes_of,
    refused_up,
    running_mesh,
)
from tests.support.waiting import until, until_ended

SERVER = Path(sys.prefix) / "bin" / "nats-server"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path, nodes=2) as mesh:
        yield mesh


def node_names(mesh: RunningMesh) -> list[str]:
    return [node["name"] for node in mesh.json("status")["nodes"]]


def is_online(mesh: RunningMesh, name: str) -> bool:
    return any(node["name"] == name and node["online"] for node in mesh.json("status")["nodes"])


# ---- what runs


def test_everything_runs_and_the_terminal_says_what_to_do_next(mesh: RunningMesh) -> None:
    status = mesh.json("status")
    assert [(node["name"], node["role"], node["online"]) for node in status["nodes"]] == [
        ("node1", "M", True),
        ("node2", "R", True),
    ]
    running = {mesh.pid(name) for name in ("nats-server", "master", "node1", "node2")}
    assert set(processes_of(mesh.dir)) == running
    url = re.search(r"tls://127\.0\.0\.1:\d+", mesh.up.output)
    assert url
    for expected in (
        f"{mesh.dir}/nodes/node1/etc/",
        "status",
        f"--context {mesh.dir}/nats-context.json",
        "Ctrl-C ends it",
    ):
        assert expected in mesh.up.output


def test_an_edit_on_the_master_arrives_on_the_other_node(mesh: RunningMesh) -> None:
    (mesh.node_root("node1") / "etc/motd").write_text("hello\n")
    mesh.ok("file", "add", "/etc/motd", "--scope", "all")
    mesh.ok("wait")
    assert (mesh.node_root("node2") / "etc/motd").read_text() == "hello\n"


def test_it_listens_on_this_machine_only(mesh: RunningMesh) -> None:
    port = int(mesh.up.output.split("tls://127.0.0.1:")[1].split()[0])
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A" and int(local.split(":")[1], 16) == port:
                listening.append(local.split(":")[0])
    assert listening == ["0100007F"]


def test_children_hold_no_descriptor_and_no_variable_of_their_starter(tmp_path: Path) -> None:
    held = tmp_path / "held"
    descriptor = os.open(held, os.O_CREAT | os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    os.environ["GNT_MESH_TEST_SECRET"] = "canary"
    try:
        with running_mesh(tmp_path, nodes=1) as mesh:
            for name in ("nats-server", "master", "node1"):
                process = Path(f"/proc/{mesh.pid(name)}")
                assert b"canary" not in (process / "environ").read_bytes()
                files = [str(entry.readlink()) for entry in (process / "fd").iterdir() if entry.is_symlink()]
                assert str(held) not in files
                assert not [file for file in files if file.endswith(".lock")]
    finally:
        del os.environ["GNT_MESH_TEST_SECRET"]
        os.close(descriptor)


# ---- the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_of_it(tmp_path: Path, number: signal.Signals) -> None:
    up = Up(tmp_path / "m", "--nodes", "2")
    try:
        up.until_ready()
        assert up.stop(number) == 0, up.output
        assert processes_of(up.directory) == {}
        assert list((up.directory / "run").iterdir()) == []
        assert "Traceback" not in up.describe()
    finally:
        up.close()


def test_ctrl_c_on_a_terminal_ends_all_of_it_in_order(tmp_path: Path) -> None:
    """The whole foreground process group gets it; the children are not in it, or they would all die at once."""
    up = Up(tmp_path / "m", "--nodes", "2")
    try:
        up.until_ready()
        up.interrupt()
        assert up.wait() == 0, up.output
        assert up.output.endswith(f"All of it has ended; go on with: gnt-mesh up --dir {up.directory}\n")
        assert processes_of(up.directory) == {}
        assert "master_stopped" in (up.directory / "log/master.log").read_text()
    finally:
        up.close()


def test_the_supervisor_killed_leaves_nothing_and_the_next_goes_on(tmp_path: Path) -> None:
    up = Up(tmp_path / "m", "--nodes", "2")
    try:
        up.until_ready()
        assert len(processes_of(up.directory)) == 4
        up.process.kill()
        assert processes_left(up.directory) == {}
    finally:
        up.close()
    with running_mesh(tmp_path, nodes=2, name="m") as mesh:
        assert node_names(mesh) == ["node1", "node2"]


def test_killed_while_it_starts_it_leaves_nothing_and_can_be_completed(tmp_path: Path) -> None:
    """At several moments of a first start, as they come."""
    directory = tmp_path / "m"
    for landmark in ("gnt-mesh.toml", "keys/system.nk", "run/nats-server.pid", "run/master.pid", "run/node1.pid"):
        up = Up(directory, "--nodes", "2")
        try:
            until((directory / landmark).exists, near=directory, what=landmark)
            up.process.kill()
            assert processes_left(directory) == {}
        finally:
            up.close()
    with running_mesh(tmp_path, nodes=2, name="m") as mesh:
        mesh.ok("wait")


def test_a_signal_while_it_starts_ends_it_in_order(tmp_path: Path) -> None:
    up = Up(tmp_path / "m", "--nodes", "2")
    try:
        until((up.directory / "run/nats-server.pid").exists, near=up.directory)
        assert up.stop() == 0, up.output
        assert processes_of(up.directory) == {}
    finally:
        up.close()


def test_an_agent_that_is_stopped_by_a_signal_still_ends(mesh: RunningMesh) -> None:
    mesh.kill("node2", signal.SIGSTOP)


# ---- the death of a child


@pytest.mark.parametrize("name", ["nats-server", "master", "node2"])
def test_a_child_that_is_killed_is_started_again(mesh: RunningMesh, name: str) -> None:
    mesh.until_restarted(name, mesh.kill(name))
    assert f"{name} was killed by SIGKILL; it is started again now" in mesh.up.output

    (mesh.node_root("node1") / "etc/motd").write_text("after\n")
    add = ("file", "add", "/etc/motd", "--scope", "all")
    until(lambda: mesh.run(*add).returncode == 0, near=mesh.dir / "log", timeout_s=30)
    mesh.ok("wait")
    assert (mesh.node_root("node2") / "etc/motd").read_text() == "after\n"


def test_an_agent_with_a_broken_configuration_is_given_up_with_its_reason(mesh: RunningMesh) -> None:
    settings = mesh.node_root("node2") / "etc/gnt-mesh/agent.toml"
    good = settings.read_text()
    settings.write_text(good + "colour = 'red'\n")
    mesh.kill("node2")
    sentence = mesh.up.until_says(r"node2 exited with 78: .*colour.*node2\.log")
    assert "not started again before the next gnt-mesh up" in sentence
    assert not (mesh.dir / "run/node2.pid").exists()
    settings.write_text(good)


def test_a_master_that_cannot_start_ends_all_of_it(tmp_path: Path) -> None:
    with running_mesh(tmp_path, nodes=1, name="m") as mesh:
        settings = mesh.node_root("node1") / "etc/gnt-mesh/master.toml"
    settings.write_text(settings.read_text() + "colour = 'red'\n")
    sentence = refused_up(mesh.dir)
    assert "master exited with 78" in sentence
    assert "colour" in sentence
    assert str(mesh.dir / "log/master.log") in sentence
    assert processes_of(mesh.dir) == {}


# ---- started again


def test_started_again_it_goes_on_where_it_was(tmp_path: Path) -> None:
    with running_mesh(tmp_path, nodes=2, name="m") as mesh:
        (mesh.node_root("node1") / "etc/motd").write_text("one\n")
        mesh.ok("file", "add", "/etc/motd", "--scope", "all")
        mesh.ok("node", "add", "web", "--wait")
        before = mesh.json("status")
    (mesh.node_root("node1") / "etc/motd").write_text("edited while it was down\n")
    up = Up(mesh.dir)
    try:
        up.until_ready()
        again = RunningMesh(up)
        again.ok("wait")
        after = again.json("status")
        assert [node["name"] for node in after["nodes"]] == ["node1", "node2", "web"]
        assert after["epoch"] == before["epoch"]
        assert after["scopes"]["all"]["generation"] > before["scopes"]["all"]["generation"]
        for node in ("node2", "web"):
            assert (again.node_root(node) / "etc/motd").read_text() == "edited while it was down\n"
        assert up.stop() == 0
    finally:
        up.close()


def test_a_directory_that_was_moved_goes_on(tmp_path: Path) -> None:
    with running_mesh(tmp_path, nodes=2, name="m") as mesh:
        (mesh.node_root("node1") / "etc/motd").write_text("one\n")
        mesh.ok("file", "add", "/etc/motd", "--scope", "all")
        mesh.ok("wait")
    moved = tmp_path / "deeper" / "with a 'space'"
    moved.parent.mkdir()
    mesh.dir.rename(moved)
    up = Up(moved)
    try:
        up.until_ready()
        again = RunningMesh(up)
        (again.node_root("node1") / "etc/motd").write_text("two\n")
        again.ok("wait")
        assert (again.node_root("node2") / "etc/motd").read_text() == "two\n"
        assert not mesh.dir.exists()
        assert up.stop() == 0
    finally:
        up.close()


def test_a_larger_number_adds_nodes_and_a_smaller_one_is_refused_up(tmp_path: Path) -> None:
    with running_mesh(tmp_path, nodes=1, name="m"):
        pass
    with running_mesh(tmp_path, nodes=3, name="m") as mesh:
        assert node_names(mesh) == ["node1", "node2", "node3"]
        mesh.ok("wait")
        assert mesh.pid("node3")
    sentence = refused_up(mesh.dir, "--nodes", "2")
    assert "has 3 nodes, not 2" in sentence
    assert f"gnt-mesh --dir {mesh.dir} node remove NAME" in sentence


def test_options_that_contradict_the_mesh_are_refused_up(tmp_path: Path) -> None:
    with running_mesh(tmp_path, nodes=1, name="m") as mesh:
        pass
    before = (mesh.dir / "gnt-mesh.toml").read_text()
    assert "has --candidate-pool-size 1, not 2" in refused_up(mesh.dir, "--candidate-pool-size", "2")
    assert "has --cluster-name mesh, not x" in refused_up(mesh.dir, "--cluster-name", "x")
    assert "has --port" in refused_up(mesh.dir, "--port", "1024")
    assert (mesh.dir / "gnt-mesh.toml").read_text() == before


def test_the_candidates_are_the_first_nodes(tmp_path: Path) -> None:
    with running_mesh(tmp_path, "--cluster-name", "c1.example.com", nodes=3, candidate_pool_size=2) as mesh:
        status = mesh.json("status")
        assert status["cluster"] == "c1.example.com"
        assert [node["role"] for node in status["nodes"]] == ["M", "C", "R"]
        assert mesh.json("cluster", "info")["candidate_pool_size"] == 2


# ---- the cluster's list of nodes is followed


def test_nodes_that_are_added_get_a_root_a_key_and_an_agent(mesh: RunningMesh) -> None:
    mesh.ok("node", "add", "web", "--wait")
    assert is_online(mesh, "web")
    key = identity.read_public_key(mesh.node_root("web") / "etc/gnt-mesh/agent.nk")
    (info,) = mesh.json("node", "info", "web")
    assert info["public_key"] == key
    assert "web is in the cluster: its agent is started" in mesh.up.output


def test_nodes_that_are_removed_lose_their_agent_and_keep_their_root(mesh: RunningMesh) -> None:
    pid = mesh.pid("node2")
    mesh.ok("node", "remove", "node2")
    until_ended([pid])
    assert pid not in processes_of(mesh.dir)
    assert (mesh.node_root("node2") / "etc/gnt-mesh/agent.nk").exists()
    mesh.up.until_says("node2 was removed from the cluster")

    mesh.ok("node", "add", "node2", "--wait")
    assert is_online(mesh, "node2")


def test_a_node_with_a_key_from_elsewhere_is_not_started_here(mesh: RunningMesh, tmp_path: Path) -> None:
    key = identity.ensure_seed(tmp_path / "elsewhere.nk")
    mesh.ok("node", "add", "far", "--public-key", key)
    mesh.ok("node", "add", "near", "--wait")
    mesh.up.until_says("node far is not started here")
    assert mesh.up.output.count("node far is not started here") == 1
    assert not mesh.node_root("far").exists()
