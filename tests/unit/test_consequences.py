"""master/core/consequences.py: who is promoted and why, what a node gives back, which secrets are to be renewed."""

import itertools
from dataclasses import replace

import pytest

from master.core import operations
from master.core.cluster import ClusterConfig
from master.core.consequences import (
    LISTED_MAX,
    own_role,
    pool_state,
    promotions,
    to_rotate,
    withdrawal_lines,
    withdrawn,
)
from protocol.errors import Refused
from protocol.messages import Manifest
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, ManagedPath, NodeName, ScopeName
from protocol.operator_messages import NodeAdd, NodeModify, NodeRemove
from tests.support.values import CONFIG_DATA, a_config, a_manifest, a_node, an_entry

RACK = ScopeName("group-rack")
MANIFESTS: dict[ScopeName, Manifest] = {
    ALL: a_manifest(an_entry("/etc/motd"), an_entry("/var/lib/ganeti/hmac.key", mode=0o440)),
    MASTER_CANDIDATES: a_manifest(
        an_entry(CONFIG_DATA, mode=0o640),
        an_entry("/var/lib/ganeti/rapi.pem", mode=0o440),
        scope=MASTER_CANDIDATES,
    ),
    VM_CAPABLE: a_manifest(
        an_entry("/etc/ganeti/vnc-cluster-password", mode=0o600), an_entry("/etc/xen/xl.conf"), scope=VM_CAPABLE
    ),
    RACK: a_manifest(an_entry("/etc/rack"), scope=RACK),
}


def modified(config: ClusterConfig, **flags: object) -> ClusterConfig:
    request = replace(NodeModify(name="node2"), **flags)  # type: ignore[arg-type]
    return operations.modify_node(config, request, now=1.0)


def taken(before: ClusterConfig, after: ClusterConfig) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for item in withdrawn(before, after, MANIFESTS):
        found.setdefault(item.node, set()).add(item.path)
    return found


def rotated(before: ClusterConfig, after: ClusterConfig) -> tuple[str, ...]:
    return to_rotate(withdrawn(before, after, MANIFESTS), config_data=CONFIG_DATA)


SMALL = a_config(a_node("node2", "C"), a_node("node3"), groups=("default", "rack"), pool_size=1)


def test_a_demotion_takes_the_candidates_files_and_asks_for_new_secrets() -> None:
    after = modified(SMALL, master_candidate=False)

    assert taken(SMALL, after) == {"node2": {CONFIG_DATA, "/var/lib/ganeti/rapi.pem"}}
    assert rotated(SMALL, after) == ("/var/lib/ganeti/rapi.pem",)


def test_the_loss_of_vm_capability_takes_the_hypervisors_files() -> None:
    after = modified(SMALL, vm_capable=False)

    assert taken(SMALL, after) == {"node2": {"/etc/ganeti/vnc-cluster-password", "/etc/xen/xl.conf"}}
    assert rotated(SMALL, after) == ("/etc/ganeti/vnc-cluster-password",)


def test_a_move_to_another_group_takes_the_first_ones_files() -> None:
    config = a_config(a_node("node2", group="rack"), groups=("default", "rack"))

    assert taken(config, modified(config, group="default")) == {"node2": {"/etc/rack"}}
    assert rotated(config, modified(config, group="default")) == ()


def test_a_removal_takes_everything() -> None:
    after = operations.remove_node(SMALL, NodeRemove(name="node2"), now=1.0)

    everything = {e.path for scope in (ALL, MASTER_CANDIDATES, VM_CAPABLE) for e in MANIFESTS[scope].files}
    assert taken(SMALL, after) == {"node2": everything}
    assert rotated(SMALL, after) == (
        "/etc/ganeti/vnc-cluster-password",
        "/var/lib/ganeti/hmac.key",
        "/var/lib/ganeti/rapi.pem",
    )


@pytest.mark.parametrize("flags", [{"master_candidate": True}, {"offline": True}, {"drained": True}])
def test_what_takes_no_scope_takes_no_file(flags: dict[str, bool]) -> None:
    """An offline node keeps what it has; a drained node goes on getting everything."""
    config = a_config(a_node("node2"), a_node("node3", "C"), pool_size=2)

    assert taken(config, modified(config, **flags)) == {}


