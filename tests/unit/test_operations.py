"""master/core/operations.py: every request gives a valid config or a refusal, by Ganeti's rules and not its known bugs.

The rules are stated here a second time, from ganeti-behaviour a.6, and held against the code over every combination.
"""

import itertools
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest

from master.core import operations
from master.core.cluster import ClusterConfig, Node, WithdrawnFile, from_text, to_text
from protocol.errors import Refused
from protocol.names import ALL, VM_CAPABLE, ManagedPath, ScopeName, group_scope
from protocol.operator_messages import (
    FileAdd,
    FileModify,
    FileRemove,
    GroupAdd,
    GroupRemove,
    NodeAdd,
    NodeModify,
    NodeRemove,
)
from tests.support.values import CONFIG_DATA, OTHER, PATH, SURROUNDINGS, a_config, a_file, a_node, a_public_key

ANSWERS = (None, False, True)
ROLE_FLAGS = ("master_candidate", "offline", "drained")
FLAGS = (*ROLE_FLAGS, "master_capable", "vm_capable")
NOW = 100.0

NEIGHBOURHOODS: dict[str, tuple[tuple[Node, ...], int]] = {
    "alone": ((), 10),
    "a full pool of one": ((a_node("node3"),), 1),
    "a spare candidate": ((a_node("node3", "C"),), 1),
    "room and somebody to promote": ((a_node("node3"), a_node("node4", "N")), 2),
}


def every_node() -> Iterator[Node]:
    for values in itertools.product((False, True), repeat=len(FLAGS)):
        flags = dict(zip(FLAGS, values, strict=True))
        if sum(flags[flag] for flag in ROLE_FLAGS) <= 1 and not (
            flags["master_candidate"] and not flags["master_capable"]
        ):
            yield replace(a_node("node2"), **flags)


def every_request() -> Iterator[NodeModify]:
    for values in itertools.product(ANSWERS, repeat=len(FLAGS)):
        for auto_promote in (False, True):
            yield NodeModify(name="node2", auto_promote=auto_promote, **dict(zip(FLAGS, values, strict=True)))


def given(request: NodeModify) -> dict[str, bool]:
    return {flag: value for flag in FLAGS if (value := getattr(request, flag)) is not None}


def is_valid(config: ClusterConfig) -> bool:
    """Everything that is always true of a config is checked when one is made, and this makes it anew."""
    return from_text(to_text(config)) == config


def is_able(node: Node) -> bool:
    return node.master_capable and not node.offline and not node.drained


def expected_flags(node: Node, request: NodeModify) -> dict[str, bool]:
    """Return the flags that the request itself asks for, before anybody is promoted for the pool's sake."""
    flags = {flag: getattr(node, flag) for flag in FLAGS}
    asked = given(request)
    if any(asked.get(flag) for flag in ROLE_FLAGS):
        flags |= dict.fromkeys(ROLE_FLAGS, False)
    flags |= asked
    if not flags["master_capable"]:
        flags["master_candidate"] = False
    return flags


def is_wrong(node: Node, request: NodeModify) -> bool:
    asked = given(request)
    return (
        not asked
        or sum(asked.values()) > 1
        or (request.master_candidate is True and (request.master_capable is False or not node.master_capable))
    )


@pytest.mark.parametrize("neighbourhood", NEIGHBOURHOODS)
def test_every_request_on_every_node_gives_ganetis_answer(neighbourhood: str) -> None:
    """14 nodes times 486 requests in four neighbourhoods."""
    members, pool_size = NEIGHBOURHOODS[neighbourhood]
    for node in every_node():
        config = a_config(node, *members, pool_size=pool_size)
        text = to_text(config)
        for request in every_request():
            _check_answer(config, node, request)
        assert to_text(config) == text


