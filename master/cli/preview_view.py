"""What a dry run has found, as text and as JSON."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from master.cli.formats import count
from master.cli.shapes import Json
from master.cli.tables import Cell, table
from protocol.change_messages import FileChange, NodeChanges, Preview, RoleChange

STYLES = {"added": "green", "changed": "yellow", "removed": "red"}
NODES_NAMED_MAX = 8


def preview_text(done: Sequence[str], preview: Preview) -> RenderableType:
    """Return what would be done in sentences, then who changes role, then per node which files change."""
    parts: list[RenderableType] = [Text("Dry run: nothing was changed. This would be done:", style="bold")]
    parts += [Text(f"  {sentence}") for sentence in done]
    if preview.roles:
        parts += [Text(), _roles(preview.roles)]
    for changes in preview.nodes:
        parts += _files(changes)
    if not preview.nodes:
        parts += [Text(), Text("No file would change on any node.")]
    for one in preview.objections:
        parts.append(Text(f"It has to be confirmed: {one.reason}; --confirm {one.guard}", style="bold yellow"))
    parts += [Text(f"{error.path} {error.reason}", style="bold red") for error in preview.errors]
    return Group(*parts)


def preview_shape(preview: Preview) -> Json:
    """One entry per node, so that a script need not know how we group them."""
    return {
        "roles": [{"node": one.node, "before": one.before, "after": one.after} for one in preview.roles],
        "nodes": [
            {
                "name": node,
                "offline": changes.offline,
                "files_count": changes.files_count,
                "files": [_file_shape(file) for file in changes.files],
            }
            for changes in preview.nodes
            for node in changes.nodes
        ],
        "objections": [{"guard": one.guard, "reason": one.reason} for one in preview.objections],
        "errors": [{"path": one.path, "reason": one.reason, "scope": one.scope} for one in preview.errors],
    }


def _roles(roles: Sequence[RoleChange]) -> Table:
    return table(("Node", "Role"), [(one.node, f"{one.before or '-'} -> {one.after or '-'}") for one in roles])


def _files(changes: NodeChanges) -> Iterator[RenderableType]:
    names = ", ".join(changes.nodes[:NODES_NAMED_MAX])
    if len(changes.nodes) > NODES_NAMED_MAX:
        names += f" and {len(changes.nodes) - NODES_NAMED_MAX} more"
    yield Text()
    yield Text(f"{names}, when online again:" if changes.offline else f"{names}:", style="bold")
    rows: list[tuple[Cell, ...]] = [
        (Text(file.change, STYLES[file.change]), file.path, file.scope, ", ".join(file.details))
        for file in changes.files
    ]
    if len(changes.files) < changes.files_count:
        rows.append(("", f"and {count(changes.files_count - len(changes.files), 'more file')}", "", ""))
    yield table(("Would be", "File", "Scope", "What"), rows)


def _file_shape(file: FileChange) -> Json:
    return {"path": file.path, "scope": file.scope, "change": file.change, "details": list(file.details)}
