"""Disks that take nothing, on three nodes of a real mesh: old content, a reason each, and another try when they do."""

import ctypes
import os
from pathlib import Path

from tests.support.forked import MS_RDONLY, MS_REMOUNT, enter_mount_namespace, in_child, mount, mount_tmpfs
from tests.support.mesh import RunningMesh, running_mesh

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
PATH = "/etc/ganeti/grown"
OLD, NEW = b"old\n", os.urandom(400_000)
REASONS = {
    "node2": "No space left on device",
    "node3": "Read-only file system",
    "node4": "Permission denied",
}


def obey_permissions() -> None:
    """Have what is started from here on obey permission bits, also as root."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # without effect where there is nothing to drop


def copy_on(mesh: RunningMesh, node: str) -> Path:
    return mesh.node_root(node) / PATH.lstrip("/")


def spoil(mesh: RunningMesh) -> None:
    mount("none", copy_on(mesh, "node3").parent, flags=MS_REMOUNT | MS_RDONLY)
    copy_on(mesh, "node4").parent.chmod(0o555)


def mend(mesh: RunningMesh) -> None:
    mount("none", copy_on(mesh, "node2").parent, flags=MS_REMOUNT, options="size=8m")
    mount("none", copy_on(mesh, "node3").parent, flags=MS_REMOUNT)
    copy_on(mesh, "node4").parent.chmod(0o755)


def test_a_disk_that_takes_nothing_keeps_the_old_content_and_says_why(tmp_path: Path) -> None:
    def scenario() -> None:
        enter_mount_namespace()
        obey_permissions()
        with running_mesh(tmp_path, nodes=4) as mesh:
            for node, size in (("node2", "256k"), ("node3", "8m")):
                mount_tmpfs(copy_on(mesh, node).parent, size=size)
            source = copy_on(mesh, "node1")
            source.parent.mkdir(exist_ok=True)
            source.write_bytes(OLD)
            mesh.ok("file", "add", PATH, "--scope", "all")

            spoil(mesh)
            source.write_bytes(NEW)
            late = mesh.run("wait", "--timeout", "3")

            assert late.returncode == 2
            assert late.stderr.splitlines()[1:] == [f"{node}: {PATH}: {reason}" for node, reason in REASONS.items()]
            assert all(copy_on(mesh, node).read_bytes() == OLD for node in REASONS)
            assert all([entry.name for entry in copy_on(mesh, node).parent.iterdir()] == ["grown"] for node in REASONS)
            shown = {node["name"]: node["errors"] for node in mesh.json("status")["nodes"] if node["errors"]}
            assert shown == {
                node: [{"scope": "all", "path": PATH, "reason": reason}] for node, reason in REASONS.items()
            }

            mend(mesh)
            mesh.ok("wait", "--timeout", "60")

            assert all(copy_on(mesh, node).read_bytes() == NEW for node in REASONS)
            log = (mesh.dir / "log/node2.log").read_text()
            assert log.count("No space left on device") >= 3, "it was tried again"

    in_child(scenario)
