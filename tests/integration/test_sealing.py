"""Keys change hands with the nodes: who leaves a scope finds it sealed anew, and who stays notices nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mesh import RunningMesh, running_mesh
from tests.support.spy import stored_subjects
from tests.support.waiting import until_holds


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("sealing"), nodes=4, candidate_pool_size=1) as mesh:
        mesh.ok("node", "modify", "node2", "-C", "yes")
        for name, scope, flags in (("candidates", "master-candidates", ()), ("everywhere", "all", ("--secret",))):
            put(mesh, name, "first")
            mesh.ok("file", "add", f"/etc/ganeti/{name}", "--scope", scope, *flags)
        yield mesh


def put(mesh: RunningMesh, name: str, content: str) -> None:
    source = mesh.node_root("node1") / "etc/ganeti" / name
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(content)


def on(mesh: RunningMesh, node: str, name: str) -> Path:
    return mesh.node_root(node) / "etc/ganeti" / name


def keys(mesh: RunningMesh) -> dict[str, str]:
    state = mesh.node_root("node1") / "var/lib/gnt-mesh/master/scope-keys.json"
    return {str(scope): str(key["secret"]) for scope, key in json.loads(state.read_bytes()).items()}


def shown_keys(mesh: RunningMesh) -> dict[str, dict[str, Any]]:
    return {str(one["name"]): one for one in mesh.json("cluster", "keys") if one["what"] == "scope"}


def generation(mesh: RunningMesh, scope: str) -> int:
    return int(mesh.json("status")["scopes"][scope]["generation"])


def test_a_demotion_renews_the_candidates_key_and_nobody_elses(mesh: RunningMesh) -> None:
    mesh.ok("node", "modify", "node3", "-C", "yes")
    assert on(mesh, "node3", "candidates").read_text() == "first"
    before, generation_before = keys(mesh), generation(mesh, "master-candidates")

    mesh.ok("node", "modify", "node3", "-C", "no")

    after = keys(mesh)
    assert after["master-candidates"] != before["master-candidates"]
    assert after["all"] == before["all"]
    assert generation(mesh, "master-candidates") > generation_before
    (secret,) = mesh.json("file", "info", "/etc/ganeti/candidates")
    name = f"mesh.blob.master-candidates.{secret['published']['digest']}.0"
    assert name in stored_subjects(mesh.dir, "BLOBS_master-candidates"), "sealed anew, though it has not changed"
    mesh.ok("wait")
    put(mesh, "candidates", "second")
    until_holds(on(mesh, "node2", "candidates"), b"second", near=mesh.node_root("node2"))
    assert not on(mesh, "node3", "candidates").exists()


def test_a_removal_renews_the_keys_of_all_scopes_that_the_node_was_in(mesh: RunningMesh) -> None:
    before, generation_before = keys(mesh), generation(mesh, "all")

    mesh.ok("node", "remove", "node4")

    after = keys(mesh)
    assert after["all"] != before["all"]
    assert after["master-candidates"] == before["master-candidates"]
    assert generation(mesh, "all") > generation_before, "sealed anew, though no file has changed"
    mesh.ok("wait")
    on(mesh, "node3", "everywhere").unlink()
    until_holds(on(mesh, "node3", "everywhere"), b"first", near=mesh.node_root("node3"))


def test_keys_are_renewed_on_demand_and_everything_is_sealed_with_them(mesh: RunningMesh) -> None:
    before, shown_before, generation_before = keys(mesh), shown_keys(mesh), generation(mesh, "all")
    assert shown_before.keys() == before.keys() == {"all", "master-candidates"}
    assert not [key for key in before.values() if key in json.dumps(shown_before)]

    said = mesh.ok("cluster", "renew-crypto", "--new-scope-keys")

    assert said.splitlines() == [
        "The key of the secrets of all is a new one.",
        "The key of the secrets of master-candidates is a new one.",
    ]
    after, shown = keys(mesh), shown_keys(mesh)
    assert not set(before.values()) & set(after.values())
    for scope in before:
        assert shown[scope]["fingerprint"] != shown_before[scope]["fingerprint"]
        assert shown[scope]["made"] > shown_before[scope]["made"] > 1.7e9
    assert generation(mesh, "all") > generation_before, "sealed anew, though no file has changed"
    for scope, path in (("all", "everywhere"), ("master-candidates", "candidates")):
        (secret,) = mesh.json("file", "info", f"/etc/ganeti/{path}")
        name = f"mesh.blob.{scope}.{secret['published']['digest']}.0"
        assert name in stored_subjects(mesh.dir, f"BLOBS_{scope}")
    mesh.ok("wait")
    on(mesh, "node3", "everywhere").write_text("damaged")
    until_holds(on(mesh, "node3", "everywhere"), b"first", near=mesh.node_root("node3"))
    put(mesh, "candidates", "under the new key")
    until_holds(on(mesh, "node2", "candidates"), b"under the new key", near=mesh.node_root("node2"))


def test_everything_that_is_renewed_has_the_keys_of_the_scopes_in_it(mesh: RunningMesh) -> None:
    before = keys(mesh)

    said = mesh.ok("cluster", "renew-crypto")

    assert "The key of the secrets of all is a new one.\n" in said
    assert not set(before.values()) & set(keys(mesh).values())
    mesh.ok("wait")
    on(mesh, "node3", "everywhere").write_text("damaged")
    until_holds(on(mesh, "node3", "everywhere"), b"first", near=mesh.node_root("node3"))


def test_lost_keys_are_made_anew_and_everything_is_sealed_with_them(mesh: RunningMesh) -> None:
    before = keys(mesh)
    (mesh.node_root("node1") / "var/lib/gnt-mesh/master/scope-keys.json").unlink()

    mesh.until_restarted("master", mesh.kill("master"))
    mesh.ok("wait")

    assert keys(mesh)["all"] != before["all"]
    on(mesh, "node2", "everywhere").write_text("damaged")
    until_holds(on(mesh, "node2", "everywhere"), b"first", near=mesh.node_root("node2"))
    put(mesh, "everywhere", "third")
    until_holds(on(mesh, "node3", "everywhere"), b"third", near=mesh.node_root("node3"))


def test_what_becomes_a_secret_is_taken_from_the_bus_as_it_was(mesh: RunningMesh) -> None:
    put(mesh, "turned", "it was no secret")
    mesh.ok("file", "add", "/etc/ganeti/turned", "--scope", "all")
    (shown,) = mesh.json("file", "info", "/etc/ganeti/turned")
    plain = f"mesh.blob.all.{shown['published']['digest']}.0"
    assert plain in stored_subjects(mesh.dir, "BLOBS_all")

    mesh.ok("file", "modify", "/etc/ganeti/turned", "--secret", "yes")

    assert plain not in stored_subjects(mesh.dir, "BLOBS_all")
    (shown,) = mesh.json("file", "info", "/etc/ganeti/turned")
    assert (shown["secret"], shown["published"]["size_bytes"]) == (True, 256)
    assert f"mesh.blob.all.{shown['published']['digest']}.0" in stored_subjects(mesh.dir, "BLOBS_all")


def test_a_secret_that_is_withdrawn_leaves_no_backup(mesh: RunningMesh) -> None:
    for name, flags in (("kept", ()), ("gone", ("--secret",))):
        put(mesh, name, f"content of {name}")
        mesh.ok("file", "add", f"/etc/ganeti/{name}", "--scope", "all", *flags)

    mesh.ok("file", "remove", "/etc/ganeti/kept")
    mesh.ok("file", "remove", "/etc/ganeti/gone")

    backups = mesh.node_root("node2") / "var/lib/gnt-mesh/agent/backups"
    contents = {path.read_bytes() for path in backups.rglob("*") if path.is_file()}
    assert b"content of kept" in contents and b"content of gone" not in contents
