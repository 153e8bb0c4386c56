"""The main job, on real parts: edit a file on the master, and every node of its scope has it, durably."""

import hashlib
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh import RunningMesh, running_mesh
from tests.support.waiting import until, until_holds


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("sync"), nodes=3) as mesh:
        yield mesh


def put(mesh: RunningMesh, path: str, content: bytes, *, mode: int = 0o644) -> Path:
    """Write a source as an editor does: beside it, then renamed over it."""
    source = mesh.node_root("node1") / path.lstrip("/")
    source.parent.mkdir(parents=True, exist_ok=True)
    beside = source.parent / ".edit"
    beside.write_bytes(content)
    beside.chmod(mode)
    beside.rename(source)
    return source


def on(mesh: RunningMesh, node: str, path: str) -> Path:
    return mesh.node_root(node) / path.lstrip("/")


def done(mesh: RunningMesh, *arguments: str) -> None:
    result = mesh.run(*arguments)
    assert result.returncode == 0, result.stderr


def test_a_file_that_is_added_is_on_every_node_when_the_command_returns(mesh: RunningMesh) -> None:
    put(mesh, "/etc/ganeti/added", b"one\n", mode=0o640)

    done(mesh, "file", "add", "/etc/ganeti/added", "--scope", "all")

    for node in ("node2", "node3"):
        assert on(mesh, node, "/etc/ganeti/added").read_bytes() == b"one\n"
        assert stat.S_IMODE(on(mesh, node, "/etc/ganeti/added").stat().st_mode) == 0o640


def test_every_later_edit_travels_by_itself(mesh: RunningMesh) -> None:
    put(mesh, "/etc/ganeti/edited", b"one\n")
    done(mesh, "file", "add", "/etc/ganeti/edited", "--scope", "all")

    put(mesh, "/etc/ganeti/edited", b"two\n")

    for node in ("node2", "node3"):
        until_holds(on(mesh, node, "/etc/ganeti/edited"), b"two\n", near=mesh.node_root(node) / "etc/ganeti")


def test_an_edit_made_before_wait_is_part_of_what_it_waits_for(mesh: RunningMesh) -> None:
    put(mesh, "/etc/ganeti/barrier", b"0")
    done(mesh, "file", "add", "/etc/ganeti/barrier", "--scope", "all")

    for turn in range(1, 6):
        put(mesh, "/etc/ganeti/barrier", str(turn).encode())
        done(mesh, "wait")
        assert {on(mesh, node, "/etc/ganeti/barrier").read_text() for node in ("node2", "node3")} == {str(turn)}


def test_a_change_of_mode_alone_travels(mesh: RunningMesh) -> None:
    source = put(mesh, "/etc/ganeti/mode", b"x", mode=0o600)
    done(mesh, "file", "add", "/etc/ganeti/mode", "--scope", "all")

    source.chmod(0o755)
    done(mesh, "wait")

    assert stat.S_IMODE(on(mesh, "node2", "/etc/ganeti/mode").stat().st_mode) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another owner")
def test_owner_and_group_travel_also_as_bare_numbers(mesh: RunningMesh) -> None:
    source = put(mesh, "/etc/ganeti/owned", b"x")
    os.chown(source, 1, 54321)

    done(mesh, "file", "add", "/etc/ganeti/owned", "--scope", "all")

    there = on(mesh, "node3", "/etc/ganeti/owned").stat()
    assert (there.st_uid, there.st_gid) == (1, 54321)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/ganeti/with space and  two",
        "/etc/ganeti/.hidden",
        "/etc/ganeti/a..b...",
        "/etc/ganeti/dots.in.name.conf",
        "/etc/ganeti/grüße-日本語-🦀",
        "/etc/ganeti/star*and>gt?=%",
        "/etc/ganeti/deep/er/and/deeper/file",
    ],
)
def test_names_of_every_kind(mesh: RunningMesh, path: str) -> None:
    put(mesh, path, path.encode())

    done(mesh, "file", "add", path, "--scope", "all")

    assert on(mesh, "node2", path).read_bytes() == path.encode()
    listed = mesh.json("file", "list")
    assert path in [file["path"] for file in listed]


