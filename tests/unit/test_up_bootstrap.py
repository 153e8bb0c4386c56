"""What lies where, whose directory it is, and a first start that may be killed anywhere."""

import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from master.core.cluster import ClusterConfig, from_text
from master.core.operations import add_node, remove_node
from master.settings import master_settings, operator_settings
from master.store import save_config
from master.up import bootstrap, broker, claim
from master.up.bootstrap import Wanted
from master.up.layout import FORMAT, Layout, Marker, read_marker, write_marker
from node_agent.settings import agent_settings
from protocol import durable, identity
from protocol.errors import Refused
from protocol.operator_messages import NodeAdd, NodeRemove

MARKER = Marker(cluster_name="mesh", port=23456, nodes=3, candidate_pool_size=1)
VERSION = (2, 15, 1)


def layout_in(directory: Path) -> Layout:
    return Layout(directory / "m")


def made(directory: Path, marker: Marker = MARKER) -> tuple[Layout, ClusterConfig]:
    layout = layout_in(directory)
    layout.directory.mkdir()
    return layout, bootstrap.complete(layout, marker, VERSION)


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@contextmanager
def listener() -> Iterator[int]:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        yield busy.getsockname()[1]


# ---- layout and marker


def test_the_marker_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_marker(Layout(tmp_path), MARKER)
    assert read_marker(Layout(tmp_path)) == MARKER
    assert read_marker(layout_in(tmp_path)) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"format = {FORMAT + 1}\nshape = 'unknown'\n", "newer gnt-mesh .*upgrade"),
        ("format = [", "damaged"),
        ("\udcff", "damaged"),
        ("cluster_name = 'mesh'\n", "port"),
        ("cluster_name = 'mesh'\nport = 70000\nnodes = 3\ncandidate_pool_size = 1\n", "65535"),
    ],
)
def test_a_marker_that_is_not_ours_to_read_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "gnt-mesh.toml").write_text(text, errors="surrogateescape")
    with pytest.raises(Refused, match=reason):
        read_marker(Layout(tmp_path))


def test_settings_are_relative_so_that_the_directory_can_be_moved(tmp_path: Path) -> None:
    layout, _ = made(tmp_path)
    moved = Layout(tmp_path / "elsewhere")
    layout.directory.rename(moved.directory)

    master = master_settings(moved.settings("node1", "master"))
    agent = agent_settings(moved.settings("node2", "agent"))
    operator = operator_settings(moved.operator_settings)

    assert master.root.resolve() == moved.node_root("node1")
    assert master.broker_nodes_file.resolve() == moved.broker_nodes
    assert master.state_dir.resolve() == moved.node_root("node1") / "var/lib/gnt-mesh/master"
    assert master.config_data == Path("/var/lib/ganeti/config.data")
    assert agent.root.resolve() == moved.node_root("node2")
    assert agent.state_dir.resolve() == moved.node_root("node2") / "var/lib/gnt-mesh/agent"
    assert master.server == agent.server == operator.server == "tls://127.0.0.1:23456"
    seeds = {master.seed_file, master.system_seed_file, agent.seed_file, operator.seed_file}
    assert len({identity.read_public_key(seed) for seed in seeds}) == 4


def test_only_two_files_name_the_directory(tmp_path: Path) -> None:
    layout, _ = made(tmp_path)
    naming = {name for name, content in tree(layout.directory).items() if os.fsencode(tmp_path) in content}
    assert naming == {"broker/nats-server.conf", "nats-context.json"}, "both are written anew at every start"


def test_secrets_are_for_their_owner_alone(tmp_path: Path) -> None:
    layout, _ = made(tmp_path)
    seeds = list(layout.directory.rglob("*.nk"))
    assert len(seeds) == 6 + 3
    assert {stat.S_IMODE(seed.stat().st_mode) for seed in seeds} == {0o600}
    private = [layout.directory / "keys", layout.broker_dir, layout.agent_seed("node1").parent]
    assert {stat.S_IMODE(directory.stat().st_mode) for directory in private} == {0o700}


# ---- whose directory is it


def test_a_directory_that_is_empty_or_missing_is_nobodys(tmp_path: Path) -> None:
    assert claim.look(layout_in(tmp_path)) is None
    assert claim.look(Layout(tmp_path)) is None
    (tmp_path / ".lock").touch()
    (tmp_path / durable.temporary_name()).touch()
    assert claim.look(Layout(tmp_path)) is None


