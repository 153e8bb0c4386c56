"""node_agent/core/disk_side.py, through the agent: what it looks at, what it does, and what it says of it."""

import itertools

import pytest

from node_agent.core import events as e
from node_agent.core.reconcile import Found, Known, Outcome
from protocol.messages import ERRORS_MAX, Manifest, Withdrawal
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, ManagedPath, ScopeName
from tests.support.agent_rig import Rig
from tests.support.values import OTHER, PATH, a_manifest, a_scope_bell, an_entry, digest_of, found_as, found_file

SECRET = ManagedPath("/etc/ganeti/rapi.pem")
GROUP_A, GROUP_B = ScopeName("group-a"), ScopeName("group-b")


def a_rig(*scopes: ScopeName, generation: int = 5) -> Rig:
    """Return a rig at rest with PATH in the first scope and nothing in the others."""
    scopes = scopes or (ALL,)
    rig = Rig(*scopes)
    for scope in scopes:
        rig.publish(*[an_entry(generation=generation)] * (scope == scopes[0]), scope=scope, generation=generation)
    rig.start()
    rig.forget_history()
    return rig


def a_candidate() -> Rig:
    """Return a rig at rest with PATH in `all` and SECRET in `master-candidates`."""
    rig = Rig(ALL, MASTER_CANDIDATES)
    rig.publish(an_entry())
    rig.publish(an_entry(SECRET, "secret"), scope=MASTER_CANDIDATES)
    rig.start()
    rig.forget_history()
    return rig


def test_what_is_published_comes_to_the_disk() -> None:
    rig = a_rig()
    rig.beat()

    assert rig.disk.files == {PATH: found_as(an_entry())}
    assert rig.receipts == {ALL: 5}
    assert rig.status.holding == (ALL,)
    assert rig.memory.known == {PATH: Known(ALL, digest_of("content"))}


def test_what_is_there_already_is_not_written() -> None:
    rig = Rig(ALL)
    rig.publish(an_entry())
    rig.disk.files[PATH] = found_as(an_entry())

    rig.start()

    assert not rig.asked(e.Perform)
    assert rig.receipts == {ALL: 1}


def test_several_files_are_one_plan() -> None:
    """An agent stages all of a generation before it replaces the first (design, D2)."""
    rig = a_rig()
    rig.publish(*(an_entry(f"/etc/{n}", generation=6) for n in range(25)), an_entry(generation=5), generation=6)

    rig.ring()

    (perform,) = rig.asked(e.Perform)
    assert len(perform.plan.writes) == 25


def test_a_file_damaged_by_hand_is_repaired_and_its_content_kept() -> None:
    rig = a_rig()
    rig.disk.files[PATH] = found_file("by hand")

    rig.tell(e.FilesTouched(frozenset({PATH})))
    rig.run()

    assert rig.disk.files[PATH] == found_as(an_entry())
    assert rig.disk.backups == [(PATH, digest_of("by hand"))]
    assert rig.receipts == {ALL: 5}


def test_a_file_removed_by_hand_comes_back() -> None:
    rig = a_rig()
    rig.disk.files.clear()

    rig.tell(e.FilesTouched(None))
    rig.run()

    assert rig.disk.files == {PATH: found_as(an_entry())}


def test_what_is_not_managed_is_not_looked_at() -> None:
    rig = a_rig()

    assert rig.tell(e.FilesTouched(frozenset({OTHER}))) == []


def test_a_receipt_is_given_only_when_all_of_it_is_on_the_disk() -> None:
    rig = a_rig()
    rig.publish(an_entry(content="new", generation=6), an_entry(OTHER, generation=6), generation=6)
    rig.tell(a_scope_bell(ALL, 6))
    perform = rig.run_until(e.Perform)
    rig.beat()
    rig.tell(e.Tick(100.0))
    rig.run()
    assert rig.receipts == {ALL: 5}, "the new one is not there yet"

    rig.end(perform)
    rig.run()

    assert rig.receipts == {ALL: 6}


def test_a_receipt_disappears_when_a_file_is_damaged_and_cannot_be_repaired_and_comes_back() -> None:
    rig = a_rig()
    rig.disk.files[PATH] = found_file("by hand")
    rig.disk.barred[PATH] = "Operation not permitted"

    rig.tell(e.FilesTouched(frozenset({PATH})))
    rig.run()
    assert rig.receipts == {}
    assert rig.errors == {PATH: "Operation not permitted"}

    rig.disk.barred.clear()
    rig.tick(2)
    assert rig.receipts == {ALL: 5}
    assert rig.errors == {}


