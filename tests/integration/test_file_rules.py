"""What may stand on the administrator's list, what a pattern on it selects, and `file explain`, on a real mesh."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh import RunningMesh, running_mesh
from tests.support.waiting import until, until_holds

SCRIPTS = "etc/xen/scripts"
PATTERN = f"/{SCRIPTS}/*"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("rules"), nodes=3) as mesh:
        mesh.ok("node", "modify", "--vm-capable", "no", "node3")
        yield mesh


def at(mesh: RunningMesh, node: str, path: str) -> Path:
    return mesh.node_root(node) / path.lstrip("/")


def put(mesh: RunningMesh, path: str, content: str) -> Path:
    source = at(mesh, "node1", path)
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(content)
    return source


def explained(mesh: RunningMesh, path: str, node: str) -> list[str]:
    return mesh.ok("file", "explain", path, "--node", node).splitlines()


def config_data(mesh: RunningMesh) -> bytes:
    return at(mesh, "node1", "/var/lib/ganeti/config.data").read_bytes()


# ---- patterns


def test_a_pattern_ships_what_it_selects_to_its_scope(mesh: RunningMesh) -> None:
    put(mesh, f"{SCRIPTS}/vif-route", "route\n")
    put(mesh, f"{SCRIPTS}/.hidden", "hidden\n")
    (at(mesh, "node1", SCRIPTS) / "directory").mkdir()
    (at(mesh, "node1", SCRIPTS) / "link").symlink_to("vif-route")

    mesh.ok("file", "add", PATTERN, "--scope", "vm-capable")

    assert [path.name for path in at(mesh, "node2", SCRIPTS).iterdir()] == ["vif-route"]
    assert not at(mesh, "node3", SCRIPTS).exists()
    assert mesh.json("status")["errors"] == []


def test_a_new_file_that_it_selects_is_picked_up_by_the_watch(mesh: RunningMesh) -> None:
    put(mesh, f"{SCRIPTS}/block", "block\n")

    until_holds(at(mesh, "node2", f"{SCRIPTS}/block"), b"block\n", near=at(mesh, "node2", SCRIPTS))
    assert mesh.json("file", "info", f"/{SCRIPTS}/block")[0]["reason"] == f"{PATTERN} on the list selects it"


def test_so_is_one_in_a_directory_that_did_not_exist(mesh: RunningMesh) -> None:
    mesh.ok("file", "add", "/etc/site/new/*.conf", "--scope", "all", "--optional")

    put(mesh, "/etc/site/new/a.conf", "a\n")

    until(lambda: at(mesh, "node3", "/etc/site/new/a.conf").exists(), near=mesh.node_root("node3") / "etc")
    mesh.ok("file", "remove", "/etc/site/new/*.conf")
    assert not at(mesh, "node3", "/etc/site/new/a.conf").exists()


def test_a_required_pattern_that_selects_nothing_is_an_error(mesh: RunningMesh) -> None:
    result = mesh.run("file", "add", "/etc/nothing/*", "--scope", "all")

    assert result.returncode == 1
    assert "/etc/nothing/* selects no file on the master" in result.stderr


def test_a_file_that_vanished_stays_on_the_nodes_until_it_is_removed_by_name(mesh: RunningMesh) -> None:
    at(mesh, "node1", f"{SCRIPTS}/block").unlink()

    until(lambda: [error["path"] for error in mesh.json("status")["errors"]] == [f"/{SCRIPTS}/block"], near=mesh.dir)
    assert at(mesh, "node2", f"{SCRIPTS}/block").exists()
    refused = mesh.run("file", "remove", f"/{SCRIPTS}/vif-route")
    assert refused.returncode == 1 and PATTERN in refused.stderr
    mesh.ok("file", "remove", f"/{SCRIPTS}/block")

    assert not at(mesh, "node2", f"{SCRIPTS}/block").exists()
    assert mesh.json("status")["errors"] == []
    put(mesh, f"{SCRIPTS}/block", "again\n")
    until_holds(at(mesh, "node2", f"{SCRIPTS}/block"), b"again\n", near=at(mesh, "node2", SCRIPTS))


def test_who_names_a_file_beats_who_selects_it(mesh: RunningMesh) -> None:
    put(mesh, f"{SCRIPTS}/for-all", "all\n")
    until(lambda: at(mesh, "node2", f"{SCRIPTS}/for-all").exists(), near=at(mesh, "node2", SCRIPTS))

    mesh.ok("file", "add", f"/{SCRIPTS}/for-all", "--scope", "all")

    assert at(mesh, "node3", f"{SCRIPTS}/for-all").read_text() == "all\n"
    assert at(mesh, "node2", f"{SCRIPTS}/for-all").read_text() == "all\n"


def test_two_patterns_cannot_have_one_file_in_two_scopes(mesh: RunningMesh) -> None:
    result = mesh.run("file", "add", f"/{SCRIPTS}/vif-*", "--scope", "all")

    assert result.returncode == 1
    assert f"/{SCRIPTS}/vif-route cannot be in two scopes" in result.stderr


def test_secrets_of_a_pattern_leave_no_copy_and_that_is_said(mesh: RunningMesh) -> None:
    put(mesh, "/etc/keys/one", "key\n")
    mesh.ok("file", "add", "/etc/keys/*", "--scope", "master-candidates")

    assert "the nodes remove it, no copy is kept." in mesh.ok("file", "remove", "/etc/keys/*")


# ---- what may be on the list


def test_what_is_not_a_file_is_refused_and_nothing_changes(mesh: RunningMesh) -> None:
    bad = at(mesh, "node1", "/etc/bad")
    (bad / "directory").mkdir(parents=True)
    (bad / "link").symlink_to("/etc/hostname")
    os.mkfifo(bad / "fifo")
    cases = {
        "/etc/bad/directory": "is not a regular file on the master but a directory",
        "/etc/bad/link": "is a symbolic link on the master",
        "/etc/bad/fifo": "a FIFO",
        "/etc/shadow": "is never shipped, whoever names it: it holds the accounts of one machine",
        "/etc/passwd": "is never shipped",
        "/etc/gnt-mesh/agent.nk": "is never shipped",
        "/var/lib/gnt-mesh/master/x": "is never shipped",
        "/dev/sda": "is never shipped",
        "/etc/*/x": "wildcards only after the last '/'",
        "/var/lib/ganeti/rapi.pem": "shipped to master-candidates already, by itself",
        "/var/lib/ganeti/ssconf_node_list": "shipped to all already, by itself",
    }
    if os.geteuid() == 0:
        os.mknod(bad / "device", 0o600 | 0o020000, os.makedev(1, 3))
        cases["/etc/bad/device"] = "a device"
    before = config_data(mesh)
    for path, reason in cases.items():
        result = mesh.run("file", "add", path, "--scope", "all")
        assert result.returncode == 1 and path in result.stderr and reason in result.stderr, result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert config_data(mesh) == before


def test_a_pattern_over_such_files_takes_what_may_travel(mesh: RunningMesh) -> None:
    put(mesh, "/etc/shadow", "root:*\n")
    put(mesh, "/etc/shadow.conf", "may travel\n")

    mesh.ok("file", "add", "/etc/shadow*", "--scope", "all")

    assert at(mesh, "node2", "/etc/shadow.conf").exists()
    assert not at(mesh, "node2", "/etc/shadow").exists()
    assert explained(mesh, "/etc/shadow", "node2") == [
        "/etc/shadow does not go to node2: no rule names it.",
        "It is never shipped, whoever names it: it holds the accounts of one machine.",
        "/etc/shadow* on the list would select it.",
    ]


def test_enabling_a_hypervisor_whose_file_is_listed_elsewhere_is_refused(mesh: RunningMesh) -> None:
    put(mesh, "/etc/xen/xl.conf", "x\n")
    mesh.ok("file", "add", "/etc/xen/xl.conf", "--scope", "all")
    before = config_data(mesh)

    result = mesh.run("cluster", "modify", "--enabled-hypervisors", "xen-pvm")

    assert result.returncode == 1 and "/etc/xen/xl.conf cannot be in two scopes" in result.stderr
    assert config_data(mesh) == before
    mesh.ok("file", "remove", "/etc/xen/xl.conf")


# ---- explain


def test_explain_names_the_rule_that_puts_a_file_there(mesh: RunningMesh) -> None:
    rapi = put(mesh, "/var/lib/ganeti/rapi.pem", "key\n")
    mesh.ok("wait")
    generation = mesh.json("file", "info", "/var/lib/ganeti/rapi.pem")[0]["published"]["generation"]

    assert explained(mesh, "/var/lib/ganeti/rapi.pem", "node1") == [
        "/var/lib/ganeti/rapi.pem goes to node1.",
        "It is for master-candidates, because it is the remote API's certificate and key, which the next master needs.",
        "node1 is in it: it is the master.",
        f"The nodes are to have generation {generation} of it.",
    ]
    assert rapi.exists()


def test_explain_names_what_keeps_a_file_away(mesh: RunningMesh) -> None:
    assert explained(mesh, "/var/lib/ganeti/rapi.pem", "node2")[0::2][:2] == [
        "/var/lib/ganeti/rapi.pem does not go to node2.",
        "node2 is not in it: it is a regular node.",
    ]
    assert "node3 is not in it: it is not vm-capable." in explained(mesh, f"/{SCRIPTS}/vif-route", "node3")
    assert explained(mesh, "/etc/xen/xend-config.sxp", "node2") == [
        "/etc/xen/xend-config.sxp does not go to node2: no rule names it.",
        "Hypervisor xen-hvm would have it shipped to vm-capable, but it is not enabled.",
        "Hypervisor xen-pvm would have it shipped to vm-capable, but it is not enabled.",
    ]
    assert f"{PATTERN} on the list selects it, for vm-capable, but it is a symbolic link on the master" in " ".join(
        explained(mesh, f"/{SCRIPTS}/link", "node2")
    )


def test_explain_refuses_what_there_is_not(mesh: RunningMesh) -> None:
    for arguments, reason in ((("/etc/x", "--node", "node9"), "node9"), (("etc/x", "--node", "node1"), "not absolute")):
        result = mesh.run("file", "explain", *arguments)
        assert result.returncode == 1 and reason in result.stderr
