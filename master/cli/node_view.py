"""Nodes as text: a table for many, all that is known for few."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from master.cli import tables
from master.cli.formats import span, yes
from master.cli.status_view import in_sync, node_errors, online
from master.cli.tables import Cell
from protocol.operator_messages import NodeInfo

ROLES = {"M": "master", "C": "master candidate", "R": "regular", "D": "drained", "O": "offline"}


def node_table(nodes: Sequence[NodeInfo]) -> RenderableType:
    """Return one line per node."""
    rows: list[tuple[Cell, ...]] = [
        (
            node.name,
            node.role,
            node.group,
            yes(node.master_capable),
            yes(node.vm_capable),
            online(node),
            in_sync(node),
            str(node.errors_count),
        )
        for node in nodes
    ]
    titles = ("Node", "Role", "Group", "MasterCapable", "VMCapable", "Online", "In sync", "Errors")
    return tables.table(titles, rows, right=("Errors",))


def node_details(nodes: Sequence[NodeInfo]) -> RenderableType:
    """Return everything about each node, an empty line between two."""
    parts: list[RenderableType] = []
    for node in nodes:
        parts += [Text(), tables.facts(_facts(node))] if parts else [tables.facts(_facts(node))]
    return Group(*parts)


def _facts(node: NodeInfo) -> list[tuple[str, Cell]]:
    has = ", ".join(f"{scope} {generation}" for scope, generation in node.generations.items())
    seen = "never" if node.last_seen_s is None else f"{span(node.last_seen_s)} ago"
    facts: list[tuple[str, Cell]] = [
        ("Node name", node.name),
        ("UUID", node.uuid),
        ("Role", f"{node.role} ({ROLES.get(node.role, '?')})"),
        ("Group", node.group),
        ("Master capable", yes(node.master_capable)),
        ("VM capable", yes(node.vm_capable)),
        ("Online", online(node)),
        ("Last heard", seen),
        ("In sync", in_sync(node)),
        ("Scopes", ", ".join(node.scopes) or "-"),
        ("Has generations", has or "-"),
        ("Holds files of", ", ".join(node.holding) or "-"),
        ("Assignment", f"serial {node.serial}"),
        ("Public key", node.public_key or "-"),
        ("Agent version", node.agent_version or "-"),
    ]
    if node.refusals.count:
        facts.append(("Refused messages", f"{node.refusals.count}, the last because: {node.refusals.last}"))
    facts += [("Error", tables.text(f"{path}: {reason}", "red")) for path, reason in node_errors(node)]
    return facts