def held_by_node2(config: ClusterConfig) -> set[str]:
    scopes = config.scopes_of(config.node("node2"))
    return {entry.path for scope in scopes if scope in MANIFESTS for entry in MANIFESTS[scope].files}


def test_what_a_node_gives_back_is_what_it_has_no_scope_for_any_more() -> None:
    """Over every pair of roles that a request leads to, and the ten lines of the rule itself."""
    flags = ("master_candidate", "offline", "drained", "vm_capable", "master_capable")
    for role, flag, value, group in itertools.product("CRDON", flags, (True, False), ("default", "rack")):
        config = a_config(a_node("node2", role), a_node("node3", "C"), groups=("default", "rack"), pool_size=1)
        try:
            after = modified(config, **{flag: value}, group=group, auto_promote=True)
        except Refused:
            continue
        assert taken(config, after).get("node2", set()) == held_by_node2(config) - held_by_node2(after)


def test_a_file_that_another_scope_of_the_node_has_stays() -> None:
    """It is moving between the two."""
    manifests = MANIFESTS | {VM_CAPABLE: a_manifest(*MANIFESTS[MASTER_CANDIDATES].files[:1], scope=VM_CAPABLE)}
    after = modified(SMALL, master_candidate=False)

    assert [item.path for item in withdrawn(SMALL, after, manifests)] == ["/var/lib/ganeti/rapi.pem"]


def test_the_masters_node_gives_nothing_back() -> None:
    after = operations.modify_node(SMALL, NodeModify(name="node1", vm_capable=False), now=1.0)

    assert taken(SMALL, after) == {}


def test_the_lines_say_what_goes_from_where_and_what_to_do() -> None:
    items = withdrawn(SMALL, modified(SMALL, master_candidate=False), MANIFESTS)
    rotate = to_rotate(items, config_data=CONFIG_DATA)

    assert list(withdrawal_lines(items, rotate)) == [
        "Withdrawn from node2:",
        " - /var/lib/ganeti/config.data (master-candidates, no copy is kept)",
        " - /var/lib/ganeti/rapi.pem (master-candidates, no copy is kept)",
        "node2 has held these secrets, so renew them now:",
        " - /var/lib/ganeti/rapi.pem",
    ]
    (first, *_) = withdrawal_lines(items, rotate, unreachable=[NodeName("node2")])
    assert first == "Withdrawn from node2; it is not online, so that happens when it is back:"


def test_what_a_removed_node_has_not_given_back_is_said_to_be_there_still() -> None:
    items = withdrawn(SMALL, operations.remove_node(SMALL, NodeRemove(name="node2"), now=1.0), MANIFESTS)
    left = [replace(item, left_behind=True) for item in items]

    lines = list(withdrawal_lines(left, to_rotate(left, config_data=CONFIG_DATA), unreachable=[NodeName("node2")]))

    assert lines[0] == "Still on the disk of node2, which has not given it back:"
    assert " - /etc/motd (all)" in lines
    assert "node2 has held these secrets, so renew them now:" in lines and lines[-1] == " - /var/lib/ganeti/rapi.pem"


def test_secrets_come_first_and_ssconf_files_are_one_line() -> None:
    """Of many files the first are named: a secret must not be among the rest."""
    entries = [an_entry(f"/etc/{number:03}") for number in range(LISTED_MAX + 5)]
    entries += [an_entry(f"/var/lib/ganeti/ssconf_{key}") for key in ("node_list", "cluster_name")]
    entries.append(an_entry("/etc/zzz", mode=0o600))
    after = operations.remove_node(SMALL, NodeRemove(name="node2"), now=1.0)

    lines = list(withdrawal_lines(withdrawn(SMALL, after, {ALL: a_manifest(*entries)}), ()))

    assert lines[1] == " - /etc/zzz (all, a dated backup is kept)"
    few = withdrawn(SMALL, after, {ALL: a_manifest(*entries[-3:])})
    assert list(withdrawal_lines(few, ())) == [
        "Withdrawn from node2:",
        " - /etc/zzz (all, a dated backup is kept)",
        " - 2 ssconf files in /var/lib/ganeti (all, a dated backup is kept)",
    ]


