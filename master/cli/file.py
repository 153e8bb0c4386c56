"""`gnt-mesh file ...`: which files the mesh keeps, and where they go."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from master.cli import options
from master.cli.change import change
from master.cli.connect import with_bus
from master.cli.explain import explain
from master.cli.formats import mode, size, yes
from master.cli.history import confirm, diff, log, rollback
from master.cli.lazy import MeshCommand, MeshGroup
from master.cli.output import emit_json, show
from master.cli.shapes import file_shape
from protocol.operator_messages import FileAdd, FileInfo, FileModify, FileRemove
from protocol.paging import ask_files

if TYPE_CHECKING:
    from master.cli.tables import Cell

SCOPES = "all, master-candidates, vm-capable or group-NAME"


@click.group(cls=MeshGroup)
def file() -> None:
    """Managed files: what there is, what it was, and the way back.

    A managed file is edited on the master and kept equal on every node of its scope. PATH is the path that the nodes
    see: in a mesh made by `gnt-mesh up --dir DIR`, /etc/x is the file DIR/nodes/node1/etc/x on the master.
    """


@file.command(cls=MeshCommand)
@click.argument("path", type=options.managed_path)
@click.option("--scope", type=options.scope_name, required=True, metavar="SCOPE", help=f"Who gets it: {SCOPES}.")
@click.option("--optional", is_flag=True, help="It is no error if the master does not have it.")
@options.yes_no_option(
    "--allow-empty", help="Whether it is shipped when it is empty; if not given, as it is now. See modify."
)
@click.option("--secret", is_flag=True, help="Ship it encrypted, and leave no backup. Always so for master-candidates.")
@options.waiting_options(default=True)
def add(
    path: str,
    scope: str,
    optional: bool,
    allow_empty: bool | None,
    secret: bool,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> int:
    """Manage a file: from now on every node of the scope has what the master has.

    \b
    gnt-mesh file add /etc/motd --scope all
    gnt-mesh file add /etc/ganeti/backup.key --scope master-candidates --optional
    gnt-mesh file add /etc/ganeti/vnc-password --scope vm-capable --secret
    """
    request = FileAdd(path=path, scope=scope, optional=optional, allow_empty=allow_empty, secret=secret)
    return change("file.add", request, wait=wait, timeout_s=timeout, as_json=as_json)


@file.command("list", cls=MeshCommand)
@options.json_option
def list_files(as_json: bool) -> None:
    """List the managed files: scope, size, mode, owner, the generation of the last change, and what is wrong."""
    files = with_bus(lambda session: ask_files(session.bus))
    if as_json:
        emit_json([file_shape(one) for one in files])
        return
    from master.cli.tables import table

    titles = ("Path", "Scope", "Size", "Mode", "Owner", "Generation", "State")
    show(table(titles, [_row(one) for one in files], right=("Size", "Generation")))


@file.command(cls=MeshCommand)
@click.argument("paths", type=options.managed_path, nargs=-1, required=True, metavar="PATH...")
@options.json_option
def info(paths: tuple[str, ...], as_json: bool) -> None:
    """Show all that is known of some managed files."""
    files = with_bus(lambda session: ask_files(session.bus, paths))
    if as_json:
        emit_json([file_shape(one) for one in files])
        return
    _show_details(files)


@file.command(cls=MeshCommand)
@click.argument("path", type=options.managed_path)
@options.yes_no_option(
    "--allow-empty", help="Ship it when its source became empty; with no, that is held back and shown as an error."
)
@options.yes_no_option("--optional", help="Whether it is no error if the master does not have it.")
@options.yes_no_option(
    "--secret", help="Ship it encrypted, and leave no backup; renew what was shipped in plain before."
)
@click.option("--scope", type=options.scope_name, metavar="SCOPE", help=f"Move it to another scope: {SCOPES}.")
@options.waiting_options(default=True)
def modify(
    path: str,
    allow_empty: bool | None,
    optional: bool | None,
    secret: bool | None,
    scope: str | None,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> int:
    """Change how a file is managed; its content is changed by editing it on the master.

    \b
    gnt-mesh file modify /etc/motd --allow-empty yes
    gnt-mesh file modify /etc/motd --scope vm-capable
    """
    if allow_empty is None and optional is None and secret is None and scope is None:
        raise click.UsageError("nothing to modify: give at least one flag", click.get_current_context())
    request = FileModify(path=path, allow_empty=allow_empty, optional=optional, secret=secret, scope=scope)
    return change("file.modify", request, wait=wait, timeout_s=timeout, as_json=as_json)


@file.command(cls=MeshCommand)
@click.argument("path", type=options.managed_path)
@click.option("--purge", is_flag=True, help="Keep no backup on the nodes.")
@options.waiting_options(default=True)
def remove(path: str, purge: bool, wait: bool, timeout: float, as_json: bool) -> int:
    """Manage a file no longer: it is removed from the nodes, which keep a dated backup of it, and not from the master.

    A file of the scope master-candidates is a secret: of it no backup is kept.

    \b
    gnt-mesh file remove /etc/motd
    """
    return change("file.remove", FileRemove(path=path, purge=purge), wait=wait, timeout_s=timeout, as_json=as_json)


file.add_command(log)
file.add_command(diff)
file.add_command(rollback)
file.add_command(confirm)
file.add_command(explain)


def _show_details(files: Sequence[FileInfo]) -> None:
    from rich.console import Group, RenderableType
    from rich.text import Text

    from master.cli.tables import facts

    parts: list[RenderableType] = []
    for one in files:
        parts += [Text(), facts(_facts(one))] if parts else [facts(_facts(one))]
    show(Group(*parts))


def _row(file: FileInfo) -> "tuple[Cell, ...]":
    entry = file.published
    if entry is None:
        return (file.path, file.scope, "-", "-", "-", "-", _state(file))
    owner = f"{entry.owner}:{entry.group}"
    return (
        file.path,
        file.scope,
        size(entry.size_bytes),
        mode(entry.mode),
        owner,
        str(entry.generation),
        _state(file),
    )


def _facts(file: FileInfo) -> "list[tuple[str, Cell]]":
    entry = file.published
    facts: list[tuple[str, Cell]] = [
        ("Path", file.path),
        ("Scope", file.scope),
        ("Optional", yes(file.optional)),
        ("Allow empty", yes(file.allow_empty)),
        ("Secret", yes(file.secret)),
        ("Managed because", file.reason),
        ("State", _state(file)),
    ]
    if entry is not None:
        facts += [
            ("Generation", str(entry.generation)),
            ("Size", f"at most {size(entry.size_bytes)}" if file.secret else _exact_size(entry.size_bytes)),
            ("Mode", mode(entry.mode)),
            ("Owner", f"{entry.owner}:{entry.group}"),
            ("Name on the bus" if file.secret else "SHA-256", entry.digest),
        ]
    return facts


def _exact_size(size_bytes: int) -> str:
    return f"{size(size_bytes)} ({size_bytes} bytes)"


def _state(file: FileInfo) -> "Cell":
    from rich.text import Text

    from master.cli.tables import text

    if file.error:
        return text(file.error, "bold red")
    if file.published is None:
        return "absent, optional" if file.optional else "not published yet"
    return Text("ok", style="green")
