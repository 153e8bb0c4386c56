"""`gnt-mesh cluster init --from-ganeti`: a running Ganeti is the source; it stays the owner, and the mesh carries."""

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.founded import Founded, founded
from tests.support.ganeti_config import FILE, a_ganeti, node_of, text, uuid_of
from tests.support.waiting import until

GANETIS = "var/lib/ganeti/config.data"
OURS = "var/lib/ganeti/gnt-mesh/config.data"
INIT = ("--from-ganeti", "/var/lib/ganeti", "--node", "node1.example.com")


class Ganeti:
    """Stands in for its configuration daemon: replaces config.data by a rename, as that does."""

    def __init__(self, root: Path) -> None:
        self.file = root / GANETIS
        self.file.parent.mkdir(parents=True)
        self.config = a_ganeti()
        self.file.write_bytes(FILE.read_bytes())

    def write(self, raw: bytes) -> None:
        new = self.file.with_name("config.data.new")
        new.write_bytes(raw)
        os.replace(new, self.file)  # noqa: PTH105

    def change(self, **flags: dict[str, Any]) -> None:
        for node, values in flags.items():
            node_of(self.config, f"{node}.example.com").update(values)
        self.write(text(self.config))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Founded, Ganeti, Path]]:
    """Ganeti's master and its node2, with their agents."""
    directory = tmp_path_factory.mktemp("ganeti")
    with founded(directory / "first") as first:
        ganeti = Ganeti(first.root)
        made = first.init(*INIT)
        assert made.returncode == 0, made.stderr
        first.start(made.stdout)
        second = directory / "second"
        key = first.add_node("node2.example.com", second)
        joined = first.run("node", "modify", "node2.example.com", "--public-key", key, "--no-wait")
        assert joined.returncode == 0, joined.stderr
        first.start_agent(second)
        yield first, ganeti, second


def roles(first: Founded) -> dict[str, str]:
    return {node["name"].split(".")[0]: node["role"] for node in first.json("node", "list")}


def until_roles(first: Founded, **wanted: str) -> None:
    until(lambda: wanted.items() <= roles(first).items(), near=first.root)


def test_the_cluster_is_as_ganeti_has_it(here: tuple[Founded, Ganeti, Path]) -> None:
    first, _, _ = here
    info = first.json("cluster", "info")

    assert (info["name"], info["master"]) == ("cluster.example.com", "node1.example.com")
    assert info["follows"] == "/var/lib/ganeti/config.data"
    assert info["enabled_hypervisors"] == ["kvm", "xen-hvm"] and info["candidate_pool_size"] == 3
    assert roles(first) == {"node1": "M", "node2": "C", "node3": "R", "node4": "D", "node5": "O"}
    assert "Ganeti, followed at /var/lib/ganeti/config.data" in first.run("cluster", "info").stdout


def test_the_mesh_carries_what_the_founding_text_wants_carried(here: tuple[Founded, Ganeti, Path]) -> None:
    """rapi.pem to candidates alone, a file that a hypervisor parameter of Ganeti's names to vm-capable nodes."""
    first, _, second = here
    (first.root / "var/lib/ganeti/rapi.pem").write_text("key\n")
    password = first.root / "etc/ganeti/kvm-vnc"
    password.parent.mkdir(parents=True)
    password.write_text("secret\n")

    until(lambda: (second / "etc/ganeti/kvm-vnc").is_file(), near=second)
    until(lambda: (second / "var/lib/ganeti/rapi.pem").is_file(), near=second)

    assert (second / OURS).read_bytes() == (first.root / OURS).read_bytes()
    assert not (second / GANETIS).exists()  # that is Ganeti's own to distribute
    assert not [*first.root.rglob("ssconf_*"), *second.rglob("ssconf_*")]


def test_what_changes_there_is_carried_and_ganetis_file_is_only_read(here: tuple[Founded, Ganeti, Path]) -> None:
    first, ganeti, second = here
    ganeti.change(node2={"master_candidate": False}, node3={"master_candidate": True, "vm_capable": True})
    raw, written = ganeti.file.read_bytes(), ganeti.file.stat()

    until_roles(first, node2="R", node3="C")
    until(lambda: not (second / "var/lib/ganeti/rapi.pem").exists(), near=second)
    until(lambda: not (second / OURS).exists(), near=second)
    ganeti_now = ganeti.file.stat()
    assert ganeti.file.read_bytes() == raw
    assert (ganeti_now.st_mtime_ns, ganeti_now.st_ino) == (written.st_mtime_ns, written.st_ino)

    ganeti.change(node2={"master_candidate": True})
    until_roles(first, node2="C")
    until(lambda: (second / "var/lib/ganeti/rapi.pem").is_file(), near=second)


