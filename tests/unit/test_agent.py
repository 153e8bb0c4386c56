"""node_agent/core/agent.py: how its two sides work together; what is durable before what; what idleness costs."""

import itertools

import pytest

from node_agent.core import events as e
from node_agent.core.agent import Agent, Timing
from node_agent.core.reconcile import Known
from protocol.messages import Status
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, ManagedPath, ScopeName, group_scope
from tests.support.agent_rig import NODE, Rig
from tests.support.values import (
    OTHER,
    PATH,
    a_manifest,
    a_node_bell,
    a_scope_bell,
    an_assignment,
    an_entry,
    digest_of,
    found_as,
    found_file,
)


def a_rig(*scopes: ScopeName, is_master: bool = False) -> Rig:
    """Return a rig at rest with PATH in the first scope, at generation 5."""
    scopes = scopes or (ALL,)
    rig = Rig(*scopes)
    rig.assign(*scopes, serial=1, is_master=is_master)
    for scope in scopes:
        rig.publish(*[an_entry(generation=5)] * (scope == scopes[0]), scope=scope, generation=5)
    rig.start()
    rig.forget_history()
    return rig


def test_a_late_manifest_never_undoes_a_newer_one() -> None:
    """Whatever the bus offers, in this session and after a restart."""
    rig = a_rig()
    rig.publish(an_entry(content="old", generation=4), generation=4)
    rig.ring()
    rig.tell(e.ManifestFetched(ALL, rig.manifests[ALL]))
    rig.run()
    rig.restart()
    rig.tick(10)

    assert rig.disk.files == {PATH: found_as(an_entry())}
    assert not [perform for perform in rig.asked(e.Perform) if perform.plan.writes]


def test_a_generation_is_remembered_before_it_is_acted_on() -> None:
    """Killed after the write and restarted against a bus that lags behind, the agent must not go back."""
    rig = a_rig()
    new = an_entry(content="new", generation=6)
    old = rig.manifests[ALL]
    rig.publish(new, generation=6)
    rig.tell(a_scope_bell(ALL, 6))
    perform = rig.run_until(e.Perform)
    rig.disk.perform(perform.plan)
    rig.manifests[ALL] = old

    rig.restart()

    assert rig.disk.files == {PATH: found_as(new)}
    assert "older than 6" in rig.errors["scope all"]
    assert rig.receipts == {}


