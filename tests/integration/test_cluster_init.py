"""`gnt-mesh cluster init NAME`: a cluster as production has it, from nothing to a file on a second node."""

import json
import stat
from pathlib import Path

import pytest

from tests.support.founded import founded, run

CONFIG_DATA = "var/lib/ganeti/config.data"


def tree(root: Path) -> dict[str, tuple[bytes, float]]:
    return {str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime) for p in root.rglob("*") if p.is_file()}


def test_a_new_cluster_runs_as_its_output_says_and_ships_files(tmp_path: Path) -> None:
    with founded(tmp_path / "first") as here:
        made = here.init("mesh1", "--node", "node1", "-C", "2", "--enabled-hypervisors", "kvm,lxc")
        assert made.returncode == 0, made.stderr
        assert made.stdout.startswith("Cluster mesh1 is founded; node1 is its first node and its master.\n")
        here.start(made.stdout)

        info = here.json("cluster", "info")
        assert (info["name"], info["master"], info["candidate_pool_size"]) == ("mesh1", "node1", 2)
        assert info["enabled_hypervisors"] == ["kvm", "lxc"]

        second = tmp_path / "second"
        key = here.add_node("node2", second)
        assert here.run("node", "add", "node2", "--public-key", key).returncode == 0
        here.start_agent(second)
        source = here.root / "etc/motd"
        source.write_text("hello\n")
        shipped = here.run("file", "add", "/etc/motd", "--scope", "all")
        assert shipped.returncode == 0, shipped.stderr
        assert (second / "etc/motd").read_text() == "hello\n"
        assert here.run("wait").returncode == 0
        assert (second / CONFIG_DATA).read_bytes() == (here.root / CONFIG_DATA).read_bytes()  # the pool had room

        before = tree(here.etc)
        again = here.init("mesh2", "--node", "node9")
        assert again.returncode == 1
        assert again.stderr.endswith("there is a cluster here already, and nothing of it was touched\n")
        assert tree(here.etc) == before


def test_keys_are_for_their_owner_alone_and_settings_have_no_absolute_path(tmp_path: Path) -> None:
    with founded(tmp_path / "first") as here:
        told = json.loads(here.init("mesh1", "--node", "node1", "--json").stdout)
        assert told["cluster"] == "mesh1" and Path(told["config_data"]) == here.root / CONFIG_DATA

        secret = [path for path in here.etc.rglob("*") if path.suffix in (".nk", ".key") or path.name == "tls.pem"]
        assert len(secret) == 9
        for path in secret:  # nats-server, which may be another user, reads its own by its group
            assert stat.S_IMODE(path.stat().st_mode) == (0o640 if path.name == "tls.pem" else 0o600)
        for path in here.etc.glob("*.toml"):
            assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("bad name",), "cluster name 'bad name'"),
        (("mesh1", "--node", "no_de"), "give this node's name with --node"),
        (("mesh1", "-C", "0"), "candidate_pool_size 0: at least 1"),
        (
            ("mesh1", "-C", "99999999999999999999"),
            "at least 1, at most 1000000",
        ),
        (("mesh1", "--enabled-hypervisors", "vmware"), "hypervisor 'vmware' is unknown here"),
        (("mesh1", "--enabled-hypervisors", "kvm,kvm"), "twice"),
        (("mesh1", "--port", "70000"), "--port 70000"),
        ((), "missing argument"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, options: tuple[str, ...], reason: str
) -> None:
    result = run("cluster", "init", *options, "--root", str(tmp_path))

    assert result.returncode == 1 and reason in result.stderr.lower(), result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_remains_of_a_cluster_are_not_built_upon(tmp_path: Path) -> None:
    """config.data was lost: a new one would begin again at generation 1, and the nodes would take none of it."""
    with founded(tmp_path / "first") as here:
        assert here.init("mesh1", "--node", "node1").returncode == 0
        (here.root / CONFIG_DATA).unlink()
        (here.root / "var/lib/gnt-mesh/master/history").mkdir()

        result = here.init("mesh1", "--node", "node1")

        assert result.returncode == 1 and "a cluster has lived here, and its config.data is gone" in result.stderr
        assert not (here.root / CONFIG_DATA).exists()


def test_a_try_that_was_interrupted_is_completed_by_the_next(tmp_path: Path) -> None:
    with founded(tmp_path / "first") as here:
        assert here.init("mesh1", "--node", "node1").returncode == 0
        keys = {name: value for name, value in tree(here.etc).items() if name.endswith((".nk", ".key", ".pem"))}
        (here.root / CONFIG_DATA).unlink()
        (here.etc / "operator.toml").unlink()

        assert here.init("mesh1", "--node", "node1").returncode == 0

        assert (here.root / CONFIG_DATA).exists() and (here.etc / "operator.toml").exists()
        assert keys.items() <= tree(here.etc).items()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("in the way")

    result = run("cluster", "init", "mesh1", "--node", "node1", "--root", str(tmp_path))

    assert result.returncode == 1 and f"{tmp_path}/etc" in result.stderr and "no cluster was made" in result.stderr
    assert not (tmp_path / CONFIG_DATA).exists()
