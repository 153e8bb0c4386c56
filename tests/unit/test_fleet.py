"""master/core/fleet.py: a goal is reached only when every node that counts has said so, lately, of this goal."""

import itertools
from collections.abc import Iterator

import pytest

from master.core.cluster import ClusterConfig
from master.core.fleet import BOOTS_MAX, Fleet, nodes_of
from protocol.messages import ERRORS_MAX, ScopeReceipt, Status
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, NodeName, ScopeName
from protocol.operator_messages import Goal, Missing
from tests.support.values import OTHER, PATH, a_config, a_manifest, a_node, a_receipt, a_status, an_error

NODE2 = NodeName("node2")
SILENT_AFTER_S = 12.0
NOW_S = 1000.0
LOOKS = ("look1", "look2", "look3")


def a_fleet(*statuses: Status, at_s: float = NOW_S) -> Fleet:
    fleet = Fleet(silent_after_s=SILENT_AFTER_S)
    for status in statuses:
        fleet.hear(status, at_s)
    return fleet


def a_goal(
    generations: dict[str, int] | None = None,
    *,
    serials: dict[str, int] | None = None,
    looks: str = "",
    nodes: tuple[str, ...] = ("node2",),
    epoch: int = 2,
) -> Goal:
    wanted = {ALL: 7} if generations is None else generations
    return Goal(epoch=epoch, generations=wanted, serials=serials or {}, looks=looks, nodes=nodes)


def missing(fleet: Fleet, goal: Goal, *, config: ClusterConfig | None = None, now_s: float = NOW_S) -> list[Missing]:
    return list(fleet.missing(config or a_config(a_node("node2", "C")), goal, now_s))


HERE, LEFT, SILENT, RECALLED, NEVER = "here", "left", "silent", "recalled", "never"
RECEIPTS: dict[str, tuple[int, int] | None] = {
    "none": None,
    "older": (2, 6),
    "of an earlier term": (1, 99),
    "this": (2, 7),
    "newer": (2, 8),
    "of a later term": (3, 1),
}
REACHED = {"this", "newer", "of a later term"}


def every_status() -> Iterator[tuple[str, int, str, str, str, ScopeName | None]]:
    yield from itertools.product(
        (HERE, LEFT, SILENT, RECALLED, NEVER),
        (4, 5, 6),
        ("", *LOOKS),
        RECEIPTS,
        RECEIPTS,
        (None, ALL, ScopeName("group-gone")),
    )


def receipts_of(all_: str, candidates: str) -> list[ScopeReceipt]:
    versions = {ALL: RECEIPTS[all_], MASTER_CANDIDATES: RECEIPTS[candidates]}
    return [a_receipt(scope, version[1], epoch=version[0]) for scope, version in versions.items() if version]


def a_fleet_with(presence: str, status: Status) -> Fleet:
    fleet = Fleet(silent_after_s=SILENT_AFTER_S)
    for look in LOOKS:
        fleet.note_look(look)
    match presence:
        case "recalled":
            fleet.recall(status)
        case "here" | "left":
            fleet.hear(status, NOW_S - SILENT_AFTER_S)
        case "silent":
            fleet.hear(status, NOW_S - SILENT_AFTER_S - 0.1)
    if presence == LEFT:
        fleet.leave(NODE2)
    return fleet


@pytest.mark.parametrize("asks_serial", [False, True])
@pytest.mark.parametrize("asks_look", [False, True])
def test_a_goal_is_never_reached_while_a_node_is_behind(asks_serial: bool, asks_look: bool) -> None:
    """Every status that a node could have given, against every kind of goal."""
    goal = a_goal(
        {ALL: 7, MASTER_CANDIDATES: 7},
        serials={"node2": 5} if asks_serial else None,
        looks="look2" if asks_look else "",
    )
    config = a_config(a_node("node2", "C"))
    for presence, serial, look, all_, candidates, holding in every_status():
        held = (holding,) if holding else ()
        status = a_status(*receipts_of(all_, candidates), serial=serial, look=look, holding=held)
        is_reached = (
            presence == HERE
            and all_ in REACHED
            and candidates in REACHED
            and (not asks_serial or (serial >= 5 and holding in (None, ALL)))
            and (not asks_look or look in ("look2", "look3"))
        )

        reasons = missing(a_fleet_with(presence, status), goal, config=config)

        assert (not reasons) == is_reached, (presence, status, reasons)
        assert all(reason.node == "node2" and reason.reason for reason in reasons)


