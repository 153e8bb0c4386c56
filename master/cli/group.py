"""`gnt-mesh group ...`: node groups. Each is also a scope, `group-NAME`, of files for its nodes alone."""

import click

from master.cli import options
from master.cli.change import change
from master.cli.connect import ask
from master.cli.lazy import MeshCommand, MeshGroup
from master.cli.output import emit_json, show
from master.cli.shapes import group_shape
from protocol.operator_messages import GroupAdd, GroupInfos, GroupRemove, Nothing


@click.group(cls=MeshGroup)
def group() -> None:
    """Node groups: add, list, remove.

    A node is in exactly one group. The files of scope group-NAME go to the nodes of group NAME.
    """


@group.command(cls=MeshCommand)
@click.argument("name", type=options.group_name)
@options.changing_options
def add(name: str, as_json: bool) -> int:
    """Add an empty node group.

    \b
    gnt-mesh group add rack1
    gnt-mesh node modify node3 --group rack1
    gnt-mesh file add /etc/rack.conf --scope group-rack1
    """
    return change("group.add", GroupAdd(name=name), as_json=as_json)


@group.command("list", cls=MeshCommand)
@options.json_option
def list_groups(as_json: bool) -> None:
    """List the node groups and who is in them."""
    groups = ask("group.list", Nothing(), GroupInfos).groups
    if as_json:
        emit_json([group_shape(one) for one in groups])
        return
    from master.cli.tables import table

    rows = [(one.name, str(len(one.nodes)), ", ".join(one.nodes) or "-") for one in groups]
    show(table(("Group", "Nodes", "Names"), rows, right=("Nodes",)))


@group.command(cls=MeshCommand)
@click.argument("name", type=options.group_name)
@options.changing_options
def remove(name: str, as_json: bool) -> int:
    """Remove a node group that has neither nodes nor files."""
    return change("group.remove", GroupRemove(name=name), as_json=as_json)
