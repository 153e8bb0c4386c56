"""What every changing command takes beside its own arguments: `--dry-run` and `--reason`; and who asks."""

import json
import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from master.cli.app import root
from master.cli.asker import asker
from protocol.change_messages import ChangeRequest, FileChange, NodeChanges, Objection, Preview, RoleChange
from protocol.history_messages import FileConfirm
from protocol.messages import FileError
from protocol.names import ALL, ManagedPath, NodeName
from protocol.operator_messages import Changed
from tests.support.fake_operator_bus import ASKER, FakeOperatorBus, a_goal, a_wait_reply

CHANGING = {
    "cluster modify -C 5": "cluster.modify",
    "cluster redist-conf": "cluster.redist-conf",
    "cluster access remove alice": "access.remove",
    "node add node4": "node.add",
    "node modify node2 -C yes": "node.modify",
    "node remove node2": "node.remove",
    "group add rack1": "group.add",
    "group remove rack1": "group.remove",
    "file add /etc/x --scope all": "file.add",
    "file modify /etc/x --scope all": "file.modify",
    "file remove /etc/x": "file.remove",
    "file rollback 7 /etc/x": "file.rollback",
    "file confirm /etc/x": "file.confirm",
    "os modify tiny -O a=1": "os.modify",
    "instance add web1 -n node2 -o tiny": "instance.add",
    "instance import web1 -n node2 -o tiny --from /srv/x": "instance.add",
    "instance modify web1 -B vcpus=2": "instance.modify",
    "instance reinstall web1": "instance.reinstall",
    "instance rename web1 web2": "instance.rename",
    "instance export web1": "instance.export",
    "instance remove web1": "instance.remove",
}
LOOKING = {"log", "diff", "explain"} | {
    "verify",
    "diagnose",
    "env",
    "info",
    "list",
    "keys",
    "status",
    "watch",
    "wait",
    "up",
    "decode",
    "version",
}
NOT_TO_BE_TRIED = {
    "cluster init",
    "cluster access add",
    "cluster access renew",
    "cluster renew-crypto",
    "cluster master-failover",
}
"""Their first step is to make a key; and for a failover there is no master to ask, so its dry run is its own."""
LOOKING |= {"cancel"}  # of a job: it changes nothing of what should be true

PREVIEW = Preview(
    roles=(RoleChange(node=NodeName("node4"), before="", after="C"),),
    nodes=(
        NodeChanges(
            nodes=(NodeName("node2"), NodeName("node3")),
            files=(
                FileChange(path=ManagedPath("/etc/a"), scope=ALL, change="added"),
                FileChange(path=ManagedPath("/etc/b"), scope=ALL, change="changed", details=("content", "mode")),
            ),
            files_count=5,
        ),
        NodeChanges(
            nodes=tuple(NodeName(f"node{number}") for number in range(10, 20)),
            files=(FileChange(path=ManagedPath("/etc/c"), scope=ALL, change="removed"),),
            files_count=1,
            offline=True,
        ),
    ),
    errors=(FileError(path="/etc/d", reason="does not exist on the master"),),
)


def dry(preview: Preview) -> Changed:
    return Changed(goal=a_goal(generations={}), done=("Node node4 added.",), preview=preview)


