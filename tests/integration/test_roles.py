"""Scopes, promotion and demotion: what a node holds follows from its role, and commands return when it does."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh import RunningMesh, running_mesh
from tests.support.waiting import until

CONFIG_DATA = "var/lib/ganeti/config.data"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("roles"), nodes=3) as mesh:
        source = mesh.node_root("node1") / "etc/ganeti"
        source.mkdir(parents=True, exist_ok=True)
        (source / "secret").write_text("for candidates\n")
        (source / "vm").write_text("for hypervisors\n")
        done(mesh, "file", "add", "/etc/ganeti/secret", "--scope", "master-candidates")
        done(mesh, "file", "add", "/etc/ganeti/vm", "--scope", "vm-capable")
        yield mesh


def done(mesh: RunningMesh, *arguments: str) -> None:
    result = mesh.run(*arguments)
    assert result.returncode == 0, result.stderr


def held(mesh: RunningMesh, node: str) -> set[str]:
    root = mesh.node_root(node)
    return {path for path in ("etc/ganeti/secret", "etc/ganeti/vm", CONFIG_DATA) if (root / path).exists()}


def test_a_regular_node_holds_nothing_of_the_candidates(mesh: RunningMesh) -> None:
    assert held(mesh, "node2") == {"etc/ganeti/vm"}


def test_a_promoted_node_holds_every_candidates_file_when_the_command_returns(mesh: RunningMesh) -> None:
    """Seed, Redistribute Config: shared with SetNodeParams, so that files are shipped as candidates are set."""
    done(mesh, "node", "modify", "-C", "yes", "node2")

    assert held(mesh, "node2") == {"etc/ganeti/vm", "etc/ganeti/secret", CONFIG_DATA}
    master, candidate = (mesh.node_root(node) / CONFIG_DATA for node in ("node1", "node2"))
    assert candidate.read_bytes() == master.read_bytes()
    assert {node["name"]: node["role"] for node in mesh.json("status")["nodes"]}["node2"] == "C"


def test_a_demoted_node_holds_nothing_of_it_when_the_command_returns(mesh: RunningMesh) -> None:
    done(mesh, "node", "modify", "-C", "yes", "node3")
    done(mesh, "node", "modify", "-C", "no", "node3")

    assert held(mesh, "node3") == {"etc/ganeti/vm"}
    assert list((mesh.node_root("node3") / "var/lib/gnt-mesh/agent/backups").iterdir()) == []


def test_a_demotion_says_what_was_withdrawn_and_which_secrets_to_renew(mesh: RunningMesh) -> None:
    done(mesh, "node", "modify", "-C", "yes", "node3")
    said = mesh.run("node", "modify", "-C", "no", "node3")

    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert lines[:6] == [
        "Modified node node3",
        " - master_candidate -> False",
        "Withdrawn from node3:",
        " - /etc/ganeti/secret (master-candidates, no copy is kept)",
        " - /var/lib/ganeti/config.data (master-candidates, no copy is kept)",
        "node3 has held these secrets, so renew them now:",
    ]
    assert lines[6] == " - /etc/ganeti/secret"

    done(mesh, "node", "modify", "-C", "yes", "node3")
    told = mesh.json("node", "modify", "-C", "no", "node3")
    assert [(item["node"], item["path"]) for item in told["withdrawn"]] == [
        ("node3", "/etc/ganeti/secret"),
        ("node3", "/var/lib/ganeti/config.data"),
    ]
    assert told["rotate"] == ["/etc/ganeti/secret"] and told["withdrawn_count"] == 2


def test_promotion_and_demotion_in_quick_turns_end_right(mesh: RunningMesh) -> None:
    for flag in ("yes", "no", "yes", "no", "yes"):
        done(mesh, "node", "modify", "-C", flag, "node3", "--no-wait")
    done(mesh, "wait")
    assert "etc/ganeti/secret" in held(mesh, "node3")
    done(mesh, "node", "modify", "-C", "no", "node3")
    assert held(mesh, "node3") == {"etc/ganeti/vm"}


def test_losing_vm_capability_withdraws_its_files(mesh: RunningMesh) -> None:
    done(mesh, "node", "modify", "--vm-capable", "no", "node3")
    assert "etc/ganeti/vm" not in held(mesh, "node3")
    done(mesh, "node", "modify", "--vm-capable", "yes", "node3")
    assert "etc/ganeti/vm" in held(mesh, "node3")


def test_a_node_groups_files_follow_its_nodes(mesh: RunningMesh) -> None:
    (mesh.node_root("node1") / "etc/ganeti/rack").write_text("rack 2\n")
    done(mesh, "group", "add", "rack2")
    done(mesh, "file", "add", "/etc/ganeti/rack", "--scope", "group-rack2")
    there = mesh.node_root("node2") / "etc/ganeti/rack"
    assert not there.exists()

    done(mesh, "node", "modify", "--group", "rack2", "node2")
    assert there.read_text() == "rack 2\n"

    refused = mesh.run("group", "remove", "rack2")
    assert refused.returncode == 1 and "node2" in refused.stderr
    done(mesh, "node", "modify", "--group", "default", "node2")
    assert not there.exists()
    done(mesh, "file", "remove", "/etc/ganeti/rack")
    done(mesh, "group", "remove", "rack2")
    assert "group-rack2" not in mesh.json("status")["scopes"]


def test_a_file_that_moves_between_scopes_is_never_absent(mesh: RunningMesh) -> None:
    """A reader on a node that is in both scopes sees the file at every moment."""
    source = mesh.node_root("node1") / "etc/ganeti/moving"
    source.write_text("here\n")
    done(mesh, "file", "add", "/etc/ganeti/moving", "--scope", "all")
    there = mesh.node_root("node2") / "etc/ganeti/moving"
    with AbsenceWatcher(there) as watcher:
        for scope in ("vm-capable", "all", "vm-capable", "all"):
            done(mesh, "file", "modify", "/etc/ganeti/moving", "--scope", scope)
    assert watcher.absences == 0 and watcher.looks > 100


def test_an_offline_node_is_owed_what_it_misses(mesh: RunningMesh) -> None:
    source = mesh.node_root("node1") / "etc/ganeti/vm"
    there = mesh.node_root("node3") / "etc/ganeti/vm"
    done(mesh, "node", "modify", "-O", "yes", "node3")

    source.write_text("while it was offline\n")
    done(mesh, "wait")
    assert there.read_text() == "for hypervisors\n"
    named = mesh.run("wait", "--node", "node3", "--timeout", "1")
    assert named.returncode == 2 and "offline" in named.stderr

    done(mesh, "node", "modify", "-O", "no", "node3")
    assert there.read_text() == "while it was offline\n"


def test_a_node_added_while_the_mesh_runs_joins_and_gets_its_files(mesh: RunningMesh) -> None:
    done(mesh, "node", "add", "node4")
    done(mesh, "wait", "--node", "node4")
    assert held(mesh, "node4") == {"etc/ganeti/vm"}
    pid = mesh.pid("node4")

    said = mesh.run("node", "remove", "node4")

    assert held(mesh, "node4") == set()
    backups = mesh.node_root("node4") / "var/lib/gnt-mesh/agent/backups"
    assert any("vm" in path.name for path in backups.rglob("*"))
    lines = said.stdout.splitlines()
    assert lines[:2] == ["Node node4 removed; nats-server no longer knows its key.", "Withdrawn from node4:"]
    assert " - /etc/ganeti/vm (vm-capable, a dated backup is kept)" in lines
    until(lambda: not Path(f"/proc/{pid}").exists(), near=mesh.dir)
    assert "node4" not in [node["name"] for node in mesh.json("status")["nodes"]]


def test_a_removed_node_that_cannot_be_asked_is_said_to_hold_its_files(mesh: RunningMesh) -> None:
    done(mesh, "node", "add", "node5")
    done(mesh, "node", "modify", "-C", "yes", "node5")
    os.kill(mesh.pid("node5"), signal.SIGSTOP)

    told = mesh.json("node", "remove", "node5")

    there = {item["path"] for item in told["withdrawn"] if item["left_behind"]}
    assert {"/etc/ganeti/secret", "/etc/ganeti/vm"} <= there
    assert "Still on the disk of node5, which has not given it back:" in told["done"]
    assert "/etc/ganeti/secret" in told["rotate"]
    assert "node5" not in [node["name"] for node in mesh.json("status")["nodes"]]


def test_a_node_that_is_removed_may_keep_its_files(mesh: RunningMesh) -> None:
    done(mesh, "node", "add", "node6")
    done(mesh, "wait", "--node", "node6")

    done(mesh, "node", "remove", "node6", "--keep-files")

    assert held(mesh, "node6") == {"etc/ganeti/vm"}


def test_refusals_name_thing_reason_and_next_step(mesh: RunningMesh) -> None:
    cases = {
        ("node", "modify", "-C", "yes", "node9"): ("node9", "not in the cluster"),
        ("node", "modify", "-O", "yes", "node1"): ("node1", "is the master"),
        ("node", "add", "node2"): ("node2", "already"),
        ("node", "add", "no_such_name!"): ("no_such_name!", "letters"),
        ("file", "add", "/etc/x", "--scope", "nowhere"): ("nowhere", "scope"),
        ("file", "add", "/etc/x", "--scope", "group-none"): ("group-none", "does not exist"),
        ("file", "add", "etc/x", "--scope", "all"): ("etc/x", "not absolute"),
        ("file", "add", "/etc/../x", "--scope", "all"): ("/etc/../x", "not normalised"),
        ("file", "add", "/etc/ganeti/vm", "--scope", "all"): ("/etc/ganeti/vm", "already"),
        ("file", "add", "/var/lib/ganeti/config.data", "--scope", "all"): ("config.data", "by itself"),
        ("file", "remove", "/etc/never"): ("/etc/never", "not on the list"),
        ("wait", "--scope", "group-none"): ("group-none", "does not exist"),
        ("status", "--nonsense"): ("--nonsense", ""),
    }
    before = (mesh.node_root("node1") / CONFIG_DATA).read_bytes()
    for arguments, (thing, reason) in cases.items():
        result = mesh.run(*arguments)
        assert result.returncode == 1, arguments
        assert thing in result.stderr and reason in result.stderr, result.stderr
        assert "Traceback" not in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr
    assert (mesh.node_root("node1") / CONFIG_DATA).read_bytes() == before


class AbsenceWatcher:
    """Looks at one path as often as it can, from a thread of its own."""

    def __init__(self, path: Path) -> None:
        import threading

        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.absences = 0
        self.looks = 0

    def _look(self) -> None:
        while not self._stop.is_set():
            self.looks += 1
            self.absences += not self._path.exists()

    def __enter__(self) -> "AbsenceWatcher":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
