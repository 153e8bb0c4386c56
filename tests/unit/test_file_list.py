"""master/core/file_list.py: what hooks have answered, as part of the cluster config."""

from dataclasses import replace

import pytest

from master.core.cluster import ClusterConfig, from_text, to_text
from master.core.file_list import forget_hook, hook_answered, sees_a_difference
from protocol.errors import Refused
from protocol.names import ScopeName
from tests.support.values import OTHER, PATH, a_config, a_file, a_node

NOW = 5.0


def answered(config: ClusterConfig, *paths: str, name: str = "site") -> ClusterConfig:
    return hook_answered(config, name, [a_file(path) for path in paths], now=NOW)


def test_an_answer_takes_the_place_of_the_last_one_of_the_same_hook() -> None:
    config = answered(answered(a_config(), OTHER, name="other"), PATH)

    after = answered(config, "/etc/new")

    assert after.cluster.hook_files == {"other": (a_file(OTHER),), "site": (a_file("/etc/new"),)}
    assert (after.serial_no, after.cluster.serial_no) == (config.serial_no + 1, config.cluster.serial_no + 1)


def test_it_outlives_a_restart() -> None:
    config = answered(a_config(), PATH)

    assert from_text(to_text(config)) == config


def test_a_first_answer_may_be_empty_and_leaves_no_trace() -> None:
    assert answered(a_config()).cluster.hook_files == {}


def test_an_empty_answer_after_files_is_refused_until_the_hook_is_forgotten() -> None:
    """A hook that cannot reach its database and says so by silence would empty the fleet."""
    config = answered(a_config(), PATH, OTHER)

    with pytest.raises(Refused, match="answered with no file at all, after 2 before"):
        answered(config)

    assert answered(forget_hook(config, "site", now=NOW)).cluster.hook_files == {}


def test_a_hook_that_named_nothing_cannot_be_forgotten() -> None:
    with pytest.raises(Refused, match="no file hook site has named any files"):
        forget_hook(a_config(), "site", now=NOW)


def test_hooks_are_asked_again_when_the_cluster_they_see_is_another_one() -> None:
    config = a_config(a_node())
    other_node = replace(config, nodes=a_config(a_node(role="O")).nodes)
    other_hypervisors = replace(config, cluster=replace(config.cluster, enabled_hypervisors=("lxc",)))
    listed = replace(config, cluster=replace(config.cluster, ancillary_files=(a_file(),)))

    for after in (other_node, other_hypervisors, listed, a_config(a_node(), groups=("default", "rack"))):
        assert sees_a_difference(config, after)


def test_they_are_not_asked_again_because_of_their_own_answer() -> None:
    """One whose answer is another one each time would keep the master busy for ever."""
    config = a_config()

    assert not sees_a_difference(config, answered(config, PATH))
    assert not sees_a_difference(config, replace(config, serial_no=9, mtime=9.0))


def test_an_answer_for_a_group_that_is_gone_cannot_be() -> None:
    config = a_config(groups=("default", "rack"))
    rack = hook_answered(config, "site", [a_file(scope=ScopeName("group-rack"))], now=NOW)

    with pytest.raises(Refused, match="scope group-rack does not exist"):
        from_text(to_text(rack).replace('"name": "rack"', '"name": "shelf"'))