def test_a_directory_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(Refused, match=r"not empty.*'thesis\.tex'.*choose"):
        claim.look(Layout(tmp_path))
    with pytest.raises(Refused, match="not a directory"):
        claim.look(Layout(tmp_path / "thesis.tex"))
    with pytest.raises(Refused, match="not a directory"):
        claim.look(Layout(tmp_path / "thesis.tex" / "m"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_only_one_may_hold_a_directory(tmp_path: Path) -> None:
    layout = layout_in(tmp_path)
    with (
        claim.claimed(layout),
        pytest.raises(Refused, match=rf"another gnt-mesh up \(pid {os.getpid()}\).*kill {os.getpid()}"),
        claim.claimed(layout),
    ):
        raise AssertionError
    with claim.claimed(layout):
        pass


# ---- first start


def test_a_new_mesh_is_what_was_asked_for(tmp_path: Path) -> None:
    marker = bootstrap.first_marker(Wanted(nodes=4, candidate_pool_size=2, cluster_name="c1"))
    _, config = made(tmp_path, marker)
    assert [node.name for node in config.sorted_nodes()] == ["node1", "node2", "node3", "node4"]
    assert [node.name for node in config.sorted_nodes() if node.master_candidate] == ["node1", "node2"]
    assert (config.cluster.cluster_name, config.cluster.candidate_pool_size) == ("c1", 2)
    assert all(node.public_key for node in config.nodes.values())
    assert broker.is_free(marker.port)


def test_defaults_are_three_nodes_and_a_pool_of_one() -> None:
    marker = bootstrap.first_marker(Wanted())
    assert (marker.nodes, marker.candidate_pool_size, marker.cluster_name) == (3, 1, "mesh")


@pytest.mark.parametrize(
    "wanted",
    [
        {"nodes": 0},
        {"nodes": 201},
        {"candidate_pool_size": 0},
        {"port": 0},
        {"port": 65536},
        {"cluster_name": ""},
        {"cluster_name": "a b"},
    ],
)
def test_an_impossible_wish_is_refused_by_its_option(wanted: dict[str, int]) -> None:
    option = "--" + next(iter(wanted)).replace("_", "-")
    with pytest.raises(Refused, match=option):
        Wanted(**wanted)  # type: ignore[arg-type]


def test_a_port_in_use_is_named() -> None:
    with listener() as port, pytest.raises(Refused, match=f"port {port} .* is in use; choose another --port"):
        bootstrap.first_marker(Wanted(port=port))


def test_completing_what_is_complete_changes_nothing(tmp_path: Path) -> None:
    layout, config = made(tmp_path)
    before = tree(layout.directory)
    assert bootstrap.complete(layout, MARKER, VERSION) == config
    assert tree(layout.directory) == before


def test_a_first_start_killed_at_any_write_is_completed_by_the_next(tmp_path: Path) -> None:
    """kill -9 just before each rename and each mkdir in turn."""
    made(tmp_path)
    whole = set(tree(layout_in(tmp_path).directory))
    for steps in range(200):
        layout = Layout(tmp_path / f"m{steps}")
        layout.directory.mkdir()
        if not is_killed(lambda layout=layout: bootstrap.complete(layout, MARKER, VERSION), steps):  # type: ignore[misc]
            assert steps > 15, "it was killed at as many places"
            return
        found = claim.look(layout)
        assert found in (None, MARKER), "still ours, or still nobody's"
        config = bootstrap.complete(layout, found or MARKER, VERSION)
        for node in config.nodes.values():
            assert bootstrap.make_node(layout, node.name, MARKER.url) == node.public_key
        assert set(tree(layout.directory)) == whole
    raise AssertionError("it never got through")


def is_killed(work: Callable[[], object], steps: int) -> bool:
    """Do the work in a child that is killed after this many renames and mkdirs; False if it got through."""
    child = os.fork()
    if child == 0:
        left = steps

        def count(event: str, _: object) -> None:
            nonlocal left
            if event in ("os.rename", "os.mkdir"):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_a_cluster_config_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    """A new one would begin at generation 1 again, and nodes would not follow."""
    layout, _ = made(tmp_path)
    layout.config_data("node1").unlink()
    with pytest.raises(Refused, match=r"config\.data is gone; copy it back"):
        bootstrap.complete(layout, MARKER, VERSION)


def test_a_damaged_cluster_config_is_named(tmp_path: Path) -> None:
    layout, _ = made(tmp_path)
    layout.config_data("node1").write_text("{")
    with pytest.raises(Refused, match=r"config\.data: config\.data is damaged.*copy it back"):
        bootstrap.read_config(layout, MARKER)


def test_every_node_believes_the_key_that_the_master_signs_with(tmp_path: Path) -> None:
    layout, config = made(tmp_path)
    signing_key = identity.read_public_key(layout.seed("signing"))
    for node in config.nodes.values():
        settings = agent_settings(layout.settings(node.name, "agent"))
        assert identity.read_public_keys(settings.master_keys_file) == {signing_key}
    master = master_settings(layout.settings("node1", "master"))
    assert identity.read_public_key(master.signing_seed_file) == signing_key
    assert signing_key not in layout.broker_config.read_text(), "it connects to nothing"


def test_a_mesh_made_before_messages_were_signed_is_completed(tmp_path: Path) -> None:
    layout, _ = made(tmp_path)
    for node, daemon in (("node2", "agent"), ("node1", "master")):
        path = layout.settings(node, daemon)
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if line.split()[0] not in bootstrap._NEW_KEYS))
    layout.master_keys("node2").unlink()

    bootstrap.complete(layout, MARKER, VERSION)
    bootstrap.make_node(layout, "node2", MARKER.url)

    assert identity.read_public_keys(agent_settings(layout.settings("node2", "agent")).master_keys_file)
    assert master_settings(layout.settings("node1", "master")).signing_seed_file.exists()


