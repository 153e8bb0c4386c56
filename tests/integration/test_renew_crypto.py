"""New keys under traffic: old and new valid together until the broker has seen each node come back."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol import identity
from protocol.errors import Unavailable
from protocol.nats_bus import Endpoint, NatsOperatorBus
from tests.support.mesh import COMMAND, RunningMesh, running_mesh
from tests.support.waiting import until


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
    mesh.ok("cluster", "renew-crypto", "--new-node-certificates")
    after = {node: identity.read_public_key(seed(mesh, node)) for node in before}
    assert not set(before.values()) & set(after.values())
    mesh.ok("wait")
    assert all(node["online"] for node in mesh.json("status")["nodes"])
    assert ("admin", "keys.renew") in {(e["who"], e["verb"]) for e in mesh.json("cluster", "audit", "list")}


def test_a_node_that_is_not_there_keeps_its_key_and_is_named(mesh: RunningMesh, tmp_path: Path) -> None:
    mesh.ok("node", "add", "absent", "--public-key", identity.ensure_seed(tmp_path / "absent.nk"))
    done = mesh.run("cluster", "renew-crypto", "--node", "absent")
    assert done.returncode == 2
    assert (
        "1 node could not be given all that is new" in done.stderr
        and "absent: its agent is not connected" in done.stderr
    )
    mesh.ok("node", "remove", "absent")


def test_everything_gets_new_keys_while_edits_travel(mesh: RunningMesh) -> None:
    before, own = keys(mesh), mesh.dir / "keys"
    files = {path: path.read_bytes() for path in (*own.glob("*.nk"), own / "ca.key", mesh.dir / "broker/tls.pem")}
    pids = {name: mesh.pid(name) for name in ("nats-server", "master", "node1", "node2", "node3")}
    (mesh.node_root("node1") / "etc/motd").write_text("under renewal\n")

    said = mesh.ok("cluster", "renew-crypto")

    assert "The authority is a new one.\n" in said and "Node node3 has a new key; its old one is void.\n" in said
    after = keys(mesh)
    assert after.keys() == before.keys()
    kept = {name for name in before if before[name]["fingerprint"] == after[name]["fingerprint"]}
    assert kept == {("access", "admin")}, "the operator's own key is the operator's to renew"
    assert {path.name for path, content in files.items() if path.read_bytes() == content} == {"operator.nk"}
    modes = {path.name: path.stat().st_mode & 0o777 for path in files}
    assert modes == dict.fromkeys(modes, 0o600) | {"tls.pem": 0o640}, "the broker's group may read that one alone"
    assert not [*mesh.dir.rglob("*.next")] and not [*mesh.dir.rglob("*.succession")]
    assert {name: mesh.pid(name) for name in pids} == pids, "nothing was started anew"
    mesh.ok("wait")
    assert (mesh.node_root("node3") / "etc/motd").read_text() == "under renewal\n"
    trusts(mesh, "node1", "node2", "node3")
    (mesh.node_root("node1") / "etc/motd").write_text("and after it\n")
    mesh.ok("wait")
    assert (mesh.node_root("node3") / "etc/motd").read_text() == "and after it\n"
    status = mesh.json("status")
    assert all(node["online"] and not node["errors"] for node in status["nodes"]) and not status["warnings"]


def trusts(mesh: RunningMesh, *nodes: str) -> None:
    """Each of these nodes believes the authority and the signing key of now, and nobody else."""
    for node in nodes:
        etc = mesh.node_root(node) / "etc/gnt-mesh"
        assert (etc / "ca.pem").read_bytes() == (mesh.dir / "keys/ca.pem").read_bytes()
        assert (etc / "master.pub").read_text().split() == [identity.read_public_key(mesh.dir / "keys/signing.nk")]


def test_what_was_before_opens_nothing_any_more(mesh: RunningMesh, tmp_path: Path) -> None:
    """A copy of the administrator's key, taken before."""
    stolen = mesh.dir / "keys/admin.nk"
    copy = tmp_path / "stolen.nk"
    shutil.copy(stolen, copy)
    mesh.ok("cluster", "renew-crypto", "--new-master-keys")
    for seed, gets_in in ((copy, False), (stolen, True)):
        assert asyncio.run(is_let_in(mesh, identity.read_seed(seed))) is gets_in


async def is_let_in(mesh: RunningMesh, seed: str) -> bool:
    marker = (mesh.dir / "operator.toml").read_text()
    url = next(line.split('"')[1] for line in marker.splitlines() if line.startswith("server"))
    bus = NatsOperatorBus(Endpoint(url, mesh.dir / "keys/ca.pem"), seed, "thief")
    try:
        await bus.open(timeout_s=2.0)
    except Unavailable:
        return False
    finally:
        await bus.close()
    return True


