"""New keys under traffic: old and new valid together until the broker has seen each node come back."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol import identity
from tests.support.mesh import RunningMesh, running_mesh


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("renew"), nodes=3) as mesh:
        (mesh.node_root("node1") / "etc/motd").write_text("before\n")
        mesh.ok("file", "add", "/etc/motd", "--scope", "all")
        yield mesh


def seed(mesh: RunningMesh, node: str) -> Path:
    return mesh.node_root(node) / "etc/gnt-mesh/agent.nk"


def keys(mesh: RunningMesh) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["what"], one["name"]): one for one in mesh.json("cluster", "keys")}


def test_every_key_and_certificate_is_shown_with_its_age_and_expiry(mesh: RunningMesh) -> None:
    shown = keys(mesh)
    assert {("node", "node1"), ("node", "node2"), ("access", "admin"), ("cluster", "signing")} <= shown.keys()
    for name in ("server", "authority"):
        certificate = shown["certificate", name]
        assert certificate["expires"] > certificate["made"] > 1.7e9
    assert "127.0.0.1" in shown["certificate", "server"]["remark"]
    assert shown["node", "node2"]["fingerprint"] == identity.read_public_key(seed(mesh, "node2"))


def test_one_node_gets_a_new_key_while_an_edit_travels(mesh: RunningMesh) -> None:
    before = {node: identity.read_public_key(seed(mesh, node)) for node in ("node2", "node3")}
    pid = mesh.pid("node2")
    (mesh.node_root("node1") / "etc/motd").write_text("meanwhile\n")

    mesh.ok("cluster", "renew-crypto", "--node", "node2")

    assert identity.read_public_key(seed(mesh, "node2")) != before["node2"]
    assert identity.read_public_key(seed(mesh, "node3")) == before["node3"]
    assert seed(mesh, "node2").stat().st_mode & 0o777 == 0o600
    mesh.ok("wait")
    assert (mesh.node_root("node2") / "etc/motd").read_text() == "meanwhile\n"
    assert mesh.pid("node2") == pid, "the agent was not restarted"
    allowed = (mesh.dir / "broker/nodes.conf").read_text()
    assert before["node2"] not in allowed and identity.read_public_key(seed(mesh, "node2")) in allowed


def test_all_nodes_get_new_keys(mesh: RunningMesh) -> None:
    before = {node: identity.read_public_key(seed(mesh, node)) for node in ("node1", "node2", "node3")}
    mesh.ok("cluster", "renew-crypto")
    after = {node: identity.read_public_key(seed(mesh, node)) for node in before}
    assert not set(before.values()) & set(after.values())
    mesh.ok("wait")
    assert all(node["online"] for node in mesh.json("status")["nodes"])
    assert ("admin", "keys.renew") in {(e["who"], e["verb"]) for e in mesh.json("cluster", "audit", "list")}


def test_a_node_that_is_not_there_keeps_its_key_and_is_named(mesh: RunningMesh, tmp_path: Path) -> None:
    mesh.ok("node", "add", "absent", "--public-key", identity.ensure_seed(tmp_path / "absent.nk"))
    done = mesh.run("cluster", "renew-crypto", "--node", "absent")
    assert done.returncode == 2
    assert "1 node could not be given a new key" in done.stderr and "absent: its agent is not connected" in done.stderr
    mesh.ok("node", "remove", "absent")


def test_a_node_that_came_back_late_with_its_new_key_does_not_lose_it(mesh: RunningMesh) -> None:
    """The agent is killed between its new key's file and its new connection, and the master does not hear of it."""
    copy = seed(mesh, "node3").with_name("copy.nk")
    shutil.copy(seed(mesh, "node3"), copy)
    mesh.ok("cluster", "renew-crypto", "--node", "node3")
    mesh.until_restarted("node3", mesh.kill("node3"))
    mesh.ok("wait", "--node", "node3", "--timeout", "30")
    assert identity.read_public_key(copy) != identity.read_public_key(seed(mesh, "node3"))
    copy.unlink()
    mesh.ok("cluster", "renew-crypto", "--node", "node3")
    mesh.ok("wait")
