"""Who is let in, and who is not: access and join tokens, each refusal with its reason."""

from dataclasses import replace

import pytest

from master.core import access_operations as operations
from master.core.cluster import ClusterConfig, from_text, new_cluster, to_text
from master.core.operations import add_node, modify_node
from protocol.access_messages import AccessAdd, AccessRemove, AccessRenew, JoinRequest
from protocol.errors import Refused
from protocol.names import NodeName
from protocol.operator_messages import NodeAdd, NodeModify
from tests.support.memory_bus import public_key_of

KEY1, KEY2, TOKEN, OTHER_TOKEN, ALICE = (public_key_of(NodeName(name)) for name in ("k1", "k2", "t1", "t2", "alice"))
NODE1, NODE2 = NodeName("node1"), NodeName("node2")


def a_cluster() -> ClusterConfig:
    """node1 is the master; node2 has no key yet."""
    config = new_cluster("mesh", nodes=[(NODE1, KEY1)], uuids=["c", "g", "n1"], now=1.0, candidate_pool_size=1)
    return add_node(config, NodeAdd(name=NODE2), uuid="n2", now=2.0)


def granted(config: ClusterConfig | None = None, *, expires: float = 100.0) -> ClusterConfig:
    return operations.grant_join(config or a_cluster(), NODE2, token_key=TOKEN, expires=expires, now=3.0)


def a_request(key: str = KEY2, token: str = TOKEN, node: NodeName = NODE2) -> JoinRequest:
    return JoinRequest(node=node, public_key=key, token_key=token, signature=b"\0" * 64)


def test_an_access_has_two_keys_until_the_new_one_is_taken_up() -> None:
    before = operations.add_access(a_cluster(), AccessAdd(name="alice", role="operator", public_key=ALICE), now=2.0)
    renew = AccessRenew(name="alice", public_key=KEY2)

    both = operations.renew_access(before, renew, now=3.0)
    after = operations.renew_access(both, replace(renew, is_taken_up=True), now=4.0)

    def keys(config: ClusterConfig) -> list[tuple[str, ...]]:
        return [one.keys for one in config.cluster.access if one.name == "alice"]

    assert (keys(both), keys(after)) == ([(ALICE, KEY2)], [(KEY2,)])
    assert keys(operations.renew_access(both, renew, now=3.5)) == keys(both), "asked again nothing is new"
    assert from_text(to_text(both)) == both
    for wrong in (replace(renew, name="bob"), AccessRenew(name="alice", public_key=KEY1)):
        with pytest.raises(Refused):
            operations.renew_access(before, wrong, now=3.0)
    with pytest.raises(Refused, match="has another key"):
        operations.renew_access(before, replace(renew, is_taken_up=True), now=3.0)


def test_a_node_joins_with_its_token_and_the_config_remembers_that() -> None:
    config = operations.join(granted(), a_request(), now=4.0)
    node = config.node(NODE2)
    assert node.public_key == KEY2 and node.join and node.join.used_by == KEY2
    assert node.serial_no > granted().node(NODE2).serial_no
    assert from_text(to_text(config)) == config


def test_asked_again_with_the_same_key_nothing_changes() -> None:
    """The answer may have been lost."""
    config = operations.join(granted(), a_request(), now=4.0)
    assert operations.join(config, a_request(), now=5.0) is config


def test_a_used_token_is_refused() -> None:
    config = operations.join(granted(), a_request(), now=4.0)
    with pytest.raises(Refused, match="was used already"):
        operations.join(config, a_request(key=ALICE), now=5.0)


def test_a_token_whose_node_has_got_another_key_since_is_refused() -> None:
    config = operations.join(granted(), a_request(), now=4.0)
    config = modify_node(config, NodeModify(name=NODE2, public_key=ALICE), now=5.0)
    with pytest.raises(Refused, match="not valid"):
        operations.join(config, a_request(), now=6.0)


