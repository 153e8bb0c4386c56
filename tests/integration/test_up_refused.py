"""`gnt-mesh up` says no: one sentence with the next step, exit 1, and nothing half done."""

import ctypes
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from master.up import broker
from tests.support.forked import drop_capabilities
from tests.support.mesh import COMMAND, Up, environment, processes_of, refused_up, running_mesh

SERVER = Path(sys.prefix) / "bin" / "nats-server"


def test_another_up_on_the_same_directory_is_refused_and_the_first_lives_on(tmp_path: Path) -> None:
    with running_mesh(tmp_path, nodes=1) as mesh:
        pid = mesh.up.process.pid
        sentence = refused_up(mesh.dir)
        assert f"another gnt-mesh up (pid {pid}) runs on {mesh.dir}" in sentence
        assert f"kill {pid}" in sentence
        mesh.ok("wait")


def test_a_port_in_use_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use" in refused_up(tmp_path / "m", "--port", str(port))
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
        sentence = refused_up(mesh.dir)
    assert f"port {port} on 127.0.0.1 is in use" in sentence
    assert str(marker) in sentence
    # ... and what that sentence proposes works:
    marker.write_text(re.sub(r"(?m)^port = \d+", "port = " + str(broker.free_port()), marker.read_text()))
    with running_mesh(tmp_path, nodes=1, name="m") as again:
        again.ok("wait")


def test_a_directory_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert "not empty" in refused_up(tmp_path)
    assert "not a directory" in refused_up(tmp_path / "thesis.tex")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_mesh_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gnt-mesh.toml").write_text("format = 1000\n")
    assert "newer gnt-mesh (format 1000" in refused_up(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["gnt-mesh.toml"]


def test_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    sentence = refused_up(locked / "m", before_exec=be_ordinary)
    assert f"{locked / 'm'}: permission denied; choose a --dir" in sentence


def be_ordinary() -> None:
    """Permission bits count from here on, also where tests run as root, and also after exec (SECBIT_NOROOT)."""
    if os.geteuid() == 0:
        pr_set_securebits, noroot = 28, 1
        assert ctypes.CDLL(None).prctl(pr_set_securebits, noroot, 0, 0, 0) == 0
    drop_capabilities()


@pytest.mark.parametrize("number", ["0", "-1", "201"])
def test_an_impossible_number_of_nodes_is_refused(tmp_path: Path, number: str) -> None:
    assert f"--nodes {number}" in refused_up(tmp_path / "m", "--nodes", number)
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
    sentence = refused_up(tmp_path / "m", command=other_command(tmp_path), PATH=str(tmp_path))
    assert "there is no nats-server" in sentence
    assert "pip install 'gnt-mesh[broker]'" in sentence
    assert not (tmp_path / "m").exists()


def test_a_server_that_is_too_old_is_refused_with_the_cure(tmp_path: Path) -> None:
    old = tmp_path / "old" / "nats-server"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho nats-server: v2.12.6\n")
    old.chmod(0o755)
    sentence = refused_up(tmp_path / "m", command=other_command(tmp_path), PATH=str(old.parent))
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