def commands(group: click.Group, *nouns: str) -> Iterator[tuple[str, click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command
        if isinstance(command, click.Group):
            yield from commands(command, *nouns, name)
        else:
            yield " ".join((*nouns, name)), command


def test_no_changing_command_was_forgotten_here() -> None:
    there = {name for name, _ in commands(root) if name.split()[-1] not in LOOKING}
    told = {name for name in there if any(f"{line} ".startswith(f"{name} ") for line in CHANGING)}

    assert there - told == NOT_TO_BE_TRIED


@pytest.mark.parametrize("line", CHANGING)
def test_every_changing_command_sends_who_asks_why_and_whether_it_is_a_dry_run(line: str) -> None:
    bus = FakeOperatorBus(answers={CHANGING[line]: [dry(Preview())]})

    result = bus.run(*line.split(), "--dry-run", "--reason", "ticket 17")

    assert result.exit_code == 0, result.stderr
    (request,) = bus.requests(CHANGING[line])
    assert isinstance(request, ChangeRequest)
    assert (request.by, request.reason, request.dry_run) == (ASKER, "ticket 17", True)
    assert bus.requests("wait") == [], "nothing was changed, so there is nothing to wait for"


@pytest.mark.parametrize("line", CHANGING)
def test_without_the_flags_it_is_a_change_without_a_reason(line: str) -> None:
    bus = FakeOperatorBus(answers={CHANGING[line]: [Changed(goal=a_goal())], "wait": [a_wait_reply()]})

    assert bus.run(*line.split()).exit_code == 0
    (request,) = bus.requests(CHANGING[line])
    assert isinstance(request, ChangeRequest)
    assert (request.reason, request.dry_run) == ("", False)


def test_a_dry_run_shows_roles_then_files_per_node() -> None:
    bus = FakeOperatorBus(answers={"node.add": [dry(PREVIEW)]})

    assert bus.run("node", "add", "node4", "--dry-run").stdout.splitlines() == [
        "Dry run: nothing was changed. This would be done:",
        "  Node node4 added.",
        "",
        "Node   Role",
        "node4  - -> C",
        "",
        "node2, node3:",
        "Would be  File              Scope  What",
        "added     /etc/a            all",
        "changed   /etc/b            all    content, mode",
        "          and 3 more files",
        "",
        "node10, node11, node12, node13, node14, node15, node16, node17 and 2 more, when online again:",
        "Would be  File    Scope  What",
        "removed   /etc/c  all",
        "/etc/d does not exist on the master",
    ]


def test_a_dry_run_without_effect_says_so() -> None:
    bus = FakeOperatorBus(answers={"group.add": [dry(Preview())]})

    assert bus.run("group", "add", "rack1", "--dry-run").stdout.splitlines()[-1] == (
        "No file would change on any node."
    )


def test_a_dry_run_as_json_has_every_node_by_itself() -> None:
    bus = FakeOperatorBus(answers={"node.add": [dry(PREVIEW)]})

    shown = json.loads(bus.run("node", "add", "node4", "--dry-run", "--json").stdout)

    assert shown["dry_run"] is True
    assert shown["done"] == ["Node node4 added."]
    assert shown["roles"] == [{"node": "node4", "before": "", "after": "C"}]
    assert [node["name"] for node in shown["nodes"]] == ["node2", "node3", *(f"node{n}" for n in range(10, 20))]
    assert shown["nodes"][1] == {
        "name": "node3",
        "offline": False,
        "files_count": 5,
        "files": [
            {"path": "/etc/a", "scope": "all", "change": "added", "details": []},
            {"path": "/etc/b", "scope": "all", "change": "changed", "details": ["content", "mode"]},
        ],
    }
    assert shown["errors"] == [{"path": "/etc/d", "reason": "does not exist on the master", "scope": ""}]


@pytest.mark.parametrize("reason", ["two\nlines", "x" * 401])
def test_a_reason_that_cannot_be_kept_is_refused_at_once(reason: str) -> None:
    bus = FakeOperatorBus()

    result = bus.run("group", "add", "rack1", "--reason", reason)

    assert result.exit_code == 1
    assert "reason" in result.stderr
    assert bus.asked == []


def test_who_asks_is_user_at_host(tmp_path: Path) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name

    assert asker(tmp_path / "no such file") == f"{user}@{socket.gethostname()}"


@pytest.mark.parametrize(
    ("login", "before"), [("4294967295", ""), ("1", "daemon as "), ("999999", "999999 as "), ("?", "")]
)
def test_who_has_become_root_is_named(tmp_path: Path, login: str, before: str) -> None:
    """The kernel remembers as whom somebody has logged in, whatever `su` or `sudo` made of them."""
    (tmp_path / "loginuid").write_text(login)

    assert asker(tmp_path / "loginuid").startswith(f"{before}{pwd.getpwuid(os.geteuid()).pw_name}@")


OBJECTION = Objection(guard="wider-scope", reason="/etc/key is or was a secret of master-candidates")


def test_a_change_that_was_confirmed_says_so_to_the_master() -> None:
    bus = FakeOperatorBus(answers={"file.modify": [Changed(goal=a_goal())], "wait": [a_wait_reply()]})

    done = bus.run(*["file", "modify", "/etc/x", "--scope", "all", "--confirm", "wider-scope", "--confirm", "removals"])

    assert done.exit_code == 0, done.stderr
    (request,) = bus.requests("file.modify")
    assert isinstance(request, ChangeRequest)
    assert request.confirm == ("wider-scope", "removals")


def test_nobody_can_confirm_what_there_is_no_guard_for() -> None:
    bus = FakeOperatorBus()

    assert bus.run(*["file", "modify", "/etc/x", "--scope", "all", "--confirm", "everything"]).exit_code == 1
    assert bus.asked == []


def test_a_dry_run_of_what_would_be_refused_shows_it_all_and_fails() -> None:
    bus = FakeOperatorBus(answers={"file.modify": [dry(Preview(objections=(OBJECTION,)))]})
    line = "file modify /etc/key --scope all --dry-run"

    result, as_json = bus.run(*line.split()), bus.run(*line.split(), "--json")

    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert f"It has to be confirmed: {OBJECTION.reason}; --confirm wider-scope" in result.stdout
    assert "would be refused" in result.stderr
    assert json.loads(as_json.stdout)["objections"] == [{"guard": "wider-scope", "reason": OBJECTION.reason}]


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("file confirm /etc/a /etc/b", FileConfirm(paths=("/etc/a", "/etc/b"), by=ASKER)),
        ("file confirm --removals", FileConfirm(removals=True, by=ASKER)),
    ],
)
def test_what_is_held_back_is_confirmed(line: str, sent: FileConfirm) -> None:
    bus = FakeOperatorBus(answers={"file.confirm": [Changed(goal=a_goal())], "wait": [a_wait_reply()]})

    assert bus.run(*line.split()).exit_code == 0
    assert bus.requests("file.confirm") == [sent]


def test_nothing_is_confirmed_by_accident() -> None:
    assert FakeOperatorBus().run("file", "confirm").exit_code == 1


def test_a_new_node_joins_with_its_token_unless_up_lets_it_in(tmp_path: Path) -> None:
    """`gnt-mesh up` has made its key before anybody could type the token, which is void then."""
    answer = Changed(goal=a_goal(generations={}), done=("Node node4 added.",), token="gnt-mesh-join-1-abc")
    (tmp_path / "gnt-mesh.toml").touch()

    elsewhere = FakeOperatorBus(answers={"node.add": [answer]}).run("node", "add", "node4")
    in_up = FakeOperatorBus(answers={"node.add": [answer]}).run("node", "add", "node4", "--dir", str(tmp_path))

    assert elsewhere.stdout.endswith("it is not shown again:\ngnt-mesh-agent join gnt-mesh-join-1-abc\n")
    assert in_up.stdout.splitlines() == [
        "Node node4 added.",
        f"gnt-mesh up lets it in and starts its agent here, with its root in {tmp_path}/nodes.",
    ]
