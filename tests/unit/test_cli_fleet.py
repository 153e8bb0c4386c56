"""`status` and `watch`: the JSON that scripts rely on, the text that people read, the lines that logs keep."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.live import Live

from master.cli.app import root
from master.cli.connect import Session, Wiring
from master.cli.differences import differences
from master.cli.output import plain_text
from master.cli.status_view import status_view
from master.cli.watching import LineDisplay, TableDisplay, watch_fleet
from protocol.errors import Refused, Unavailable
from protocol.messages import FileError, Refusals
from protocol.operator_messages import ClusterStatus, NodeInfo
from tests.support.fake_operator_bus import FakeOperatorBus, a_master, a_node, a_status

FULL = FileError(path="/etc/x", reason="No space left on device", scope="all")


def troubled() -> ClusterStatus:
    return a_status(
        a_master(),
        a_node("node2", role="C", in_sync=False, generations={"all": 11}, errors=(FULL,), errors_count=3,
               refusals=Refusals(count=2, last="path '../x' is not absolute")),
        a_node("node3", online=False, in_sync=False, last_seen_s=75.0),
        a_node("node4", role="O", online=False, in_sync=False, last_seen_s=None),
        errors=(FileError(path="/etc/gone", reason="the source vanished", scope="all"),),
        refusals=Refusals(count=1, last="a Status where a NodeBell belongs"),
    )  # fmt: skip


def test_status_json_has_the_promised_shape() -> None:
    """Design, section 3: more keys may be added; these stay."""
    status = json.loads(FakeOperatorBus(answers={"status": [troubled()]}).run("status", "--json").stdout)

    assert {key: status[key] for key in ("cluster", "master", "epoch")} == {
        "cluster": "demo",
        "master": "node1",
        "epoch": 1,
    }
    assert status["scopes"]["all"] == {"generation": 12, "files": 9, "nodes": 3, "size_bytes": 43008}
    assert status["errors"] == [{"path": "/etc/gone", "reason": "the source vanished", "scope": "all"}]
    assert status["refused"] == {"count": 1, "last": "a Status where a NodeBell belongs"}
    assert status["nodes"][1] == {
        "name": "node2",
        "uuid": "uuid-of-node2",
        "role": "C",
        "group": "default",
        "master_capable": True,
        "vm_capable": True,
        "public_key": "U" + "A" * 55,
        "online": True,
        "last_seen_s": 0.4,
        "in_sync": False,
        "serial": 1,
        "scopes": ["all", "vm-capable"],
        "holding": ["all", "vm-capable"],
        "generations": {"all": 11},
        "errors": [{"path": "/etc/x", "reason": "No space left on device", "scope": "all"}],
        "errors_count": 3,
        "refused": {"count": 2, "last": "path '../x' is not absolute"},
        "agent_version": "0.1.0",
    }


def test_status_of_a_fleet_that_is_well() -> None:
    result = FakeOperatorBus(answers={"status": [a_status()]}).run("status")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "demo: master node1, epoch 1; all 3 nodes in sync",
        "",
        "Scope              Generation  Files  Nodes    Size",
        "all                        12      9      3  42 KiB",
        "master-candidates           7      4      1   512 B",
        "vm-capable                  3      0      3     0 B",
        "",
        "Node   Role  VM  Online  In sync  Generations                                Errors",
        "node1  M     Y   Y       Y        all 12, vm-capable 3, master-candidates 7       0",
        "node2  R     Y   Y       Y        all 12, vm-capable 3                            0",
        "node3  R     Y   Y       Y        all 12, vm-capable 3                            0",
    ]


def test_status_of_a_fleet_in_trouble_says_where_and_why() -> None:
    lines = FakeOperatorBus(answers={"status": [troubled()]}).run("status").stdout.splitlines()

    assert lines[0] == "demo: master node1, epoch 1; 1 of 3 nodes in sync, 1 not connected, 1 set offline, 4 errors"
    assert lines[8:] == [
        "node1  M     Y   Y              Y        all 12, vm-capable 3, master-candidates 7       0",
        "node2  C     Y   Y              N        all 11 of 12, vm-capable - of 3                 3",
        "node3  R     Y   N, 75 s        N        all 12, vm-capable 3                            0",
        "node4  O     Y   N, never seen  -        all 12, vm-capable 3                            0",
        "",
        "Error on        Path       Reason",
        "node1 (source)  /etc/gone  the source vanished",
        "node2           /etc/x     No space left on device",
        "node2           -          and 2 more errors",
        "",
        "Messages refused by  Count  The last one, because",
        "node1 (master)           1  a Status where a NodeBell belongs",
        "node2                    2  path '../x' is not absolute",
    ]


def test_what_many_files_have_for_the_same_reason_is_said_once() -> None:
    """A full disk holds back a whole plan, a guard every file of a listing: the one other error must still be seen."""
    held = tuple(FileError(path=f"/etc/{number:04}", reason="is held back", scope="all") for number in range(2000))
    status = a_status(a_master(), errors=(*held, replace(FULL, path="/etc/other")))

    shown = plain_text(status_view(status)).splitlines()

    assert shown[-6:] == [
        "Error on        Path             Reason",
        "node1 (source)  /etc/0000        is held back",
        "node1 (source)  /etc/0001        is held back",
        "node1 (source)  /etc/0002        is held back",
        "node1 (source)  and 1997 others  is held back",
        "node1 (source)  /etc/other       No space left on device",
    ]


def test_what_a_demoted_node_still_holds_is_shown() -> None:
    status = a_status(a_master(), a_node(holding=("all", "master-candidates"), in_sync=False))

    assert "all 12, vm-capable 3, master-candidates to be removed" in plain_text(status_view(status))


def test_names_in_a_pipe_are_never_cut_and_never_markup() -> None:
    long = "/etc/" + "[red]x y/" * 100 + "end"
    status = a_status(a_node(errors=(FileError(path=long, reason="r" * 400),), errors_count=1))

    assert long + "  " + "r" * 400 in FakeOperatorBus(answers={"status": [status]}).run("status").stdout


def test_names_that_the_terminal_cannot_show_are_no_error() -> None:
    status = a_status(a_node(errors=(FileError(path="/etc/größe", reason="e"),), errors_count=1))
    bus = FakeOperatorBus(answers={"status": [status]})

    result = CliRunner(charset="ascii").invoke(root, ["status"], obj=Wiring(connect=bus.connect))

    assert result.exit_code == 0
    assert "/etc/gr\\xf6\\xdfe" in result.stdout


def test_json_is_ascii_and_so_valid_everywhere() -> None:
    status = a_status(a_node(errors=(FileError(path="/etc/größe\x9b", reason="e"),), errors_count=1))

    result = FakeOperatorBus(answers={"status": [status]}).run("status", "--json")

    assert result.stdout.isascii()
    assert json.loads(result.stdout)["nodes"][0]["errors"][0]["path"] == "/etc/größe\x9b"


def test_a_small_terminal_shows_those_that_need_attention() -> None:
    nodes = [a_node(f"node{number}") for number in range(1, 100)] + [a_node("bad", in_sync=False)]

    text = plain_text(status_view(a_status(*nodes), nodes_max=2))

    assert [line.split()[0] for line in text.splitlines()[8:]] == ["bad", "node1", "..."]
    assert text.endswith("... and 98 more nodes")


WELL = a_status()
OF_ALL = {"all": 12, "vm-capable": 3}


@pytest.mark.parametrize(
    ("after", "lines"),
    [
        (WELL, []),
        (a_status(a_master(), a_node("node2", last_seen_s=9.0), a_node("node3")), []),
        (a_status(a_master(), a_node("node2", generations={"all": 13, "vm-capable": 3}), a_node("node3")),
         ["node2 all 12 -> 13"]),
        (a_status(a_master(), a_node("node2", online=False), a_node("node3")), ["node2 offline"]),
        (a_status(a_master(), a_node(role="C", generations={**OF_ALL, "master-candidates": 7}), a_node("node3")),
         ["node2 role R -> C", "node2 master-candidates - -> 7"]),
        (a_status(a_master(), a_node("node2", errors=(FULL,)), a_node("node3")),
         ["node2 error /etc/x: No space left on device"]),
        (a_status(a_master(), a_node("node2", refusals=Refusals(count=1, last="why")), a_node("node3")),
         ["node2 has refused 1 message, the last because: why"]),
        (a_status(a_master(), a_node("node2")), ["node3 removed"]),
        (a_status(*WELL.nodes, a_node("node4")), ["node4 added, role R"]),
        (a_status(a_master(), a_node("node2", group="rack1", vm_capable=False), a_node("node3")),
         ["node2 group default -> rack1", "node2 no longer vm-capable"]),
        (a_status(errors=(FULL,)), ["source error /etc/x: No space left on device"]),
        (a_status(epoch=2, master="node2"), ["master node1 -> node2, epoch 1 -> 2"]),
        (a_status(refusals=Refusals(count=2, last="why")),
         ["node1 (master) has refused 2 messages, the last because: why"]),
        (a_status(scopes={**WELL.scopes, "all": replace(WELL.scopes["all"], generation=13)}),
         ["published all 12 -> 13"]),
    ],
)  # fmt: skip
def test_each_change_is_one_line(after: ClusterStatus, lines: list[str]) -> None:
    assert list(differences(WELL, after)) == lines


def test_what_is_over_is_said_too() -> None:
    before = a_status(a_master(), a_node("node2", errors=(FULL,), in_sync=False, online=False), a_node("node3"))

    assert list(differences(before, WELL)) == ["node2 online", "node2 error over /etc/x", "all 3 nodes in sync"]


def looks(*statuses: object) -> FakeOperatorBus:
    return FakeOperatorBus(answers={"status": list(statuses)}, bells_rung=len(statuses))


def at(generation: int) -> ClusterStatus:
    changed: NodeInfo = a_node(generations={"all": generation, "vm-capable": 3})
    return a_status(a_master(), changed)


def test_watch_in_a_pipe_prints_one_line_per_change() -> None:
    result = looks(at(12), at(12), at(13), troubled()).run("watch", "--count", "3")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[:3] == [
        "demo: master node1, epoch 1; all 2 nodes in sync",
        "node2 all 12 -> 13",
        "source error /etc/gone: the source vanished",
    ]


def test_watch_begins_with_what_is_wrong_already() -> None:
    lines = looks(troubled()).run("watch", "--count", "1").stdout.splitlines()

    assert lines[1:] == [
        "source error /etc/gone: the source vanished",
        "node2 error /etc/x: No space left on device",
        "node3 offline",
    ]


def test_watch_json_is_one_object_per_line_and_change() -> None:
    result = looks(at(12), at(12), at(13)).run("watch", "--json", "--count", "2")

    shown = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["nodes"][1]["generations"]["all"] for one in shown] == [12, 13]


def test_watch_looks_at_most_so_often_however_many_bells_ring() -> None:
    bus = looks(at(12), at(12), at(13))

    bus.run("watch", "--count", "2")

    assert bus.slept == [0.1, 0.1]


def test_watch_outlives_a_master_that_restarts() -> None:
    down = Unavailable("mesh.api.status: nobody answers")

    result = looks(at(12), down, down, at(13)).run("watch", "--count", "2")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == ["node2 all 12 -> 13"]
    assert result.stderr == ("gnt-mesh: the master does not answer: mesh.api.status: nobody answers; still trying\n")


def test_watch_without_a_first_answer_fails() -> None:
    assert looks(Unavailable("mesh.api.status: nobody answers")).run("watch").exit_code == 1


def test_watch_ends_when_it_is_refused() -> None:
    assert looks(at(12), Refused("no longer permitted")).run("watch").exit_code == 1


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_ctrl_c_is_how_a_watch_ends(flags: tuple[str, ...]) -> None:
    result = looks(at(12), KeyboardInterrupt()).run("watch", *flags)

    assert result.exit_code == 0
    assert result.stderr == ""


def test_watch_on_a_terminal_redraws_the_table() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, height=24)

    with Live(console=console, auto_refresh=False) as live:
        display = TableDisplay(live)
        assert display.show(None, at(12))
        assert not display.show(at(12), at(12))
        assert display.show(at(12), at(13))
        display.trouble("gone")

    assert screen.getvalue().count("master node1, epoch 1") == 3
    assert "the master does not answer: gone; still trying" in screen.getvalue()


async def test_watch_looks_also_when_no_bell_rings() -> None:
    """A bell may be lost, and silence rings none."""

    class Silent(FakeOperatorBus):
        async def bells(self) -> AsyncIterator[None]:
            await asyncio.Event().wait()
            yield

    bus = Silent(answers={"status": [at(12), at(13)]})
    session = Session(bus, lambda: bus.now, bus.sleep)

    await watch_fleet(session, LineDisplay(), updates_max=2, interval_s=0)

    assert len(bus.asked) == 2
