"""Changing and waiting: 0 means it is on the disks, 2 that time is up and what is missing."""

import json

import pytest

from master.cli.waiting import Outcome, progress_sentence, reached_sentence
from protocol.errors import Refused, Unavailable
from protocol.operator_messages import Changed, Missing, WaitRequest
from tests.support.fake_operator_bus import FakeOperatorBus, a_goal, a_wait_reply

FULL = Missing(node="node3", reason="No space left on device", scope="all", path="/etc/x")
AWAY = Missing(node="node3", reason="not connected for 12 s", scope="master-candidates")
DOWN = Unavailable("mesh.api.wait: nobody answers")


def waits(*replies: object, done: tuple[str, ...] = ("node2 is a master candidate",)) -> FakeOperatorBus:
    changed = Changed(goal=a_goal(serials={"node2": 4}), done=done)
    return FakeOperatorBus(answers={"node.modify": [changed], "wait": list(replies)})


def test_a_change_is_done_when_every_node_has_it() -> None:
    bus = waits(a_wait_reply(FULL), a_wait_reply(goal=a_goal(serials={"node2": 4}, nodes=("node2",))))

    result = bus.run("node", "modify", "node2", "-C", "yes")

    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "node2 is a master candidate",
        "node2 now holds all it must and nothing more (all generation 12, 3 nodes asked)",
    ]


def test_the_goal_of_the_change_is_what_is_waited_for() -> None:
    bus = waits(a_wait_reply(FULL), a_wait_reply())

    bus.run("node", "modify", "node2", "-C", "yes", "--timeout", "3")

    first, second = bus.requests("wait")
    assert first == WaitRequest(goal=a_goal(serials={"node2": 4}), patience_s=2.0)
    assert second == WaitRequest(goal=a_goal(), patience_s=1.0), "no more patience than time is left"


def test_no_wait_returns_when_the_master_has_taken_it() -> None:
    bus = waits()

    result = bus.run("node", "modify", "node2", "-C", "yes", "--no-wait")

    assert (result.exit_code, result.stdout) == (0, "node2 is a master candidate\n")
    assert bus.requests("wait") == []


def test_a_deadline_exits_2_and_names_node_path_and_reason() -> None:
    bus = waits(a_wait_reply(FULL, AWAY))

    result = bus.run("node", "modify", "node2", "-C", "yes", "--timeout", "5")

    assert result.exit_code == 2
    assert result.stdout == "node2 is a master candidate\n"
    assert result.stderr.splitlines() == [
        "gnt-mesh: after 5 s 1 of 3 nodes does not hold all yet; the mesh goes on trying, wait on with: gnt-mesh wait",
        "node3: /etc/x: No space left on device",
        "node3: master-candidates: not connected for 12 s",
    ]
    assert bus.now == 1005.0


def test_a_timeout_of_zero_asks_once() -> None:
    bus = waits(a_wait_reply(FULL))

    assert bus.run("node", "modify", "node2", "-C", "yes", "--timeout", "0").exit_code == 2
    assert bus.requests("wait") == [WaitRequest(goal=a_goal(serials={"node2": 4}), patience_s=0.0)]


def test_a_master_that_restarts_only_costs_time() -> None:
    bus = waits(DOWN, DOWN, DOWN, DOWN, DOWN, a_wait_reply())

    result = bus.run("node", "modify", "node2", "-C", "yes")

    assert result.exit_code == 0
    assert bus.slept == pytest.approx([0.2, 0.4, 0.8, 1.0, 1.0]), "slower each time"


def test_a_master_that_stays_away_is_a_deadline_that_says_so() -> None:
    bus = waits(a_wait_reply(FULL), DOWN)

    result = bus.run("node", "modify", "node2", "-C", "yes", "--timeout", "5")

    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "gnt-mesh: after 5 s it is not known who holds it: mesh.api.wait: nobody answers; look with: gnt-mesh status",
        "node3: /etc/x: No space left on device",
    ]
    assert bus.now == pytest.approx(1005.0)


def test_a_goal_that_became_impossible_is_refused() -> None:
    bus = waits(a_wait_reply(FULL), Refused("node node3: not in the cluster any more"))

    result = bus.run("node", "modify", "node2", "-C", "yes")

    assert (result.exit_code, result.stderr) == (1, "gnt-mesh: node node3: not in the cluster any more\n")