def kinds(effects: list[e.Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def test_what_is_written_anew_is_noted_before_it_is_written() -> None:
    rig = a_rig()
    rig.publish(an_entry(generation=5), an_entry(OTHER, generation=6), generation=6)

    rig.ring()

    assert kinds(rig.history) == [
        "FetchManifest",
        "Watch",
        "Observe",
        "Remember",
        "Perform",
        "Report",
    ]
    rig.beat()
    intent, done = rig.asked(e.Remember)
    assert intent.memory.known[OTHER] == Known(ALL, digest_of("content"), is_intent=True)
    assert intent.memory.versions == {ALL: (1, 6)}
    assert done.memory.known[OTHER] == Known(ALL, digest_of("content"))


def test_the_second_note_comes_with_a_beat() -> None:
    """Two fsyncs less for every edit, and for ten in a row; what the first note says is enough after a crash."""
    rig = a_rig()
    rig.beat()
    rig.forget_history()
    for generation in range(6, 16):
        rig.publish(an_entry(content=f"content {generation}", generation=generation), generation=generation)
        rig.ring()
        assert kinds(rig.history)[-3:] == ["Remember", "Perform", "Report"]

    rig.beat()

    assert len(rig.asked(e.Remember)) == 11
    assert rig.memory.known == {PATH: Known(ALL, digest_of("content 15"))}


def test_after_a_crash_before_the_second_note_both_contents_are_known_as_the_meshs() -> None:
    """No backup is made of what the mesh itself has published."""
    rig = a_rig()
    rig.beat()
    rig.publish(an_entry(content="content 6", generation=6), generation=6)
    rig.ring()
    for generation in (7, 8):
        rig.publish(an_entry(content=f"content {generation}", generation=generation), generation=generation)
        rig.restart(f"boot{generation}")

    assert rig.disk.files == {PATH: found_as(an_entry(content="content 8"))}
    assert rig.disk.backups == []


def test_a_generation_that_needs_no_write_is_remembered_before_it_is_reported() -> None:
    rig = a_rig()
    rig.publish(an_entry(generation=5), generation=6)

    rig.ring(is_beat=True)

    assert kinds(rig.history) == ["FetchManifest", "Remember", "Report"]


def test_an_assignment_is_remembered_before_it_is_reported() -> None:
    rig = a_rig()
    rig.assign(ALL, serial=7)

    rig.tell(a_node_bell(serial=7))
    rig.waiting.clear()
    effects = rig.tell(e.AssignmentFetched(rig.assignment))

    assert kinds(effects) == ["Remember", "Report"]
    assert effects[0] == e.Remember(rig.asked(e.Remember)[0].memory)
    assert rig.asked(e.Remember)[0].memory.serial == (1, 7)


@pytest.mark.parametrize("content", ["content", "by hand"])
def test_a_crash_between_intent_and_write_leaves_foreign_files_alone(content: str) -> None:
    """What was there before is kept, unless it is just what was to be written."""
    rig = Rig(ALL)
    rig.disk.files[PATH] = found_file(content)
    rig.memory = e.Memory((1, 1), {ALL: (1, 1)}, {PATH: Known(ALL, digest_of("content"), is_intent=True)})
    rig.publish(generation=2)

    rig.restart()
    rig.beat()

    assert (PATH in rig.disk.files) == (content == "by hand")
    assert rig.memory.known == {}
    assert rig.receipts == {ALL: 2}


def test_every_crash_point_of_a_change_ends_well() -> None:
    """One change of each kind at once; killed after every effect, with the disk as it then is."""
    crashes = 0
    for steps in range(100):
        rig = a_rig(ALL, MASTER_CANDIDATES)
        rig.publish(an_entry("/etc/secret"), scope=MASTER_CANDIDATES, generation=6)
        rig.ring(MASTER_CANDIDATES)
        rig.publish(an_entry(content="new", generation=7), an_entry(OTHER, generation=7), generation=7)
        rig.assign(ALL, serial=2)
        rig.tell(a_scope_bell(ALL, 7))
        rig.tell(a_node_bell(serial=2))
        for _ in range(steps):
            if not rig.waiting:
                break
            rig.step()
        else:
            crashes += 1

        rig.restart()
        rig.tick(1)

        assert rig.disk.files == {
            PATH: found_as(an_entry(content="new")),
            OTHER: found_as(an_entry(OTHER)),
        }
        assert rig.disk.backups == []
        assert (rig.receipts, rig.status.holding, rig.status.serial) == ({ALL: 7}, (ALL,), 2)
        if not rig.waiting and crashes <= steps:
            break
    assert crashes > 10


def test_a_restart_gives_no_receipt_before_it_has_looked() -> None:
    rig = a_rig()
    rig.disk.files[PATH] = found_file("rotten")
    before = len(rig.statuses)
    rig.disk.barred[PATH] = "Input/output error"

    rig.restart()

    assert all(status.receipts == () for status in rig.statuses[before:])
    assert rig.disk.read_afresh == {PATH}


def test_sequence_numbers_grow_within_one_boot() -> None:
    rig = a_rig()
    rig.tick(30)
    rig.restart("boot2")
    rig.tick(10)

    for boot in ("boot1", "boot2"):
        numbers = [status.sequence for status in rig.statuses if status.boot == boot]
        assert numbers == list(range(1, len(numbers) + 1))


def test_an_idle_agent_says_that_it_is_there_and_nothing_else() -> None:
    rig = a_rig()
    rig.beat()
    rig.forget_history()
    for _ in range(60):
        rig.tell(a_scope_bell(ALL, 5, is_beat=True))
        rig.tick(1)

    assert {type(effect) for effect in rig.history} == {e.Report}
    assert len(rig.history) == 15
    assert len({status.receipts for status in rig.statuses[-15:]}) == 1


def test_beats_follow_the_interval() -> None:
    agent = Rig(ALL, timing=Timing(beat_interval_s=2.0, deaf_after_s=100.0))
    agent.publish()
    agent.start()
    agent.forget_history()

    agent.tick(60)

    assert len(agent.asked(e.Report)) == 30


class Counted(dict[ManagedPath, object]):
    """A dictionary that counts how often it is gone through."""

    rounds = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        Counted.rounds += 1
        return super().__iter__()

    def items(self):  # type: ignore[no-untyped-def]
        Counted.rounds += 1
        return super().items()

    def values(self):  # type: ignore[no-untyped-def]
        Counted.rounds += 1
        return super().values()

    def keys(self):  # type: ignore[no-untyped-def]
        Counted.rounds += 1
        return super().keys()


def count_rounds(rig: Rig) -> None:
    """From now on, count how often the agent goes through everything that grows with the number of files."""
    agent = rig.agent
    agent._desired.wanted = Counted(agent._desired.wanted)  # type: ignore[assignment]
    agent._holdings.known = Counted(agent._holdings.known)  # type: ignore[assignment]
    agent._disk._found = Counted(agent._disk._found)  # type: ignore[assignment]
    Counted.rounds = 0


def test_idle_ticks_beats_bells_and_hints_do_not_go_through_the_files() -> None:
    """No cost may grow with the number of managed files when nothing changed (issue 2, Speed and memory)."""
    rig = a_rig()
    rig.beat()
    count_rounds(rig)

    for _ in range(20):
        rig.tell(a_scope_bell(ALL, 5, is_beat=True))
        rig.tell(a_scope_bell(ALL, 5))
        rig.tell(a_scope_bell(MASTER_CANDIDATES, 5))
        rig.tell(e.MessageRefused("garbage"))
        rig.tell(e.FilesTouched(frozenset({OTHER})))
        rig.ring_node()
        rig.tick(1)

    assert rig.asked(e.Report)
    assert Counted.rounds == 0


def test_a_look_that_finds_nothing_new_on_the_bus_does_not_go_through_the_files() -> None:
    """A master that is away makes every node look; a thousand of them with a thousand files must not mind."""
    rig = a_rig()
    rig.beat()
    count_rounds(rig)

    rig.tick(100)
    rig.tell(e.BusDown(""))
    rig.tell(e.BusUp())
    rig.run()

    assert len(rig.asked(e.Listen)) > 3
    assert Counted.rounds == 0


def test_the_count_counts() -> None:
    rig = a_rig()
    count_rounds(rig)

    rig.tell(e.FilesTouched(None))

    assert Counted.rounds > 0


def look(status: Status) -> str:
    return status.look


def test_a_look_is_finished_when_everything_was_read_again() -> None:
    rig = a_rig(ALL, VM_CAPABLE)
    before = len(rig.statuses)
    rig.disk.read_afresh.clear()

    rig.ring_node(look="look1")

    assert rig.disk.read_afresh == {PATH}
    assert rig.status.look == "look1"
    assert rig.receipts == {ALL: 5, VM_CAPABLE: 5}
    assert [status.look for status in rig.statuses[before:]].count("") >= 1, "it is answered before it is finished"


def test_a_look_waits_for_the_answers_of_the_bus() -> None:
    for unanswered in (e.FetchAssignment, e.FetchManifest):
        rig = a_rig()
        rig.tell(a_node_bell(look="look1"))
        fetch = rig.take(unanswered)
        rig.run()
        assert rig.status.look == ""

        rig.end(fetch)
        rig.run()

        assert rig.status.look == "look1"


def test_a_look_waits_for_what_it_found_to_be_repaired_or_to_fail() -> None:
    rig = a_rig()
    rig.disk.files[PATH] = found_file("rotten")
    rig.tell(a_node_bell(look="look1"))
    perform = rig.run_until(e.Perform)
    rig.run()
    assert rig.status.look == ""

    rig.end(perform)
    rig.run()

    assert (rig.status.look, rig.receipts) == ("look1", {ALL: 5})


def test_a_look_does_not_count_an_observation_that_began_before_it() -> None:
    """That one may have trusted a file's times; the look is what finds bit rot."""
    rig = a_rig()
    rig.tell(e.FilesTouched(frozenset({PATH})))
    observe = rig.take(e.Observe)
    rig.ring_node(look="look1")
    assert rig.status.look == ""
    rig.disk.read_afresh.clear()

    rig.end(observe)
    rig.run()

    assert rig.status.look == "look1"
    assert rig.disk.read_afresh == {PATH}


def test_a_look_that_is_asked_for_twice_is_done_once() -> None:
    """The master rings again until it has the answer."""
    rig = a_rig()
    rig.tell(a_node_bell(look="look1"))
    observe = rig.take(e.Observe)
    rig.ring_node(look="look1")
    rig.end(observe)
    rig.run()
    rig.forget_history()

    rig.ring_node(look="look1")

    assert not rig.asked(e.Observe)
    assert rig.status.look == "look1"
    rig.ring_node(look="look2")
    assert len(rig.asked(e.Observe)) == 1
    assert rig.status.look == "look2"


def test_a_newer_look_replaces_one_that_is_under_way() -> None:
    rig = a_rig()
    rig.tell(a_node_bell(look="look1"))
    observe = rig.take(e.Observe)
    rig.ring_node(look="look2")
    rig.end(observe)

    rig.run()

    assert rig.status.look == "look2"
    assert "look1" not in [status.look for status in rig.statuses]


def test_the_masters_own_node_is_never_written_to() -> None:
    """It holds the sources: whatever differs is an edit that the master has not seen yet."""
    rig = a_rig(ALL, MASTER_CANDIDATES, is_master=True)
    rig.memory = e.Memory((1, 1), {}, {ManagedPath("/etc/old"): Known(ALL, digest_of("old"))})
    rig.disk.files[ManagedPath("/etc/old")] = found_file("old")
    rig.restart()
    for content in ("edited", "edited again"):
        rig.disk.files[PATH] = found_file(content)
        rig.tell(e.FilesTouched(frozenset({PATH})))
        rig.run()
    rig.publish(an_entry(content="newer", generation=6), an_entry(OTHER, generation=6), generation=6)
    rig.ring()
    rig.ring_node(look="look1")
    rig.disk.files.pop(PATH)
    rig.tick(120)
    rig.publish(generation=7)
    rig.ring()

    assert not rig.asked(e.Perform)
    assert rig.receipts == {ALL: 7, MASTER_CANDIDATES: 5}


def test_the_masters_node_shows_a_difference_and_owes_nothing_for_it() -> None:
    rig = a_rig(is_master=True)
    rig.disk.files[PATH] = found_file("edited")

    rig.tell(e.FilesTouched(frozenset({PATH})))
    rig.run()

    assert rig.errors == {PATH: "the source differs from what is published"}
    assert rig.receipts == {ALL: 5}
    rig.publish(an_entry(content="edited", generation=6), generation=6)
    rig.ring()
    assert (rig.errors, rig.receipts) == ({}, {ALL: 6})


def test_a_former_masters_node_is_written_to_like_any_other() -> None:
    rig = a_rig(is_master=True)
    rig.disk.files[PATH] = found_file("edited")
    rig.tell(e.FilesTouched(frozenset({PATH})))
    rig.run()
    rig.assign(ALL, serial=2)

    rig.ring_node()

    assert rig.disk.files == {PATH: found_as(an_entry())}
    assert rig.disk.backups == [(PATH, digest_of("edited"))]
    assert (rig.errors, rig.receipts) == ({}, {ALL: 5})


def test_what_was_written_on_a_candidate_is_its_source_once_it_is_the_master() -> None:
    """It keeps the files of a scope that it leaves as the master, and so must not be said to owe their removal."""
    rig = a_rig(group_scope("rack"), ALL)
    rig.assign(group_scope("rack"), ALL, serial=2, is_master=True)
    rig.ring_node()

    rig.assign(ALL, serial=3, is_master=True)
    rig.ring_node()

    assert rig.status.holding == ()
    assert rig.receipts == {ALL: 5}
    assert rig.disk.files == {PATH: found_as(an_entry())}
    assert rig.disk.backups == []


def test_without_the_bus_files_are_repaired_all_the_same() -> None:
    """From what is on the disk, as far as it is (another file holds the content); the rest waits."""
    rig = a_rig()
    rig.tell(e.BusDown("gone"))
    rig.disk.files.clear()
    rig.forget_history()

    rig.tell(e.FilesTouched(frozenset({PATH})))
    rig.run()

    assert rig.disk.files == {PATH: found_as(an_entry())}
    assert not rig.asked(e.Report)


def test_one_observation_or_plan_at_a_time() -> None:
    """Whatever happens meanwhile; the disk belongs to one piece of work."""
    rig = a_rig()
    rig.disk.files[PATH] = found_file("by hand")
    rig.tell(e.FilesTouched(frozenset({PATH})))
    under_way: e.Effect = rig.take(e.Observe)
    for number in range(6, 12):
        rig.publish(an_entry(content=str(number), generation=number), generation=number)
        rig.tell(a_scope_bell(ALL, number))
        rig.tell(e.FilesTouched(None))
        rig.tell(a_node_bell(look=f"look{number}"))
        while rig.waiting:
            assert not isinstance(rig.waiting[0], e.Observe | e.Perform)
            rig.step()
        rig.end(under_way)
        under_way = rig.run_until(e.Perform if isinstance(under_way, e.Observe) and number == 6 else e.Observe)
    rig.end(under_way)
    rig.run()

    assert rig.receipts == {ALL: 11}
    assert rig.status.look == "look11"


def test_the_same_events_give_the_same_effects() -> None:
    histories = []
    for _ in range(2):
        rig = a_rig(ALL, MASTER_CANDIDATES)
        rig.publish(*(an_entry(f"/etc/{number}") for number in range(50)), generation=6)
        rig.ring()
        rig.tick(20)
        histories.append(rig.history)

    assert histories[0] == histories[1]


def test_two_agents_share_nothing() -> None:
    first, second = Agent(NODE, boot="a"), Agent(NODE, boot="b")
    first.handle(e.BusUp())
    first.handle(e.AssignmentFetched(an_assignment(ALL)))
    first.handle(e.ManifestFetched(ALL, a_manifest(an_entry())))

    assert kinds(second.handle(e.FilesTouched(None))) == []


def test_promotion_and_demotion_in_any_order_end_as_the_last_one_says() -> None:
    """Promote, demote, promote within one beat; every subset of the bells may be lost."""
    roles = ((ALL, MASTER_CANDIDATES), (ALL,), (ALL, MASTER_CANDIDATES), (ALL,))
    for rung in itertools.product([False, True], repeat=len(roles) - 1):
        rig = a_rig()
        rig.publish(an_entry(OTHER), scope=MASTER_CANDIDATES)
        for serial, (scopes, is_rung) in enumerate(zip(roles, (*rung, True), strict=True), 2):
            rig.assign(*scopes, serial=serial)
            if is_rung:
                rig.ring_node()
                assert (OTHER in rig.disk.files) == (MASTER_CANDIDATES in scopes)
        assert rig.status.holding == (ALL,)


def test_new_os_definitions_are_told_at_once_and_the_same_ones_with_the_beat() -> None:
    """The master fetches them when the digest is another one."""
    agent = Agent(NODE, boot="a")
    agent.handle(e.BusUp())

    (told,) = [effect for effect in agent.handle(e.OsDefinitionsRead("digest")) if isinstance(effect, e.Report)]

    assert told.status.os_report == "digest"
    assert agent.handle(e.OsDefinitionsRead("digest")) == []
