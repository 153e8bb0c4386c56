"""`gnt-mesh cluster audit ...`: who asked for which change, from where."""

import json

import click

from master.cli import options
from master.cli.connect import ask
from master.cli.failures import DONE, FAILED, complain
from master.cli.formats import moment
from master.cli.lazy import MeshCommand, MeshGroup
from master.cli.output import emit_json, emit_lines, show
from protocol.access_messages import AuditEntries, AuditQuery, AuditReport
from protocol.operator_messages import Nothing


@click.group(cls=MeshGroup)
def audit() -> None:
    """The log of every changing request: list, verify."""


@audit.command("list", cls=MeshCommand)
@click.option("--last", type=click.IntRange(1, 500), default=20, show_default=True, help="How many entries.")
@options.json_option
def list_entries(last: int, as_json: bool) -> None:
    """Show the last entries. A request has one before it is carried out, and one that says how it ended."""
    entries = [json.loads(line) for line in ask("audit.list", AuditQuery(last=last), AuditEntries).entries]
    if as_json:
        emit_json(entries)
        return
    from master.cli.tables import table

    rows = [
        (str(e["number"]), moment(e["time"]), e["who"], e["origin"] or "-", e["verb"], _outcome(e), _what(e["what"]))
        for e in entries
    ]
    show(table(("#", "Time", "Who", "From", "Verb", "Outcome", "What"), rows))


@audit.command(cls=MeshCommand)
@options.json_option
def verify(as_json: bool) -> int:
    """Check that no entry was altered, removed or inserted. Exit code 1 if one was.

    The hash that is printed, noted somewhere else, proves later that nothing before it was touched.
    """
    report = ask("audit.verify", Nothing(), AuditReport)
    if as_json:
        emit_json({"entries": report.entries, "digest": report.digest, "problem": report.problem})
    elif not report.problem:
        emit_lines([f"{report.entries} entries, none altered; the last one's hash is {report.digest}"])
    if report.problem:
        complain(f"the audit log shows tampering: {report.problem}")
        return FAILED
    return DONE


def _outcome(entry: dict[str, object]) -> str:
    return f"{entry['outcome']} (#{entry['of']})" if entry["of"] else str(entry["outcome"])


def _what(what: dict[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in what.items() if value not in ("", [], None))