def test_one_node_behind_is_enough() -> None:
    config = a_config(a_node("node2"), a_node("node3"))
    ready = a_receipt(ALL, 7, epoch=2)
    fleet = a_fleet(a_status(ready, node="node1"), a_status(ready, node="node2"), a_status(node="node3"))

    assert [reason.node for reason in missing(fleet, a_goal(nodes=()), config=config)] == ["node3"]


@pytest.mark.parametrize(
    ("fleet", "reason"),
    [
        (a_fleet(), "has not reported since the master started"),
        (a_fleet(a_status(a_receipt(ALL, 6, epoch=2))), "has generation 6, not 7 yet"),
        (a_fleet(a_status()), "has no complete generation, not 7 yet"),
        (a_fleet(a_status(), at_s=NOW_S - 13), "is not online: it says nothing, last heard 13 s ago"),
        (a_fleet_with(LEFT, a_status()), "is not online: its connection ended, last heard 12 s ago"),
        (a_fleet_with(RECALLED, a_status()), "has not reported since the master started"),
    ],
)
def test_the_reason_says_what_is_the_matter(fleet: Fleet, reason: str) -> None:
    assert [found.reason for found in missing(fleet, a_goal())] == [reason]


def test_a_node_without_a_key_has_not_joined() -> None:
    config = a_config()
    bare = a_node()
    config = a_config(type(bare)(name=bare.name, uuid=bare.uuid, group=bare.group))

    assert [found.reason for found in missing(a_fleet(), a_goal(), config=config)] == [
        "has not joined yet: its agent has no key in the cluster"
    ]


def test_errors_of_the_scope_name_path_and_reason() -> None:
    errors = [an_error(PATH, ALL, "disk full"), an_error(OTHER, VM_CAPABLE, "no such user"), an_error("", "", "late")]
    fleet = a_fleet(a_status(errors=errors))

    assert [(found.path, found.reason) for found in missing(fleet, a_goal())] == [(PATH, "disk full"), ("", "late")]


def test_errors_that_no_longer_fit_into_the_status_do_not_make_it_done() -> None:
    errors = [an_error(f"/etc/{number}", VM_CAPABLE) for number in range(ERRORS_MAX)]

    assert missing(a_fleet(a_status(errors=errors)), a_goal())


def test_an_error_does_not_hold_up_a_generation_that_is_there() -> None:
    """The error is of a later generation; who waited for this one has it."""
    status = a_status(a_receipt(ALL, 7, epoch=2), errors=[an_error()])

    assert missing(a_fleet(status), a_goal()) == []


def test_a_demoted_node_is_done_when_it_holds_nothing_of_the_scope_any_more() -> None:
    config = a_config(a_node("node2", "R", serial_no=5))
    goal = a_goal({}, serials={"node2": 5})
    held = a_status(serial=5, holding=[ALL, MASTER_CANDIDATES])
    failing = a_status(serial=5, sequence=2, holding=[MASTER_CANDIDATES], errors=[an_error(PATH, MASTER_CANDIDATES)])
    free = a_status(serial=5, sequence=3, holding=[ALL])
    fleet = a_fleet(held)

    (reason,) = missing(fleet, goal, config=config)
    assert (reason.scope, reason.reason) == (MASTER_CANDIDATES, "still holds files of a scope it has left")
    fleet.hear(failing, NOW_S)
    (reason,) = missing(fleet, goal, config=config)
    assert (reason.path, reason.reason) == (PATH, "No space left on device")
    fleet.hear(free, NOW_S)
    assert missing(fleet, goal, config=config) == []