def test_an_answer_that_comes_too_early_is_not_asked_for_in_a_circle() -> None:
    class Hasty(FakeOperatorBus):
        async def ask(self, verb, request, reply, *, timeout_s=10.0):  # type: ignore[no-untyped-def]
            before = self.now
            answer = await super().ask(verb, request, reply, timeout_s=timeout_s)
            self.now = before
            return answer

    bus = Hasty(answers={"wait": [a_wait_reply(FULL)]})

    bus.run("wait", "--timeout", "1")

    assert len(bus.asked) <= 12


def test_the_change_as_json() -> None:
    result = waits(a_wait_reply(FULL)).run("node", "modify", "node2", "-C", "yes", "--timeout", "1", "--json")

    assert result.exit_code == 2
    assert result.stderr == ""
    assert json.loads(result.stdout) == {
        "done": ["node2 is a master candidate"],
        "withdrawn": [],
        "withdrawn_count": 0,
        "rotate": [],
        "complete": False,
        "nodes": 3,
        "missing": [{"node": "node3", "scope": "all", "path": "/etc/x", "reason": "No space left on device"}],
        "trouble": "",
        "epoch": 1,
        "generations": {"all": 12},
    }


def test_a_change_that_is_not_waited_for_as_json() -> None:
    result = waits().run("node", "modify", "node2", "-C", "yes", "--no-wait", "--json")

    assert json.loads(result.stdout) == {
        "done": ["node2 is a master candidate"],
        "withdrawn": [],
        "withdrawn_count": 0,
        "rotate": [],
    }


def test_wait_pins_what_was_true_at_first() -> None:
    bus = FakeOperatorBus(answers={"wait": [a_wait_reply(FULL), a_wait_reply()]})

    result = bus.run("wait", "--scope", "all", "--scope", "vm-capable", "--node", "node3", "--timeout", "30")

    assert result.exit_code == 0
    assert result.stdout == "All 3 nodes now hold all they must (all generation 12, 3 nodes asked)\n"
    assert bus.requests("wait") == [
        WaitRequest(scopes=("all", "vm-capable"), nodes=("node3",), patience_s=2.0),
        WaitRequest(goal=a_goal(), patience_s=2.0),
    ]


@pytest.mark.parametrize(("replies", "code"), [([a_wait_reply()], 0), ([a_wait_reply(AWAY)], 2)])
def test_wait_as_json(replies: list[object], code: int) -> None:
    result = FakeOperatorBus(answers={"wait": replies}).run("wait", "--json", "--timeout", "1")

    shown = json.loads(result.stdout)
    assert result.exit_code == code
    assert shown["complete"] == (code == 0)
    assert [one["node"] for one in shown["missing"]] == ["node3"] * (code // 2)


def test_wait_without_any_answer_is_a_deadline() -> None:
    result = FakeOperatorBus(answers={"wait": [DOWN]}).run("wait", "--timeout", "2", "--json")

    assert result.exit_code == 2
    assert json.loads(result.stdout)["trouble"] == "mesh.api.wait: nobody answers"


@pytest.mark.parametrize(
    ("goal", "nodes_total", "sentence"),
    [
        (a_goal(), 1, "The one node now holds all it must (all generation 12, 1 node asked)"),
        (a_goal(nodes=("a", "b")), 2, "a, b now hold all they must (all generation 12, 2 nodes asked)"),
        (a_goal(looks="t"), 3,
         "All 3 nodes have read their disks again and now hold all they must (all generation 12, 3 nodes asked)"),
        (a_goal(serials={"a": 1}, generations={}, nodes=("a",)), 1,
         "a now holds all it must and nothing more (1 node asked)"),
        (a_goal(), 0, "No node has to hold it now: nothing to wait for"),
        (a_goal(generations={}), 3, ""),
        (None, 0, ""),
    ],
)  # fmt: skip
def test_success_is_one_sentence(goal: object, nodes_total: int, sentence: str) -> None:
    assert reached_sentence(Outcome(goal, nodes_total, ())) == sentence  # type: ignore[arg-type]


def test_progress_counts_nodes_and_not_reasons() -> None:
    assert progress_sentence(a_wait_reply(FULL, AWAY)) == "2 of 3 nodes"
