"""Writes the man pages from what the commands say of themselves with --help: `man_pages.py DIRECTORY`.

Run it with the Python that gnt-mesh is installed for. SOURCE_DATE_EPOCH dates the pages, as everything in the package.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click

from master.cli.app import root

TITLE = "gnt-mesh"
FILES = (
    ("/etc/gnt-mesh/master.toml, agent.toml, operator.toml", "Settings of the master, the agent and this command."),
    ("/etc/gnt-mesh/keys", "The keys of the cluster's first node. They are root's."),
    ("/etc/gnt-mesh/broker", "nats-server's configuration, certificate and key."),
    ("/etc/gnt-mesh/file-hooks.d", "Executables that say which files there are."),
    ("/var/lib/gnt-mesh", "What the daemons remember, and the backups of what was withdrawn from this node."),
    ("/var/lib/ganeti/config.data", "The cluster, on the master and on master candidates."),
)
DAEMONS = (
    ("gnt-mesh-master", "master", ((),), "the daemon that says what the nodes' files should be"),
    ("gnt-mesh-helper", "node_agent.privileged", ((),), "does for the agent of a node what needs rights"),
    ("gnt-mesh-agent", "node_agent", ((), ("join",)), "the daemon that makes a node's files what they should be"),
)


def main() -> None:
    """Write one page per program."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{TITLE}.8").write_text(page(TITLE, "keep a cluster's files in sync", command_lines()))
    for name, module, verbs, what in DAEMONS:
        (directory / f"{name}.8").write_text(page(name, what, daemon_lines(name, module, verbs)))


def page(name: str, what: str, lines: Iterator[str]) -> str:
    """Return a whole page."""
    day = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    others = [other for other in (TITLE, *(daemon[0] for daemon in DAEMONS)) if other != name]
    text = [
        f'.TH {name.upper()} 8 {day} "gnt-mesh {version("gnt-mesh")}" "System administration"',
        ".SH NAME",
        f"{escaped(name)} \\- {escaped(what)}",
        *lines,
        ".SH SEE ALSO",
        ", ".join(f"\\fB{escaped(other)}\\fR(8)" for other in others),
    ]
    return "\n".join(text) + "\n"


def command_lines() -> Iterator[str]:
    """The command: a section per noun, and in it one per verb."""
    context = click.Context(root, info_name=TITLE)
    yield from (".SH SYNOPSIS", f"\\fB{TITLE}\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]...")
    yield from (".SH DESCRIPTION", *paragraphs(root.help or ""))
    yield from (".SH OPTIONS", *option_lines(root, context))
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        yield f".SH {escaped(name.upper())}"
        if isinstance(command, click.Group):
            yield from paragraphs(command.help or "")
            yield from group_lines(command, inner)
        else:
            yield from one_command(command, inner)
    yield from (".SH EXIT STATUS", escaped(root.epilog or "").removeprefix("Exit codes: "))
    yield ".SH FILES"
    for path, what in FILES:
        yield from (".TP", f"\\fI{escaped(path)}\\fR", escaped(what))


def group_lines(group: click.Group, context: click.Context) -> Iterator[str]:
    """All verbs of a noun, those of nouns inside it too."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from group_lines(command, inner)
        else:
            yield f".SS {escaped(inner.command_path)}"
            yield from one_command(command, inner)


def one_command(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (f"\\fB{escaped(context.command_path)}\\fR {escaped(usage)}", ".PP")
    yield from paragraphs(command.help or "")
    yield from option_lines(command, context)


def option_lines(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield from (".TP", f"\\fB{escaped(record[0])}\\fR", escaped(record[1]))


def paragraphs(text: str) -> Iterator[str]:
    r"""A help text as click understands it: paragraphs, and after a \b lines that stay as they are."""
    for paragraph in text.strip().split("\n\n"):
        lines = [line.strip() for line in paragraph.splitlines()]
        if lines[0] == "\b":
            yield from (".PP", ".nf", *map(escaped, lines[1:]), ".fi")
        else:
            yield from (".PP", *map(escaped, lines))


def daemon_lines(name: str, module: str, verbs: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    """A daemon's own help, word for word."""
    environment = {**os.environ, "COLUMNS": "80"}
    yield ".SH SYNOPSIS"
    for words in verbs:
        command = [sys.executable, "-m", module, *words, "--help"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        if words:
            yield f".SH {escaped(' '.join((name, *words)).upper())}"
        yield from (".nf", *map(escaped, done.stdout.strip().splitlines()), ".fi")


def escaped(text: str) -> str:
    """Return text that troff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text


if __name__ == "__main__":
    main()