def _check_answer(config: ClusterConfig, node: Node, request: NodeModify) -> None:
    if is_wrong(node, request):
        with pytest.raises(Refused):
            operations.modify_node(config, request, now=NOW)
        return
    flags = expected_flags(node, request)
    wanted = replace(node, **flags)
    others = [other for other in config.nodes.values() if other.name != node.name]
    able = sum(is_able(other) for other in others)
    candidates = sum(other.master_candidate for other in others)
    size = config.cluster.candidate_pool_size
    is_demotion = node.master_candidate and not wanted.master_candidate
    if is_demotion and candidates < min(able, size) and not request.auto_promote:
        with pytest.raises(Refused, match="give --auto-promote"):
            operations.modify_node(config, request, now=NOW)
        return
    after = operations.modify_node(config, request, now=NOW)
    if wanted == node:
        assert after is config
        return
    result = after.node("node2")
    becomes_able = is_able(wanted) and not is_able(node)
    if becomes_able and candidates < min(able + 1, size) and request.master_candidate is None:
        flags["master_candidate"] = True
    assert {flag: getattr(result, flag) for flag in FLAGS} == flags, (node, request)
    assert config.serial_no < result.serial_no <= after.serial_no
    assert is_valid(after)
    _check_others(config, after, request, is_demotion)


def _check_others(config: ClusterConfig, after: ClusterConfig, request: NodeModify, is_demotion: bool) -> None:
    changed = [other for other in after.nodes.values() if other.name != "node2" and other != config.nodes[other.uuid]]
    assert all(other.master_candidate and other.serial_no > config.serial_no for other in changed)
    assert not changed or (is_demotion and request.auto_promote)
    if is_demotion:
        others = [other for other in after.nodes.values() if other.name != "node2"]
        able = sum(is_able(other) for other in others)
        candidates = sum(other.master_candidate for other in others)
        assert candidates >= min(able, after.cluster.candidate_pool_size)


def test_the_masters_role_cannot_be_changed() -> None:
    """Every request that touches a role or master_capable is refused, also one that says what is the case."""
    config = a_config(a_node("node2", "C"))
    for request in every_request():
        request = replace(request, name="node1")
        try:
            after = operations.modify_node(config, request, now=NOW)
        except Refused:
            continue
        assert set(given(request)) == {"vm_capable"}
        assert after.master.master_candidate


@pytest.mark.parametrize("flag", ["offline", "drained"])
def test_coming_back_never_promotes_a_node_that_is_not_capable(flag: str) -> None:
    """Ganeti issue 1682."""
    node = replace(a_node("node2", "N"), **{flag: True})

    after = operations.modify_node(a_config(node), NodeModify(name="node2", **{flag: False}), now=NOW)

    assert not after.node("node2").master_candidate


def test_undrained_and_offline_in_one_request_is_offline() -> None:
    """Ganeti can fail an assertion here when the pool has room."""
    request = NodeModify(name="node2", drained=False, offline=True)

    after = operations.modify_node(a_config(a_node("node2", "D")), request, now=NOW)

    assert after.node("node2").offline
    assert not after.node("node2").master_candidate


def test_a_demoted_node_is_not_promoted_again_to_fill_the_pool() -> None:
    request = NodeModify(name="node2", master_candidate=False, auto_promote=True)

    after = operations.modify_node(a_config(a_node("node2", "C"), pool_size=2), request, now=NOW)

    assert not after.node("node2").master_candidate


