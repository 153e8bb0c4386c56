"""node_agent/core/bus_side.py, through the agent: when it fetches what, and what it makes of bells and silence."""

import itertools

import pytest

from node_agent.core import events as e
from node_agent.core.agent import Timing
from protocol.messages import NodeBell, ScopeBell
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, NodeName, ScopeName
from tests.support.agent_rig import NODE, Rig
from tests.support.values import OTHER, PATH, a_manifest, a_node_bell, a_scope_bell, an_assignment, an_entry

BOTH = (ALL, VM_CAPABLE)


def a_rig(*scopes: ScopeName) -> Rig:
    """Return a rig that has come to rest with one file per scope, at generation 5."""
    rig = Rig(*(scopes or (ALL,)))
    for scope in scopes or (ALL,):
        rig.publish(an_entry(f"/etc/{scope}"), scope=scope, generation=5)
    rig.start()
    rig.forget_history()
    return rig


def fetched(rig: Rig) -> list[str]:
    return [
        "assignment" if isinstance(effect, e.FetchAssignment) else effect.scope
        for effect in rig.history
        if isinstance(effect, e.FetchAssignment | e.FetchManifest)
    ]


def test_a_new_agent_looks_at_everything_once() -> None:
    rig = Rig(*BOTH)
    for scope in BOTH:
        rig.publish(an_entry(f"/etc/{scope}"), scope=scope)

    rig.start()

    assert fetched(rig) == ["assignment", ALL, VM_CAPABLE]
    assert [effect.scopes for effect in rig.asked(e.Listen)] == [(), BOTH]
    assert rig.receipts == {ALL: 1, VM_CAPABLE: 1}


@pytest.mark.parametrize("is_beat", [False, True])
@pytest.mark.parametrize(
    ("version", "is_fetched"),
    [((1, 4), False), ((1, 5), False), ((1, 6), True), ((2, 1), True), ((1, 999_999), True)],
)
def test_a_bell_with_news_costs_one_look_and_others_none(
    version: tuple[int, int], is_fetched: bool, is_beat: bool
) -> None:
    """Repeated, late, or forged with a number that was never published: all the same."""
    rig = a_rig()

    for _ in range(3):
        rig.forget_history()
        rig.tell(a_scope_bell(ALL, version[1], epoch=version[0], is_beat=is_beat))
        rig.run()

        assert fetched(rig) == [ALL] * is_fetched
        assert not rig.asked(e.Perform) and not rig.asked(e.Observe)


@pytest.mark.parametrize("is_beat", [False, True])
def test_a_bell_of_a_scope_that_is_not_ours_costs_nothing(is_beat: bool) -> None:
    rig = a_rig()

    effects = rig.tell(a_scope_bell(MASTER_CANDIDATES, 9, is_beat=is_beat))
    rig.tick(2)

    assert effects == []
    assert fetched(rig) == []


def test_a_late_bell_of_a_scope_does_not_make_the_node_deaf_for_it() -> None:
    """Heard after the demotion, it counted as heard of; after the next promotion nobody subscribed."""
    rig = a_rig()
    rig.tell(a_scope_bell(MASTER_CANDIDATES, 9))
    rig.publish(scope=MASTER_CANDIDATES)
    rig.assign(ALL, MASTER_CANDIDATES, serial=2)

    rig.ring_node()

    assert rig.listening == (ALL, MASTER_CANDIDATES)


def test_a_lost_bell_is_made_good_by_the_next_beat() -> None:
    rig = a_rig()
    rig.publish(an_entry(content="new", generation=6), generation=6)

    rig.ring(is_beat=True)

    assert rig.receipts == {ALL: 6}


def test_a_bell_during_a_fetch_is_not_lost() -> None:
    """The answer may have left before what the bell is about was published."""
    rig = a_rig()
    rig.tell(a_scope_bell(ALL, 6))
    old = rig.publish(an_entry("/etc/all", "six", generation=6), generation=6)
    fetch = rig.take(e.FetchManifest)
    rig.publish(an_entry("/etc/all", "seven", generation=7), generation=7)
    rig.tell(a_scope_bell(ALL, 7))
    rig.run()

    rig.tell(e.ManifestFetched(fetch.scope, old))
    rig.run()

    assert rig.receipts == {ALL: 7}
    assert fetched(rig) == [ALL, ALL]


