"""The history on real parts: who, why, what; and the way back, also when the master is killed on it."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mesh import COMMAND, RunningMesh, environment, running_mesh
from tests.support.waiting import until

CONFIG_DATA = "/var/lib/ganeti/config.data"
RAPI = "/var/lib/ganeti/rapi.pem"
MANY = [f"/etc/ganeti/many{number:02}" for number in range(40)]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("history"), nodes=3) as mesh:
        yield mesh


def put(mesh: RunningMesh, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
    source = on(mesh, "node1", path)
    source.parent.mkdir(parents=True, exist_ok=True)
    beside = source.with_name(".edit")
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    beside.chmod(mode)
    beside.rename(source)


def on(mesh: RunningMesh, node: str, path: str) -> Path:
    return mesh.node_root(node) / path.lstrip("/")


def log(mesh: RunningMesh, *path: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(mesh.ok("file", "log", *path, "--json"))
    return entries


def newest(mesh: RunningMesh) -> int:
    generation: int = log(mesh)[0]["generation"]
    return generation


def edit(mesh: RunningMesh, path: str, content: str | bytes, *, mode: int = 0o644) -> int:
    """Change a source; return the generation that ships it."""
    put(mesh, path, content, mode=mode)
    mesh.ok("wait")
    return newest(mesh)


def managed(mesh: RunningMesh, path: str, content: str | bytes, *, mode: int = 0o644) -> int:
    put(mesh, path, content, mode=mode)
    mesh.ok("file", "add", path, "--scope", "all")
    return newest(mesh)


def refused(mesh: RunningMesh, *command: str) -> str:
    done = mesh.run(*command)
    assert done.returncode == 1, (done.stdout, done.stderr)
    return done.stderr


def test_the_log_tells_who_changed_what_and_why(mesh: RunningMesh) -> None:
    path = "/etc/ganeti/logged"
    put(mesh, path, "one\n")
    mesh.ok("file", "add", path, "--scope", "all", "--reason", "ticket 17")
    edit(mesh, path, "two\n", mode=0o600)

    edited, added = log(mesh, path)

    assert (added["why"], added["reason"]) == (f"file add {path}", "ticket 17")
    assert "@" in added["by"]
    assert added["changes"] == [{"path": path, "scope": "all", "change": "added", "details": []}]
    assert edited["by"] == "root, as owner" and edited["reason"] == ""
    assert edited["changes"][0]["details"] == ["content", "mode"]
    assert "ticket 17" in mesh.ok("file", "log", path)
    assert [entry["generation"] for entry in log(mesh)][:2] == [edited["generation"], added["generation"]]


def test_who_and_why_survive_a_restart_of_the_master(mesh: RunningMesh) -> None:
    mesh.ok("group", "add", "rack7", "--reason", "new rack")
    before = log(mesh)
    mesh.until_restarted("master", mesh.kill("master"))

    assert log(mesh) == before
    assert (before[0]["why"], before[0]["reason"]) == ("group add rack7", "new rack")


def test_two_generations_are_compared_also_when_they_are_larger_than_a_message(mesh: RunningMesh) -> None:
    path = "/etc/ganeti/long"
    lines = [f"line {number}\n" for number in range(60_000)]
    first = managed(mesh, path, "".join(lines))
    lines[30_000] = "another line\n"
    second = edit(mesh, path, "".join(lines))

    shown = mesh.ok("file", "diff", str(first), str(second)).splitlines()

    assert "-line 30000" in shown and "+another line" in shown
    assert sum(line.startswith(("+", "-")) for line in shown) == 4
    assert mesh.ok("file", "diff", str(second), str(second)) == "Nothing differs.\n"


def test_of_a_secret_not_even_the_hash_is_told(mesh: RunningMesh) -> None:
    """A short password is found by trying, and an observer may ask for differences."""
    first, second = edit(mesh, RAPI, "1234"), edit(mesh, RAPI, "4321")
    shown = mesh.ok("file", "diff", str(first), str(second), "--json")
    for content in (b"1234", b"4321"):
        assert hashlib.sha256(content).hexdigest()[:12] not in shown
    (found,) = [one for one in json.loads(shown)["files"] if one["path"] == RAPI]
    assert found["before"]["digest"] != found["after"]["digest"] and found["after"]["size_bytes"] == 256


def test_secrets_stay_secret_unless_they_are_asked_for(mesh: RunningMesh) -> None:
    first, second = edit(mesh, RAPI, "key one\n"), edit(mesh, RAPI, "key two\n")

    shown = mesh.ok("file", "diff", str(first), str(second), RAPI)
    assert "key" not in shown
    assert "--show-secrets" in shown

    assert "+key two" in mesh.ok("file", "diff", str(first), str(second), RAPI, "--show-secrets")


def test_a_rollback_is_one_generation_on_every_node_with_who_and_why(mesh: RunningMesh) -> None:
    one, two = "/etc/ganeti/one", "/etc/ganeti/two"
    managed(mesh, one, "good\n", mode=0o600)
    good = managed(mesh, two, "good too\n")
    edit(mesh, one, "bad\n", mode=0o666)
    bad = edit(mesh, two, "bad too\n")

    foreseen = json.loads(mesh.ok("file", "rollback", str(good), one, two, "--dry-run", "--json"))
    assert newest(mesh) == bad and on(mesh, "node1", one).read_text() == "bad\n"
    assert {file["path"] for file in foreseen["nodes"][0]["files"]} == {one, two}

    mesh.ok("file", "rollback", str(good), one, two, "--reason", "broken")

    for node in ("node1", "node2", "node3"):
        assert on(mesh, node, one).read_text() == "good\n"
        assert on(mesh, node, one).stat().st_mode & 0o7777 == 0o600
        assert on(mesh, node, two).read_text() == "good too\n"
    last = log(mesh)[0]
    assert (last["generation"], last["why"]) == (bad + 1, f"file rollback {good} {one}, {two}")
    assert last["reason"] == "broken"
    assert {change["path"] for change in last["changes"]} == {one, two}
    assert "already" in mesh.ok("file", "rollback", str(good), one, two)
    assert newest(mesh) == bad + 1


def test_a_whole_generation_goes_back_and_what_came_later_stays(mesh: RunningMesh) -> None:
    path, later = "/etc/ganeti/whole", "/etc/ganeti/later"
    then = managed(mesh, path, "then\n")
    edit(mesh, path, "now\n")
    managed(mesh, later, "later\n")
    config = on(mesh, "node1", CONFIG_DATA).read_bytes()

    mesh.ok("file", "rollback", str(then))

    assert on(mesh, "node2", path).read_text() == "then\n"
    assert on(mesh, "node2", later).read_text() == "later\n"
    assert on(mesh, "node1", CONFIG_DATA).read_bytes() == config, "the cluster's own record is never rolled back"


def test_a_source_that_vanished_comes_back(mesh: RunningMesh) -> None:
    path = "/etc/ganeti/vanishing"
    then = managed(mesh, path, "here\n")
    on(mesh, "node1", path).unlink()
    assert mesh.run("wait", "--timeout", "3").returncode == 2

    mesh.ok("file", "rollback", str(then), path)

    assert on(mesh, "node1", path).read_text() == "here\n"
    mesh.ok("wait")


def test_what_cannot_go_back_is_named_and_then_nothing_is_written(mesh: RunningMesh) -> None:
    kept, gone = "/etc/ganeti/kept", "/etc/ganeti/gone"
    managed(mesh, gone, "gone\n")
    then = managed(mesh, kept, "then\n")
    edit(mesh, kept, "now\n")
    mesh.ok("file", "remove", gone)
    last = newest(mesh)

    assert f"{gone} is not managed any more" in refused(mesh, "file", "rollback", str(then), kept, gone)
    assert f"{gone} is not managed any more" in refused(mesh, "file", "rollback", str(then))
    assert "is not rolled back" in refused(mesh, "file", "rollback", str(then), CONFIG_DATA)
    assert "was not published in generation" in refused(mesh, "file", "rollback", str(then), kept, "/etc/none")
    assert "generation 99999 is not kept" in refused(mesh, "file", "rollback", "99999", kept)
    (digest,) = (file["published"]["digest"] for file in json.loads(mesh.ok("file", "info", kept, "--json")))
    mesh.ok("file", "rollback", str(then), kept)
    for blob in mesh.dir.glob(f"**/blobs/{digest}"):
        blob.unlink()
    assert f"{kept}: its content of then is not kept" in refused(mesh, "file", "rollback", str(last), kept)
    assert on(mesh, "node1", kept).read_text() == "then\n"


@pytest.mark.parametrize("moment", ["decided", "some are written"])
def test_a_master_that_is_killed_on_the_way_back_finishes_it_as_one_generation(tmp_path: Path, moment: str) -> None:
    with running_mesh(tmp_path, nodes=2) as mesh:
        for path in MANY:
            put(mesh, path, "old\n" * 50_000)
            mesh.ok("file", "add", path, "--scope", "all", "--no-wait")
        mesh.ok("wait")
        then = newest(mesh)
        for path in MANY:
            put(mesh, path, "new\n" * 50_000)
        mesh.ok("wait")
        last = newest(mesh)
        (state,) = {journal.parent.parent for journal in mesh.dir.glob("**/history/*.json")}

        asked = subprocess.Popen(
            [COMMAND, "--dir", mesh.dir, "file", "rollback", str(then), *MANY, "--reason", "broken", "--no-wait"],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if moment == "decided":
            until((state / "rollback.json").exists, near=state)
        else:
            first = on(mesh, "node1", MANY[0])
            until(lambda: first.read_bytes()[:3] == b"old", near=first.parent)
        mesh.until_restarted("master", mesh.kill("master"))
        asked.wait()

        mesh.ok("wait")
        for node in ("node1", "node2"):
            assert {on(mesh, node, path).read_bytes()[:3] for path in MANY} == {b"old"}
        assert not (state / "rollback.json").exists()
        assert list(on(mesh, "node1", "/etc/ganeti").glob(".gnt-mesh.*")) == []
        entry = log(mesh)[0]
        assert entry["generation"] == last + 1, "one generation, and none that was half of it"
        assert (entry["reason"], entry["changes_count"]) == ("broken", len(MANY))
        assert entry["why"].startswith(f"file rollback {then} ")
