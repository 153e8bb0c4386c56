"""The plain `nats` command shows the mesh: every line of the README's section is run here as it stands."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.mesh import RunningMesh, running_mesh

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
SAID = [line.split("  #")[0].strip() for line in README.splitlines() if line.startswith("    nats ")]

Nats = Callable[..., str]


def nats_command() -> str | None:
    """The command on the PATH, or the one `make nats` has installed."""
    installed = REPOSITORY / ".tools/bin/nats"
    return shutil.which("nats") or (str(installed) if installed.exists() else None)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    if nats_command() is None:
        pytest.skip("the nats command is neither on the PATH nor in .tools/bin: `make nats` installs it where Go is")
    with running_mesh(tmp_path_factory.mktemp("inspection"), nodes=3) as mesh:
        source = mesh.node_root("node1") / "etc/ganeti"
        source.mkdir(parents=True, exist_ok=True)
        (source / "motd").write_text("hello\n")
        (source / "with space.conf").write_text("hello\n")
        for name in ("motd", "with space.conf"):
            assert mesh.run("file", "add", f"/etc/ganeti/{name}", "--scope", "all").returncode == 0
        yield mesh


@pytest.fixture(scope="module")
def nats(mesh: RunningMesh) -> Nats:
    environment = {
        "PATH": f"{Path(shutil.which('gnt-mesh') or REPOSITORY / '.venv/bin/gnt-mesh').parent}:{os.environ['PATH']}",
        "HOME": str(mesh.dir),
        "NATS_CONTEXT": str(mesh.dir / "nats-context.json"),
    }

    def run(*arguments: str) -> str:
        command = nats_command()
        assert command
        done = subprocess.run(
            [command, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("line", SAID)
def test_the_readme_says_what_works(nats: Nats, line: str) -> None:
    _, *words = shlex.split(line)
    if words[0] == "sub":
        words += ["--count", "1"]

    assert nats(*words).strip()


def test_the_readme_names_every_kind_of_look() -> None:
    assert {line.split()[1] for line in SAID} == {"stream", "micro", "sub", "req"}


def test_streams_are_few_and_well_named(nats: Nats) -> None:
    listed = nats("stream", "ls", "--names").split()
    scopes = ("all", "master-candidates", "vm-capable", "group-default")
    expected = {f"{kind}_{scope}" for kind in ("FILES", "BLOBS") for scope in scopes}
    assert set(listed) == expected | {"ROLES", "STATUS", "OSREQ", "OSLOG"}


def test_services_show_the_master_and_each_agent(nats: Nats) -> None:
    listed = nats("micro", "ls")
    assert "gnt-mesh-master" in listed and "gnt-mesh-agent" in listed
    info = nats("micro", "info", "gnt-mesh-master")
    assert "mesh.api.status" in info and "mesh.api.node.modify" in info
    assert "node2" in nats("micro", "info", "gnt-mesh-agent") or "node3" in nats("micro", "ls", "gnt-mesh-agent")
    assert "status" in nats("micro", "stats", "gnt-mesh-master")


def test_subjects_are_readable_paths(nats: Nats) -> None:
    listed = nats("stream", "subjects", "FILES_all")
    assert "mesh.files.all.etc/ganeti/motd" in listed
    assert "mesh.files.all.etc/ganeti/with=20space.conf" in listed


def test_headers_are_plain_text(nats: Nats) -> None:
    event = nats("stream", "get", "FILES_all", "--last-for", "mesh.files.all.etc/ganeti/motd")
    for fact in ("Mesh-Change: changed", "Mesh-Path: /etc/ganeti/motd", "Mesh-Mode: 0644", "Mesh-Generation: "):
        assert fact in event
    assert "Mesh-Node: node2" in nats("stream", "get", "STATUS", "--last-for", "mesh.status.node2")
    watched = nats("sub", "mesh.status.*", "--headers-only", "--count", "1")
    assert "Mesh-Receipts: all=" in watched


def test_payloads_are_translated_by_the_decode_command(nats: Nats) -> None:
    answer = nats("req", "mesh.api.status", "", "--translate", "gnt-mesh decode", "--raw")
    body = json.loads(answer[answer.index("{") : answer.rindex("}") + 1])
    assert body["kind"] == "ClusterStatus" and body["master"] == "node1"
    answer = nats("req", "mesh.rpc.node2.status", "", "--translate", "gnt-mesh decode", "--raw")
    assert '"node2"' in answer