def test_an_operator_renews_the_key_of_its_own(mesh: RunningMesh, tmp_path: Path) -> None:
    """Elsewhere than on the master, with the authority of before."""
    theirs, copy = tmp_path / "alice", tmp_path / "stolen.nk"
    mesh.ok("cluster", "access", "add", "alice", "--role", "operator", "--out", str(theirs))
    shutil.copy(theirs / "access.nk", copy)
    mesh.ok("cluster", "renew-crypto", "--new-cluster-certificate")
    alice = RunningMesh(mesh.up)
    alice.dir = theirs

    assert alice.ok("cluster", "access", "renew") == "alice is let in with the new key; the former one is void.\n"

    assert (theirs / "ca.pem").read_bytes() == (mesh.dir / "keys/ca.pem").read_bytes()
    assert not (theirs / "access.nk.next").exists()
    assert not asyncio.run(is_let_in(mesh, identity.read_seed(copy)))
    alice.ok("status")
    done = [entry["who"] for entry in alice.json("cluster", "audit", "list") if entry["verb"] == "access.renew"]
    assert done == ["alice"] * 4
    mesh.ok("cluster", "access", "remove", "alice")


def test_a_node_that_was_away_meanwhile_comes_back_and_is_told(mesh: RunningMesh) -> None:
    """It knows neither the authority nor the signing key of now, and those before vouch for them."""
    former = (mesh.node_root("node3") / "etc/gnt-mesh/ca.pem").read_bytes()
    pid = mesh.kill("node3", signal.SIGSTOP)
    for _ in range(2):
        done = mesh.run("cluster", "renew-crypto", "--new-cluster-certificate", "--new-signing-key")
        assert done.returncode == 2 and "  node3: does not know the new authority and signing key yet" in done.stderr
    assert "has not taken up" in keys(mesh)["node", "node3"]["remark"]
    assert (mesh.node_root("node3") / "etc/gnt-mesh/ca.pem").read_bytes() == former
    (mesh.node_root("node1") / "etc/motd").write_text("while it was away\n")

    os.kill(pid, signal.SIGKILL)
    mesh.until_restarted("node3", pid)

    mesh.ok("wait", "--node", "node3", "--timeout", "30")
    assert (mesh.node_root("node3") / "etc/motd").read_text() == "while it was away\n"
    until(
        lambda: (mesh.node_root("node3") / "etc/gnt-mesh/ca.pem").read_bytes() != former,
        near=mesh.node_root("node3") / "etc/gnt-mesh",
        what="node3 was told",
    )
    until(lambda: not (mesh.dir / "keys/signing.nk.succession").exists(), near=mesh.dir / "keys", what="all nodes told")
    trusts(mesh, "node1", "node2", "node3")
    assert keys(mesh)["node", "node3"]["remark"] == ""
    mesh.ok("wait")


STATE = "nodes/node1/var/lib/gnt-mesh/master/renewal.json"


@pytest.mark.parametrize(
    ("victim", "written"),
    [
        *(("master", file) for file in (STATE, "keys/ca.key", "broker/tls.pem", "broker/ctl.conf", "keys/signing.nk")),
        ("master", "nodes/node3/etc/gnt-mesh/agent.nk"),
        ("node2", "nodes/node2/etc/gnt-mesh/agent.nk"),
        ("nats-server", "keys/ca.key"),
    ],
)
def test_a_renewal_goes_on_after_a_kill_at_any_moment(mesh: RunningMesh, victim: str, written: str) -> None:
    """Killed as soon as a file is written; each of them is a step."""
    before, path = keys(mesh), mesh.dir / written
    was = path.stat().st_ino if path.exists() else 0
    renewing = subprocess.Popen(
        [COMMAND, "--dir", mesh.dir, "cluster", "renew-crypto"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    until(lambda: path.exists() and path.stat().st_ino != was, near=path.parent, what=f"{path} written")
    mesh.until_restarted(victim, mesh.kill(victim))
    said, _ = renewing.communicate(timeout=120)

    assert renewing.returncode in (0, 2), said
    state = mesh.dir / STATE
    until(lambda: json.loads(state.read_bytes())["is_over"], near=state.parent, what="the renewal over")
    until(lambda: not json.loads(state.read_bytes())["untold"], near=state.parent, what="all nodes told")
    after = keys(mesh)
    late = {("node", "node2")} if victim == "node2" else set()
    kept = {name for name in before if before[name]["fingerprint"] == after[name]["fingerprint"]}
    assert kept - late == {("access", "admin")}
    (mesh.node_root("node1") / "etc/motd").write_text(f"{victim} {written}\n")
    mesh.ok("wait", "--timeout", "30")
    trusts(mesh, "node1", "node2", "node3")


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
