"""Operators and observers: what each may do, and the log of what was changed, as `gnt-mesh` and `nats` show it."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mesh import COMMAND, RunningMesh, environment, running_mesh
from tests.support.waiting import until

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("access"), nodes=2) as mesh:
        (mesh.node_root("node1") / "etc/motd").write_text("hello\n")
        mesh.ok("file", "add", "/etc/motd", "--scope", "all")
        yield mesh


def let_in(mesh: RunningMesh, name: str, role: str) -> Path:
    directory = mesh.dir.parent / name
    mesh.ok("cluster", "access", "add", name, "--role", role, "--out", str(directory))
    return directory


def as_whom(directory: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [COMMAND, "--dir", directory, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )


def entries(mesh: RunningMesh) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = mesh.json("cluster", "audit", "list", "--last", "500")
    return found


def test_an_observer_looks_and_changes_nothing(mesh: RunningMesh) -> None:
    directory = let_in(mesh, "olivia", "observer")

    status = as_whom(directory, "status", "--json")
    assert json.loads(status.stdout)["master"] == "node1", status.stderr
    for noun in ("node", "group", "file", "os", "instance", "job"):
        assert as_whom(directory, noun, "list").returncode == 0, noun
    for words in (["cluster", "info"], ["cluster", "access", "list"], ["cluster", "keys"], ["file", "log"], ["wait"]):
        assert as_whom(directory, *words).returncode == 0, words
    before = mesh.json("cluster", "info")["serial_no"]
    for words in (
        ["node", "modify", "-C", "yes", "node2"],
        ["node", "add", "node9"],
        ["node", "remove", "node2"],
        ["file", "remove", "/etc/motd"],
        ["cluster", "redist-conf"],
        ["group", "add", "g"],
        ["cluster", "access", "add", "eve", "--role", "operator", "--out", str(directory / "eve")],
    ):
        refused = as_whom(directory, *words)
        assert refused.returncode == 1 and "an observer looks, and changes nothing" in refused.stderr, (words, refused)
    assert mesh.json("cluster", "info")["serial_no"] == before
    assert not (directory / "eve/access.nk").exists()


def test_keys_and_settings_of_an_access_are_for_their_owner_alone(mesh: RunningMesh) -> None:
    directory = let_in(mesh, "mode", "observer")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "access.nk").stat().st_mode & 0o777 == 0o600
    seed = (directory / "access.nk").read_bytes().strip()
    assert not [file for file in mesh.dir.rglob("*") if file.is_file() and seed in file.read_bytes()]


def test_an_operator_changes_and_is_named_in_the_log(mesh: RunningMesh) -> None:
    directory = let_in(mesh, "otto", "operator")

    assert as_whom(directory, "group", "add", "rack1").returncode == 0
    assert as_whom(directory, "group", "add", "rack1").returncode == 1

    mine = [entry for entry in entries(mesh) if entry["who"] == "otto"]
    assert [(entry["verb"], entry["outcome"]) for entry in mine] == [
        ("group.add", "asked"),
        ("group.add", "done"),
        ("group.add", "asked"),
        ("group.add", "refused"),
    ]
    assert mine[0]["what"]["name"] == "rack1" and mine[1]["of"] == mine[0]["number"]
    assert {entry["origin"] for entry in mine} == {"127.0.0.1"}
    assert "exists already" in mine[3]["what"]["reason"]
    public = next(a["public_key"] for a in mesh.json("cluster", "access", "list") if a["name"] == "otto")
    assert {entry["key"] for entry in mine} == {public}


def test_who_changed_what_before_is_there_too_and_looking_is_not(mesh: RunningMesh) -> None:
    verbs = {(entry["who"], entry["verb"]) for entry in entries(mesh)}
    assert ("admin", "file.add") in verbs
    assert not any(verb in ("status", "wait", "node.list", "audit.list") for _, verb in verbs)


def test_a_removed_access_is_shut_out_at_once(mesh: RunningMesh) -> None:
    directory = let_in(mesh, "gone", "operator")
    assert as_whom(directory, "status").returncode == 0
    mesh.ok("cluster", "access", "remove", "gone")
    refused = as_whom(directory, "status")
    assert refused.returncode == 1 and "authorization violation" in refused.stderr.lower()


def test_the_plain_nats_command_shows_an_observer_all_but_secrets(mesh: RunningMesh) -> None:
    command = shutil.which("nats") or str(REPOSITORY / ".tools/bin/nats")
    if not Path(command).exists():
        pytest.skip("the nats command is neither on the PATH nor in .tools/bin: `make nats` installs it where Go is")
    directory = let_in(mesh, "nina", "observer")

    def nats(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [command, "--context", directory / "nats-context.json", "--timeout", "2s", *words],
            env={"PATH": "/usr/bin", "HOME": str(directory)},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )

    assert "FILES_all" in nats("stream", "ls", "--names").stdout
    assert "Mesh-Path: /etc/motd" in nats("stream", "get", "FILES_all", "--last-for", "mesh.files.all.etc/motd").stdout
    assert "gnt-mesh-master" in nats("micro", "ls").stdout
    secret = nats("stream", "get", "FILES_master-candidates", "--last-for", "mesh.manifest.master-candidates")
    assert secret.returncode != 0 and "Mesh-" not in secret.stdout
    for words in (["stream", "rm", "-f", "FILES_all"], ["stream", "purge", "-f", "FILES_all"]):
        assert nats(*words).returncode != 0
    assert "FILES_all" in nats("stream", "ls", "--names").stdout


def test_a_log_that_was_touched_is_found(mesh: RunningMesh) -> None:
    sound = mesh.json("cluster", "audit", "verify")
    assert sound["entries"] > 4 and sound["problem"] == ""
    file = mesh.node_root("node1") / "var/lib/gnt-mesh/master/audit.log"
    assert file.stat().st_mode & 0o777 == 0o600
    content = file.read_bytes()

    file.write_bytes(content.replace(b'"who":"otto"', b'"who":"anna"', 1))
    found = mesh.run("cluster", "audit", "verify")
    assert found.returncode == 1 and "the audit log shows tampering: entry" in found.stderr

    file.write_bytes(b"".join(content.splitlines(keepends=True)[:-2]))
    found = mesh.run("cluster", "audit", "verify")
    assert found.returncode == 1 and "the last 2 are gone" in found.stderr

    file.write_bytes(content)
    assert mesh.json("cluster", "audit", "verify") == sound


def test_the_chain_goes_on_after_a_restart_of_the_master(mesh: RunningMesh) -> None:
    before = mesh.json("cluster", "audit", "verify")["entries"]
    mesh.until_restarted("master", mesh.kill("master"))
    until(lambda: mesh.run("group", "add", "rack2").returncode == 0, near=mesh.dir, what="the master answers again")
    after = mesh.json("cluster", "audit", "verify")
    assert after["entries"] >= before + 2 and after["problem"] == ""


def test_a_join_token_is_in_no_log(mesh: RunningMesh) -> None:
    token = json.loads(mesh.ok("node", "add", "node5", "--json"))["token"]
    assert token.startswith("gnt-mesh-join-1-")
    secret = token.removeprefix("gnt-mesh-join-1-")[60:].encode()
    assert not [file for file in mesh.dir.rglob("*") if file.is_file() and secret in file.read_bytes()]
