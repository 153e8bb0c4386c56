"""`gnt-mesh cluster verify` on a mesh as `gnt-mesh up` makes it: agents that repair, and what they must not touch."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.mesh import RunningMesh, running_mesh


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("verify"), nodes=3) as mesh:
        for name, scope in (("motd", "all"), ("secret", "master-candidates")):
            source = mesh.node_root("node1") / "etc/mesh-test" / name
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_text(f"{name}\n")
            mesh.ok("file", "add", f"/etc/mesh-test/{name}", "--scope", scope)
        yield mesh


def test_a_mesh_in_sync_is_all_right(mesh: RunningMesh) -> None:
    report = mesh.json("cluster", "verify")

    assert (report["nodes"], report["offline"], report["findings"]) == (3, [], [])
    assert "on 3 nodes: all is as it should be" in mesh.ok("cluster", "verify")


def test_an_edit_just_before_is_given_time_to_arrive(mesh: RunningMesh) -> None:
    for turn in range(5):
        (mesh.node_root("node1") / "etc/mesh-test/motd").write_text(f"turn {turn}\n")

        mesh.ok("cluster", "verify")

        assert (mesh.node_root("node3") / "etc/mesh-test/motd").read_text() == f"turn {turn}\n"


def test_what_agents_do_not_repair_is_found_with_ganetis_codes_and_exit_code(mesh: RunningMesh) -> None:
    leaked = mesh.node_root("node3") / "etc/mesh-test/secret"
    leaked.write_text("leaked\n")
    target = mesh.node_root("node2") / "etc/mesh-test/motd"
    target.unlink()
    target.mkdir()
    try:
        done = mesh.run("cluster", "verify", "--error-codes")
        ignored = mesh.run("cluster", "verify", "-I", "ECLUSTERFILECHECK")
    finally:
        leaked.unlink()
        target.rmdir()

    assert (done.returncode, done.stderr) == (1, "")
    found = [line for line in done.stdout.splitlines() if line.startswith("  - ")]
    assert len(found) == 3
    prefix = "  - ERROR:ECLUSTERFILECHECK:cluster:None:File /etc/mesh-test"
    assert found[0].startswith(f"{prefix}/motd cannot be checked on node(s) node2: ")
    assert "is a directory" in found[0]
    assert found[1] == f"{prefix}/secret should not exist on node(s) node3"
    assert found[2].startswith(f"{prefix}/secret found with 2 different checksums (variant 1, as published, on node1; ")
    assert ignored.returncode == 0
    mesh.ok("wait")


def test_a_node_that_hangs_is_named_and_the_others_are_still_compared(mesh: RunningMesh) -> None:
    pid = mesh.kill("node3", signal.SIGSTOP)
    try:
        done = mesh.run("cluster", "verify", "--node-timeout", "0.5", "--error-codes")
    finally:
        os.kill(pid, signal.SIGCONT)

    assert done.returncode == 1
    found = [line for line in done.stdout.splitlines() if line.startswith("  - ")]
    assert len(found) == 1
    assert found[0].startswith("  - ERROR:ENODEFILECHECK:node:node3:Node did not return file checksum data: ")
    mesh.ok("wait")
    mesh.ok("cluster", "verify")