def test_nodes_come_and_go_as_there(here: tuple[Founded, Ganeti, Path]) -> None:
    first, ganeti, _ = here
    new = {**node_of(ganeti.config, "node3.example.com"), "name": "node6.example.com", "uuid": "uuid-6"}
    ganeti.config["nodes"]["uuid-6"] = new
    del ganeti.config["nodes"][uuid_of("node5.example.com")]
    ganeti.change()

    until_roles(first, node6="C")
    assert "node5" not in roles(first)


def test_what_ganeti_owns_is_refused_here_and_the_command_is_named(here: tuple[Founded, Ganeti, Path]) -> None:
    first, _, _ = here
    before = (first.root / OURS).read_bytes()
    cases = {
        ("node", "modify", "node3.example.com", "-O", "yes"): "gnt-node modify",
        ("node", "modify", "node3.example.com", "--group", "rack2"): "gnt-node modify",
        ("node", "add", "node9"): "gnt-node add",
        ("node", "remove", "node3.example.com"): "gnt-node remove",
        ("group", "add", "rack9"): "gnt-group add",
        ("group", "remove", "rack2"): "gnt-group remove",
        ("cluster", "modify", "-C", "9"): "gnt-cluster modify",
    }
    for arguments, command in cases.items():
        result = first.run(*arguments)
        assert result.returncode == 1, arguments
        assert "this cluster is Ganeti's" in result.stderr and f"use: {command}\n" in result.stderr
    assert (first.root / OURS).read_bytes() == before


def test_what_cannot_be_followed_changes_nothing_and_is_shown_with_its_place(
    here: tuple[Founded, Ganeti, Path],
) -> None:
    first, ganeti, _ = here
    before = (first.root / OURS).read_bytes()
    failed_over = copy.deepcopy(ganeti.config)
    failed_over["cluster"]["master_node"] = uuid_of("node2.example.com")
    cases = {
        text(ganeti.config)[:1000]: "damaged at line 1, column ",
        text(ganeti.config | {"version": 9000000}): "newer at line 1, column ",
        text(failed_over): "Ganeti's master is node2.example.com now",
    }
    for raw, reason in cases.items():
        ganeti.write(raw)
        until(lambda reason=reason: any(reason in error for error in errors(first)), near=first.root)  # type: ignore[misc]
        assert (first.root / OURS).read_bytes() == before
        assert ganeti.file.read_bytes() == raw

    ganeti.change()
    until(lambda: not errors(first), near=first.root)


def errors(first: Founded) -> list[str]:
    return [error["reason"] for error in first.json("status")["errors"] if error["path"] == f"/{GANETIS}"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("other.example.com", *INIT), "Ganeti's cluster is cluster.example.com, not other.example.com"),
        ((*INIT[:2], "--node", "node2"), "Ganeti's master is node1.example.com: found the cluster there"),
        ((*INIT, "-C", "5"), "--candidate-pool-size is Ganeti's to say"),
        (("--from-ganeti", "/nowhere", "--node", "node1"), "there is no config.data of a Ganeti cluster"),
        (("mesh1", "--node", "node1"), "is a Ganeti cluster's, and was not touched; to follow that: gnt-mesh cluster"),
    ],
)
def test_what_cannot_be_founded_on_is_refused(tmp_path: Path, options: tuple[str, ...], reason: str) -> None:
    with founded(tmp_path / "first") as first:
        ganeti = Ganeti(first.root)

        result = first.init(*options)

        assert result.returncode == 1 and reason in result.stderr, result.stderr
        assert ganeti.file.read_bytes() == FILE.read_bytes()
        assert not (first.root / "etc").exists() and not (first.root / OURS).exists()


def test_an_old_ganeti_is_refused_with_the_place(tmp_path: Path) -> None:
    with founded(tmp_path / "first") as first:
        Ganeti(first.root).write(text(a_ganeti() | {"version": 2160000}))

        result = first.init(*INIT)

        assert result.returncode == 1
        assert "older at line 1, column " in result.stderr and "(version): version 2160000" in result.stderr