def test_who_says_no_to_the_candidate_flag_does_not_get_it() -> None:
    request = NodeModify(name="node2", offline=False, master_candidate=False)

    after = operations.modify_node(a_config(a_node("node2", "O")), request, now=NOW)

    assert not after.node("node2").master_candidate


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (NodeModify(name="node2"), "nothing to change was given"),
        (NodeModify(name="node9", offline=True), "node 'node9' is not in the cluster; its nodes are node1, node2"),
        (NodeModify(name="node2", offline=True, drained=True), "set one flag at a time, not offline and drained"),
        (
            NodeModify(name="node1", offline=True),
            "node1 is the master: its offline cannot be changed; to make another",
        ),
        (NodeModify(name="node2", group="rack"), "node group 'rack' is not in the cluster"),
        (NodeModify(name="node3", master_candidate=True), "gnt-mesh node modify node3 --master-capable yes"),
        (NodeModify(name="node2", public_key="UAAA"), "public key 'UAAA': 56 letters and digits"),
        (NodeModify(name="node2", public_key=a_public_key("node1")), "already the one of node node1"),
    ],
)
def test_a_refusal_names_the_node_and_the_reason(request_: NodeModify, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        operations.modify_node(a_config(a_node(), a_node("node3", "N")), request_, now=NOW)


def test_a_key_is_replaced_or_taken_away() -> None:
    config = a_config(a_node())
    after = operations.modify_node(config, NodeModify(name="node2", public_key=a_public_key("new")), now=NOW)

    assert after.node("node2").public_key == a_public_key("new")
    without = operations.modify_node(after, NodeModify(name="node2", public_key=""), now=NOW)
    assert without.node("node2").public_key == ""


def test_a_node_changes_its_group() -> None:
    config = a_config(a_node(), groups=("default", "rack"))

    after = operations.modify_node(config, NodeModify(name="node2", group="rack"), now=NOW)

    assert group_scope(config.group("rack").name) in after.scopes_of(after.node("node2"))


@pytest.mark.parametrize("master_capable", [False, True])
@pytest.mark.parametrize("pool_size", [1, 2])
def test_an_added_node_is_a_candidate_if_it_can_be_and_the_pool_has_room(master_capable: bool, pool_size: int) -> None:
    request = NodeAdd(name="node2", master_capable=master_capable, public_key=a_public_key("node2"))

    after = operations.add_node(a_config(pool_size=pool_size), request, uuid="u", now=NOW)

    assert after.node("node2").master_candidate == (master_capable and pool_size == 2)
    assert after.node("node2").ctime == NOW
    assert is_valid(after)


def test_adding_fills_a_place_and_not_more() -> None:
    """now < min(should + 1, pool_size), counted without the node, in every small pool."""
    for roles in itertools.product("CRDON", repeat=2):
        members = [a_node(f"node{number}", role) for number, role in enumerate(roles, 2)]
        for pool_size in (1, 2, 3, 4):
            config = a_config(*members, pool_size=pool_size)
            able = sum(is_able(node) for node in config.nodes.values())
            now = sum(node.master_candidate for node in config.nodes.values())

            after = operations.add_node(config, NodeAdd(name="new"), uuid="u", now=NOW)

            assert after.node("new").master_candidate == (now < min(min(able, pool_size) + 1, pool_size))


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (NodeAdd(name="node2"), "node node2 is in the cluster already"),
        (NodeAdd(name="no_de"), "node name 'no_de'"),
        (NodeAdd(name=""), "node name ''"),
        (NodeAdd(name="node3", group="rack"), "node group 'rack'"),
        (NodeAdd(name="node3", public_key=a_public_key("node2")), "already the one of node node2"),
        (NodeAdd(name="node3", public_key=a_public_key("node3")[:-1] + "2"), "checksum is wrong"),
    ],
)
def test_a_node_that_cannot_be_added_is_refused(request_: NodeAdd, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        operations.add_node(a_config(a_node()), request_, uuid="u", now=NOW)


def test_a_node_is_added_to_the_oldest_group_unless_another_is_named() -> None:
    config = a_config(groups=("default", "rack"))
    groups = dict(config.nodegroups)
    groups["uuid-group-default"] = replace(groups["uuid-group-default"], ctime=5.0)
    config = replace(config, nodegroups=groups)

    after = operations.add_node(config, NodeAdd(name="node2"), uuid="u", now=NOW)

    assert after.node("node2").group == "uuid-group-rack"
    after = operations.add_node(config, NodeAdd(name="node2", group="default"), uuid="u", now=NOW)
    assert after.node("node2").group == "uuid-group-default"


def test_a_node_that_is_removed_and_added_again_gets_a_higher_serial() -> None:
    """Its agent remembers the last assignment and takes none that is older: it would stay out for ever."""
    config = a_config(a_node("node2", serial_no=1))
    for flag in (True, False) * 3:
        config = operations.modify_node(config, NodeModify(name="node2", vm_capable=not flag), now=NOW)
    last = config.node("node2").serial_no

    removed = operations.remove_node(config, NodeRemove(name="node2"), now=NOW)
    again = operations.add_node(removed, NodeAdd(name="node2"), uuid="u2", now=NOW)

    assert again.node("node2").serial_no > last


def test_removing_a_candidate_refills_the_pool() -> None:
    for roles in itertools.product("CRDON", repeat=2):
        members = [a_node(f"node{number}", role) for number, role in enumerate(roles, 3)]
        config = a_config(a_node("node2", "C"), *members, pool_size=2)

        after = operations.remove_node(config, NodeRemove(name="node2"), now=NOW)

        able = sum(is_able(node) for node in after.nodes.values())
        assert sum(node.master_candidate for node in after.nodes.values()) >= min(able, 2)
        assert is_valid(after)
        assert all(node.serial_no <= after.serial_no for node in after.nodes.values())


def test_removing_others_promotes_nobody() -> None:
    """An operator may have left the pool short on purpose (-C no by name)."""
    config = a_config(a_node("node2"), a_node("node3"), pool_size=3)

    after = operations.remove_node(config, NodeRemove(name="node2"), now=NOW)

    assert not after.node("node3").master_candidate


def test_the_master_cannot_be_removed() -> None:
    with pytest.raises(Refused, match="node1 is the master"):
        operations.remove_node(a_config(a_node()), NodeRemove(name="node1"), now=NOW)


def test_groups_come_and_go() -> None:
    config = operations.add_group(a_config(), GroupAdd(name="rack"), uuid="g", now=NOW)

    assert "group-rack" in config.scopes()
    after = operations.remove_group(config, GroupRemove(name="rack"), now=NOW)
    assert "group-rack" not in after.scopes()
    assert after.serial_no > config.serial_no > 1
    assert is_valid(after)


def test_groups_that_cannot_be_added_are_refused() -> None:
    with pytest.raises(Refused, match="default exists already"):
        operations.add_group(a_config(), GroupAdd(name="default"), uuid="g", now=NOW)
    with pytest.raises(Refused, match=r"group name 'a\.b'"):
        operations.add_group(a_config(), GroupAdd(name="a.b"), uuid="g", now=NOW)


def test_a_group_in_use_is_not_removed() -> None:
    config = a_config(groups=("default", "rack"), files=[a_file(scope=ScopeName("group-rack"))])

    with pytest.raises(Refused, match=f"rack still has files: {PATH}"):
        operations.remove_group(config, GroupRemove(name="rack"), now=NOW)
    with pytest.raises(Refused, match="default still has nodes: node1"):
        operations.remove_group(config, GroupRemove(name="default"), now=NOW)
    with pytest.raises(Refused, match="node group 'nowhere'"):
        operations.remove_group(config, GroupRemove(name="nowhere"), now=NOW)


def add_file(config: ClusterConfig, path: str = PATH, scope: str = ALL, *, optional: bool = False) -> ClusterConfig:
    return operations.add_file(
        config, FileAdd(path=path, scope=scope, optional=optional), surroundings=SURROUNDINGS, now=NOW
    )


def test_a_file_is_added_in_path_order() -> None:
    config = add_file(add_file(a_config(), OTHER, VM_CAPABLE), PATH, optional=True)

    assert config.cluster.ancillary_files == (a_file(optional=True), a_file(OTHER, VM_CAPABLE))
    assert config.cluster.serial_no == 3
    assert is_valid(config)


@pytest.mark.parametrize(
    ("path", "scope", "reason"),
    [
        (CONFIG_DATA, ALL, "shipped to master-candidates already, by itself"),
        (PATH, VM_CAPABLE, f"on the list already, for scope all; change it with: gnt-mesh file modify {PATH}"),
        ("relative", ALL, "not absolute"),
        ("/etc/../shadow", ALL, "not normalised"),
        ("/etc/a\0b", ALL, "control character"),
        ("/" + "a/" * 600 + "b", ALL, "limit 1024"),
        (OTHER, "group-nowhere", "scope group-nowhere does not exist; there are all, master-candidates, vm-capable"),
        (OTHER, "everybody", "scope 'everybody'"),
        (OTHER, "", "scope ''"),
    ],
)
def test_a_file_that_cannot_be_added_is_refused(path: str, scope: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        add_file(a_config(files=[a_file()]), path, scope)


def test_a_file_changes_what_is_given_and_nothing_else() -> None:
    config = a_config(files=[a_file(), a_file(OTHER)])
    for scope, optional, allow_empty in itertools.product((None, VM_CAPABLE), ANSWERS, ANSWERS):
        request = FileModify(path=PATH, scope=scope, optional=optional, allow_empty=allow_empty)

        after = operations.modify_file(config, request, now=NOW)

        expected = a_file(scope=scope or ALL, optional=bool(optional), allow_empty=bool(allow_empty))
        assert after.cluster.ancillary_files == (expected, a_file(OTHER))
        assert (after is config) == (expected == a_file())


def test_a_file_that_is_not_listed_cannot_be_modified_or_removed() -> None:
    for path in (OTHER, CONFIG_DATA):
        with pytest.raises(Refused, match="not on the list"):
            operations.modify_file(a_config(files=[a_file()]), FileModify(path=path, optional=True), now=NOW)
        with pytest.raises(Refused, match="not on the list"):
            operations.remove_file(a_config(files=[a_file()]), FileRemove(path=path), now=NOW)
    with pytest.raises(Refused, match="does not exist"):
        operations.modify_file(a_config(files=[a_file()]), FileModify(path=PATH, scope="group-no"), now=NOW)


@pytest.mark.parametrize("purge", [False, True])
def test_a_removed_file_is_remembered_until_it_is_added_again(purge: bool) -> None:
    config = a_config(files=[a_file(), a_file(OTHER)])

    removed = operations.remove_file(config, FileRemove(path=PATH, purge=purge), now=NOW)

    assert removed.cluster.ancillary_files == (a_file(OTHER),)
    assert removed.cluster.withdrawn_files == (WithdrawnFile(path=PATH, scope=ALL, purge=purge),)
    assert add_file(removed).cluster.withdrawn_files == ()


def test_what_is_withdrawn_together_is_remembered_together() -> None:
    """A pattern may select more than are remembered otherwise; what was forgotten would not be purged."""
    pattern = ManagedPath("/etc/many/*")
    paths = [ManagedPath(f"/etc/many/{number:05}") for number in range(operations.WITHDRAWN_MAX + 5)]
    config = a_config(files=[a_file(pattern)], withdrawn=[WithdrawnFile(path=ManagedPath("/etc/old"), scope=ALL)])

    after = operations.remove_file(
        config, FileRemove(path=pattern, purge=True), selected={pattern: paths}, generation=7, now=1.0
    )

    assert set(paths) <= {file.path for file in after.cluster.withdrawn_files if file.purge}


def test_only_the_newest_withdrawals_are_remembered() -> None:
    paths = [ManagedPath(f"/etc/{number:05}") for number in range(operations.WITHDRAWN_MAX + 1)]
    old = [WithdrawnFile(path=path, scope=ALL) for path in paths[:-1]]
    config = a_config(files=[a_file(paths[-1])], withdrawn=old)

    after = operations.remove_file(config, FileRemove(path=paths[-1]), now=NOW)

    assert [file.path for file in after.cluster.withdrawn_files] == paths[1:]


def test_every_flag_of_a_node_is_covered() -> None:
    """A new flag must be thought of in the enumeration above."""
    flags = {field.name for field in fields(Node) if field.type is bool or field.type == "bool"}

    assert flags == set(FLAGS)