def test_any_bytes_and_any_size(mesh: RunningMesh) -> None:
    """Empty, one byte, every byte value, just around a chunk, and 64 MiB."""
    contents = {
        "/etc/ganeti/size/empty": b"",
        "/etc/ganeti/size/one": b"\0",
        "/etc/ganeti/size/all": bytes(range(256)),
        "/etc/ganeti/size/chunk": os.urandom(512 * 1024),
        "/etc/ganeti/size/more": os.urandom(512 * 1024 + 1),
        "/etc/ganeti/size/big": os.urandom(64 * 1024 * 1024),
    }
    for path, content in contents.items():
        put(mesh, path, content)
        done(mesh, "file", "add", path, "--scope", "vm-capable")

    for path, content in contents.items():
        for node in ("node2", "node3"):
            found = hashlib.sha256(on(mesh, node, path).read_bytes()).hexdigest()
            assert found == hashlib.sha256(content).hexdigest()
    done(mesh, "file", "remove", "--purge", "/etc/ganeti/size/big")


def test_a_half_written_source_is_never_published(mesh: RunningMesh) -> None:
    """A writer that takes its time: what nodes hold is the old content until the file is closed."""
    put(mesh, "/etc/ganeti/slow", b"old\n")
    done(mesh, "file", "add", "/etc/ganeti/slow", "--scope", "all")
    before = mesh.json("status")["scopes"]["all"]["generation"]

    with on(mesh, "node1", "/etc/ganeti/slow").open("wb", buffering=0) as writer:
        writer.write(b"half ")
        result = mesh.run("wait", "--timeout", "1")
        assert result.returncode == 2
        assert "/etc/ganeti/slow" in result.stderr and "being written" in result.stderr
        assert mesh.json("status")["scopes"]["all"]["generation"] == before
        assert on(mesh, "node2", "/etc/ganeti/slow").read_bytes() == b"old\n"
        writer.write(b"and whole\n")

    until_holds(on(mesh, "node2", "/etc/ganeti/slow"), b"half and whole\n", near=mesh.node_root("node2") / "etc/ganeti")
    done(mesh, "wait")
    assert mesh.json("status")["scopes"]["all"]["generation"] == before + 1


def test_files_renamed_together_become_few_generations(mesh: RunningMesh) -> None:
    """The master stands still meanwhile: how fast this machine renames 25 files is not the point."""
    paths = [f"/etc/ganeti/batch/{number}" for number in range(25)]
    for path in paths:
        put(mesh, path, b"old")
    done(mesh, "file", "add", "/etc/ganeti/batch/*", "--scope", "all")
    before = mesh.json("status")["scopes"]["all"]["generation"]

    master = mesh.kill("master", signal.SIGSTOP)
    for path in paths:
        put(mesh, path, b"new")
    os.kill(master, signal.SIGCONT)
    done(mesh, "wait")

    assert before < mesh.json("status")["scopes"]["all"]["generation"] <= before + 3
    for path in paths:
        assert on(mesh, "node3", path).read_bytes() == b"new"


def test_a_source_that_vanished_is_an_error_and_stays_on_the_nodes(mesh: RunningMesh) -> None:
    source = put(mesh, "/etc/ganeti/vanishing", b"precious")
    done(mesh, "file", "add", "/etc/ganeti/vanishing", "--scope", "all")

    source.unlink()
    result = mesh.run("wait", "--timeout", "1")

    assert result.returncode == 2
    assert "/etc/ganeti/vanishing" in result.stderr and "vanished" in result.stderr
    assert on(mesh, "node2", "/etc/ganeti/vanishing").read_bytes() == b"precious"
    assert [error["path"] for error in mesh.json("status")["errors"]] == ["/etc/ganeti/vanishing"]
    done(mesh, "file", "remove", "/etc/ganeti/vanishing")
    assert not on(mesh, "node2", "/etc/ganeti/vanishing").exists()
    assert mesh.json("status")["errors"] == []