def test_many_files_are_counted_in_text() -> None:
    entries = [an_entry(f"/etc/{number:03}") for number in range(LISTED_MAX + 5)]
    after = modified(SMALL, vm_capable=False)
    items = withdrawn(SMALL, after, {VM_CAPABLE: a_manifest(*entries, scope=VM_CAPABLE)})

    lines = list(withdrawal_lines(items, ()))

    assert lines[0] == "Withdrawn from node2:" and lines[-1] == "   and 5 more, see --json"
    assert len(lines) == LISTED_MAX + 2


def test_who_was_promoted_for_the_pool_is_named_with_the_reason() -> None:
    config = a_config(a_node("node2", "C"), a_node("node3"), a_node("node4"), pool_size=2)
    after = modified(config, master_candidate=False, auto_promote=True)

    assert list(promotions(config, after, asked="uuid-node2")) == [
        "Node node3 was promoted to master candidate: the pool wants 2 master candidates and had 1, "
        "and it is the first by name of those that can."
    ]


def test_who_was_asked_for_is_not_explained() -> None:
    config = a_config(a_node("node2"), a_node("node3"), pool_size=1)

    assert list(promotions(config, modified(config, master_candidate=True), asked="uuid-node2")) == []


def test_the_reasons_are_those_of_the_choice_whatever_the_cluster() -> None:
    """Told after the fact, and never about somebody else than who was chosen."""
    for roles in itertools.product("CRDON", repeat=3):
        for pool_size in (1, 2, 3, 4):
            config = a_config(*(a_node(f"node{n}", role) for n, role in enumerate(roles, 2)), pool_size=pool_size)
            after = operations.remove_node(config, NodeRemove(name="node2"), now=1.0)
            held = {node.name for node in config.nodes.values() if node.master_candidate}
            risen = [node.name for node in after.nodes.values() if node.master_candidate and node.name not in held]
            told = [sentence.split()[1] for sentence in promotions(config, after)]
            assert sorted(told) == sorted(risen)


@pytest.mark.parametrize(
    ("pool_size", "capable", "sentence"),
    [
        (2, True, "Node node3 is a master candidate: the pool wants 2 and had 1."),
        (1, True, "Node node3 is a regular node: the pool has the 1 master candidate that it wants."),
        (2, False, "Node node3 is a regular node: it is not master-capable."),
    ],
)
def test_an_added_node_is_told_why_it_is_what_it_is(pool_size: int, capable: bool, sentence: str) -> None:
    config = a_config(a_node("node2"), pool_size=pool_size)
    config = replace(config, nodes={"uuid-node1": config.nodes["uuid-node1"]})
    request = NodeAdd(name="node3", master_capable=capable)
    after = operations.add_node(config, request, uuid="u3", now=1.0)

    assert own_role(config, after, after.nodes["u3"]) == sentence


def test_a_node_that_is_back_is_told_why_it_is_what_it_is() -> None:
    config = a_config(a_node("node2", "O"), pool_size=2)
    after = modified(config, offline=False)
    full = replace(config, cluster=replace(config.cluster, candidate_pool_size=1))

    assert own_role(config, after, after.nodes["uuid-node2"]).endswith("the pool wants 2 and had 1.")
    later = modified(full, offline=False)
    assert "is a regular node" in own_role(full, later, later.nodes["uuid-node2"])
    asked = modified(config, offline=False, master_candidate=False)
    assert own_role(config, asked, asked.nodes["uuid-node2"]) == "Node node2 is a regular node, as you asked."
    off = modified(after, offline=True, auto_promote=True)
    assert own_role(after, off, off.nodes["uuid-node2"]) == ""


def test_an_unusual_pool_is_told() -> None:
    many = a_config(a_node("node2", "C"), a_node("node3", "C"), pool_size=1)
    few = a_config(a_node("node2"), pool_size=2)

    assert pool_state(many).startswith("The cluster has 3 master candidates, 2 more than the pool wants.")
    assert pool_state(few).startswith("The cluster has 1 master candidate, and the pool wants 2;")
    assert pool_state(a_config(pool_size=1)) == ""


def test_config_data_is_no_secret_that_could_be_renewed() -> None:
    items = withdrawn(SMALL, modified(SMALL, master_candidate=False), MANIFESTS)

    assert ManagedPath(CONFIG_DATA) in {item.path for item in items if item.secret}
    assert CONFIG_DATA not in to_rotate(items, config_data=CONFIG_DATA)
