"""`cluster master-failover` on a real mesh: a candidate takes over from its own files, and nothing is lost."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from master.up.layout import Layout, read_marker, write_marker
from tests.support.founded import founded, run
from tests.support.mesh import RunningMesh, Up, running_mesh
from tests.support.waiting import until_holds

CONFIG_DATA = "var/lib/ganeti/config.data"
RAPI = "var/lib/ganeti/rapi.pem"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("failover"), nodes=4, candidate_pool_size=2) as mesh:
        put(mesh, "node1", "etc/motd", "of node1\n")
        put(mesh, "node1", RAPI, "key\n")
        mesh.ok("file", "add", "/etc/motd", "--scope", "all")
        mesh.ok("group", "add", "rack")
        mesh.ok("node", "modify", "node4", "--group", "rack")
        yield mesh


def put(mesh: RunningMesh, node: str, path: str, content: str) -> None:
    file = there(mesh, node, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(".edit")
    beside.write_text(content)
    beside.rename(file)


def there(mesh: RunningMesh, node: str, path: str) -> Path:
    return mesh.node_root(node) / path


def refused(mesh: RunningMesh, *arguments: str) -> str:
    """Return the sentence of a failover that is refused, having made sure that it changed nothing."""
    before = {node: there(mesh, node, CONFIG_DATA).read_bytes() for node in ("node1", "node2")}
    result = mesh.run("cluster", "master-failover", *arguments)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result
    assert {node: there(mesh, node, CONFIG_DATA).read_bytes() for node in before} == before
    return result.stderr


def test_who_cannot_be_the_master_is_refused(mesh: RunningMesh) -> None:
    mesh.ok("wait")
    assert "node3 is not a master candidate" in refused(mesh, "--node", "node3")
    assert "those that are: node2" in refused(mesh, "--node", "node3")
    assert "node1 is the master already" in refused(mesh, "--node", "node1")
    assert "'node9' is not in the cluster" in refused(mesh, "--node", "node9")
    assert "missing option '--node'" in refused(mesh)


def test_a_node_that_cannot_take_over_after_all_leaves_the_master_as_it_was(mesh: RunningMesh) -> None:
    """The command checks it before; this is what `up` does if the disk has changed since."""
    layout = Layout(mesh.dir)
    marker = read_marker(layout)
    assert marker

    write_marker(layout, replace(marker, master_node="node3"))

    mesh.up.until_says("node3 cannot become the master: .*config.data is gone.*; node1 stays it")
    assert read_marker(layout) == marker
    mesh.ok("wait")
    assert mesh.json("status")["epoch"] == 1


def test_files_that_the_candidate_does_not_have_are_not_lost_unasked(mesh: RunningMesh) -> None:
    put(mesh, "node1", "etc/rack.conf", "rack\n")
    mesh.ok("file", "add", "/etc/rack.conf", "--scope", "group-rack")

    assert "node2 has no source of /etc/rack.conf (group-rack)" in refused(mesh, "--node", "node2")

    put(mesh, "node2", "etc/rack.conf", "rack\n")
    told = mesh.json("cluster", "master-failover", "--node", "node2", "--dry-run")
    assert (told["master"], told["former"], told["epoch"]) == ("node2", "node1", 2)
    assert mesh.json("status")["master"] == "node1"


def test_a_candidate_that_lacks_something_is_refused(mesh: RunningMesh) -> None:
    """It would take over from an older state, and what came since would silently be lost."""
    blocked = there(mesh, "node2", "etc/blocked")
    blocked.mkdir()
    put(mesh, "node1", "etc/blocked", "x\n")
    mesh.ok("file", "add", "/etc/blocked", "--scope", "all", "--no-wait")

    assert "node2 does not hold all it must yet" in refused(mesh, "--node", "node2")

    blocked.rmdir()
    mesh.ok("wait")


def test_the_candidate_is_the_master_when_the_command_returns(mesh: RunningMesh) -> None:
    before = mesh.json("status")

    told = mesh.ok("cluster", "master-failover", "--node", "node2")

    assert "node2 is the master in the place of node1, epoch 2; node1 is a candidate." in told
    assert "node2 holds all that node1 has published." in told
    after = mesh.json("status")
    assert (after["master"], after["epoch"]) == ("node2", 2)
    assert "cluster master-failover: node2 is the master of epoch 2" in mesh.ok("file", "log")
    assert {node["name"]: node["role"] for node in after["nodes"]} == {
        "node1": "C",
        "node2": "M",
        "node3": "R",
        "node4": "R",
    }
    assert all(node["in_sync"] for node in after["nodes"])
    for scope, info in before["scopes"].items():
        assert after["scopes"][scope]["generation"] > info["generation"]
        assert after["scopes"][scope]["files"] == info["files"]
    for node in ("node1", "node3", "node4"):
        assert there(mesh, node, "var/lib/ganeti/ssconf_master_node").read_text() == "node2\n"
    assert there(mesh, "node1", CONFIG_DATA).read_bytes() == there(mesh, "node2", CONFIG_DATA).read_bytes()
    assert there(mesh, "node1", RAPI).read_text() == "key\n"
    assert there(mesh, "node4", "etc/rack.conf").read_text() == "rack\n"


def test_only_the_former_masters_source_of_other_nodes_files_is_left_over(mesh: RunningMesh) -> None:
    found = mesh.run("cluster", "verify")

    assert found.returncode == 1
    (line,) = (line for line in found.stdout.splitlines() if "ERROR" in line)
    assert line.endswith("File /etc/rack.conf should not exist on node(s) node1")
    there(mesh, "node1", "etc/rack.conf").unlink()
    mesh.ok("cluster", "verify")


def test_the_new_masters_files_are_the_sources(mesh: RunningMesh) -> None:
    put(mesh, "node2", "etc/motd", "of node2\n")
    mesh.ok("wait")

    for node in ("node1", "node3", "node4"):
        assert there(mesh, node, "etc/motd").read_text() == "of node2\n"
    put(mesh, "node1", "etc/motd", "an edit on the former master\n")
    until_holds(there(mesh, "node1", "etc/motd"), b"of node2\n", near=mesh.node_root("node1"))
    mesh.ok("node", "modify", "node3", "-C", "yes")
    assert there(mesh, "node3", RAPI).read_text() == "key\n"


def test_the_former_master_gives_back_what_a_candidate_has_when_it_is_none_any_more(mesh: RunningMesh) -> None:
    mesh.ok("node", "modify", "node1", "-C", "no")

    assert not there(mesh, "node1", RAPI).exists()
    mesh.ok("node", "modify", "node1", "-C", "yes")


def test_the_next_start_goes_on_with_it_and_so_does_a_failover_meanwhile(mesh: RunningMesh) -> None:
    """A mesh that is down has nobody to ask, so the candidate's state is taken only if that is said."""
    put(mesh, "node1", "etc/rack.conf", "rack\n")
    assert mesh.up.stop() == 0
    assert "no master answers" in refused(mesh, "--node", "node1")
    done = mesh.run("cluster", "master-failover", "--node", "node1", "--no-voting", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epoch"] == 3

    up = Up(mesh.dir)
    try:
        up.until_ready()
        again = RunningMesh(up)
        again.ok("wait")
        status = again.json("status")
        assert (status["master"], status["epoch"]) == ("node1", 3)
        assert there(again, "node3", "etc/motd").read_text() == "of node2\n"
        assert there(again, "node2", "var/lib/ganeti/ssconf_master_node").read_text() == "node1\n"
        assert up.stop() == 0
    finally:
        up.close()


def test_on_a_node_of_its_own_a_candidate_takes_over_from_a_master_that_is_gone(tmp_path: Path) -> None:
    """As production has it: the master's machine burned down, but for the broker, which is elsewhere."""
    with founded(tmp_path / "first") as here:
        here.start(here.init("mesh1", "--node", "node1", "-C", "2").stdout)
        second, third = tmp_path / "second", tmp_path / "third"
        for node, root in (("node2", second), ("node3", third)):
            key = here.add_node(node, root)
            assert here.run("node", "add", node, "--public-key", key).returncode == 0
            here.start_agent(root)
        (here.root / "etc/motd").write_text("of node1\n")
        assert here.run("file", "add", "/etc/motd", "--scope", "all").returncode == 0
        command = ("cluster", "master-failover", "--root", str(second), "--node", "node2")
        before = (second / CONFIG_DATA).read_bytes()

        answers = run("--dir", str(here.etc), *command)
        here.kill("gnt-mesh-master")
        here.kill("gnt-mesh-agent")
        unsure = run(*command)
        keyless = run(*command, "--no-voting")
        for name in ("keys", "broker"):
            shutil.copytree(here.etc / name, second / "etc/gnt-mesh" / name)
        (second / "etc/gnt-mesh/keys/master.nk").chmod(0o600)

        for refused_, reason in (
            (answers, "has no mesh of gnt-mesh up"),
            (unsure, "no master answers that could say whether node2 has the last change"),
            (keyless, "keys/master.nk is not here; copy"),
        ):
            assert refused_.returncode == 1 and reason in refused_.stderr, refused_
        assert (second / CONFIG_DATA).read_bytes() == before
        assert not (second / "etc/gnt-mesh/master.toml").exists()

        done = run(*command, "--no-voting")
        assert done.returncode == 0, done.stderr
        master = str(Path(sys.prefix) / "bin/gnt-mesh-master")
        here.start_daemon([master, "--settings", str(second / "etc/gnt-mesh/master.toml")])
        for root in (second, third):
            here.start_agent(root)
        (second / "etc/motd").write_text("of node2\n")
        assert here.run("wait", "--node", "node3").returncode == 0
        assert (third / "etc/motd").read_text() == "of node2\n"

        again = subprocess.run(
            [master, "--settings", str(here.etc / "master.toml")],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert again.returncode == 78
        assert "this master is of epoch 1: another node has become the master" in again.stderr
        assert here.json("status")["master"] == "node2"