def test_a_source_that_became_empty_is_held_back_until_the_operator_says_so(mesh: RunningMesh) -> None:
    put(mesh, "/etc/ganeti/emptied", b"precious")
    done(mesh, "file", "add", "/etc/ganeti/emptied", "--scope", "all")

    put(mesh, "/etc/ganeti/emptied", b"")
    assert mesh.run("wait", "--timeout", "1").returncode == 2
    assert on(mesh, "node3", "/etc/ganeti/emptied").read_bytes() == b"precious"

    done(mesh, "file", "modify", "/etc/ganeti/emptied", "--allow-empty", "yes")
    assert on(mesh, "node3", "/etc/ganeti/emptied").read_bytes() == b""


def test_a_removed_file_leaves_a_backup_unless_purged(mesh: RunningMesh) -> None:
    for name in ("kept", "purged"):
        put(mesh, f"/etc/ganeti/{name}", name.encode())
        done(mesh, "file", "add", f"/etc/ganeti/{name}", "--scope", "all")

    done(mesh, "file", "remove", "/etc/ganeti/kept")
    done(mesh, "file", "remove", "--purge", "/etc/ganeti/purged")

    assert on(mesh, "node1", "/etc/ganeti/kept").read_bytes() == b"kept", "the source is not the mesh's to remove"
    backups = on(mesh, "node2", "/var/lib/gnt-mesh/agent/backups")
    assert not on(mesh, "node2", "/etc/ganeti/kept").exists()
    assert not on(mesh, "node2", "/etc/ganeti/purged").exists()
    assert [file.read_bytes() for file in backups.glob("*kept*")] == [b"kept"]
    assert list(backups.glob("*purged*")) == []


def test_a_file_changed_or_removed_by_hand_is_repaired_and_the_edit_kept_as_a_backup(mesh: RunningMesh) -> None:
    put(mesh, "/etc/ganeti/drift", b"right")
    done(mesh, "file", "add", "/etc/ganeti/drift", "--scope", "all")
    changed, removed = on(mesh, "node2", "/etc/ganeti/drift"), on(mesh, "node3", "/etc/ganeti/drift")

    changed.write_bytes(b"edited by hand")
    removed.unlink()

    until_holds(changed, b"right", near=changed.parent)
    until_holds(removed, b"right", near=removed.parent)
    backups = on(mesh, "node2", "/var/lib/gnt-mesh/agent/backups")
    assert [file.read_bytes() for file in backups.glob("*drift*")] == [b"edited by hand"]


def test_a_whole_directory_removed_by_hand_comes_back(mesh: RunningMesh) -> None:
    put(mesh, "/etc/ganeti/gone.d/file", b"back")
    done(mesh, "file", "add", "/etc/ganeti/gone.d/file", "--scope", "all")
    file = on(mesh, "node2", "/etc/ganeti/gone.d/file")

    file.unlink()
    file.parent.rmdir()

    until_holds(file, b"back", near=mesh.node_root("node2") / "etc/ganeti")


def test_mode_changed_by_hand_is_repaired(mesh: RunningMesh) -> None:
    put(mesh, "/etc/ganeti/modedrift", b"x", mode=0o640)
    done(mesh, "file", "add", "/etc/ganeti/modedrift", "--scope", "all")
    file = on(mesh, "node2", "/etc/ganeti/modedrift")

    file.chmod(0o666)

    until(lambda: stat.S_IMODE(file.stat().st_mode) == 0o640, near=file.parent)


def test_redist_conf_has_every_disk_read_again(mesh: RunningMesh) -> None:
    done(mesh, "cluster", "redist-conf")


def test_redist_conf_does_not_call_complete_what_the_master_lacks(mesh: RunningMesh) -> None:
    """Its exit code 0 says that every file is on every node: also the one that has no source."""
    done(mesh, "file", "add", "/etc/ganeti/never-made", "--scope", "all")

    result = mesh.run("cluster", "redist-conf", "--timeout", "1")

    assert result.returncode == 2
    assert "node1: /etc/ganeti/never-made: does not exist on the master" in result.stderr
    done(mesh, "file", "remove", "/etc/ganeti/never-made")


def test_optional_files_may_be_absent(mesh: RunningMesh) -> None:
    done(mesh, "file", "add", "/etc/ganeti/maybe", "--scope", "all", "--optional")
    assert mesh.json("status")["errors"] == []

    put(mesh, "/etc/ganeti/maybe", b"now")
    done(mesh, "wait")

    assert on(mesh, "node2", "/etc/ganeti/maybe").read_bytes() == b"now"