def test_no_receipt_is_repeated_while_a_damaged_file_is_being_repaired() -> None:
    """The report in the middle of a slow repair must not say that all is well."""
    rig = a_rig()
    rig.disk.files[PATH] = found_file("by hand")
    rig.tell(e.FilesTouched(frozenset({PATH})))
    rig.run_until(e.Perform)

    rig.tell(e.Tick(100.0))
    rig.run()

    assert rig.receipts == {}


def test_a_damaged_file_of_the_next_generation_takes_the_last_ones_receipt_too() -> None:
    """It did not change between the two, so generation 5 is not what is on the disk."""
    rig = a_rig()
    rig.publish(an_entry(generation=5), an_entry(OTHER, generation=6), generation=6)
    rig.disk.files[PATH] = found_file("by hand")
    rig.disk.full = "No space left on device"
    rig.tell(e.FilesTouched(frozenset({PATH})))

    rig.ring()

    assert rig.receipts == {}


def test_a_file_damaged_while_its_next_content_comes_takes_the_receipt() -> None:
    """It is neither what the last generation says nor what the next one does."""
    rig = a_rig()
    rig.disk.files[PATH] = found_file("by hand")
    rig.tell(e.FilesTouched(frozenset({PATH})))
    observe = rig.take(e.Observe)
    rig.publish(an_entry(content="new", generation=6), generation=6)
    rig.ring()
    rig.end(observe)
    rig.take(e.Perform)

    rig.tell(e.Tick(100.0))
    rig.run()

    assert rig.receipts == {}


def test_a_generation_that_cannot_come_yet_leaves_the_last_ones_receipt_out() -> None:
    """Whether part of the new one is here is not known to who reads it."""
    rig = a_rig()
    rig.publish(an_entry(content="new", generation=6), generation=6)
    rig.disk.full = "No space left on device"

    rig.ring()

    assert rig.receipts == {}
    assert rig.errors == {PATH: "held back: No space left on device"}
    assert rig.disk.files[PATH] == found_as(an_entry())


def test_failures_are_tried_again_slower_each_time_up_to_a_minute() -> None:
    rig = a_rig()
    rig.disk.barred[PATH] = "Operation not permitted"
    rig.publish(an_entry(content="new", generation=6), generation=6)
    rig.ring()
    moments = [rig.now_s]
    for _ in range(300):
        rig.forget_history()
        rig.tell(a_scope_bell(ALL, 6, is_beat=True))
        rig.tick(1)
        if rig.asked(e.Perform):
            moments.append(rig.now_s)

    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def news(rig: Rig, kind: str) -> None:
    match kind:
        case "ring":
            rig.ring()
        case "generation":
            rig.publish(an_entry(content="newer", generation=7), generation=7)
            rig.ring(is_beat=True)
        case "reconnect":
            rig.tell(e.BusDown(""))
            rig.tell(e.BusUp())
        case "touched":
            rig.tell(e.FilesTouched(frozenset({PATH})))
        case "rescan":
            rig.tell(e.FilesTouched(None))
        case "look":
            rig.ring_node(look="look1")
    rig.run()


@pytest.mark.parametrize("kind", ["ring", "generation", "reconnect", "touched", "rescan", "look"])
def test_news_has_what_failed_tried_at_once(kind: str) -> None:
    rig = a_rig()
    rig.disk.barred[PATH] = "Operation not permitted"
    rig.publish(an_entry(content="new", generation=6), generation=6)
    rig.ring()
    for _ in range(60):
        rig.tell(a_scope_bell(ALL, 6, is_beat=True))
        rig.tick(1)
    rig.disk.barred.clear()

    news(rig, kind)

    assert rig.receipts == {ALL: 7 if kind == "generation" else 6}
    assert rig.errors == {}


def test_while_it_is_tried_again_the_reason_is_still_told() -> None:
    """Who asks in that moment must not hear that all is well, nor lose the reason."""
    rig = a_rig()
    rig.disk.barred[PATH] = "Operation not permitted"
    rig.publish(an_entry(content="new", generation=6), generation=6)
    rig.ring()
    before = len(rig.statuses)

    for kind in ("ring", "touched", "reconnect", "look"):
        news(rig, kind)

    assert all(status.errors for status in rig.statuses[before:])


