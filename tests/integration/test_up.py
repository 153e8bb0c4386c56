"""`gnt-mesh up` as a user starts it: a real server, real daemons, real signals; nothing of it is ever left behind."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol import identity
from tests.support.forked import drop_capabilities
from tests.support.mesh import (
    COMMAND,
    RunningMesh,
    Up,
    environment,
    eventually,
    eventually_none,
    processes_of,
    running_mesh,
)

SERVER = Path(sys.prefix) / "bin" / "nats-server"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path, nodes=2) as mesh:
        yield mesh


def refused(
    directory: Path,
    *options: str,
    command: tuple[str, ...] = (str(COMMAND),),
    before_exec: Callable[[], None] | None = None,
    **more: str,
) -> str:
    """Run an `up` that must fail at once; return its one sentence."""
    done = subprocess.run(
        [*command, "up", "--dir", directory, *options],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**more),
        check=False,
        preexec_fn=before_exec,
    )
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.startswith("gnt-mesh: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


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
    url = re.search(r"nats://127\.0\.0\.1:\d+", mesh.up.output)
    assert url
    for expected in (f"{mesh.dir}/nodes/node1/etc/", "status", f"--nkey {mesh.dir}/keys/admin.nk", "Ctrl-C ends it"):
        assert expected in mesh.up.output


def test_an_edit_on_the_master_arrives_on_the_other_node(mesh: RunningMesh) -> None:
    (mesh.node_root("node1") / "etc/motd").write_text("hello\n")
    mesh.ok("file", "add", "/etc/motd", "--scope", "all")
    mesh.ok("wait")
    assert (mesh.node_root("node2") / "etc/motd").read_text() == "hello\n"


def test_it_listens_on_this_machine_only(mesh: RunningMesh) -> None:
    port = int(mesh.up.output.split("nats://127.0.0.1:")[1].split()[0])
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
        assert eventually_none(up.directory) == {}
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
            eventually((directory / landmark).exists, what=landmark)
            up.process.kill()
            assert eventually_none(directory) == {}
        finally:
            up.close()
    with running_mesh(tmp_path, nodes=2, name="m") as mesh:
        mesh.ok("wait")


def test_a_signal_while_it_starts_ends_it_in_order(tmp_path: Path) -> None:
    up = Up(tmp_path / "m", "--nodes", "2")
    try:
        eventually((up.directory / "run/nats-server.pid").exists)
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
    eventually(lambda: mesh.run("file", "add", "/etc/motd", "--scope", "all").returncode == 0)
    mesh.ok("wait")
    assert (mesh.node_root("node2") / "etc/motd").read_text() == "after\n"


def test_an_agent_with_a_broken_configuration_is_given_up_with_its_reason(mesh: RunningMesh) -> None:
    settings = mesh.node_root("node2") / "etc/gnt-mesh/agent.toml"
    good = settings.read_text()
    settings.write_text(good + "colour = 'red'\n")
    mesh.kill("node2")
    sentence = eventually(lambda: re.search(r"node2 exited with 78: .*colour.*node2\.log.*", mesh.up.output))[0]
    assert "not started again before the next gnt-mesh up" in sentence
    assert not (mesh.dir / "run/node2.pid").exists()
    settings.write_text(good)


def test_a_master_that_cannot_start_ends_all_of_it(tmp_path: Path) -> None:
    with running_mesh(tmp_path, nodes=1, name="m") as mesh:
        settings = mesh.node_root("node1") / "etc/gnt-mesh/master.toml"
    settings.write_text(settings.read_text() + "colour = 'red'\n")
    sentence = refused(mesh.dir)
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


def test_a_larger_number_adds_nodes_and_a_smaller_one_is_refused(tmp_path: Path) -> None:
    with running_mesh(tmp_path, nodes=1, name="m"):
        pass
    with running_mesh(tmp_path, nodes=3, name="m") as mesh:
        assert node_names(mesh) == ["node1", "node2", "node3"]
        mesh.ok("wait")
        assert mesh.pid("node3")
    sentence = refused(mesh.dir, "--nodes", "2")
    assert "has 3 nodes, not 2" in sentence
    assert f"gnt-mesh --dir {mesh.dir} node remove NAME" in sentence


def test_options_that_contradict_the_mesh_are_refused(tmp_path: Path) -> None:
    with running_mesh(tmp_path, nodes=1, name="m") as mesh:
        pass
    before = (mesh.dir / "gnt-mesh.toml").read_text()
    assert "has --candidate-pool-size 1, not 2" in refused(mesh.dir, "--candidate-pool-size", "2")
    assert "has --cluster-name mesh, not x" in refused(mesh.dir, "--cluster-name", "x")
    assert "has --port" in refused(mesh.dir, "--port", "1024")
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
    eventually(lambda: pid not in processes_of(mesh.dir), what="the agent of node2 ended")
    assert (mesh.node_root("node2") / "etc/gnt-mesh/agent.nk").exists()
    eventually(lambda: "node2 was removed from the cluster" in mesh.up.output)

    mesh.ok("node", "add", "node2", "--wait")
    assert is_online(mesh, "node2")


def test_a_node_with_a_key_from_elsewhere_is_not_started_here(mesh: RunningMesh, tmp_path: Path) -> None:
    key = identity.ensure_seed(tmp_path / "elsewhere.nk")
    mesh.ok("node", "add", "far", "--public-key", key)
    mesh.ok("node", "add", "near", "--wait")
    eventually(lambda: "node far is not started here" in mesh.up.output)
    assert mesh.up.output.count("node far is not started here") == 1
    assert not mesh.node_root("far").exists()


# ---- refused


def test_another_up_on_the_same_directory_is_refused(mesh: RunningMesh) -> None:
    pid = mesh.up.process.pid
    sentence = refused(mesh.dir)
    assert f"another gnt-mesh up (pid {pid}) runs on {mesh.dir}" in sentence
    assert f"kill {pid}" in sentence
    assert is_online(mesh, "node2")


def test_a_port_in_use_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use" in refused(tmp_path / "m", "--port", str(port))
    assert not (tmp_path / "m").exists()


def test_the_remembered_port_in_use_is_named_with_the_file_that_says_it(tmp_path: Path) -> None:
    with running_mesh(tmp_path, nodes=1, name="m") as mesh:
        pass
    marker = mesh.dir / "gnt-mesh.toml"
    port = int(re.search(r"(?m)^port = (\d+)", marker.read_text())[1])  # type: ignore[index]
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        busy.bind(("127.0.0.1", port))
        busy.listen()
        sentence = refused(mesh.dir)
    assert f"port {port} on 127.0.0.1 is in use" in sentence
    assert str(marker) in sentence
    # ... and what that sentence proposes works:
    marker.write_text(re.sub(r"(?m)^port = \d+", "port = " + str(free_port()), marker.read_text()))
    with running_mesh(tmp_path, nodes=1, name="m") as again:
        again.ok("wait")


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port: int = any_port.getsockname()[1]
        return port


def test_a_directory_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert "not empty" in refused(tmp_path)
    assert "not a directory" in refused(tmp_path / "thesis.tex")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_mesh_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gnt-mesh.toml").write_text("format = 1000\n")
    assert "newer gnt-mesh (format 1000" in refused(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["gnt-mesh.toml"]


def test_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    sentence = refused(locked / "m", before_exec=be_ordinary)
    assert f"{locked / 'm'}: permission denied; choose a --dir" in sentence


def be_ordinary() -> None:
    """Permission bits count from here on, also where tests run as root, and also after exec (SECBIT_NOROOT)."""
    if os.geteuid() == 0:
        pr_set_securebits, noroot = 28, 1
        assert ctypes.CDLL(None).prctl(pr_set_securebits, noroot, 0, 0, 0) == 0
    drop_capabilities()


@pytest.mark.parametrize("number", ["0", "-1", "201"])
def test_an_impossible_number_of_nodes_is_refused(tmp_path: Path, number: str) -> None:
    assert f"--nodes {number}" in refused(tmp_path / "m", "--nodes", number)
    assert not (tmp_path / "m").exists()


def test_without_dir_it_says_so() -> None:
    done = subprocess.run([COMMAND, "up"], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 1
    assert "--dir" in done.stderr


def other_command(tmp_path: Path) -> tuple[str, ...]:
    """Return `gnt-mesh` in a virtual environment that has everything of ours but nats-server beside the interpreter."""
    root = tmp_path / "env"
    (root / "bin").mkdir(parents=True)
    (root / "bin/python").symlink_to(Path(sys.executable).resolve())
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", root)
    (root / "lib").symlink_to(Path(sys.prefix) / "lib")
    return str(root / "bin/python"), "-P", "-c", "from master.cli import main; main()"


def test_a_missing_server_is_refused_with_the_cure(tmp_path: Path) -> None:
    sentence = refused(tmp_path / "m", command=other_command(tmp_path), PATH=str(tmp_path))
    assert "there is no nats-server" in sentence
    assert "pip install 'gnt-mesh[broker]'" in sentence
    assert not (tmp_path / "m").exists()


def test_a_server_that_is_too_old_is_refused_with_the_cure(tmp_path: Path) -> None:
    old = tmp_path / "old" / "nats-server"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho nats-server: v2.12.6\n")
    old.chmod(0o755)
    sentence = refused(tmp_path / "m", command=other_command(tmp_path), PATH=str(old.parent))
    assert f"{old} is version 2.12.6, at least 2.12.7" in sentence
    assert not (tmp_path / "m").exists()


def test_a_server_on_the_path_serves_as_well(tmp_path: Path) -> None:
    found = tmp_path / "path" / "nats-server"
    found.parent.mkdir()
    found.symlink_to(SERVER)
    up = Up(
        tmp_path / "m",
        "--nodes",
        "1",
        command=other_command(tmp_path),
        PATH=f"{found.parent}:{os.defpath}",
    )
    try:
        up.until_ready()
        assert any(str(found) in line for line in processes_of(up.directory).values())
        assert up.stop() == 0
    finally:
        up.close()