def test_settings_changed_by_hand_stay_but_for_the_address(tmp_path: Path) -> None:
    layout, _ = made(tmp_path)
    path = layout.settings("node2", "agent")
    path.write_text(path.read_text() + "rescan_interval_s = 5.0\n")
    moved = replace(MARKER, port=23457)
    bootstrap.complete(layout, moved, VERSION)
    bootstrap.make_node(layout, "node2", moved.url)
    settings = agent_settings(path)
    assert (settings.rescan_interval_s, settings.server) == (5.0, "tls://127.0.0.1:23457")


# ---- an existing mesh


def test_options_that_contradict_the_mesh_are_refused(tmp_path: Path) -> None:
    layout, config = made(tmp_path)
    for wanted, reason in (
        (Wanted(port=23457), "has --port 23456, not 23457; leave"),
        (Wanted(cluster_name="other"), "has --cluster-name mesh, not other"),
        (Wanted(candidate_pool_size=2), "has --candidate-pool-size 1, not 2"),
        (Wanted(nodes=2), "has 3 nodes, not 2;.*node remove NAME"),
    ):
        for known in (config, None):
            with pytest.raises(Refused, match=reason):
                bootstrap.check_fits(layout, MARKER, known, wanted)
    for wanted in (
        Wanted(),
        Wanted(nodes=3, port=23456, cluster_name="mesh", candidate_pool_size=1),
        Wanted(nodes=5),
    ):
        bootstrap.check_fits(layout, MARKER, config, wanted)


def test_more_nodes_get_the_first_names_that_are_free(tmp_path: Path) -> None:
    _, config = made(tmp_path)
    assert bootstrap.missing_nodes(MARKER, config, Wanted()) == ()
    assert bootstrap.missing_nodes(MARKER, config, Wanted(nodes=5)) == ("node4", "node5")
    config = add_node(config, NodeAdd(name="web"), uuid="w", now=0.0)
    config = remove_node(config, NodeRemove(name="node2"), now=0.0)
    assert bootstrap.missing_nodes(MARKER, config, Wanted(nodes=5)) == ("node2", "node4")


def test_the_cluster_on_the_disk_counts_and_not_what_it_was_made_with(tmp_path: Path) -> None:
    layout, config = made(tmp_path)
    save_config(layout.config_data("node1"), remove_node(config, NodeRemove(name="node3"), now=0.0))
    config = bootstrap.complete(layout, MARKER, VERSION)
    assert len(config.nodes) == 2
    assert config == from_text(layout.config_data("node1").read_bytes())
    assert bootstrap.node_key(layout, "node3") not in layout.broker_nodes.read_text()


# ---- which nats-server


def server(directory: Path, answer: str) -> Path:
    directory.mkdir()
    path = directory / "nats-server"
    path.write_text(f"#!/bin/sh\n{answer}\n")
    path.chmod(0o755)
    return directory


def test_the_server_beside_the_interpreter_comes_first(tmp_path: Path) -> None:
    beside = server(tmp_path / "a", "echo nats-server: v2.15.1")
    elsewhere = server(tmp_path / "b", "echo nats-server: v2.14.0")
    assert broker.find_server(beside, str(elsewhere)).version == (2, 15, 1)
    assert broker.find_server(tmp_path, str(elsewhere)).path == elsewhere / "nats-server"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("echo nats-server: v2.12.6", r"is version 2\.12\.6, at least 2\.12\.7"),
        ("echo nats-server: v2.9.30", r"is version 2\.9\.30"),
        ("echo hello", "no version"),
        ("exit 3", "does not work"),
    ],
)
def test_a_server_that_will_not_do_is_refused_with_the_cure(tmp_path: Path, answer: str, reason: str) -> None:
    with pytest.raises(Refused, match=rf"{reason}.*pip install 'gnt-mesh\[broker\]'"):
        broker.find_server(server(tmp_path / "a", answer), "")


def test_no_server_at_all_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"there is no nats-server.*pip install 'gnt-mesh\[broker\]'"):
        broker.find_server(tmp_path, str(tmp_path))
