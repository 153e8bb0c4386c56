"""kill -9 of each daemon at random moments, under load, with an independent reader: nothing torn, nothing lost."""

import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh import RunningMesh, Up, running_mesh
from tests.support.waiting import until, until_holds

SEED = int(os.environ.get("GNT_MESH_TEST_SEED", "20261122"))
FILES = 6
ROUNDS = 20


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path, nodes=3) as mesh:
        (mesh.node_root("node1") / "etc/ganeti").mkdir(parents=True, exist_ok=True)
        for number in range(FILES):
            put(mesh, number, 0)
            result = mesh.run("file", "add", path_of(number), "--scope", "all", "--no-wait")
            assert result.returncode == 0, result.stderr
        assert mesh.run("wait").returncode == 0
        yield mesh


def path_of(number: int) -> str:
    return f"/etc/ganeti/file{number}"


def content_of(number: int, turn: int) -> bytes:
    """Self-describing, of differing length: a torn or mixed file cannot look like one of these."""
    return f"{number} {turn}\n".encode() * (1000 + 37 * turn) + b"end\n"


def is_whole(content: bytes) -> bool:
    number, turn = content.split(b"\n", 1)[0].split()
    return content == content_of(int(number), int(turn))


def put(mesh: RunningMesh, number: int, turn: int) -> None:
    source = mesh.node_root("node1") / path_of(number).lstrip("/")
    beside = source.with_name(".edit")
    beside.write_bytes(content_of(number, turn))
    beside.rename(source)


class Reader(threading.Thread):
    """Reads every target over and over and notes whatever a reader must never see."""

    def __init__(self, mesh: RunningMesh) -> None:
        super().__init__()
        self._targets = [
            mesh.node_root(node) / path_of(number).lstrip("/") for node in ("node2", "node3") for number in range(FILES)
        ]
        self._stop_asked = threading.Event()
        self.wrong: list[str] = []
        self.looks = 0

    def run(self) -> None:
        while not self._stop_asked.is_set():
            for target in self._targets:
                self.looks += 1
                try:
                    content = target.read_bytes()
                except FileNotFoundError:
                    self.wrong.append(f"{target} is absent")
                    continue
                if not is_whole(content):
                    self.wrong.append(f"{target} is torn: {content[:40]!r}")

    def end(self) -> None:
        self._stop_asked.set()
        self.join()


def test_whatever_is_killed_when_everything_converges_and_nothing_is_ever_torn(mesh: RunningMesh) -> None:
    chance = random.Random(SEED)
    reader = Reader(mesh)
    reader.start()
    for turn in range(1, ROUNDS + 1):
        for number in chance.sample(range(FILES), k=3):
            put(mesh, number, turn)
        victim = chance.choice(["node2", "node3", "node2", "node3", "node1", "master", "nats-server"])
        mesh.kill(victim)
        if chance.random() < 0.25:
            mesh.run("wait", "--timeout", "20")

    result = mesh.run("wait", "--timeout", "60")
    reader.end()

    assert result.returncode == 0, f"seed {SEED}: {result.stderr}"
    assert reader.wrong == [], f"seed {SEED}"
    assert reader.looks > 1000
    for number in range(FILES):
        source = (mesh.node_root("node1") / path_of(number).lstrip("/")).read_bytes()
        for node in ("node2", "node3"):
            assert (mesh.node_root(node) / path_of(number).lstrip("/")).read_bytes() == source, f"seed {SEED}"
    leftovers = [path for node in ("node2", "node3") for path in mesh.node_root(node).rglob(".gnt-mesh.*")]
    assert leftovers == [], f"seed {SEED}"


