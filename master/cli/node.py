"""`gnt-mesh node ...`: who is in the cluster, and in which role."""

from dataclasses import replace
from typing import TypedDict, Unpack

import click

from master.cli import options
from master.cli.change import change
from master.cli.connect import with_bus
from master.cli.lazy import MeshCommand, MeshGroup
from master.cli.output import emit_json, show
from master.cli.shapes import node_shape
from protocol.operator_messages import NodeAdd, NodeModify, NodeRemove
from protocol.paging import ask_nodes


class Flags(TypedDict):
    """What `node modify` can change; None is not mentioned."""

    master_candidate: bool | None
    offline: bool | None
    drained: bool | None
    master_capable: bool | None
    vm_capable: bool | None
    group: str | None
    public_key: str | None


@click.group(cls=MeshGroup)
def node() -> None:
    """Nodes: add, list, info, modify, remove."""


@node.command(cls=MeshCommand)
@click.argument("name", type=options.node_name)
@click.option("-g", "--group", type=options.group_name, metavar="GROUP", help="Its node group; else the first one.")
@options.yes_no_option("--vm-capable", help="Whether it may run instances; yes if not given.")
@options.yes_no_option("--master-capable", help="Whether it may become master candidate; yes if not given.")
@click.option("--public-key", metavar="KEY", help="The public nkey of its agent; it can be given later, by modify.")
@click.option("--readd", is_flag=True, help="It is in the cluster and was installed anew: its old key is void at once.")
@options.waiting_options(default=False)
def add(
    name: str,
    group: str | None,
    vm_capable: bool | None,
    master_capable: bool | None,
    public_key: str | None,
    readd: bool,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> int:
    """Add a node to the cluster, and print the token with which it joins.

    The token is for this node alone, works once, and expires after an hour. On the node, `gnt-mesh-agent join TOKEN`
    makes its key, which never leaves it, and verifies the cluster by the fingerprint in the token. The command does not
    wait for that unless told to.

    \b
    gnt-mesh node add node4 --group rack1 --vm-capable no
    gnt-mesh node add node4 --readd
    gnt-mesh node add node4 --public-key UC5M...
    """
    if readd and (group or public_key or vm_capable is not None or master_capable is not None):
        raise click.UsageError("--readd changes nothing but the node's identity; use gnt-mesh node modify for the rest")
    request = NodeAdd(
        name=name,
        group=group or "",
        vm_capable=vm_capable is not False,
        master_capable=master_capable is not False,
        public_key=public_key or "",
        readd=readd,
    )
    return change("node.add", request, wait=wait, timeout_s=timeout, as_json=as_json)


@node.command("list", cls=MeshCommand)
@options.json_option
def list_nodes(as_json: bool) -> None:
    """List the nodes, one per line.

    Role is M (master), C (master candidate), R (regular), D (drained) or O (offline), as in `gnt-node list -o role`.
    """
    nodes = with_bus(lambda session: ask_nodes(session.bus))
    if as_json:
        emit_json([node_shape(one) for one in nodes])
        return
    from master.cli.node_view import node_table

    show(node_table(nodes))


@node.command(cls=MeshCommand)
@click.argument("names", type=options.node_name, nargs=-1, metavar="[NAME]...")
@options.json_option
def info(names: tuple[str, ...], as_json: bool) -> None:
    """Show all that is known of some nodes, or of every node."""
    nodes = with_bus(lambda session: ask_nodes(session.bus, names))
    if as_json:
        emit_json([node_shape(one) for one in nodes])
        return
    from master.cli.node_view import node_details

    show(node_details(nodes))


@node.command(cls=MeshCommand)
@click.argument("name", type=options.node_name)
@options.yes_no_option("-C", "--master-candidate", help="Make it a master candidate, or no longer one.")
@options.yes_no_option("-O", "--offline", help="Set it offline, or back.")
@options.yes_no_option("-D", "--drained", help="Set it drained, or back.")
@options.yes_no_option("--master-capable", help="Whether it may become master candidate.")
@options.yes_no_option("--vm-capable", help="Whether it may run instances.")
@click.option("-g", "--group", type=options.group_name, metavar="GROUP", help="Move it to this node group.")
@click.option("--public-key", metavar="KEY", help="Replace the public nkey of its agent.")
@click.option("--auto-promote", is_flag=True, help="If a candidate is lost by this, promote another node.")
@options.waiting_options(default=True)
def modify(name: str, auto_promote: bool, wait: bool, timeout: float, as_json: bool, **flags: Unpack[Flags]) -> int:
    """Change a node's flags, and wait until its disk agrees.

    `-C yes` returns 0 only when every file of a master candidate is durable on the node, `-C no` only when they are
    gone from it. Of -C, -O and -D at most one is yes; setting one clears the others.

    \b
    gnt-mesh node modify node2 -C yes
    gnt-mesh node modify node3 -O yes --auto-promote
    gnt-mesh node modify node3 --group rack1 --no-wait
    """
    if all(value is None for value in flags.values()):
        raise click.UsageError("nothing to modify: give at least one flag", click.get_current_context())
    request = replace(NodeModify(name=name, auto_promote=auto_promote), **flags)
    return change("node.modify", request, wait=wait, timeout_s=timeout, as_json=as_json)


@node.command(cls=MeshCommand)
@click.argument("name", type=options.node_name)
@click.option("--keep-files", is_flag=True, help="Leave on its disk whatever the mesh has put there.")
@options.waiting_options(default=False)
def remove(name: str, keep_files: bool, wait: bool, timeout: float, as_json: bool) -> int:
    """Remove a node from the cluster: within a second its agent can no longer read anything.

    Before that it is asked to give back every file of the mesh, keeping dated backups of what is no secret. The command
    says what was withdrawn, what is still there if the node could not be asked, and which secrets to renew.

    \b
    gnt-mesh node remove node4
    """
    request = NodeRemove(name=name, keep_files=keep_files)
    return change("node.remove", request, wait=wait, timeout_s=timeout, as_json=as_json)
