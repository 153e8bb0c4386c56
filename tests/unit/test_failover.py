"""Failover: who can become the master, over every small cluster, and what that makes of the disk of its node."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from master import failover
from master.core.cluster import ClusterConfig, from_text, to_text
from master.core.failover import fail_over
from master.failover import Seat
from master.store import save_config
from protocol.errors import Refused
from protocol.names import VM_CAPABLE
from tests.support.values import CONFIG_DATA, a_config, a_file, a_node

NOW = 100.0


def a_cluster() -> ClusterConfig:
    """Return a cluster of a master, a candidate in its group (node2), and a node of another group (node3)."""
    return a_config(a_node("node2", "C"), a_node("node3", group="rack"), groups=("default", "rack"), pool_size=2)


def a_seat(tmp_path: Path, config: ClusterConfig) -> Seat:
    seat = Seat(root=tmp_path, config_data=CONFIG_DATA, state_dir=tmp_path / "var/lib/gnt-mesh/master")
    save_config(seat.config_file, config)
    return seat


def test_a_candidate_becomes_the_master_and_nobody_else_does() -> None:
    for roles in itertools.product("CRDON", repeat=3):
        config = a_config(*(a_node(f"node{number}", role) for number, role in enumerate(roles, 2)))
        for node in config.nodes.values():
            if node == config.master or not node.master_candidate:
                with pytest.raises(Refused, match=r"is the master already|is not a master candidate"):
                    fail_over(config, node.name, now=NOW)
                continue
            after = fail_over(config, node.name, now=NOW)
            assert after.master.name == node.name
            assert after.cluster.epoch == config.cluster.epoch + 1
            assert from_text(to_text(after)) == after
            for uuid, was in config.nodes.items():
                assert after.nodes[uuid].serial_no > was.serial_no
                assert replace(after.nodes[uuid], serial_no=was.serial_no, mtime=was.mtime) == was


def test_who_can_be_it_is_named() -> None:
    config = a_config(a_node("node2", "C"), a_node("node10", "C"), a_node("node3"))

    with pytest.raises(Refused, match=r"node node3 is not a master candidate.*those that are: node2, node10"):
        fail_over(config, "node3", now=NOW)
    with pytest.raises(Refused, match="there is none beside the master"):
        fail_over(a_config(a_node("node2")), "node2", now=NOW)


def test_config_data_is_the_decision_and_is_made_once(tmp_path: Path) -> None:
    seat = a_seat(tmp_path, a_cluster())

    first = failover.take_over(seat, "node2")
    again = failover.take_over(seat, "node2")

    assert first.cluster.epoch == 2 and first.master.name == "node2"
    assert again == first == from_text(seat.config_file.read_bytes())


def test_looking_changes_nothing(tmp_path: Path) -> None:
    seat = a_seat(tmp_path, a_cluster())
    text = seat.config_file.read_bytes()

    before, after = failover.look(seat, "node2")

    assert (before.master.name, after.master.name) == ("node1", "node2")
    assert seat.config_file.read_bytes() == text


def test_what_an_earlier_term_has_left_is_put_aside(tmp_path: Path) -> None:
    """An old history beside a newer config would say that files were withdrawn which never were."""
    seat = a_seat(tmp_path, a_cluster())
    (seat.state_dir / "history").mkdir(parents=True)

    failover.take_over(seat, "node2")

    assert not seat.state_dir.exists()
    assert (tmp_path / "var/lib/gnt-mesh/master.before-epoch-2/history").is_dir()


def test_a_damaged_config_is_refused_with_its_place_and_left_alone(tmp_path: Path) -> None:
    seat = a_seat(tmp_path, a_cluster())
    seat.config_file.write_text('{"cluster": {')

    with pytest.raises(Refused, match=r"config.data is damaged at line 1.*fail over to another candidate"):
        failover.take_over(seat, "node2")
    assert seat.config_file.read_text() == '{"cluster": {'
    seat.config_file.unlink()
    with pytest.raises(Refused, match="this node is not a master candidate, or has lost it"):
        failover.look(seat, "node2")


def test_sources_that_the_new_master_does_not_have_are_named(tmp_path: Path) -> None:
    """node2 is not in group rack, so its agent never wrote the files of that group."""
    files = [a_file("/etc/rack/one", "group-rack"), a_file("/etc/rack.d/*", "group-rack"), a_file("/etc/all")]
    config = a_cluster()
    config = replace(config, cluster=replace(config.cluster, ancillary_files=tuple(files)))
    seat = a_seat(tmp_path, config)

    with pytest.raises(Refused, match=r"node2 has no source of /etc/rack/one \(group-rack\), /etc/rack.d/\* \(group-r"):
        failover.check_sources(seat, config, "node2")

    for path in ("etc/rack/one", "etc/rack.d/two"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("copied\n")
    failover.check_sources(seat, config, "node2")


def test_a_candidate_that_runs_no_instances_lacks_what_hypervisors_need(tmp_path: Path) -> None:
    config = a_config(replace(a_node("node2", "C"), vm_capable=False), a_node("node3"))
    seat = a_seat(tmp_path, config)

    with pytest.raises(Refused, match=rf"kvm-vif-bridge \({VM_CAPABLE}\)"):
        failover.check_sources(seat, config, "node2")
    alone = a_config(replace(a_node("node2", "C"), vm_capable=False))
    only_the_master = replace(alone, nodes={u: replace(n, vm_capable=False) for u, n in alone.nodes.items()})
    failover.check_sources(seat, only_the_master, "node2")