def test_one_failing_file_does_not_hold_up_the_others() -> None:
    rig = a_rig(ALL, VM_CAPABLE)
    rig.disk.barred[OTHER] = "is a directory"
    rig.publish(an_entry(content="new", generation=6), an_entry(OTHER, generation=6), generation=6)
    rig.publish(an_entry("/etc/vm", generation=6), scope=VM_CAPABLE, generation=6)

    rig.tell(a_scope_bell(VM_CAPABLE, 6))
    rig.ring()

    assert rig.disk.files.keys() == {PATH, "/etc/vm"}
    assert rig.receipts == {VM_CAPABLE: 6}
    assert rig.errors == {OTHER: "is a directory"}


def test_a_blocked_path_is_an_error_until_it_is_free() -> None:
    rig = Rig(ALL)
    rig.publish(an_entry())
    rig.disk.files[PATH] = Found("blocked", reason="/etc/ganeti/x is a directory")
    rig.start()
    assert rig.errors == {PATH: "/etc/ganeti/x is a directory"}
    assert rig.receipts == {}
    del rig.disk.files[PATH]

    rig.tick(1)

    assert (rig.errors, rig.receipts) == ({}, {ALL: 1})


def test_a_file_that_is_not_as_it_was_written_is_not_written_again_at_once() -> None:
    """A disk that says one thing and holds another would otherwise be written to without end."""
    rig = Rig(ALL)
    rig.publish(an_entry())
    rig.tell(e.Tick(1.0))
    rig.tell(e.BusUp())
    perform = rig.run_until(e.Perform)
    rig.run()

    rig.tell(e.PlanFinished(perform.plan, Outcome({PATH: found_file("content", mode=0o600)}, {})))
    rig.run()

    assert rig.errors == {PATH: "is not as it was written"}
    assert rig.receipts == {}
    assert not rig.disk.writes


def test_errors_beyond_what_a_status_takes_are_counted() -> None:
    rig = Rig(ALL)
    rig.publish(*(an_entry(f"/etc/{number:03}") for number in range(ERRORS_MAX + 5)))
    rig.disk.full = "No space left on device"

    rig.start()

    assert (len(rig.status.errors), rig.status.errors_count) == (ERRORS_MAX, ERRORS_MAX + 5)


def test_a_long_reason_is_cut() -> None:
    rig = Rig(ALL)
    rig.publish(an_entry())
    rig.disk.barred[PATH] = "x" * 10_000

    rig.start()

    assert len(rig.errors[PATH]) == 400


@pytest.mark.parametrize("purge", [False, True])
def test_a_withdrawn_file_is_removed(purge: bool) -> None:
    rig = a_rig()
    rig.publish(generation=6, withdrawn=[Withdrawal(path=PATH, generation=6, purge=purge)])

    rig.ring()

    rig.beat()
    assert rig.disk.files == {}
    assert rig.disk.backups == ([] if purge else [(PATH, digest_of("content"))])
    assert rig.receipts == {ALL: 6}
    assert rig.status.holding == ()
    assert rig.memory.known == {}


@pytest.mark.parametrize("purge", [False, True])
def test_a_purge_takes_the_backups_of_a_file_that_is_gone_already(purge: bool) -> None:
    """Taken by hand while the agent was down: `--purge` promises that no copy stays, of whatever age."""
    known = {PATH: Known(ALL, digest_of("content"))}
    rig = Rig(ALL, memory=e.Memory(versions={ALL: (1, 5)}, known=known))
    rig.disk.backups = [(PATH, digest_of("older")), (OTHER, digest_of("older"))]
    rig.publish(generation=6, withdrawn=[Withdrawal(path=PATH, generation=6, purge=purge)])

    rig.start()
    rig.beat()

    assert ((PATH, digest_of("older")) in rig.disk.backups) is not purge
    assert (OTHER, digest_of("older")) in rig.disk.backups
    assert len(rig.disk.removals) == purge
    assert rig.receipts == {ALL: 6}
    assert rig.memory.known == {}


