"""The guards on real parts: what looks like an accident is held back or refused, and done once it is confirmed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mesh import RunningMesh, running_mesh
from tests.support.waiting import until

LONG, SHORT = "a line of text\n" * 100, "a line of text\n" * 10
CONFIG_DATA = "/var/lib/ganeti/config.data"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("guards"), nodes=3) as mesh:
        yield mesh


def put(mesh: RunningMesh, path: str, content: str) -> None:
    source = on(mesh, "node1", path)
    source.parent.mkdir(parents=True, exist_ok=True)
    beside = source.with_name(".edit")
    beside.write_text(content)
    beside.rename(source)


def on(mesh: RunningMesh, node: str, path: str) -> Path:
    return mesh.node_root(node) / path.lstrip("/")


def held_back(mesh: RunningMesh, path: str) -> str:
    """Return why a source is held back, once that is so."""

    def reason() -> str:
        errors: list[dict[str, Any]] = json.loads(mesh.ok("status", "--json"))["errors"]
        return next((str(error["reason"]) for error in errors if error["path"] == path), "")

    return until(reason, near=mesh.node_root("node1"), what=f"{path} held back")


@pytest.mark.parametrize(("after", "words"), [(SHORT, "looks truncated: it is the first 150"), ("", "became empty")])
def test_a_truncated_or_empty_source_is_held_back_until_it_is_confirmed(
    mesh: RunningMesh, after: str, words: str
) -> None:
    path = f"/etc/ganeti/cut{len(after)}"
    put(mesh, path, LONG)
    mesh.ok("file", "add", path, "--scope", "all")

    put(mesh, path, after)

    reason = held_back(mesh, path)
    assert words in reason
    assert f"gnt-mesh file confirm {path}" in reason
    assert on(mesh, "node2", path).read_text() == LONG
    waited = mesh.run("wait", "--timeout", "1")
    assert waited.returncode == 2 and path in waited.stderr

    shown = json.loads(mesh.ok("file", "confirm", path, "--dry-run", "--json"))
    assert [file["path"] for file in shown["nodes"][0]["files"]] == [path]
    assert on(mesh, "node2", path).read_text() == LONG
    mesh.ok("file", "confirm", path, "--reason", "it is meant")

    assert {on(mesh, node, path).read_text() for node in ("node2", "node3")} == {after}
    mesh.ok("wait")
    newest = json.loads(mesh.ok("file", "log", path, "--json"))[0]
    assert (newest["why"], newest["reason"]) == (f"file confirm {path}", "it is meant")


def test_a_rollback_to_a_shorter_content_is_confirmed_by_being_asked_for(mesh: RunningMesh) -> None:
    path = "/etc/ganeti/grows"
    put(mesh, path, SHORT)
    mesh.ok("file", "add", path, "--scope", "all")
    then = json.loads(mesh.ok("file", "log", "--json"))[0]["generation"]
    put(mesh, path, LONG)
    mesh.ok("wait")

    mesh.ok("file", "rollback", str(then), path)

    assert on(mesh, "node2", path).read_text() == SHORT


def test_what_cannot_be_shipped_is_not_confirmed(mesh: RunningMesh) -> None:
    path = "/etc/ganeti/unfit"
    put(mesh, path, LONG)
    mesh.ok("file", "add", path, "--scope", "all")
    on(mesh, "node1", path).unlink()

    for named, words in ((path, "vanished from the master"), ("/etc/none", "is not managed")):
        done = mesh.run("file", "confirm", named)
        assert done.returncode == 1
        assert f"{named} {words}" in done.stderr
    put(mesh, path, LONG)
    assert "was not held back" in mesh.ok("file", "confirm", path)


def test_a_secret_goes_to_more_nodes_only_if_that_is_confirmed(mesh: RunningMesh) -> None:
    path = "/etc/ganeti/secret"
    put(mesh, path, "key\n")
    mesh.ok("file", "add", path, "--scope", "master-candidates")
    move = ("file", "modify", path, "--scope", "all")

    refused, dry = mesh.run(*move), mesh.run(*move, "--dry-run")

    assert (refused.returncode, dry.returncode) == (1, 1)
    assert "--confirm wider-scope" in refused.stderr and "--confirm wider-scope" in dry.stdout
    assert not on(mesh, "node2", path).exists()
    mesh.ok("file", "remove", path)
    again = mesh.run("file", "add", path, "--scope", "vm-capable")
    assert again.returncode == 1 and "is or was a secret" in again.stderr

    mesh.ok("file", "add", path, "--scope", "all", "--confirm", "wider-scope")
    assert on(mesh, "node2", path).read_text() == "key\n"


def test_what_was_a_secret_then_does_not_come_back_for_everybody(mesh: RunningMesh) -> None:
    path = "/etc/ganeti/opened"
    put(mesh, path, "secret of then\n")
    mesh.ok("file", "add", path, "--scope", "master-candidates")
    then = json.loads(mesh.ok("file", "log", "--json"))[0]["generation"]
    put(mesh, path, "for everybody\n")
    mesh.ok("wait")
    mesh.ok("file", "modify", path, "--scope", "all", "--confirm", "wider-scope")

    done = mesh.run("file", "rollback", str(then), path)

    assert done.returncode == 1 and "--confirm wider-scope" in done.stderr
    assert {on(mesh, node, path).read_text() for node in ("node1", "node2")} == {"for everybody\n"}


def test_many_files_of_one_pattern_go_only_if_that_is_confirmed(mesh: RunningMesh) -> None:
    """One line on the list, thirty files on every node. A command that was refused, or tried, has changed nothing."""
    paths = [f"/etc/many/{number:02}" for number in range(30)]
    for path in paths:
        put(mesh, path, "x\n")
    mesh.ok("file", "add", "/etc/many/*", "--scope", "all")
    remove = ("file", "remove", "/etc/many/*")

    refused, dry = mesh.run(*remove), mesh.run(*remove, "--dry-run")

    assert (refused.returncode, dry.returncode) == (1, 1)
    assert "30 of" in refused.stderr and "--confirm removals" in refused.stderr
    assert "--confirm removals" in dry.stdout
    listed = {file["path"] for file in mesh.json("file", "list")}
    assert listed.issuperset(paths)
    assert all(on(mesh, "node2", path).exists() for path in paths)
    done = mesh.ok(*remove, "--confirm", "removals")
    assert "3 nodes now hold all they must" in done
    assert not any(on(mesh, node, path).exists() for node in ("node2", "node3") for path in paths)


def test_an_old_config_put_back_takes_many_files_from_no_node_unasked(mesh: RunningMesh) -> None:
    """config.data from last week's backup does not know what was added since: nobody has asked to withdraw that."""
    config = on(mesh, "node1", CONFIG_DATA)
    backup = config.with_name("backup")
    shutil.copy2(config, backup)
    paths = [f"/etc/ganeti/added{number:02}" for number in range(40)]
    for path in paths:
        put(mesh, path, "added\n")
        mesh.ok("file", "add", path, "--scope", "all", "--no-wait")
    mesh.ok("wait")

    backup.rename(config)
    mesh.until_restarted("master", mesh.kill("master"))

    assert "gnt-mesh file confirm --removals" in held_back(mesh, paths[0])
    assert all(on(mesh, "node2", path).exists() for path in paths)
    mesh.ok("file", "confirm", "--removals")
    assert not any(on(mesh, node, path).exists() for node in ("node2", "node3") for path in paths)
    mesh.ok("wait")
