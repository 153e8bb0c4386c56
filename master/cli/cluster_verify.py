"""`gnt-mesh cluster verify`: what is really on the nodes' disks, in Ganeti's words and codes."""

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import click

from master.cli import options
from master.cli.connect import Session, with_bus
from master.cli.failures import DONE, FAILED
from master.cli.formats import count
from master.cli.lazy import MeshCommand
from master.cli.output import emit_json, emit_lines
from master.cli.shapes import Json
from protocol.verify_messages import CODES, ClusterVerified, ClusterVerify, Finding

ERROR: Final = "ERROR"
WARNING: Final = "WARNING"

PATIENCE_S: Final = 1.0
"""How long the master holds one question; then it says how far it is."""
ANSWER_S: Final = 10.0
"""How much longer than its patience an answer may take."""


@click.command("verify", cls=MeshCommand)
@click.option("--error-codes", is_flag=True, help="Lines for scripts: severity:code:cluster or node:name:message.")
@click.option(
    "-I",
    "--ignore-errors",
    "ignored",
    type=click.Choice(CODES),
    multiple=True,
    help="Show findings with this code as warnings, which do not change the exit code; repeatable.",
)
@click.option("-g", "--node-group", "group", type=options.group_name, metavar="GROUP", help="Only nodes of this group.")
@click.option(
    "--node-timeout",
    type=options.seconds,
    default="30",
    show_default=True,
    metavar="SECONDS",
    help="How long a node may take to read up to 300 files before it counts as silent.",
)
@options.json_option
def verify(error_codes: bool, ignored: tuple[str, ...], group: str | None, node_timeout: float, as_json: bool) -> int:
    """Ask every node for what is really on its disk, and compare.

    Every node that is not marked offline reads every managed file again; content, owner, group and mode are held
    against what is published. Found are files that are missing, different or have the wrong owner or mode, files on
    a node outside their scope, nodes that do not answer, what the master cannot ship, and certificates that expire
    (within 30 days: a warning). Nothing is changed; what is published when the command starts is given a few seconds
    to arrive.

    Exit code 0: all is as it should be. Exit code 1: at least one error was found, or the master does not answer.

    \b
    gnt-mesh cluster verify
    gnt-mesh cluster verify --error-codes | grep ERROR:ECLUSTERFILECHECK
    """

    report = Report(error_codes=error_codes, ignored=ignored, as_json=as_json)
    request = ClusterVerify(group=group or "", node_timeout_s=node_timeout, patience_s=PATIENCE_S)

    async def work(session: Session) -> int:
        return await _verify(session, request, report)

    return with_bus(work)


async def _verify(session: Session, request: ClusterVerify, report: "Report") -> int:
    with _progress_line() as show:
        reply = await _ask(session, request)
        while not reply.is_over:
            show(reply)
            reply = await _ask(session, replace(request, run=reply.run))
    report.begin(reply)
    shown = 0
    while True:
        report.add(reply.findings)
        shown += len(reply.findings)
        if not reply.findings or shown >= reply.findings_total:
            return report.end(reply)
        reply = await _ask(session, replace(request, run=reply.run, offset=shown))


async def _ask(session: Session, request: ClusterVerify) -> ClusterVerified:
    return await session.bus.ask("cluster.verify", request, ClusterVerified, timeout_s=PATIENCE_S + ANSWER_S)


