"""`gnt-mesh cluster modify` on a real server: what is set is checked in full, shipped at once, and explained."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh import RunningMesh, running_mesh

CONFIG_DATA = "var/lib/ganeti/config.data"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("modify"), nodes=4) as mesh:
        yield mesh


def roles(mesh: RunningMesh) -> str:
    return "".join(node["role"] for node in mesh.json("node", "list"))


def there(mesh: RunningMesh, node: str, path: str) -> Path:
    return mesh.node_root(node) / path


def test_a_larger_pool_is_full_when_the_command_returns_and_says_who_and_why(mesh: RunningMesh) -> None:
    assert roles(mesh) == "MRRR"
    mesh.ok("group", "add", "rack2")
    mesh.ok("node", "modify", "node4", "--group", "rack2")

    said = mesh.ok("cluster", "modify", "-C", "3").splitlines()

    assert said[:4] == [
        "Modified cluster mesh",
        " - candidate_pool_size -> 3",
        "Node node4 was promoted to master candidate: the pool wants 3 master candidates and had 1, "
        "and its node group rack2 had the fewest (0).",
        "Node node2 was promoted to master candidate: the pool wants 3 master candidates and had 2, "
        "and it is the first by name of those that can.",
    ]
    assert roles(mesh) == "MCRC"
    for node in ("node2", "node4"):
        assert there(mesh, node, CONFIG_DATA).read_bytes() == there(mesh, "node1", CONFIG_DATA).read_bytes()
    assert not there(mesh, "node3", CONFIG_DATA).exists()


def test_a_smaller_pool_demotes_nobody_and_says_so(mesh: RunningMesh) -> None:
    said = mesh.ok("cluster", "modify", "--candidate-pool-size", "2").splitlines()

    assert "The cluster has 3 master candidates, 1 more than the pool wants." in said[2]
    assert roles(mesh) == "MCRC"


def test_a_hypervisor_that_is_enabled_has_its_files_on_every_vm_capable_node(mesh: RunningMesh) -> None:
    """Seed, Redistribute Config: the relevant files are shipped at once, not with the next redist-conf."""
    source = there(mesh, "node1", "etc/xen/xl.conf")
    source.parent.mkdir(parents=True)
    source.write_text("autoballoon=0\n")
    assert not there(mesh, "node2", "etc/xen/xl.conf").exists()

    mesh.ok("cluster", "modify", "--enabled-hypervisors", "kvm,xen-pvm")

    for node in ("node2", "node3", "node4"):
        assert there(mesh, node, "etc/xen/xl.conf").read_text() == "autoballoon=0\n"


def test_a_hypervisors_file_that_cannot_travel_is_told(mesh: RunningMesh) -> None:
    """It is the hypervisor's choice and not the operator's, so it does not stand in the way."""
    mesh.ok("cluster", "modify", "--enabled-hypervisors", "kvm")
    there(mesh, "node1", "etc/xen/xend-config.sxp").symlink_to("xl.conf")

    told = mesh.ok("cluster", "modify", "--enabled-hypervisors", "kvm,xen-pvm,xen-hvm")

    assert "But /etc/xen/xend-config.sxp is a symbolic link on the master; manage the file it points to." in told
    there(mesh, "node1", "etc/xen/xend-config.sxp").unlink()


def test_a_password_file_that_a_parameter_names_follows_it(mesh: RunningMesh) -> None:
    source = there(mesh, "node1", "etc/ganeti/vnc-of-ours")
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("12345678\n")

    mesh.ok("cluster", "modify", "-H", "kvm:vnc_password_file=/etc/ganeti/vnc-of-ours,vnc_tls=yes")

    assert there(mesh, "node3", "etc/ganeti/vnc-of-ours").read_text() == "12345678\n"
    info = mesh.json("cluster", "info")
    assert info["hvparams"] == {"kvm": {"vnc_password_file": "/etc/ganeti/vnc-of-ours", "vnc_tls": True}}
    mesh.ok("cluster", "modify", "-H", "kvm:vnc_password_file=default")
    assert not there(mesh, "node3", "etc/ganeti/vnc-of-ours").exists()


def test_what_cannot_be_changes_nothing(mesh: RunningMesh) -> None:
    there(mesh, "node1", "etc/ganeti").mkdir(exist_ok=True)
    there(mesh, "node1", "etc/link").symlink_to("hosts")
    before = there(mesh, "node1", CONFIG_DATA).read_bytes()
    cases = {
        ("--enabled-hypervisors", "kvm,vmware"): "hypervisor 'vmware' is unknown here",
        ("--enabled-hypervisors", "kvm,kvm"): "twice",
        ("-H", "kvm:serial_speed=fast"): "not a whole number",
        ("-C", "5", "-H", "kvm:colour=blue"): "kvm has none of that name",
        ("-H", "kvm:vnc_password_file=/etc/ganeti"): "/etc/ganeti is not a regular file on the master but a directory",
        ("-H", "kvm:spice_password_file=/etc/ganeti"): "/etc/ganeti is not a regular file",
        ("-H", "xen-hvm:vnc_password_file=/etc/link"): "/etc/link is a symbolic link on the master",
        ("-H", "kvm:vnc_password_file=/etc/shadow"): "/etc/shadow is never shipped",
        ("-H", "kvm:vnc_password_file=vnc"): "path 'vnc' is not absolute",
        (): "nothing to modify",
    }
    for arguments, reason in cases.items():
        result = mesh.run("cluster", "modify", *arguments)
        assert result.returncode == 1 and reason in result.stderr, result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert there(mesh, "node1", CONFIG_DATA).read_bytes() == before
