"""master/core/candidate_pool.py: who should be a master candidate, over every small cluster."""

import itertools
from dataclasses import replace

import pytest

from master.core.candidate_pool import (
    candidates_wanted,
    check_demotion,
    choices,
    has_vacancy,
    is_eligible,
    to_promote,
)
from master.core.cluster import ClusterConfig, Node
from protocol.errors import Refused
from tests.support.values import a_config, a_node

SMALL = [
    a_config(*(a_node(f"node{number}", role) for number, role in enumerate(roles, 2)), pool_size=pool_size)
    for size in range(4)
    for roles in itertools.product("CRDON", repeat=size)
    for pool_size in range(1, 5)
]


def candidates(config: ClusterConfig) -> int:
    return sum(node.master_candidate for node in config.nodes.values())


def able(config: ClusterConfig) -> int:
    return sum(node.master_capable and not node.offline and not node.drained for node in config.nodes.values())


def test_there_should_be_as_many_candidates_as_the_pool_holds_or_as_can_be() -> None:
    for config in SMALL:
        assert candidates_wanted(config) == min(able(config), config.cluster.candidate_pool_size)
        assert has_vacancy(config) == (candidates(config) < candidates_wanted(config))


def test_the_pool_is_filled_and_never_overfilled_and_nobody_is_demoted() -> None:
    for config in SMALL:
        promoted = to_promote(config)

        assert all(node.master_candidate and is_eligible(config.nodes[node.uuid]) for node in promoted)
        after = replace(config, nodes={**config.nodes, **{node.uuid: node for node in promoted}})
        assert candidates(after) == max(candidates(config), candidates_wanted(config))
        assert to_promote(after) == ()


GROUPS = ("default", "rack")

SPREAD = [
    a_config(
        *(a_node(f"node{n}", role, group=group) for n, (role, group) in enumerate(members, 2)),
        groups=GROUPS,
        pool_size=pool_size,
    )
    for size in range(5)
    for members in itertools.product(itertools.product("CRO", GROUPS), repeat=size)
    for pool_size in range(1, 6)
]
"""Nine thousand clusters of up to five nodes in two groups. A drained node and one that is not capable are as an
offline one is here."""


def brute_force(config: ClusterConfig) -> list[Node]:
    """Of all sets that fill the pool: the most even one over the groups, and of those the first by name."""
    vacant = max(candidates_wanted(config) - candidates(config), 0)
    spare = sorted((node for node in config.nodes.values() if is_eligible(node)), key=lambda node: node.name)

    def unevenness(chosen: tuple[Node, ...]) -> int:
        held = [node.group for node in config.nodes.values() if node.master_candidate or node in chosen]
        return sum(held.count(group) ** 2 for group in config.nodegroups)

    sets = list(itertools.combinations(spare, vacant))  # in the order of their names
    return sorted(min(sets, key=unevenness), key=lambda node: node.name)


def test_the_choice_is_the_most_even_one_and_then_the_first_by_name() -> None:
    assert len(SPREAD) > 7500
    for config in SPREAD:
        chosen = sorted((config.nodes[node.uuid] for node in to_promote(config)), key=lambda node: node.name)
        assert chosen == brute_force(config)


def test_every_choice_says_why() -> None:
    rack = [a_node(f"node{n}", group="rack") for n in (7, 8)]
    yard = [a_node(f"node{n}", group="yard") for n in (3, 9)]
    config = a_config(a_node("node2"), *rack, *yard, groups=("default", "rack", "yard"), pool_size=10)

    assert [f"{choice.node.name}: {choice.reason}" for choice in choices(config)] == [
        "node3: the pool wants 6 master candidates and had 1, and its node group yard had the fewest (0), "
        "where it is the first by name",
        "node7: the pool wants 6 master candidates and had 2, and its node group rack had the fewest (0), "
        "where it is the first by name",
        "node2: the pool wants 6 master candidates and had 3, and it is the first by name of those that can",
        "node8: the pool wants 6 master candidates and had 4, and it is the first by name of those that can",
        "node9: the pool wants 6 master candidates and had 5, and no other node can be one",
    ]


def test_an_excluded_node_is_never_chosen() -> None:
    for config in SMALL:
        for uuid in config.nodes:
            assert uuid not in [node.uuid for node in to_promote(config, excluding=uuid)]


def test_the_choice_does_not_depend_on_the_order_of_nodes() -> None:
    for config in SMALL:
        turned = replace(config, nodes=dict(reversed(config.nodes.items())))
        assert to_promote(turned) == to_promote(config)


def test_lower_names_come_first_as_people_count() -> None:
    config = a_config(a_node("node10"), a_node("node9"), pool_size=2)

    assert [node.name for node in to_promote(config)] == ["node9"]


def test_groups_with_few_candidates_come_first() -> None:
    """Ganeti ignores groups (issue 995): a rack that fails then takes every candidate with it."""
    rack = [a_node("node7", group="rack"), a_node("node8", group="rack")]
    config = a_config(a_node("node2"), *rack, groups=("default", "rack"), pool_size=3)

    assert [node.name for node in to_promote(config)] == ["node7", "node2"]


def test_a_demotion_is_refused_exactly_when_the_others_would_be_too_few() -> None:
    for config in SMALL:
        for node in config.nodes.values():
            if not node.master_candidate or node == config.master:
                continue
            demoted = replace(node, master_candidate=False)
            after = replace(config, nodes={**config.nodes, node.uuid: demoted})
            should = min(able(config) - 1, config.cluster.candidate_pool_size)
            if candidates(config) - 1 < should:
                with pytest.raises(Refused, match=f"desired {should}, left {candidates(config) - 1}"):
                    check_demotion(after, demoted)
            else:
                check_demotion(after, demoted)
