"""node_agent/core/desired.py: what a node believes of all it is told, in any order."""

import itertools

import pytest

from node_agent.core.desired import Desired
from node_agent.core.events import Memory
from node_agent.core.reconcile import Wanted
from protocol.messages import Manifest, Withdrawal
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, ScopeName
from tests.support.values import OTHER, PATH, a_manifest, an_assignment, an_entry

GROUP = ScopeName("group-default")


def desired(*scopes: ScopeName, memory: Memory | None = None, is_offline: bool = False) -> Desired:
    result = Desired(memory or Memory())
    assert result.assign(an_assignment(*scopes, serial=5, is_offline=is_offline)) == ""
    return result


def test_before_an_assignment_nothing_is_wanted_and_nothing_may_go() -> None:
    fresh = Desired(Memory(serial=(1, 5), versions={ALL: (1, 3)}))

    assert (fresh.scopes, fresh.wanted, fresh.serial, fresh.serial_acted_on) == ((), {}, (1, 5), 0)
    assert not any(fresh.may_withdraw(scope, is_secret=True) for scope in (ALL, MASTER_CANDIDATES))
    assert not fresh.is_news(ALL, (9, 9))


@pytest.mark.parametrize("have", [(1, 4), (1, 5), (2, 1)])
@pytest.mark.parametrize("offer", [(1, 3), (1, 4), (1, 5), (1, 6), (2, 1), (2, 2)])
def test_an_older_assignment_is_never_taken(have: tuple[int, int], offer: tuple[int, int]) -> None:
    result = Desired(Memory(serial=have))

    reason = result.assign(an_assignment(ALL, epoch=offer[0], serial=offer[1]))

    assert bool(reason) == (offer < have)
    assert result.scopes == (() if offer < have else (ALL,))
    assert result.serial == max(have, offer)


@pytest.mark.parametrize("have", [(1, 4), (1, 5), (2, 1)])
@pytest.mark.parametrize("offer", [(1, 3), (1, 4), (1, 5), (1, 6), (2, 1), (2, 2)])
def test_an_older_manifest_is_never_taken(have: tuple[int, int], offer: tuple[int, int]) -> None:
    """Also not after a restart: a lagging replica may offer it (peers-lessons 8)."""
    result = desired(ALL, memory=Memory(versions={ALL: have}))

    reason = result.adopt(a_manifest(an_entry(), epoch=offer[0], generation=offer[1]))

    assert bool(reason) == (offer < have)
    assert result.versions == ({} if offer < have else {ALL: offer})
    assert result.versions_had == {ALL: max(have, offer)}
    assert result.is_news(ALL, (2, 3))
    assert not result.is_news(ALL, have)


def test_every_order_of_manifests_ends_with_the_newest() -> None:
    manifests = [a_manifest(an_entry(content=str(n), generation=n), generation=n) for n in range(1, 5)]
    for order in itertools.permutations(manifests):
        result, versions = desired(ALL), []
        for manifest in order:
            result.adopt(manifest)
            versions.append(result.versions[ALL])
        assert result.wanted[PATH].entry == manifests[-1].files[0]
        assert versions == sorted(versions)


def test_only_a_change_is_a_revision() -> None:
    result = desired(ALL)
    manifest = a_manifest(an_entry())
    before = result.revision

    result.adopt(manifest)
    assert result.revision == before + 1
    result.adopt(a_manifest(an_entry()))
    result.assign(an_assignment(ALL, serial=5))
    assert result.revision == before + 1
    result.assign(an_assignment(ALL, serial=6))
    result.adopt(a_manifest(an_entry(), generation=2))
    assert result.revision == before + 3


def moves() -> list[tuple[Manifest, Manifest, bool]]:
    """Return a file's old and its new scope's manifest while it moves, with and without a change of its content."""
    old = a_manifest(an_entry(generation=3), scope=ALL, generation=6)
    new_scope = [
        a_manifest(an_entry(generation=3), scope=VM_CAPABLE, generation=7),
        a_manifest(an_entry(content="new", generation=7), scope=VM_CAPABLE, generation=7),
    ]
    return [(old, new_scope[0], False), (old, new_scope[1], True)]


@pytest.mark.parametrize(("old", "new", "is_changed"), moves())
@pytest.mark.parametrize("scopes", list(itertools.permutations([ALL, VM_CAPABLE])))
def test_a_path_in_two_scopes_is_wanted_as_the_newer_one_says(
    old: Manifest, new: Manifest, is_changed: bool, scopes: tuple[ScopeName, ...]
) -> None:
    """Equal entries count for the scope it moves to: the other one is about to lose its contents."""
    for order in ((old, new), (new, old)):
        result = desired(*scopes)
        for manifest in order:
            result.adopt(manifest)
        assert result.wanted == {PATH: Wanted(VM_CAPABLE, new.files[0])}