def test_an_expired_token_is_refused_and_a_second_before_it_is_not() -> None:
    with pytest.raises(Refused, match=r"expired 20 s ago.*gnt-mesh node add --readd node2"):
        operations.join(granted(expires=100.0), a_request(), now=120.0)
    assert operations.join(granted(expires=100.0), a_request(), now=99.0).node(NODE2).public_key == KEY2


@pytest.mark.parametrize(
    "request_", [a_request(token=OTHER_TOKEN), a_request(node=NODE1), a_request(node=NodeName("node9"))]
)
def test_a_token_is_for_one_node_and_the_newest_counts(request_: JoinRequest) -> None:
    with pytest.raises(Refused, match="not valid: the node was removed, or a newer token was made"):
        operations.join(granted(), request_, now=4.0)


def test_a_key_that_somebody_has_is_refused() -> None:
    with pytest.raises(Refused, match="already the one of node1"):
        operations.join(granted(), a_request(key=KEY1), now=4.0)


def test_a_new_token_voids_the_former_key_at_once() -> None:
    config = operations.join(granted(), a_request(), now=4.0)
    again = operations.grant_join(config, NODE2, token_key=OTHER_TOKEN, expires=200.0, now=5.0)
    assert again.node(NODE2).public_key == ""
    with pytest.raises(Refused, match="not valid"):
        operations.join(again, a_request(), now=6.0)
    assert operations.join(again, a_request(key=ALICE, token=OTHER_TOKEN), now=6.0).node(NODE2).public_key == ALICE


def test_the_masters_own_node_gets_no_token() -> None:
    with pytest.raises(Refused, match="is the master"):
        operations.grant_join(a_cluster(), NODE1, token_key=TOKEN, expires=9.0, now=3.0)


def with_alice(role: str = "observer") -> ClusterConfig:
    first = operations.add_access(a_cluster(), AccessAdd(name="root", role="operator", public_key=TOKEN), now=3.0)
    return operations.add_access(first, AccessAdd(name="alice", role=role, public_key=ALICE), now=4.0)


def test_access_is_added_and_removed() -> None:
    config = with_alice()
    assert [(one.name, one.role) for one in config.cluster.access] == [("alice", "observer"), ("root", "operator")]
    assert from_text(to_text(config)) == config
    left = operations.remove_access(config, AccessRemove(name="alice"), now=5.0)
    assert [one.name for one in left.cluster.access] == ["root"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (AccessAdd(name="alice", role="operator", public_key=KEY2), "exists already"),
        (AccessAdd(name="bob", role="king", public_key=KEY2), "one of operator, observer"),
        (AccessAdd(name="bob", role="operator", public_key=KEY1), "already the one of node1"),
        (AccessAdd(name="bob", role="operator", public_key=ALICE), "already the one of alice"),
        (AccessAdd(name="bob", role="operator", public_key="U"), "public key"),
        (AccessAdd(name="*", role="operator", public_key=KEY2), "access name"),
        (AccessAdd(name="a.b", role="operator", public_key=KEY2), "access name"),
        (AccessAdd(name="join", role="operator", public_key=KEY2), "none of join, master, system"),
        (AccessAdd(name="", role="operator", public_key=KEY2), "access name"),
    ],
)
def test_access_that_cannot_be_is_refused(request_: AccessAdd, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        operations.add_access(with_alice(), request_, now=5.0)


def test_the_last_operator_stays() -> None:
    with pytest.raises(Refused, match="last operator"):
        operations.remove_access(with_alice(), AccessRemove(name="root"), now=5.0)
    with pytest.raises(Refused, match="does not exist; there are alice, root"):
        operations.remove_access(with_alice(), AccessRemove(name="bob"), now=5.0)


def test_a_config_from_before_is_read() -> None:
    """Access and tokens came later than the first clusters."""
    config = a_cluster()
    text = to_text(config)
    assert '"access": []' in text
    assert from_text(text.replace('"access": [],', "").replace('"join": null,', "")) == config
    assert replace(config.cluster, access=()) == config.cluster