def test_an_assignment_bell_during_a_fetch_is_not_lost() -> None:
    rig = a_rig()
    rig.publish(scope=VM_CAPABLE)
    rig.tell(a_node_bell())
    rig.take(e.FetchAssignment)
    old = rig.assignment
    rig.assign(*BOTH, serial=2)
    rig.tell(a_node_bell(serial=2))

    rig.tell(e.AssignmentFetched(old))
    rig.run()

    assert rig.listening == BOTH


def test_many_bells_during_a_fetch_cost_one_more() -> None:
    rig = a_rig()
    rig.tell(a_scope_bell(ALL, 6))
    rig.take(e.FetchManifest)
    for generation in range(6, 20):
        rig.tell(a_scope_bell(ALL, generation))
    rig.publish(an_entry("/etc/all"), generation=19)

    rig.tell(e.ManifestFetched(ALL, a_manifest(an_entry("/etc/all"), generation=6)))
    rig.run()

    assert fetched(rig) == [ALL, ALL]


@pytest.mark.parametrize("offer", [None, a_manifest(generation=4), a_manifest(scope=VM_CAPABLE, generation=9)])
def test_an_answer_that_is_no_news_changes_nothing_and_is_asked_for_again(offer: object) -> None:
    """No manifest, an older one, another scope's: the files stay, the reason is shown, and time heals."""
    rig = a_rig()
    good = rig.publish(an_entry("/etc/all", "six", generation=6), generation=6)
    rig.manifests[ALL] = offer  # type: ignore[assignment]

    rig.tell(a_scope_bell(ALL, 6))
    rig.run()

    assert not rig.asked(e.Perform)
    assert rig.receipts == {ALL: 5}
    assert "scope all" in rig.errors
    rig.manifests[ALL] = good
    rig.tick(1)
    assert rig.receipts == {ALL: 6}
    assert rig.errors == {}


def test_an_assignment_for_another_node_is_refused_and_asked_for_again() -> None:
    rig = a_rig()
    rig.assignment = an_assignment(*BOTH, node="node3", serial=9)

    rig.ring_node()

    assert rig.listening == (ALL,)
    assert rig.status.refusals.count == 1
    assert "assignment for node3, this is node2" in rig.errors["scope "]
    rig.publish(scope=VM_CAPABLE)
    rig.assign(*BOTH, serial=2)
    rig.tick(1)
    assert rig.listening == BOTH
    assert rig.errors == {}


def test_a_node_without_an_assignment_asks_again_and_again() -> None:
    rig = Rig()
    rig.start()
    assert rig.errors == {"scope ": "the bus has no assignment for this node"}
    rig.publish()
    rig.assign(ALL, serial=1)

    rig.tick(1)

    assert rig.receipts == {ALL: 1}


def test_a_node_that_was_removed_keeps_what_it_has() -> None:
    rig = a_rig()
    rig.assignment = None

    rig.ring_node()

    assert rig.disk.removals == []
    assert rig.receipts == {ALL: 5}


def test_failed_fetches_are_tried_again_slower_each_time_up_to_a_minute() -> None:
    rig = a_rig()
    rig.unreachable[ALL] = "timeout"
    rig.tell(a_scope_bell(ALL, 6, is_beat=True))
    rig.run()
    moments = [0.0]
    for _ in range(300):
        rig.forget_history()
        rig.tell(a_scope_bell(ALL, 5, is_beat=True))
        rig.tick(1)
        if fetched(rig):
            moments.append(rig.now_s)

    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_beats_do_not_hurry_a_failing_fetch() -> None:
    rig = a_rig()
    rig.unreachable[ALL] = "timeout"
    moments = []
    for second in range(1, 60):
        rig.forget_history()
        rig.tell(a_scope_bell(ALL, 6, is_beat=True))
        rig.tick(1)
        if fetched(rig):
            moments.append(second)

    assert len(moments) <= 7


