"""The command line as a whole: what is listed, where `--dir` may stand, how failure looks."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from master.cli import main
from master.cli.app import COMMANDS, root
from master.cli.connect import Wiring, open_bus
from master.cli.failures import exit_code_of
from protocol.errors import NoAnswer, Refused, Unavailable, Unreachable
from tests.support.fake_operator_bus import FakeOperatorBus, a_status


def commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command there is, as typed; `up` belongs to another file's tests."""
    if not isinstance(command, click.Group):
        return [path]
    ctx = click.Context(command)
    inner = [(name, command.get_command(ctx, name)) for name in command.list_commands(ctx) if name != "up"]
    return [path, *(found for name, sub in inner if sub for found in commands(sub, (*path, name)))]


ALL_COMMANDS = commands(root)


@pytest.mark.parametrize("path", ALL_COMMANDS, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(root, [*path, "--help"])

    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: {' '.join(('gnt-mesh', *path))} ")
    assert "--dir DIR" in result.stdout
    assert "...\n" not in result.stdout.partition("\nCommands:\n")[2], "a sentence that was cut off"


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "up"])
def test_the_list_of_commands_says_what_the_command_says(name: str) -> None:
    """The list is written by hand, so that it can be printed without importing anything."""
    command = root.get_command(click.Context(root), name)

    assert command is not None
    assert command.get_short_help_str(200) == COMMANDS[name].help


def test_up_is_listed_and_where_it_is_said_to_be() -> None:
    assert isinstance(root.get_command(click.Context(root), "up"), click.Command)


@pytest.mark.parametrize("arguments", [["--help"], ["decode"], ["--version"], ["node", "--help"]])
def test_what_needs_no_connection_imports_neither_nats_nor_rich(arguments: list[str]) -> None:
    """`nats --translate` starts `decode` once per message."""
    program = (
        "import sys\nfrom master.cli.app import root\ntry:\n    root.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'nats', 'rich', 'nkeys', 'watchfiles', 'structlog'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], input=b"", capture_output=True)

    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--dir", "D", "status"),
        ("status", "--dir", "D"),
        ("--dir", "other", "status", "--dir", "D"),
    ],
)
def test_dir_may_stand_before_and_after_the_verb(arguments: tuple[str, ...]) -> None:
    bus = FakeOperatorBus(answers={"status": [a_status()]})

    assert bus.run(*arguments).exit_code == 0
    assert bus.directories == [Path("D")]
    assert bus.closed


@pytest.mark.parametrize(
    "arguments",
    [("--dir", "D", "group", "list"), ("group", "--dir", "D", "list"), ("group", "list", "--dir", "D")],
)
def test_dir_may_stand_at_every_level(arguments: tuple[str, ...]) -> None:
    bus = FakeOperatorBus(answers={"group.list": [Unavailable("no")]})

    bus.run(*arguments)

    assert bus.directories == [Path("D")]