def test_a_node_that_was_stopped_shows_as_such_and_catches_up(mesh: RunningMesh) -> None:
    os.kill(mesh.pid("node3"), signal.SIGSTOP)
    try:
        put(mesh, 0, 77)
        late = mesh.run("wait", "--timeout", "1")
        assert late.returncode == 2 and "node3" in late.stderr and "node2" not in late.stderr
        put(mesh, 1, 78)
    finally:
        os.kill(mesh.pid("node3"), signal.SIGCONT)

    until_holds(
        mesh.node_root("node3") / path_of(1).lstrip("/"), content_of(1, 78), near=mesh.node_root("node3") / "etc/ganeti"
    )
    assert mesh.run("wait").returncode == 0


def test_a_node_that_lost_its_whole_root_gets_everything_again(mesh: RunningMesh) -> None:
    """Wiped, but with the same identity: as after a reinstall from a backup of its settings."""
    import shutil

    os.kill(mesh.pid("node2"), signal.SIGSTOP)
    pid = mesh.pid("node2")
    for part in ("etc/ganeti", "var/lib/gnt-mesh"):
        shutil.rmtree(mesh.node_root("node2") / part)
    os.kill(pid, signal.SIGKILL)
    until(lambda: mesh.pid("node2") not in (0, pid), near=mesh.dir)

    assert mesh.run("wait", "--timeout", "30").returncode == 0
    for number in range(FILES):
        assert is_whole((mesh.node_root("node2") / path_of(number).lstrip("/")).read_bytes())


def test_the_brokers_data_may_be_deleted_while_the_mesh_runs(mesh: RunningMesh) -> None:
    """Design, D1: the bus is derived."""
    import shutil

    shutil.rmtree(mesh.dir / "broker/jetstream")
    put(mesh, 2, 5)
    assert mesh.run("wait", "--timeout", "40").returncode == 0

    mesh.kill("nats-server")
    put(mesh, 3, 6)
    result = mesh.run("wait", "--timeout", "40")

    assert result.returncode == 0, result.stderr
    for number, turn in ((2, 5), (3, 6)):
        for node in ("node2", "node3"):
            assert (mesh.node_root(node) / path_of(number).lstrip("/")).read_bytes() == content_of(number, turn)


def test_a_damaged_config_is_refused_and_never_overwritten(tmp_path: Path) -> None:
    with running_mesh(tmp_path, nodes=2) as mesh:
        config = mesh.node_root("node1") / "var/lib/ganeti/config.data"
        good = config.read_text()
    damaged = good[: len(good) // 2]
    config.write_text(damaged)

    up = Up(mesh.dir)
    try:
        assert up.wait() == 1
        assert "config.data is damaged" in up.output
    finally:
        up.close()

    assert config.read_text() == damaged
    config.write_text(good)
    with running_mesh(tmp_path, nodes=2) as mesh:
        assert mesh.run("wait").returncode == 0


def test_a_config_damaged_while_the_mesh_runs_is_neither_shipped_nor_overwritten(tmp_path: Path) -> None:
    """A candidate's copy may be the last good one."""
    with running_mesh(tmp_path, nodes=2) as mesh:
        mesh.ok("node", "modify", "-C", "yes", "node2")
        config, copy = (mesh.node_root(node) / "var/lib/ganeti/config.data" for node in ("node1", "node2"))
        good = config.read_bytes()

        config.write_bytes(good[:100])
        until(lambda: bool(mesh.json("status")["errors"]), near=mesh.dir)

        (error,) = mesh.json("status")["errors"]
        assert error["path"] == "/var/lib/ganeti/config.data" and "is not as this master wrote it" in error["reason"]
        refused = mesh.run("cluster", "modify", "-C", "2")
        assert refused.returncode == 1 and "is not as this master wrote it" in refused.stderr
        assert config.read_bytes() == good[:100] and copy.read_bytes() == good

        config.write_bytes(copy.read_bytes())
        until(lambda: not mesh.json("status")["errors"], near=mesh.dir)
        mesh.ok("cluster", "modify", "-C", "2")
        mesh.ok("wait")
        assert copy.read_bytes() == config.read_bytes() != good
