"""ssconf on a real mesh: on every node, byte for byte, in the generation of the change that it tells of."""

import stat
from collections.abc import Iterator

import pytest

from tests.support.mesh import RunningMesh, running_mesh
from tests.support.waiting import until_holds

DATA = "var/lib/ganeti"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("ssconf"), nodes=3) as mesh:
        done(mesh, "wait")
        yield mesh


def done(mesh: RunningMesh, *arguments: str) -> None:
    result = mesh.run(*arguments)
    assert result.returncode == 0, result.stderr


def ssconf(mesh: RunningMesh, node: str) -> dict[str, bytes]:
    files = (mesh.node_root(node) / DATA).glob("ssconf_*")
    return {file.name.removeprefix("ssconf_"): file.read_bytes() for file in files}


def test_every_node_has_every_key_for_reading_alone(mesh: RunningMesh) -> None:
    master = ssconf(mesh, "node1")

    assert master["node_list"] == b"node1\nnode2\nnode3\n"
    assert master["master_node"] == b"node1\n"
    assert master["hypervisor_list"] == b"kvm\n"
    assert master["offline_nodes"] == master["hvparams_kvm"] == b""
    for node in ("node2", "node3"):
        assert ssconf(mesh, node) == master
        modes = {stat.S_IMODE(file.stat().st_mode) for file in (mesh.node_root(node) / DATA).glob("ssconf_*")}
        assert modes == {0o444}


def test_a_change_is_one_generation_of_config_data_and_ssconf(mesh: RunningMesh) -> None:
    before = mesh.json("cluster", "info")["generation"]

    done(mesh, "node", "modify", "-C", "yes", "node2")

    assert mesh.json("cluster", "info")["generation"] == before + 1
    scopes = mesh.json("status")["scopes"]
    assert scopes["all"]["generation"] == scopes["master-candidates"]["generation"] == before + 1
    for node in ("node1", "node2", "node3"):
        assert b"node2\n" in ssconf(mesh, node)["master_candidates"]
    done(mesh, "node", "modify", "-C", "no", "node2")


def test_nothing_is_published_when_nothing_changed(mesh: RunningMesh) -> None:
    before = mesh.json("cluster", "info")["generation"]

    done(mesh, "cluster", "redist-conf")
    done(mesh, "wait")

    assert mesh.json("cluster", "info")["generation"] == before


@pytest.mark.parametrize("node", ["node1", "node3"])
def test_what_somebody_else_writes_into_one_is_put_right(mesh: RunningMesh, node: str) -> None:
    """On the master's own node nobody but the master can do that."""
    file = mesh.node_root(node) / DATA / "ssconf_node_list"
    other = mesh.node_root("node2") / DATA / "ssconf_node_list"

    file.chmod(0o644)
    file.write_bytes(b"evil\n")

    until_holds(file, b"node1\nnode2\nnode3\n", near=file.parent)
    done(mesh, "wait")
    assert other.read_bytes() == b"node1\nnode2\nnode3\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o444


def test_a_value_over_ganetis_limit_is_refused_before_anything_changes(mesh: RunningMesh) -> None:
    for name in ("kernel_args", "root_path"):
        done(mesh, "cluster", "modify", "-H", f"kvm:{name}=" + "x" * 60_000)
    config = mesh.node_root("node1") / DATA / "config.data"
    before = config.read_bytes(), ssconf(mesh, "node1")

    result = mesh.run("cluster", "modify", "-H", "kvm:kvm_extra=" + "y" * 20_000)

    assert result.returncode == 1, result.stdout
    assert "ssconf_hvparams_kvm" in result.stderr and "limit 131072" in result.stderr
    assert (config.read_bytes(), ssconf(mesh, "node1")) == before
    done(mesh, "cluster", "modify", "-H", "kvm:kernel_args=default,root_path=default")


def test_enabling_a_hypervisor_ships_its_files_and_says_so_in_ssconf(mesh: RunningMesh) -> None:
    """The shared code path of the design text: the files are there when the command returns."""
    script = mesh.node_root("node1") / "etc/xen/scripts/vif-bridge"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    done(mesh, "node", "modify", "--vm-capable", "no", "node3")
    done(mesh, "wait")
    there = [mesh.node_root(node) / "etc/xen/scripts/vif-bridge" for node in ("node2", "node3")]
    assert not any(file.exists() for file in there)

    done(mesh, "cluster", "modify", "--enabled-hypervisors", "kvm,xen-pvm")

    assert [file.exists() for file in there] == [True, False]
    assert ssconf(mesh, "node3")["hypervisor_list"] == b"kvm\nxen-pvm\n"
    assert ssconf(mesh, "node2")["node_vm_capable"] == b"node1=True\nnode2=True\nnode3=False\n"

    done(mesh, "node", "modify", "--vm-capable", "yes", "node3")

    assert there[1].read_text() == "#!/bin/sh\n"


def test_a_password_file_that_a_parameter_names_is_shipped_at_once(mesh: RunningMesh) -> None:
    (mesh.node_root("node1") / "etc/ganeti").mkdir(exist_ok=True)
    (mesh.node_root("node1") / "etc/ganeti/vnc-rack2").write_text("secret\n")

    done(mesh, "cluster", "modify", "-H", "kvm:vnc_password_file=/etc/ganeti/vnc-rack2")

    assert (mesh.node_root("node2") / "etc/ganeti/vnc-rack2").read_text() == "secret\n"
    assert ssconf(mesh, "node2")["hvparams_kvm"] == b"vnc_password_file=/etc/ganeti/vnc-rack2\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--enabled-hypervisors", "kvm,qemu"), "qemu"),
        (("-H", "kvm:vnc_password_file=password"), "not absolute"),
    ],
)
def test_a_hypervisor_that_cannot_be_is_refused(mesh: RunningMesh, arguments: tuple[str, ...], reason: str) -> None:
    config = mesh.node_root("node1") / DATA / "config.data"
    before = config.read_bytes()

    result = mesh.run("cluster", "modify", *arguments)

    assert result.returncode == 1 and reason in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert config.read_bytes() == before