def test_dir_comes_from_the_environment_unless_it_is_given() -> None:
    bus = FakeOperatorBus(answers={"status": [a_status()]})
    wiring = Wiring(connect=bus.connect)

    CliRunner().invoke(root, ["status"], obj=wiring, env={"GNT_MESH_DIR": "E"})
    CliRunner().invoke(root, ["status", "--dir", "D"], obj=wiring, env={"GNT_MESH_DIR": "E"})
    CliRunner().invoke(root, ["status"], obj=wiring, env={"GNT_MESH_DIR": None})

    assert bus.directories == [Path("E"), Path("D"), None]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["stat"], "gnt-mesh: no such command 'stat'"),
        (["status", "--jsn"], "gnt-mesh: no such option '--jsn'"),
        (["status", "extra"], "gnt-mesh: got unexpected extra argument"),
        (["node", "add"], "gnt-mesh: missing argument 'NAME'; see: gnt-mesh node add --help"),
        (["node", "add", "a_b"], "gnt-mesh: node name 'a_b': letters, digits"),
        (["node", "modify", "n1"], "gnt-mesh: nothing to modify: give at least one flag"),
        (["node", "modify", "n1", "--auto-promote"], "gnt-mesh: nothing to modify: give at least one flag"),
        (["node", "modify", "n1", "-C", "maybe"], "gnt-mesh: 'maybe' is neither yes nor no"),
        (["group", "add", "a.b"], "gnt-mesh: group name 'a.b': "),
        (["file", "add", "/x"], "gnt-mesh: missing option '--scope'"),
        (["file", "add", "x", "--scope", "all"], "gnt-mesh: path 'x' is not absolute"),
        (["file", "add", "/a/../x", "--scope", "all"], "gnt-mesh: path '/a/../x' is not normalised"),
        (["file", "add", "/x", "--scope", "some"], "gnt-mesh: scope 'some': one of all, master-candidates"),
        (["file", "modify", "/x"], "gnt-mesh: nothing to modify: give at least one flag"),
        (["file", "info"], "gnt-mesh: missing argument 'PATH...'"),
        (["wait", "--timeout", "soon"], "gnt-mesh: 'soon' is not a number of seconds"),
        (["wait", "--timeout", "nan"], "gnt-mesh: 'nan' is not a number of seconds"),
        (["wait", "--timeout", "-1"], "gnt-mesh: '-1' is not a number of seconds"),
        (["watch", "--count", "0"], "gnt-mesh: invalid value for '--count'"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_code_1(arguments: list[str], sentence: str) -> None:
    bus = FakeOperatorBus()

    result = bus.run(*arguments)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1
    assert bus.directories == [], "nobody was asked"


@pytest.mark.parametrize("arguments", [(), ("node",)])
def test_a_missing_verb_shows_the_verbs(arguments: tuple[str, ...]) -> None:
    result = FakeOperatorBus().run(*arguments)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Commands:" in result.stderr


def test_a_refusal_is_the_masters_sentence() -> None:
    bus = FakeOperatorBus(answers={"group.remove": [Refused("group rack1: has 2 nodes; move them first")]})

    result = bus.run("group", "remove", "rack1")

    assert (result.exit_code, result.stderr) == (1, "gnt-mesh: group rack1: has 2 nodes; move them first\n")


def test_silence_of_the_master_comes_with_the_next_step() -> None:
    bus = FakeOperatorBus(answers={"status": [Unreachable("no master answers")]})

    result = bus.run("status", "--dir", "/a b")

    assert result.exit_code == 1
    assert result.stderr == (
        "gnt-mesh: no master answers; if the mesh is not up, start it with: gnt-mesh up --dir '/a b'\n"
    )


def test_a_master_that_hangs_comes_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log/master.log"
    log.parent.mkdir()
    log.touch()
    bus = FakeOperatorBus(answers={"status": [NoAnswer("mesh.api.status: no answer within 10 s")]})

    here, elsewhere = bus.run("status", "--dir", str(tmp_path)), bus.run("status")

    said = "gnt-mesh: the master does not answer: mesh.api.status: no answer within 10 s; its log: "
    assert (here.exit_code, here.stderr) == (1, f"{said}{log}\n")
    assert elsewhere.stderr.endswith("; its log: journalctl -u gnt-mesh-master\n")


def test_what_the_master_says_it_cannot_do_now_is_no_reason_to_start_it() -> None:
    bus = FakeOperatorBus(answers={"status": [Unavailable("the broker is away")]})

    assert bus.run("status").stderr == "gnt-mesh: the broker is away\n"


def test_a_change_without_an_answer_may_have_been_done() -> None:
    bus = FakeOperatorBus(answers={"group.add": [NoAnswer("no answer within 30 s")]})

    result = bus.run("group", "add", "g1")

    assert result.exit_code == 1
    assert "it may have been done all the same, see: gnt-mesh cluster audit list; its log" in result.stderr


def test_no_connection_comes_with_the_next_step() -> None:
    result = FakeOperatorBus(connect_error=Unreachable("cannot connect to tls://h:1 within 5 s")).run("status")

    assert result.exit_code == 1
    assert result.stderr.startswith("gnt-mesh: cannot connect to tls://h:1 within 5 s; is the mesh running? see: ")


def test_a_message_from_afar_cannot_colour_the_screen_or_break_the_line() -> None:
    bus = FakeOperatorBus(answers={"status": [Refused("a\x1b[31mb\r\nc")]})

    assert bus.run("status").stderr == "gnt-mesh: a\\x1b[31mb c\n"


def test_a_bug_is_one_sentence() -> None:
    bus = FakeOperatorBus(answers={"status": [KeyError("oops")]})

    result = bus.run("status")

    assert (result.exit_code, result.stderr) == (1, "gnt-mesh: internal error: KeyError: 'oops'; please report it\n")


def test_a_bug_shows_its_trace_to_those_who_ask() -> None:
    bus = FakeOperatorBus(answers={"status": [KeyError("oops")]})

    result = CliRunner().invoke(root, ["status"], obj=Wiring(connect=bus.connect), env={"GNT_MESH_DEBUG": "1"})

    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback")


def test_ctrl_c_exits_130_and_says_nothing() -> None:
    @asynccontextmanager
    async def interrupted(_: Path | None) -> AsyncIterator[FakeOperatorBus]:
        raise KeyboardInterrupt
        yield FakeOperatorBus()

    result = CliRunner().invoke(root, ["status"], obj=Wiring(connect=interrupted))

    assert result.exit_code == 130
    assert result.output.strip() == ""


def test_ctrl_c_in_the_middle_of_an_exit_is_quiet_too() -> None:
    def run() -> object:
        raise KeyboardInterrupt

    assert exit_code_of(run, debug=False) == 130


def test_a_directory_without_a_mesh_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(root, ["status", "--dir", str(tmp_path)])

    assert result.exit_code == 1
    assert result.stderr == f"gnt-mesh: no mesh in {tmp_path}; start one with: gnt-mesh up --dir {tmp_path}\n"


def test_settings_that_make_no_sense_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "operator.toml").write_text("server = 4222\n")

    result = CliRunner().invoke(root, ["status", "--dir", str(tmp_path)])

    assert result.exit_code == 1
    assert result.stderr.startswith(f"gnt-mesh: {tmp_path}/operator.toml: ")


def test_a_missing_key_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "operator.toml").write_text(
        'server = "tls://127.0.0.1:9"\nca_file = "ca.pem"\nseed_file = "operator.seed"\n'
    )

    async def connect() -> None:
        async with open_bus(tmp_path):
            pass

    with pytest.raises(Refused, match=r"operator\.seed"):
        asyncio.run(connect())


@pytest.mark.parametrize("arguments", [("version",), ("--version",)])
def test_the_version_is_one_line(arguments: tuple[str, ...]) -> None:
    result = FakeOperatorBus().run(*arguments)

    assert result.exit_code == 0
    assert result.stdout.startswith("gnt-mesh ")


def test_main_is_the_entry_point(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/gnt-mesh", "nonsense"])

    with pytest.raises(SystemExit) as exit_info:
        main()

    assert exit_info.value.code == 1
    assert capsys.readouterr().err.startswith("gnt-mesh: no such command 'nonsense'")


def test_a_reader_that_goes_away_is_no_error() -> None:
    """As in `gnt-mesh --help | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        program = "import sys\nfrom master.cli import main\nsys.exit(main())"
        done = subprocess.run([sys.executable, "-c", program, "--help"], stdout=stdout, stderr=subprocess.PIPE)

    assert done.stderr == b""