class Report:
    """Prints findings as they come, in Ganeti's lines; as JSON, all of them at the end."""

    def __init__(self, *, error_codes: bool, ignored: Collection[str], as_json: bool) -> None:
        self._error_codes = error_codes
        self._ignored = ignored
        self._as_json = as_json
        self._shapes: list[Json] = []
        self._count: Counter[str] = Counter()

    def begin(self, reply: ClusterVerified) -> None:
        if not self._as_json:
            emit_lines((f"* Gathering data ({count(reply.nodes, 'node')})",))
            emit_lines(("* Verifying configuration file consistency",))

    def add(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            severity = WARNING if finding.is_warning or finding.code in self._ignored else ERROR
            self._count[severity] += 1
            if self._as_json:
                self._shapes.append(_shape(finding, severity))
            else:
                emit_lines((_line(finding, severity, error_codes=self._error_codes),))

    def end(self, reply: ClusterVerified) -> int:
        """Return the exit code."""
        if self._as_json:
            facts = {"nodes": reply.nodes, "files": reply.files, "offline": list(reply.offline)}
            emit_json({**facts, "findings": self._shapes})
        else:
            emit_lines(self._notes(reply))
        return FAILED if self._count[ERROR] else DONE

    def _notes(self, reply: ClusterVerified) -> Iterator[str]:
        if reply.offline:
            yield "* Other Notes"
            yield f"  - NOTICE: {len(reply.offline)} offline node(s) found."
        found = [
            count(self._count[severity], severity.lower()) for severity in (ERROR, WARNING) if self._count[severity]
        ]
        what = " and ".join(found) if found else "all is as it should be"
        yield f"{count(reply.files, 'file')} on {count(reply.nodes, 'node')}: {what}"


def _line(finding: Finding, severity: str, *, error_codes: bool) -> str:
    kind = "node" if finding.node else "cluster"
    if error_codes:
        return f"  - {severity}:{finding.code}:{kind}:{finding.node or None}:{_sentence(finding)}"
    return f"  - {severity}: {' '.join(filter(None, (kind, finding.node)))}: {_sentence(finding)}"


def _sentence(finding: Finding) -> str:
    """Return what was found, in Ganeti's words where Ganeti has some."""
    where = _names(finding.nodes, finding.nodes_count)
    match finding.problem:
        case "certificate":
            return finding.reason
        case "silent":
            return f"Node did not return file checksum data: {finding.reason}"
        case "source":
            return f"File {finding.path} {finding.reason}"
        case "missing":
            return f"File {finding.path} is missing from node(s) {where}"
        case "incomplete":
            return f"File {finding.path} is optional, but it must exist on all or no nodes (not found on {where})"
        case "unexpected":
            return f"File {finding.path} should not exist on node(s) {where}"
        case "different":
            return f"File {finding.path} found with {finding.variants_count} different checksums ({_variants(finding)})"
        case "attributes":
            wrong = "; ".join(f"{one.what} on {_names(one.nodes, one.nodes_count)}" for one in finding.variants)
            return f"File {finding.path} should be {finding.wanted}, but is {wrong}"
        case "unreadable":
            return f"File {finding.path} cannot be checked on node(s) {where}: {finding.reason}"


def _variants(finding: Finding) -> str:
    texts = []
    for number, variant in enumerate(finding.variants, 1):
        published = ", as published," if variant.is_published else ""
        texts.append(f"variant {number}{published} on {_names(variant.nodes, variant.nodes_count)}")
    if not any(variant.is_published for variant in finding.variants):
        texts.append("none of them as published")
    return "; ".join(texts)


def _names(nodes: Sequence[str], total: int) -> str:
    more = [f"{total - len(nodes)} more"] if total > len(nodes) else []
    return ", ".join([*nodes, *more])


def _shape(finding: Finding, severity: str) -> Json:
    return {
        "severity": severity,
        "code": finding.code,
        "item": "node" if finding.node else "cluster",
        "name": finding.node or None,
        "message": _sentence(finding),
        "problem": finding.problem,
        "path": finding.path or None,
        "nodes": list(finding.nodes),
        "nodes_count": finding.nodes_count,
        "variants": [
            {"what": one.what, "published": one.is_published, "nodes": list(one.nodes), "nodes_count": one.nodes_count}
            for one in finding.variants
        ],
    }


@contextmanager
def _progress_line() -> Iterator[Callable[[ClusterVerified], None]]:
    """Show how far it is, where a person watches: a line on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda reply: None
        return
    from rich.console import Console

    spinner = "dots" if sys.stderr.encoding.lower().startswith("utf") else "line"
    with Console(file=sys.stderr, highlight=False).status("asking the nodes", spinner=spinner) as line:
        yield lambda reply: line.update(f"{reply.nodes_done} of {count(reply.nodes, 'node')}")