def test_what_a_node_said_before_it_knew_its_role_proves_nothing() -> None:
    """It was a candidate once and still has the receipt; the demotion it missed made room for a promotion."""
    config = a_config(a_node("node2", "C", serial_no=5))
    before = a_status(a_receipt(ALL, 7, epoch=2), a_receipt(MASTER_CANDIDATES, 7, epoch=2), serial=3)

    (reason,) = missing(a_fleet(before), a_goal(serials={"node2": 5}), config=config)

    assert reason.reason == "does not act on its new role yet"


def test_a_later_look_covers_an_earlier_one() -> None:
    """Two operators ask for redist-conf at once: the agent answers the later token only."""
    fleet = a_fleet_with(HERE, a_status(look="look3"))

    assert missing(fleet, a_goal({}, looks="look2")) == []
    assert missing(fleet, a_goal({}, looks="look3")) == []
    assert missing(a_fleet_with(HERE, a_status(look="look1")), a_goal({}, looks="look2"))
    assert missing(a_fleet_with(HERE, a_status(look="unheard")), a_goal({}, looks="look2"))
    assert missing(fleet, a_goal({}, looks="of another master"))


def test_a_look_that_a_node_owes_is_known() -> None:
    fleet = a_fleet(a_status(look="look1"), a_status(node="node3"))

    assert fleet.look_owed(NODE2) == ""
    for look in LOOKS:
        fleet.note_look(look)
    assert fleet.look_owed(NODE2) == "look3"
    assert fleet.look_owed(NodeName("nobody")) == ""
    fleet.hear(a_status(look="look3", sequence=2), NOW_S)
    assert fleet.look_owed(NODE2) == ""


def test_offline_nodes_count_only_if_they_are_named() -> None:
    config = a_config(a_node("node2", "O"))
    ready = a_receipt(ALL, 7, epoch=2)
    fleet = a_fleet(a_status(ready, node="node1"), a_status(ready))

    assert missing(fleet, a_goal(nodes=()), config=config) == []
    (reason,) = missing(fleet, a_goal(nodes=("node2",)), config=config)
    assert reason.reason == "is marked offline: it gets what it misses once it is online again"


def test_a_node_set_offline_owes_what_it_must_give_back_while_it_is_there() -> None:
    """`node modify -O yes` is for nodes that are dead: it must not wait for them, and must not skip the living."""
    config = a_config(a_node("node2", "O", serial_no=5))
    goal = a_goal({ALL: 7}, serials={"node2": 5})
    for presence in (LEFT, SILENT, RECALLED, NEVER):
        assert missing(a_fleet_with(presence, a_status(holding=[MASTER_CANDIDATES])), goal, config=config) == []
    assert missing(a_fleet(a_status(serial=4)), goal, config=config)
    assert missing(a_fleet(a_status(serial=5, holding=[MASTER_CANDIDATES])), goal, config=config)
    assert missing(a_fleet(a_status(serial=5, holding=[ALL])), goal, config=config) == []


def test_a_named_node_that_was_removed_is_missing_for_ever() -> None:
    (reason,) = missing(a_fleet(), a_goal(nodes=("gone",)))

    assert (reason.node, reason.reason) == ("gone", "is not in the cluster any more")


def test_only_members_of_the_scopes_count() -> None:
    config = a_config(a_node("node2", "C"), a_node("node3", "R"), a_node("node4", "O"))

    def names(goal: Goal) -> list[str]:
        return [node.name for node in nodes_of(config, goal)]

    assert names(a_goal({MASTER_CANDIDATES: 7}, nodes=())) == ["node1", "node2"]
    assert names(a_goal({ALL: 7}, nodes=())) == ["node1", "node2", "node3"]
    assert names(a_goal({}, nodes=())) == []
    assert names(a_goal({}, serials={"node3": 1}, nodes=())) == ["node3"]
    assert names(a_goal({}, looks="look1", nodes=())) == ["node1", "node2", "node3"]


def test_a_late_status_is_not_news() -> None:
    fleet = a_fleet(a_status(a_receipt(ALL, 7, epoch=2), sequence=5))

    assert not fleet.hear(a_status(a_receipt(ALL, 6, epoch=2), sequence=4), NOW_S)
    assert not fleet.hear(a_status(sequence=5), NOW_S)
    assert missing(fleet, a_goal()) == []


