"""protocol/SPEC.md is complete: an agent written from that page alone joins a real cluster and gives receipts there."""

import ast
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol import codec
from protocol.messages import Manifest, ManifestHead, ScopeBell
from protocol.names import ALL, Digest
from protocol.sealing.envelopes import signed
from protocol.sealing.signatures import Signer
from tests.support import second_agent
from tests.support.founded import Founded, founded
from tests.support.memory_bus import seed_of
from tests.support.mesh import environment
from tests.support.publisher import publish
from tests.support.waiting import until

PROGRAM = Path(second_agent.__file__)
NODE = "second.example.com"
CONTENTS = {"motd": b"hello\n", "empty": b"", "two chunks": os.urandom(700_000), "password": b"secret " * 3}


class Second:
    """The foreign agent's process: ended and begun anew as often as a test likes."""

    def __init__(self, here: Founded, directory: Path) -> None:
        self.root = directory / "root"
        self.root.mkdir(parents=True)
        self._directory = directory
        self._token = here.json("node", "add", NODE)["token"]
        self.process = self.start()

    def start(self) -> "subprocess.Popen[str]":
        with (self._directory / "output").open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, PROGRAM, self.root, self._directory / "state.json"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                text=True,
                env=environment(),
            )
        assert self.process.stdin
        self.process.stdin.write(self._token)
        self.process.stdin.close()
        return self.process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def holds(self, name: str) -> bytes:
        return (self.root / "etc/ganeti" / name).read_bytes()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Founded]:
    with founded(tmp_path_factory.mktemp("second") / "first") as here:
        made = here.init("mesh1", "--node", "node1", "-C", "1")
        assert made.returncode == 0, made.stderr
        here.start(made.stdout)
        (here.root / "etc/ganeti").mkdir(parents=True)
        for name, content in CONTENTS.items():
            (here.root / "etc/ganeti" / name).write_bytes(content)
            secret = ("--secret",) if name == "password" else ()
            ok(here, "file", "add", f"/etc/ganeti/{name}", "--scope", "all", "--no-wait", *secret)
        yield here


@pytest.fixture(scope="module")
def second(here: Founded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Second]:
    second = Second(here, tmp_path_factory.mktemp("second-node"))
    try:
        yield second
    finally:
        second.kill()


def ok(here: Founded, *args: str) -> None:
    done = here.run(*args)
    assert done.returncode == 0, f"gnt-mesh {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}"


def until_proven(here: Founded) -> None:
    ok(here, "wait", "--node", NODE)


def test_no_code_of_ours_is_in_it() -> None:
    imported = set()
    for node in ast.walk(ast.parse(PROGRAM.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])

    assert imported - sys.stdlib_module_names == {"msgpack", "nacl", "nats", "nkeys"}


def test_it_joins_and_holds_every_file_and_the_master_takes_its_receipt(here: Founded, second: Second) -> None:
    until_proven(here)

    assert {name: second.holds(name) for name in CONTENTS} == CONTENTS
    assert (second.root / "etc/ganeti/motd").stat().st_mode == (here.root / "etc/ganeti/motd").stat().st_mode
    node = next(node for node in here.json("status")["nodes"] if node["name"] == NODE)
    assert node["online"] and node["in_sync"] and node["errors"] == []


def test_what_changed_while_it_was_dead_is_there_when_it_is_back(here: Founded, second: Second) -> None:
    second.kill()
    (here.root / "etc/ganeti/motd").write_text("edited meanwhile\n")
    second.start()

    until_proven(here)

    assert second.holds("motd") == b"edited meanwhile\n"


def test_it_follows_an_edit_and_a_withdrawal(here: Founded, second: Second) -> None:
    (here.root / "etc/ganeti/motd").write_text("edited again\n")
    ok(here, "file", "remove", "/etc/ganeti/empty")

    until_proven(here)

    assert second.holds("motd") == b"edited again\n"
    assert not (second.root / "etc/ganeti/empty").exists()


def test_a_promotion_brings_the_secrets_of_candidates_and_a_demotion_takes_them(here: Founded, second: Second) -> None:
    copy = second.root / "var/lib/ganeti/config.data"

    ok(here, "node", "modify", "-C", "yes", NODE)
    assert copy.read_bytes() == (here.root / "var/lib/ganeti/config.data").read_bytes()

    ok(here, "node", "modify", "-C", "no", NODE)
    assert not copy.exists()
    until_proven(here)


def test_what_the_master_has_not_signed_is_counted_and_not_followed(here: Founded, second: Second) -> None:
    thief = Signer(seed_of("another mesh"))
    encoded = codec.encode(Manifest(scope=ALL, epoch=1, generation=10**6))
    digest = Digest(hashlib.sha256(encoded).hexdigest())
    head = ManifestHead(scope=ALL, epoch=1, generation=10**6, digest=digest, size_bytes=len(encoded), inline=encoded)
    bell = codec.encode(ScopeBell(scope=ALL, epoch=1, generation=10**6))

    publish(here.etc, [("mesh.manifest.all", signed("mesh.manifest.all", head, thief)), ("mesh.bell.scope.all", bell)])

    until(lambda: refusals(here)["count"] > 0, near=here.etc)
    assert "signed by another key" in refusals(here)["last"]
    assert second.holds("motd") == b"edited again\n"


def refusals(here: Founded) -> Any:
    return next(node for node in here.json("status")["nodes"] if node["name"] == NODE)["refused"]