def test_a_scope_that_was_left_takes_its_files_and_its_manifest_along() -> None:
    result = desired(ALL, MASTER_CANDIDATES)
    result.adopt(a_manifest(an_entry(), generation=3))
    result.adopt(a_manifest(an_entry(OTHER), scope=MASTER_CANDIDATES, generation=3))

    result.assign(an_assignment(ALL, serial=6))

    assert result.wanted.keys() == {PATH}
    assert result.lacks(MASTER_CANDIDATES)
    result.assign(an_assignment(ALL, MASTER_CANDIDATES, serial=7))
    assert result.adopt(a_manifest(scope=MASTER_CANDIDATES, generation=2)), "it still knows what it has had"


def test_nothing_may_go_while_a_manifest_is_missing_that_might_list_it() -> None:
    for present in itertools.product([False, True], repeat=3):
        scopes = (ALL, VM_CAPABLE, GROUP)
        result = desired(*scopes)
        for scope, is_present in zip(scopes, present, strict=True):
            if is_present:
                result.adopt(a_manifest(scope=scope))
        for scope in (*scopes, ScopeName("group-left")):
            assert result.may_withdraw(scope, is_secret=False) == all(present)
        for lost in (MASTER_CANDIDATES, ScopeName("group-left")):
            assert result.may_withdraw(lost, is_secret=True), "a secret that was lost goes at once"
        assert result.may_withdraw(ALL, is_secret=True) == all(present), "a secret of a scope that it is in does not"


def test_a_secret_of_a_scope_it_is_in_waits_like_everything_else() -> None:
    assert not desired(ALL, MASTER_CANDIDATES).may_withdraw(MASTER_CANDIDATES, is_secret=True)


def test_an_offline_node_gives_back_without_asking() -> None:
    result = desired(ALL, is_offline=True)

    assert result.may_withdraw(ScopeName("group-left"), is_secret=False)
    assert result.may_withdraw(MASTER_CANDIDATES, is_secret=True)
    assert not result.may_withdraw(ALL, is_secret=False)


def test_an_offline_node_takes_nothing_new() -> None:
    result = desired(ALL, memory=Memory(versions={ALL: (1, 3)}), is_offline=True)

    assert not result.is_news(ALL, (1, 4))
    assert result.adopt(a_manifest(an_entry(), generation=4)) == ""
    assert result.versions == {}
    assert result.adopt(a_manifest(an_entry(), generation=3)) == ""
    assert result.versions == {ALL: (1, 3)}
    result.assign(an_assignment(ALL, serial=6))
    assert result.adopt(a_manifest(an_entry(), generation=4)) == ""
    assert result.versions == {ALL: (1, 4)}


def test_the_last_withdrawal_of_a_path_counts() -> None:
    """Purged from one scope once, it came back in another and was removed from there without purge."""
    old = Withdrawal(path=PATH, generation=5, purge=True)
    new = Withdrawal(path=PATH, generation=9)
    for first, second in itertools.permutations([(ALL, new), (VM_CAPABLE, old)]):
        result = desired(ALL, VM_CAPABLE)
        for scope, withdrawal in (first, second):
            result.adopt(a_manifest(scope=scope, generation=9, withdrawn=[withdrawal]))
        assert result.withdrawal(PATH, ALL) == new


def test_a_node_that_leaves_a_scope_does_not_withdraw_its_files() -> None:
    """Whatever else was once withdrawn and purged: this path is removed because the node left."""
    result = desired(ALL)
    result.adopt(a_manifest(generation=9, withdrawn=[Withdrawal(path=PATH, generation=5, purge=True)]))

    assert result.withdrawal(PATH, VM_CAPABLE) is None
    assert result.withdrawal(OTHER, ALL) is None


def test_a_scope_lists_its_paths_up_to_a_generation() -> None:
    result = desired(ALL)
    result.adopt(a_manifest(an_entry(generation=3), an_entry(OTHER, generation=7), generation=7))

    assert result.lists(ALL, {PATH})
    assert result.lists(ALL, {PATH, "/etc/z"}, generation_max=3)
    assert not result.lists(ALL, {OTHER}, generation_max=6)
    assert not result.lists(ALL, set())
    assert not result.lists(VM_CAPABLE, {PATH})


def test_a_list_that_is_older_than_a_withdrawal_elsewhere_is_outdated() -> None:
    """A path is in one scope at a time: it moved on, was withdrawn there, and the first move has not been heard of."""
    for list_generation, is_wanted in ((4, False), (5, True), (6, True)):
        result = desired(ALL, VM_CAPABLE)
        result.adopt(a_manifest(an_entry(), generation=list_generation))
        result.adopt(a_manifest(scope=VM_CAPABLE, generation=7, withdrawn=[Withdrawal(path=PATH, generation=5)]))
        assert (PATH in result.wanted) == is_wanted


def test_a_later_terms_list_is_never_outdated_by_an_earlier_terms_withdrawal() -> None:
    result = desired(ALL, VM_CAPABLE)
    result.adopt(a_manifest(an_entry(), epoch=2, generation=1))
    result.adopt(a_manifest(scope=VM_CAPABLE, generation=7, withdrawn=[Withdrawal(path=PATH, generation=5)]))

    assert PATH in result.wanted