def test_a_purge_that_fails_is_tried_again_and_no_receipt_is_given_before() -> None:
    rig = Rig(ALL, memory=e.Memory(known={PATH: Known(ALL, digest_of("content"))}))
    rig.disk.backups = [(PATH, digest_of("older"))]
    rig.disk.barred[PATH] = "Input/output error"
    rig.publish(generation=6, withdrawn=[Withdrawal(path=PATH, generation=6, purge=True)])

    rig.start()
    rig.beat()
    assert (rig.receipts, rig.errors) == ({}, {PATH: "Input/output error"})

    rig.disk.barred.clear()
    rig.tick(3)
    assert (rig.receipts, rig.errors, rig.disk.backups) == ({ALL: 6}, {}, [])


def test_nothing_is_purged_of_a_file_that_is_listed_again() -> None:
    rig = a_rig()
    rig.disk.backups = [(PATH, digest_of("older"))]
    again = an_entry(generation=7)
    rig.publish(again, generation=7, withdrawn=[Withdrawal(path=PATH, generation=6, purge=True)])
    rig.disk.files.clear()
    rig.tell(e.FilesTouched(None))

    rig.ring()
    rig.beat()

    assert rig.disk.files == {PATH: found_as(again)}
    assert rig.disk.backups == [(PATH, digest_of("older"))]


def test_a_file_that_never_was_the_meshs_is_not_removed() -> None:
    rig = a_rig()
    rig.disk.files[OTHER] = found_file()
    rig.publish(an_entry(generation=5), generation=6, withdrawn=[Withdrawal(path=OTHER, generation=6)])

    rig.ring()

    assert OTHER in rig.disk.files
    assert rig.receipts == {ALL: 6}


def test_no_receipt_while_a_withdrawn_file_cannot_be_removed() -> None:
    rig = a_rig()
    rig.disk.barred[PATH] = "Operation not permitted"
    rig.publish(generation=6, withdrawn=[Withdrawal(path=PATH, generation=6)])

    rig.ring()

    assert (rig.receipts, rig.errors) == ({}, {PATH: "Operation not permitted"})
    assert rig.status.holding == (ALL,)
    rig.disk.barred.clear()
    rig.tick(1)
    assert (rig.receipts, rig.errors) == ({ALL: 6}, {})


def moved() -> tuple[Manifest, Manifest]:
    """Return PATH's new scope's manifest and its old one's, in the order of their publication."""
    target = a_manifest(an_entry(generation=5), scope=VM_CAPABLE, generation=6)
    origin = a_manifest(generation=6, withdrawn=[Withdrawal(path=PATH, generation=6)])
    return target, origin


def test_a_moving_file_is_neither_removed_nor_written() -> None:
    rig = a_rig(ALL, VM_CAPABLE)
    for manifest in moved():
        rig.manifests[manifest.scope] = manifest
        rig.ring(manifest.scope)

    assert not rig.asked(e.Perform)
    assert rig.receipts == {ALL: 6, VM_CAPABLE: 6}
    assert rig.status.holding == (VM_CAPABLE,)


def test_a_moving_file_survives_the_loss_of_its_new_scopes_bell() -> None:
    """Only the bell of the scope it leaves is heard: without a second look it would be gone until the next beat."""
    rig = a_rig(ALL, VM_CAPABLE)
    for manifest in moved():
        rig.manifests[manifest.scope] = manifest

    rig.ring(ALL)

    assert not rig.asked(e.Perform)
    assert rig.receipts == {ALL: 6, VM_CAPABLE: 6}


def test_a_moving_file_survives_a_restart_between_the_two_answers() -> None:
    """The new scope's manifest is fetched before the move is published, the old one's afterwards."""
    rig = a_rig(ALL, VM_CAPABLE)
    target, origin = moved()
    rig.assign(VM_CAPABLE, ALL, serial=2)
    rig.agent = Rig(memory=rig.memory).agent
    rig.tell(e.Tick(1.0))
    rig.tell(e.BusUp())
    rig.end(rig.take(e.FetchAssignment))
    rig.end(rig.take(e.FetchManifest))
    rig.manifests |= {VM_CAPABLE: target, ALL: origin}

    rig.run()

    assert not rig.disk.removals
    assert rig.receipts == {ALL: 6, VM_CAPABLE: 6}