def test_a_ring_hurries_a_failing_fetch() -> None:
    """Something has happened: up to a minute of waiting would be for nothing."""
    rig = a_rig()
    rig.unreachable[ALL] = "timeout"
    rig.tell(a_scope_bell(ALL, 6))
    for _ in range(20):
        rig.tell(a_scope_bell(ALL, 5, is_beat=True))
        rig.tick(1)
    rig.unreachable.clear()
    rig.publish(generation=6)

    rig.ring()

    assert rig.receipts == {ALL: 6}
    assert rig.errors == {}


def test_a_fetch_that_hangs_is_not_asked_for_again_meanwhile() -> None:
    """Time and beats during a fetch of many seconds must not turn its failure into the next one at once."""
    rig = a_rig()
    rig.unreachable[ALL] = "timeout"
    rig.tell(a_scope_bell(ALL, 6))
    rig.run()
    rig.now_s += 1
    rig.tell(e.Tick(rig.now_s))
    rig.take(e.FetchManifest)
    rig.run()
    for _ in range(5):
        rig.tell(a_scope_bell(ALL, 6, is_beat=True))
        rig.tick(1)
    rig.forget_history()

    rig.tell(e.FetchFailed(ALL, "timeout"))
    rig.run()

    assert fetched(rig) == []


def test_what_fails_for_a_scope_that_was_left_is_no_error() -> None:
    """The server shuts the node out before it hears of its demotion: the fetch fails, in either order."""
    for is_failed_first in (False, True):
        rig = a_rig(ALL, MASTER_CANDIDATES)
        rig.tell(a_scope_bell(MASTER_CANDIDATES, 6))
        rig.take(e.FetchManifest)
        failure = e.FetchFailed(MASTER_CANDIDATES, "permissions violation")
        rig.assign(ALL, serial=2)
        if is_failed_first:
            rig.tell(failure)
        rig.ring_node()
        if not is_failed_first:
            rig.tell(failure)
        rig.run()
        rig.forget_history()

        rig.tick(4)

        assert rig.errors == {}
        assert MASTER_CANDIDATES not in fetched(rig)


def test_a_late_manifest_of_a_scope_that_was_left_is_not_taken() -> None:
    rig = a_rig(ALL, MASTER_CANDIDATES)
    rig.tell(a_scope_bell(MASTER_CANDIDATES, 6))
    rig.take(e.FetchManifest)
    rig.assign(ALL, serial=2)
    rig.ring_node()

    rig.tell(e.ManifestFetched(MASTER_CANDIDATES, a_manifest(an_entry(), scope=MASTER_CANDIDATES, generation=6)))
    rig.run()

    assert rig.disk.files.keys() == {"/etc/all"}
    assert rig.status.holding == (ALL,)


@pytest.mark.parametrize("deaf_after_s", [4.0, 1.0, 2.5])
def test_silence_is_noticed_within_one_tick(deaf_after_s: float) -> None:
    """A dead subscription must not hide a generation for longer than 5 seconds (issue 2, item 5)."""
    rig = Rig(ALL, timing=Timing(deaf_after_s=deaf_after_s))
    rig.publish(generation=5)
    rig.start()
    rig.tick(1)
    rig.tell(a_scope_bell(ALL, 5, is_beat=True))
    heard_s = rig.now_s
    rig.publish(an_entry(content="new", generation=6), generation=6)

    while rig.receipts != {ALL: 6} and rig.now_s - heard_s <= deaf_after_s:
        rig.tick(1)

    assert rig.receipts == {ALL: 6}
    assert rig.now_s - heard_s <= deaf_after_s + 1


def test_one_dead_subscription_among_live_ones_is_noticed() -> None:
    rig = a_rig(*BOTH)
    rig.publish(an_entry(content="new", generation=6), scope=VM_CAPABLE, generation=6)

    for _ in range(5):
        rig.tell(a_scope_bell(ALL, 5, is_beat=True))
        rig.tick(1)

    assert rig.receipts == {ALL: 5, VM_CAPABLE: 6}
    assert (e.Listen(BOTH)) in rig.history


