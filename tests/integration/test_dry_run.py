"""`--dry-run` on real parts: every changing command says what it would do, does nothing, and then does just that."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.mesh import RunningMesh, running_mesh

RAPI = "/var/lib/ganeti/rapi.pem"
"""Shipped to master candidates by itself."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("dry"), nodes=3) as mesh:
        put(mesh, "/etc/ganeti/motd", "one\n")
        put(mesh, RAPI, "key\n")
        mesh.ok("file", "add", "/etc/ganeti/motd", "--scope", "all")
        mesh.ok("wait")
        yield mesh


def put(mesh: RunningMesh, path: str, content: str) -> None:
    source = mesh.node_root("node1") / path.lstrip("/")
    source.parent.mkdir(parents=True, exist_ok=True)
    beside = source.with_name(".edit")
    beside.write_text(content)
    beside.rename(source)


def state(mesh: RunningMesh) -> tuple[bytes, list[str], dict[str, bytes]]:
    """Return all that a change could change: config.data, the history, and the files of every node."""
    history = sorted(path.name for path in mesh.dir.glob("**/history/*.json"))
    held = {
        str(path): path.read_bytes()
        for node in ("node2", "node3")
        for path in mesh.node_root(node).rglob("*")
        if path.is_file() and "gnt-mesh" not in path.parts
    }
    return (mesh.node_root("node1") / "var/lib/ganeti/config.data").read_bytes(), history, held


def foreseen(mesh: RunningMesh, *command: str) -> dict[str, Any]:
    """Return what a dry run answers, having made sure that it was one."""
    before = state(mesh)
    assert before[1], "there is a history to look at"
    shown: dict[str, Any] = json.loads(mesh.ok(*command, "--dry-run", "--json"))
    mesh.ok("wait")
    assert state(mesh) == before
    assert shown["dry_run"] is True
    return shown


def changes(shown: dict[str, Any]) -> dict[str, set[tuple[str, str]]]:
    """Return what would happen to which file, by node; ssconf left out, which tells of nearly every change."""
    found = {
        node["name"]: {(file["change"], file["path"]) for file in node["files"] if "/ssconf_" not in file["path"]}
        for node in shown["nodes"]
    }
    return {node: files for node, files in found.items() if files}


def ssconf(shown: dict[str, Any]) -> dict[str, list[str]]:
    """Return the ssconf keys that would change, by node."""
    found = {node["name"]: [file["path"].partition("ssconf_")[2] for file in node["files"]] for node in shown["nodes"]}
    return {node: [key for key in keys if key] for node, keys in found.items()}


CONFIG_DATA = "/var/lib/ganeti/config.data"


def test_a_promotion_and_the_demotion_after_it(mesh: RunningMesh) -> None:
    shown = foreseen(mesh, "node", "modify", "node2", "-C", "yes")
    assert shown["roles"] == [{"node": "node2", "before": "R", "after": "C"}]
    assert changes(shown) == {"node2": {("added", CONFIG_DATA), ("added", RAPI)}}
    assert ssconf(shown) == {"node2": ["master_candidates"], "node3": ["master_candidates"]}

    mesh.ok("node", "modify", "node2", "-C", "yes")
    assert (mesh.node_root("node2") / RAPI.lstrip("/")).read_text() == "key\n"

    shown = foreseen(mesh, "node", "modify", "node2", "-C", "no")
    assert changes(shown) == {"node2": {("removed", CONFIG_DATA), ("removed", RAPI)}}
    mesh.ok("node", "modify", "node2", "-C", "no")
    assert not (mesh.node_root("node2") / RAPI.lstrip("/")).exists()


def test_adding_modifying_and_removing_a_file(mesh: RunningMesh) -> None:
    put(mesh, "/etc/ganeti/new", "new\n")

    added = foreseen(mesh, "file", "add", "/etc/ganeti/new", "--scope", "all")
    assert changes(added) == {node: {("added", "/etc/ganeti/new")} for node in ("node2", "node3")}
    absent = foreseen(mesh, "file", "add", "/etc/ganeti/absent", "--scope", "all")
    assert [error["path"] for error in absent["errors"]] == ["/etc/ganeti/absent"]

    mesh.ok("file", "add", "/etc/ganeti/new", "--scope", "all")
    moved = foreseen(mesh, "file", "modify", "/etc/ganeti/new", "--scope", "master-candidates")
    assert changes(moved) == {node: {("removed", "/etc/ganeti/new")} for node in ("node2", "node3")}
    removed = foreseen(mesh, "file", "remove", "/etc/ganeti/new")
    assert changes(removed) == changes(moved)
    assert removed["done"][0].startswith("/etc/ganeti/new is no longer managed")


def test_nodes_and_groups_that_come_and_go(mesh: RunningMesh) -> None:
    shown = foreseen(mesh, "node", "add", "node9")
    assert shown["roles"] == [{"node": "node9", "before": "", "after": "R"}]
    assert ("added", "/etc/ganeti/motd") in changes(shown)["node9"]
    assert foreseen(mesh, "node", "remove", "node3")["roles"] == [{"node": "node3", "before": "R", "after": ""}]
    added = foreseen(mesh, "group", "add", "rack1")
    assert changes(added) == {}
    assert ssconf(added) == {"node2": ["nodegroups"], "node3": ["nodegroups"]}
    mesh.ok("group", "add", "rack2")
    assert changes(foreseen(mesh, "group", "remove", "rack2")) == {}


def test_a_larger_pool_and_another_hypervisor(mesh: RunningMesh) -> None:
    shown = foreseen(mesh, "cluster", "modify", "-C", "2")
    assert shown["roles"] == [{"node": "node2", "before": "R", "after": "C"}]
    assert changes(shown) == {"node2": {("added", CONFIG_DATA), ("added", RAPI)}}

    put(mesh, "/etc/xen/xl.conf", "autoballoon=0\n")
    shown = foreseen(mesh, "cluster", "modify", "--enabled-hypervisors", "kvm,xen-pvm")
    assert changes(shown) == {node: {("added", "/etc/xen/xl.conf")} for node in ("node2", "node3")}


def test_redist_conf(mesh: RunningMesh) -> None:
    assert foreseen(mesh, "cluster", "redist-conf")["nodes"] == []


def test_what_would_be_refused_is_refused(mesh: RunningMesh) -> None:
    before = state(mesh)

    for command in (["node", "modify", "node1", "-C", "no"], ["file", "add", "/etc/x", "--scope", "group-none"]):
        dry, real = mesh.run(*command, "--dry-run"), mesh.run(*command)
        assert (dry.returncode, dry.stderr) == (real.returncode, real.stderr)
        assert dry.returncode == 1
    assert state(mesh) == before


def test_a_person_sees_a_table(mesh: RunningMesh) -> None:
    shown = mesh.ok("node", "modify", "node3", "-C", "yes", "--dry-run")

    assert shown.splitlines()[0] == "Dry run: nothing was changed. This would be done:"
    assert f"added     {RAPI}" in shown