def test_a_withdrawn_file_waits_for_the_other_scopes_word() -> None:
    rig = a_rig(ALL, VM_CAPABLE)
    rig.publish(generation=6, withdrawn=[Withdrawal(path=PATH, generation=6)])
    rig.unreachable[VM_CAPABLE] = "timeout"
    rig.ring()
    assert PATH in rig.disk.files
    assert rig.receipts == {VM_CAPABLE: 5}
    rig.unreachable.clear()

    rig.tick(1)

    assert PATH not in rig.disk.files
    assert rig.receipts == {ALL: 6, VM_CAPABLE: 5}


def test_files_that_are_withdrawn_all_the_time_are_removed_all_the_same() -> None:
    """Each waits for word since it was surplus, not for a moment of quiet."""
    rig = a_rig(ALL, VM_CAPABLE)
    paths = [f"/etc/{number}" for number in range(20)]
    rig.publish(*(an_entry(path, generation=6) for path in paths), generation=6)
    rig.ring()

    for number in range(1, 20):
        gone = [Withdrawal(path=ManagedPath(path), generation=6 + number) for path in (PATH, *paths[:number])]
        left = [an_entry(path, generation=6) for path in paths[number:]]
        rig.publish(*left, generation=6 + number, withdrawn=gone)
        rig.tell(a_scope_bell(ALL, 6 + number))
        for _ in range(5):
            rig.step()
    assert rig.waiting, "it never came to rest"
    assert len(rig.disk.files) < 10

    rig.run()
    assert rig.disk.files.keys() == {"/etc/19"}


def test_other_scopes_files_stay_while_a_manifest_is_missing_that_might_list_them() -> None:
    """After a restart, for every subset of manifests that can be had."""
    scopes = (ALL, VM_CAPABLE, GROUP_A)
    for missing in itertools.chain.from_iterable(itertools.combinations(scopes, n) for n in (1, 2, 3)):
        rig = Rig(*scopes)
        for scope in scopes:
            rig.publish(an_entry(f"/etc/{scope}"), scope=scope)
        rig.start()
        for scope in scopes:
            rig.publish(scope=scope, generation=2)
            if scope in missing:
                rig.unreachable[scope] = "timeout"

        rig.restart()
        rig.tick(10)

        assert len(rig.disk.files) == 3
        rig.unreachable.clear()
        rig.tick(60)
        assert not rig.disk.files


def test_a_demoted_node_gives_secrets_back_and_keeps_no_copy() -> None:
    rig = a_candidate()
    rig.assign(ALL, serial=2)

    rig.ring_node()

    assert rig.disk.files.keys() == {PATH}
    assert rig.disk.backups == []
    assert (rig.status.serial, rig.status.holding, rig.receipts) == (2, (ALL,), {ALL: 1})
    rig.beat()
    assert rig.memory.known.keys() == {PATH}


@pytest.mark.parametrize("is_restarted", [False, True])
def test_secrets_go_even_while_every_other_manifest_is_missing(is_restarted: bool) -> None:
    rig = a_candidate()
    rig.assign(ALL, VM_CAPABLE, serial=2)
    rig.unreachable = {ALL: "timeout", VM_CAPABLE: "timeout"}

    if is_restarted:
        rig.restart()
    else:
        rig.ring_node()

    assert rig.disk.files.keys() == {PATH}
    assert rig.status.holding == (ALL,)


def test_the_report_says_that_secrets_are_still_here_until_they_are_gone() -> None:
    rig = a_candidate()
    rig.assign(ALL, serial=2)
    rig.disk.barred[SECRET] = "Operation not permitted"

    rig.ring_node()

    assert (rig.status.serial, rig.status.holding) == (2, (ALL, MASTER_CANDIDATES))
    assert [error.scope for error in rig.status.errors] == [MASTER_CANDIDATES]
    rig.disk.barred.clear()
    rig.tick(1)
    assert rig.status.holding == (ALL,)