def test_a_restarted_agent_begins_to_count_anew() -> None:
    """What its predecessor promised is not on its word: it has to look first."""
    fleet = a_fleet(a_status(a_receipt(ALL, 7, epoch=2), sequence=500))

    assert fleet.hear(a_status(boot="boot2", sequence=1), NOW_S)
    assert missing(fleet, a_goal())


def test_what_an_earlier_process_said_is_not_heard_twice() -> None:
    fleet = a_fleet(a_status(a_receipt(ALL, 7, epoch=2), sequence=5))
    fleet.hear(a_status(boot="boot2"), NOW_S)

    for late in (4, 5):
        assert not fleet.hear(a_status(a_receipt(ALL, 7, epoch=2), sequence=late), NOW_S)
    assert missing(fleet, a_goal())


def test_every_order_of_two_processes_statuses_ends_with_the_one_that_goes_on() -> None:
    """A late word of the earlier process may be taken for news; it must not shut out the later one."""
    old = [a_status(a_receipt(ALL, 7, epoch=2), boot="old", sequence=number) for number in (1, 2)]
    new = [a_status(a_receipt(ALL, 6, epoch=2), boot="new", sequence=number) for number in (1, 2)]
    for order in itertools.permutations([*old, *new]):
        fleet = a_fleet(*order)
        fleet.hear(a_status(a_receipt(ALL, 6, epoch=2), boot="new", sequence=3), NOW_S)
        status = fleet.status(NODE2)
        assert status and (status.boot, status.sequence) == ("new", 3)


def test_only_so_many_processes_are_remembered() -> None:
    """An agent that dies at every start must not fill the master's memory."""
    fleet = a_fleet()
    for number in range(1000):
        assert fleet.hear(a_status(boot=f"boot{number}"), NOW_S)

    assert not fleet.hear(a_status(boot=f"boot{1000 - BOOTS_MAX}"), NOW_S)
    assert fleet.hear(a_status(boot="boot0"), NOW_S)


def test_only_a_change_is_progress() -> None:
    fleet = a_fleet()

    assert fleet.hear(a_status(sequence=1), NOW_S)
    assert not fleet.hear(a_status(sequence=2), NOW_S + 4)
    assert fleet.hear(a_status(a_receipt(), sequence=3), NOW_S + 8)
    fleet.leave(NODE2)
    assert fleet.hear(a_status(a_receipt(), sequence=4), NOW_S + 9), "it is back"
    assert fleet.hear(a_status(a_receipt(), sequence=5), NOW_S + 9 + SILENT_AFTER_S + 1), "it speaks again"


def test_what_was_said_before_this_master_does_not_replace_what_was_said_to_it() -> None:
    fleet = a_fleet(a_status(serial=5))

    fleet.recall(a_status(serial=4))

    assert fleet.is_online(NODE2, NOW_S)
    status = fleet.status(NODE2)
    assert status and status.serial == 5


def test_silence_is_noticed_once() -> None:
    fleet = a_fleet(a_status())
    end_s = NOW_S + SILENT_AFTER_S

    assert not fleet.turned_silent(NOW_S, end_s)
    assert fleet.turned_silent(end_s, end_s + 1)
    assert not fleet.turned_silent(end_s + 1, end_s + 2)


def test_a_forgotten_node_was_never_there() -> None:
    fleet = a_fleet(a_status())
    fleet.forget(NODE2)
    fleet.forget(NODE2)
    fleet.leave(NODE2)

    assert fleet.status(NODE2) is None
    assert not fleet.is_online(NODE2, NOW_S)