def test_a_master_that_is_away_is_looked_for_ever_more_rarely() -> None:
    rig = a_rig()
    moments = [0.0]
    for _ in range(200):
        rig.forget_history()
        rig.tick(1)
        if rig.asked(e.Listen):
            moments.append(rig.now_s)

    assert [later - earlier for earlier, later in itertools.pairwise(moments)][:6] == [5, 9, 17, 33, 33, 33]


def test_a_beat_ends_the_suspicion() -> None:
    rig = a_rig()
    rig.tick(60)
    rig.tell(a_scope_bell(ALL, 5, is_beat=True))
    rig.forget_history()

    rig.tick(5)

    assert len(rig.asked(e.Listen)) == 1


def test_regular_beats_cost_nothing() -> None:
    rig = a_rig(*BOTH)
    rig.tick(10)
    rig.forget_history()

    for _ in range(60):
        for scope in BOTH:
            rig.tell(a_scope_bell(scope, 5, is_beat=True))
        rig.tick(2)

    assert {type(effect) for effect in rig.history} == {e.Report}


def test_while_disconnected_nothing_is_asked_of_the_bus() -> None:
    rig = a_rig()
    rig.tick(10)
    rig.forget_history()
    rig.tell(e.BusDown("gone"))

    rig.tell(a_scope_bell(ALL, 9))
    rig.tell(a_node_bell())
    rig.tick(120)

    assert rig.history == []


def test_a_reconnect_looks_at_everything() -> None:
    rig = a_rig(*BOTH)
    rig.tell(e.BusDown("gone"))
    rig.publish(an_entry(PATH, generation=6), scope=VM_CAPABLE, generation=6)

    rig.tell(e.BusUp())
    rig.run()

    assert fetched(rig)[:3] == ["assignment", ALL, VM_CAPABLE]
    assert rig.receipts == {ALL: 5, VM_CAPABLE: 6}


def test_a_fetch_from_before_a_reconnect_is_asked_again_after_its_end() -> None:
    """Its answer may be older than what was published while the node was away."""
    for end in (e.ManifestFetched(ALL, a_manifest(generation=5)), e.FetchFailed(ALL, "no responders")):
        rig = a_rig()
        rig.tell(a_scope_bell(ALL, 6))
        rig.take(e.FetchManifest)
        rig.tell(e.BusDown("gone"))
        rig.publish(generation=7)
        rig.tell(e.BusUp())
        rig.run()

        rig.tell(end)
        rig.run()

        assert rig.receipts == {ALL: 7}


def test_a_node_that_comes_back_from_offline_fetches_what_it_missed() -> None:
    rig = a_rig(*BOTH)
    rig.assign(*BOTH, serial=2, is_offline=True)
    rig.ring_node()
    rig.publish(an_entry(OTHER, generation=6), scope=VM_CAPABLE, generation=6)
    rig.ring(VM_CAPABLE)
    assert rig.receipts == {ALL: 5, VM_CAPABLE: 5}
    rig.assign(*BOTH, serial=3)

    rig.ring_node()

    assert rig.receipts == {ALL: 5, VM_CAPABLE: 6}


def test_a_refused_message_is_counted_and_reported() -> None:
    rig = a_rig()

    rig.tell(e.MessageRefused("mesh.bell.node.node2: not msgpack"))
    rig.run()

    assert (rig.status.refusals.count, rig.status.refusals.last) == (1, "mesh.bell.node.node2: not msgpack")


def test_every_order_of_the_first_events_ends_the_same() -> None:
    """Connection, tick, bells of node and scope in any order; each with the others' effects still waiting."""
    first: tuple[e.Event, ...] = (
        e.Tick(1.0),
        e.BusUp(),
        ScopeBell(scope=ALL, epoch=1, generation=1),
        NodeBell(node=NodeName(NODE), epoch=1, serial=1),
        e.FilesTouched(None),
    )
    for order in itertools.permutations(first):
        rig = Rig(*BOTH)
        for scope in BOTH:
            rig.publish(an_entry(f"/etc/{scope}"), scope=scope)
        for event in order:
            rig.tell(event)
        rig.run()
        assert rig.receipts == {ALL: 1, VM_CAPABLE: 1}
        assert rig.listening == BOTH