def test_a_demotion_during_the_fetch_of_a_secret_leaves_nothing() -> None:
    """Whether the plan still succeeds or is denied its content; in both cases without waiting for a retry."""
    for is_denied in (False, True):
        rig = a_candidate()
        rig.publish(
            an_entry(SECRET, "new", generation=2),
            an_entry("/etc/s", generation=2),
            scope=MASTER_CANDIDATES,
            generation=2,
        )
        rig.tell(a_scope_bell(MASTER_CANDIDATES, 2))
        perform = rig.run_until(e.Perform)
        rig.assign(ALL, serial=2)
        rig.ring_node()
        assert rig.status.holding == (ALL, MASTER_CANDIDATES)
        if is_denied:
            rig.unavailable = dict.fromkeys((SECRET, ManagedPath("/etc/s")), "permissions violation")

        rig.end(perform)
        rig.run()

        assert rig.disk.files.keys() == {PATH}
        assert rig.status.holding == (ALL,)
        assert rig.errors == {}


def test_a_node_that_changes_its_group_changes_its_files() -> None:
    rig = a_rig(GROUP_A)
    rig.publish(an_entry(OTHER), scope=GROUP_B)
    rig.assign(GROUP_B, serial=2)

    rig.ring_node()

    assert rig.disk.files.keys() == {OTHER}
    assert rig.disk.backups == [(PATH, digest_of("content"))]
    assert rig.receipts == {GROUP_B: 1}


def test_an_offline_node_gives_back_and_takes_nothing() -> None:
    rig = a_candidate()
    rig.assign(ALL, serial=2, is_offline=True)
    rig.publish(an_entry(content="new", generation=2), an_entry(OTHER, generation=2), generation=2)

    rig.ring_node()
    rig.ring()

    assert rig.disk.files == {PATH: found_as(an_entry())}
    assert rig.receipts == {ALL: 1}


def test_an_offline_node_that_restarts_gives_back_and_takes_nothing() -> None:
    rig = a_candidate()
    rig.assign(ALL, serial=2, is_offline=True)
    rig.publish(an_entry(content="new", generation=2), generation=2)

    rig.restart()
    rig.tick(10)

    assert rig.disk.files == {PATH: found_as(an_entry())}
    assert rig.receipts == {}


def test_a_path_that_comes_back_is_looked_at_anew() -> None:
    """While it was not managed nobody watched it; what was found then proves nothing."""
    rig = a_rig()
    rig.publish(an_entry(generation=5), an_entry(OTHER, generation=6), generation=6)
    rig.disk.files[OTHER] = Found("blocked", reason="is a directory")
    rig.ring()
    rig.publish(an_entry(generation=5), generation=7)
    rig.ring()
    rig.disk.files[OTHER] = found_file("by hand")
    rig.publish(an_entry(generation=5), an_entry(OTHER, generation=8), generation=8)

    rig.ring()

    assert rig.disk.files[OTHER] == found_as(an_entry(OTHER))
    assert (rig.receipts, rig.errors) == ({ALL: 8}, {})


def test_a_file_in_two_scopes_owes_both_their_receipts() -> None:
    """It is moving; while it cannot be written neither list is complete."""
    rig = a_rig(ALL, VM_CAPABLE)
    rig.disk.files[PATH] = found_file("by hand")
    rig.disk.barred[PATH] = "Operation not permitted"
    rig.tell(e.FilesTouched(frozenset({PATH})))
    target, _ = moved()
    rig.manifests[VM_CAPABLE] = target

    rig.ring(VM_CAPABLE)

    assert rig.receipts == {}


def test_a_full_disk_does_not_keep_a_secret_on_a_node_that_lost_it() -> None:
    """A write that cannot be done holds back the rest of its plan; what must go goes first, by itself."""
    rig = Rig(ALL, MASTER_CANDIDATES)
    rig.publish(an_entry("/etc/a", "one"))
    rig.publish(an_entry("/etc/secret", "secret"), scope=MASTER_CANDIDATES)
    rig.start()
    rig.disk.full = "No space left on device"
    rig.publish(an_entry("/etc/a", "two", generation=2), generation=2)
    rig.assign(ALL, serial=2)

    rig.ring()
    rig.ring_node()
    rig.tick(3)

    assert "/etc/secret" not in rig.disk.files
    assert MASTER_CANDIDATES not in rig.status.holding
    assert "No space left on device" in rig.errors["/etc/a"]


def test_the_node_of_the_sources_looks_before_it_calls_a_new_generation_different() -> None:
    """The source changed a moment ago, and the watch has not told yet: no error may be shown in between."""
    rig = Rig(ALL)
    rig.assign(ALL, serial=1, is_master=True)
    rig.disk.files[PATH] = found_file("one")
    rig.publish(an_entry(PATH, "one"))
    rig.start()
    rig.disk.files[PATH] = found_file("two")
    rig.publish(an_entry(PATH, "two", generation=2), generation=2)
    rig.statuses.clear()

    rig.ring()

    assert rig.receipts == {ALL: 2}
    assert all(status.errors == () for status in rig.statuses)