@pytest.mark.parametrize("has_receipt", [False, True])
@pytest.mark.parametrize("has_error", [False, True])
@pytest.mark.parametrize("serial", [4, 5])
@pytest.mark.parametrize("role", ["R", "O"])
def test_a_node_is_in_sync_only_with_everything_and_without_errors(
    has_receipt: bool, has_error: bool, serial: int, role: str
) -> None:
    node = a_node("node2", role, serial_no=5, vm_capable=False)
    receipts = [a_receipt(scope, 3) for scope in (ALL, ScopeName("group-default")) if has_receipt]
    fleet = a_fleet(a_status(*receipts, serial=serial, errors=[an_error()] if has_error else []))
    manifests = {
        scope: a_manifest(scope=scope, generation=3) for scope in (ALL, VM_CAPABLE, ScopeName("group-default"))
    }

    info = fleet.info(a_config(node), node, manifests, NOW_S + 2)

    assert info.in_sync == (has_receipt and not has_error and serial == 5 and role == "R")
    assert (info.online, info.role, info.last_seen_s, info.scopes) == (True, role, 2.0, (ALL, "group-default"))
    assert info.generations == ({ALL: 3, "group-default": 3} if has_receipt else {})


def test_a_node_that_never_spoke_is_shown_as_what_it_is() -> None:
    node = a_node()

    info = a_fleet().info(a_config(node), node, {}, NOW_S)

    assert (info.online, info.in_sync, info.last_seen_s, info.errors, info.agent_version) == (
        False,
        False,
        None,
        (),
        "",
    )


def test_a_status_that_was_recalled_and_is_heard_afterwards_counts() -> None:
    """The broker stores a status before it hands it on: a master that starts may read it first, and hear it then."""
    fleet = Fleet(silent_after_s=10)
    status = a_status(node="node2", sequence=7)
    fleet.recall(status)
    assert fleet.is_expecting(100.0)

    fleet.hear(status, 100.0)

    assert fleet.is_online(NodeName("node2"), 100.0)
    assert not fleet.is_expecting(100.0)


# ---- whether waiting a little would help


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (a_status(a_receipt(ALL, 7, epoch=2), a_receipt(MASTER_CANDIDATES, 3, epoch=2), serial=5), False),
        (a_status(a_receipt(ALL, 6, epoch=2), a_receipt(MASTER_CANDIDATES, 3, epoch=2), serial=5), True),
        (a_status(a_receipt(ALL, 8, epoch=1), a_receipt(MASTER_CANDIDATES, 3, epoch=2), serial=5), True),
        (a_status(a_receipt(ALL, 7, epoch=2), serial=5), True),
        (a_status(a_receipt(ALL, 7, epoch=2), a_receipt(MASTER_CANDIDATES, 3, epoch=2), serial=4), True),
        (a_status(a_receipt(MASTER_CANDIDATES, 3, epoch=2), serial=5, errors=[an_error(scope=ALL)]), False),
        (a_status(a_receipt(MASTER_CANDIDATES, 3, epoch=2), serial=5, errors=[an_error(scope="")]), False),
        (a_status(a_receipt(ALL, 7, epoch=2), serial=5, errors=[an_error(scope=ALL)]), True),
    ],
)
def test_a_node_catches_up_as_long_as_it_is_behind_and_says_nothing_against_it(status: Status, expected: bool) -> None:
    config = a_config(a_node("node2", "C", serial_no=5), epoch=2)
    goal = a_goal({ALL: 7, MASTER_CANDIDATES: 3}, serials={"node2": 5})

    assert a_fleet(status).is_catching_up(config, goal, NOW_S) is expected


def test_a_node_that_still_holds_what_it_must_give_back_catches_up() -> None:
    status = a_status(a_receipt(ALL, 7, epoch=2), serial=5, holding=[ALL, MASTER_CANDIDATES])

    assert a_fleet(status).is_catching_up(a_config(a_node("node2")), a_goal(), NOW_S)


def test_nobody_waits_for_a_node_that_is_not_there_or_offline() -> None:
    behind = a_status(serial=5)

    assert a_fleet(behind).is_catching_up(a_config(a_node("node2")), a_goal(), NOW_S)
    assert not a_fleet(behind).is_catching_up(a_config(a_node("node2")), a_goal(), NOW_S + 2 * SILENT_AFTER_S)
    assert not a_fleet(behind).is_catching_up(a_config(a_node("node2", "O")), a_goal(), NOW_S)
    assert not a_fleet().is_catching_up(a_config(a_node("node2")), a_goal(), NOW_S)
