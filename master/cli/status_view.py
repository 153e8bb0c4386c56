"""The fleet as text, for a person who was woken by it: first whether all is well, then where it is not, and why."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from master.cli import tables
from master.cli.differences import OFFLINE, all_in_sync
from master.cli.formats import count, one_line, size, span, yes
from master.cli.tables import Cell, table
from protocol.operator_messages import ClusterStatus, NodeInfo

SAME_REASON_MAX: Final = 4
"""More rows of one place with one reason say nothing more."""


def is_well(node: NodeInfo) -> bool:
    """True if nobody has to look at this node: it has all it must, or was set offline by an operator."""
    return (node.in_sync and node.online and not node.errors_count) or node.role == OFFLINE


def summary(status: ClusterStatus) -> str:
    """Return the one sentence: which cluster, who is master, how many nodes have what they must."""
    asked = [node for node in status.nodes if node.role != OFFLINE]
    synced = sum(node.in_sync for node in asked)
    absent = sum(not node.online for node in asked)
    errors = len(status.errors) + sum(node.errors_count for node in status.nodes)
    facts = [
        f"{synced} of {len(asked)} nodes in sync" if synced < len(asked) else all_in_sync(len(asked)),
        f"{absent} not connected" if absent else "",
        f"{len(status.nodes) - len(asked)} set offline" if len(asked) < len(status.nodes) else "",
        count(errors, "error") if errors else "",
    ]
    name = status.cluster or "cluster"
    return one_line(f"{name}: master {status.master}, epoch {status.epoch}; {', '.join(filter(None, facts))}")


def status_view(status: ClusterStatus, *, nodes_max: int | None = None) -> RenderableType:
    """Return the whole picture. With more nodes than `nodes_max`, those that need attention come first."""
    shown = _most_urgent(status.nodes, nodes_max)
    hidden = len(status.nodes) - len(shown)
    parts: list[RenderableType] = [_headline(status), Text(), _scopes(status), Text(), _nodes(status, shown)]
    if hidden:
        parts.append(Text(f"... and {count(hidden, 'more node')}", style="dim"))
    for section in (_warnings(status), _errors(status), _refused(status)):
        if section is not None:
            parts += [Text(), section]
    return Group(*parts)


def generations(node: NodeInfo, status: ClusterStatus) -> Text:
    """Return what a node has of each scope; `all 11 of 12` where it is behind, and what it still has to give back."""
    parts = []
    for scope in node.scopes:
        there = status.scopes.get(scope)
        desired = there.generation if there else None
        has = node.generations.get(scope)
        if desired is None or has == desired:
            parts.append(Text(f"{scope} {'-' if has is None else has}"))
        else:
            parts.append(Text(f"{scope} {'-' if has is None else has} of {desired}", style="yellow"))
    parts += [Text(f"{scope} to be removed", style="yellow") for scope in node.holding if scope not in node.scopes]
    return Text(", ").join(parts) if parts else Text("-")


def online(node: NodeInfo) -> Text:
    """Return Y, or N and for how long the node has been silent."""
    if node.online:
        return tables.wanted(True)
    since = "never seen" if node.last_seen_s is None else span(node.last_seen_s)
    return Text(f"N, {since}", style="" if node.role == OFFLINE else "bold red")


def in_sync(node: NodeInfo) -> Text:
    """Return Y or N; of a node that was set offline N is no news."""
    return Text("-") if node.role == OFFLINE and not node.in_sync else tables.wanted(node.in_sync)


def node_errors(node: NodeInfo) -> Iterator[tuple[str, str]]:
    """Yield path and reason of what is wrong on a node, and how much of it was too much to report."""
    for error in node.errors:
        yield error.path or error.scope or "-", error.reason
    if node.errors_count > len(node.errors):
        yield "-", f"and {count(node.errors_count - len(node.errors), 'more error')}"


def _headline(status: ClusterStatus) -> Text:
    well = all(map(is_well, status.nodes)) and not status.errors
    return Text(summary(status), style="bold green" if well else "bold yellow")


def _most_urgent(nodes: Sequence[NodeInfo], nodes_max: int | None) -> Sequence[NodeInfo]:
    if nodes_max is None or len(nodes) <= nodes_max:
        return nodes
    return sorted(nodes, key=is_well)[:nodes_max]


def _scopes(status: ClusterStatus) -> RenderableType:
    rows = [
        (name, str(scope.generation), str(scope.files), str(scope.nodes), size(scope.size_bytes))
        for name, scope in status.scopes.items()
    ]
    numbers = ("Generation", "Files", "Nodes", "Size")
    return table(("Scope", *numbers), rows, right=numbers)


def _nodes(status: ClusterStatus, nodes: Sequence[NodeInfo]) -> RenderableType:
    rows = [
        (
            node.name,
            node.role,
            yes(node.vm_capable),
            online(node),
            in_sync(node),
            generations(node, status),
            Text(str(node.errors_count), style="bold red" if node.errors_count else ""),
        )
        for node in nodes
    ]
    return table(("Node", "Role", "VM", "Online", "In sync", "Generations", "Errors"), rows, right=("Errors",))


def _warnings(status: ClusterStatus) -> RenderableType | None:
    return tables.text("\n".join(map(one_line, status.warnings)), "bold yellow") if status.warnings else None


def _errors(status: ClusterStatus) -> RenderableType | None:
    found = [(error.path or error.scope or "-", error.reason) for error in status.errors]
    rows = list(_error_rows(f"{status.master} (source)", found))
    for node in status.nodes:
        rows += _error_rows(node.name, node_errors(node))
    return table(("Error on", "Path", "Reason"), rows) if rows else None


def _error_rows(place: str, errors: Iterable[tuple[str, str]]) -> Iterator[tuple[Cell, ...]]:
    """Yield one row per path; of many with one reason the first few, and how many more there are."""
    paths_of: dict[str, list[str]] = {}
    for path, reason in errors:
        paths_of.setdefault(reason, []).append(path)
    for reason, paths in paths_of.items():
        shown = paths if len(paths) <= SAME_REASON_MAX else paths[: SAME_REASON_MAX - 1]
        for path in shown:
            yield place, path, tables.text(reason, "red")
        if len(shown) < len(paths):
            yield place, f"and {len(paths) - len(shown)} others", tables.text(reason, "red")


def _refused(status: ClusterStatus) -> RenderableType | None:
    sides = [(f"{status.master} (master)", status.refusals)] + [(node.name, node.refusals) for node in status.nodes]
    rows = [(name, str(refusals.count), refusals.last) for name, refusals in sides if refusals.count]
    titles = ("Messages refused by", "Count", "The last one, because")
    return table(titles, rows, right=("Count",)) if rows else None