def test_a_scope_that_is_left_does_not_bring_an_older_content_back() -> None:
    """The file moved away, and was edited, while the bell of the scope it had been in was lost."""
    rig = a_rig(ALL, MASTER_CANDIDATES)
    rig.publish(an_entry(content="new", generation=6), scope=MASTER_CANDIDATES, generation=6)
    rig.ring(MASTER_CANDIDATES)
    rig.publish(generation=6, withdrawn=[Withdrawal(path=PATH, generation=6)])
    rig.assign(ALL, serial=2)

    rig.ring_node()

    assert rig.disk.files == {}
    assert [write.entry.generation for write in rig.disk.writes] == [5, 6]
    assert rig.receipts == {ALL: 6}


def test_an_older_content_comes_back_when_every_scope_says_so() -> None:
    """What the master says now counts, also if it had to begin to count anew."""
    rig = a_rig(ALL, MASTER_CANDIDATES)
    rig.publish(an_entry(content="new", generation=6), scope=MASTER_CANDIDATES, generation=6)
    rig.ring(MASTER_CANDIDATES)
    rig.assign(ALL, serial=2)

    rig.ring_node()

    assert rig.disk.files == {PATH: found_as(an_entry())}
    assert rig.receipts == {ALL: 5}


@pytest.mark.parametrize("is_offline", [False, True])
def test_a_secret_does_not_stay_because_an_outdated_list_of_another_scope_has_its_path(is_offline: bool) -> None:
    rig = a_rig(ALL, MASTER_CANDIDATES)
    rig.publish(an_entry(content="secret", generation=6), scope=MASTER_CANDIDATES, generation=6)
    rig.ring(MASTER_CANDIDATES)
    rig.unreachable = {ALL: "timeout"}
    rig.assign(ALL, serial=2, is_offline=is_offline)

    rig.ring_node()

    assert (rig.disk.files, rig.disk.backups) == ({}, [])
    assert (rig.status.holding, rig.receipts) == ((), {})


def test_a_secret_that_cannot_be_removed_is_not_tried_without_end() -> None:
    rig = a_rig(ALL, MASTER_CANDIDATES)
    rig.publish(an_entry(content="secret", generation=6), scope=MASTER_CANDIDATES, generation=6)
    rig.ring(MASTER_CANDIDATES)
    rig.disk.barred[PATH] = "Operation not permitted"
    rig.assign(ALL, serial=2)
    rig.forget_history()

    rig.ring_node()

    assert len(rig.asked(e.Perform)) == 1
    assert rig.status.holding == (MASTER_CANDIDATES,)
    assert rig.errors == {PATH: "Operation not permitted"}


def test_a_receipt_is_taken_back_when_the_damage_is_seen_and_not_only_when_it_is_planned() -> None:
    """Something else is to be looked at first, and a report may come in between."""
    rig = a_rig()
    rig.publish(an_entry(generation=5), an_entry(OTHER, generation=6), generation=6)
    rig.ring()
    rig.disk.files[PATH] = found_file("by hand")
    rig.tell(e.FilesTouched(frozenset({PATH})))
    observe = rig.take(e.Observe)
    rig.tell(e.FilesTouched(frozenset({OTHER})))
    rig.end(observe)
    rig.take(e.Observe)

    rig.tell(e.Tick(100.0))
    rig.run()

    assert rig.receipts == {}


def test_a_withdrawn_file_owes_the_receipt_of_the_scope_that_withdrew_it() -> None:
    """Whatever scope it came with: it is to be removed, and cannot be."""
    rig = a_rig(ALL, VM_CAPABLE)
    rig.disk.barred[PATH] = "Operation not permitted"
    rig.publish(generation=6, withdrawn=[Withdrawal(path=PATH, generation=6)])
    rig.publish(scope=VM_CAPABLE, generation=7, withdrawn=[Withdrawal(path=PATH, generation=7)])

    rig.tell(a_scope_bell(VM_CAPABLE, 7))
    rig.ring()

    assert rig.receipts == {}
