"""Two keys of one node are valid together, until it is seen with the new one; then the old one is void."""

from dataclasses import replace

import pytest

from master.core import access_operations, broker_config, key_operations
from master.core.cluster import ClusterConfig, from_text, new_cluster, to_text, with_nodes
from protocol.errors import Refused
from protocol.names import NodeName
from tests.support.memory_bus import public_key_of

NODE1, NODE2 = NodeName("node1"), NodeName("node2")
KEY1, KEY2, NEW1, NEW2 = (public_key_of(NodeName(name)) for name in ("k1", "k2", "n1", "n2"))


def a_cluster() -> ClusterConfig:
    return new_cluster("mesh", nodes=[(NODE1, KEY1), (NODE2, KEY2)], uuids=["c", "g", "a", "b"], now=1.0)


def allowed(config: ClusterConfig) -> set[str]:
    """Return the keys that the broker lets in."""
    nodes, _ = broker_config.lists(config)
    return {key for key in (KEY1, KEY2, NEW1, NEW2) if key.encode() in nodes}


def test_both_keys_are_valid_until_the_new_one_is_seen() -> None:
    before = a_cluster()
    both = key_operations.add_keys(before, {NODE2: NEW2}, now=2.0)
    assert allowed(both) == {KEY1, KEY2, NEW2}
    assert from_text(to_text(both)) == both

    after = key_operations.settle_keys(both, {NODE2: NEW2}, now=3.0)
    assert allowed(after) == {KEY1, NEW2}
    assert after.node(NODE2).key_time == 3.0 and after.node(NODE2).next_public_key == ""


def test_no_assignment_changes_with_a_key() -> None:
    """The nodes' serials stay, so no node has to look."""
    both = key_operations.add_keys(a_cluster(), {NODE1: NEW1, NODE2: NEW2}, now=2.0)
    after = key_operations.settle_keys(both, {NODE1: NEW1, NODE2: NEW2}, now=3.0)
    serials = {node.name: node.serial_no for node in a_cluster().nodes.values()}
    assert {node.name: node.serial_no for node in after.nodes.values()} == serials


def test_a_node_that_is_seen_with_its_old_key_keeps_both() -> None:
    both = key_operations.add_keys(a_cluster(), {NODE2: NEW2}, now=2.0)
    for told in ({NODE2: KEY2}, {NODE2: NEW1}, {}, {NodeName("gone"): NEW2}):
        assert key_operations.settle_keys(both, told, now=3.0) is both


def test_a_key_that_somebody_has_is_refused() -> None:
    with pytest.raises(Refused, match="node node2: the key that it has made is somebody's already"):
        key_operations.add_keys(a_cluster(), {NODE2: KEY1}, now=2.0)


def test_a_second_try_replaces_the_key_that_never_came() -> None:
    both = key_operations.add_keys(a_cluster(), {NODE2: NEW2}, now=2.0)
    again = key_operations.add_keys(both, {NODE2: NEW1}, now=3.0)
    assert allowed(again) == {KEY1, KEY2, NEW1}
    assert replace(again.node(NODE2), next_public_key="") == replace(both.node(NODE2), next_public_key="")


def test_join_tokens_that_nobody_has_used_are_void_when_the_keys_in_them_are() -> None:
    config = access_operations.grant_join(a_cluster(), NODE2, token_key=NEW1, expires=9.0, now=2.0)
    node = config.node(NODE2)
    used = with_nodes(config, {**config.nodes, node.uuid: replace(node, join=replace(node.join, used_by=KEY2))}, 2.0)

    assert key_operations.void_tokens(config, now=3.0).node(NODE2).join is None
    assert key_operations.void_tokens(used, now=3.0) is used
