"""`gnt-mesh status`, `watch` and `wait`: does every node have what it should have?"""

import click

from master.cli import options
from master.cli.change import wait_until
from master.cli.connect import Session, with_bus
from master.cli.lazy import MeshCommand
from master.cli.output import emit_json, show
from master.cli.shapes import status_shape
from protocol.operator_messages import WaitRequest
from protocol.paging import ask_status


@click.command(cls=MeshCommand)
@options.json_option
def status(as_json: bool) -> None:
    """Show the fleet: roles, generations, what is missing and why.

    Of each scope: its generation, and how many files and nodes are in it. Of each node: its role (M master, C master
    candidate, R regular, D drained, O offline), whether its agent is connected, whether it has all it must, and the
    generation it has on its disk in each scope. Then every error, and how many messages each side has refused.

    Exit code 0 means only that the master answered; to prove that all is in sync use `gnt-mesh wait`.

    \b
    gnt-mesh status --json | jq -r '.nodes[] | select(.in_sync | not) | .name'
    """
    fleet = with_bus(lambda session: ask_status(session.bus))
    if as_json:
        emit_json(status_shape(fleet))
        return
    from master.cli.status_view import status_view

    show(status_view(fleet))


@click.command(cls=MeshCommand)
@options.json_option
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N updates, the first look included.")
def watch(as_json: bool, count: int | None) -> None:
    """Show the fleet live, until Ctrl-C.

    On a terminal a table that is redrawn as things change. In a pipe first one line about the whole, then one line per
    change as it happens, such as `node2 all 12 -> 13` or `node3 offline`. With --json one status object per line, at
    first and at every change.

    \b
    gnt-mesh watch | ts
    """
    from master.cli.watching import display_for, watch_fleet

    async def work(session: Session) -> None:
        with display_for(as_json=as_json) as display:
            await watch_fleet(session, display, updates_max=count)

    try:
        with_bus(work)
    except KeyboardInterrupt:
        return  # how a watch ends


@click.command(cls=MeshCommand)
@click.option(
    "--scope", "scopes", type=options.scope_name, multiple=True, metavar="SCOPE", help="Only this scope; repeatable."
)
@click.option(
    "--node", "nodes", type=options.node_name, multiple=True, metavar="NODE", help="Only this node; repeatable."
)
@options.timeout_option
@options.json_option
def wait(scopes: tuple[str, ...], nodes: tuple[str, ...], timeout: float, as_json: bool) -> int:
    """Wait until every node has what it should have.

    What is on the master's disk when the command starts is what it waits for: a file edited just before is part of it,
    a later edit is not. Exit code 0: it is on every node's disk, fsynced. Exit code 2: not within the timeout, and
    stderr has one line per thing that is missing, with node, path and reason.

    \b
    gnt-mesh wait --timeout 10
    gnt-mesh wait --scope master-candidates --node node2 --json
    """
    return wait_until(WaitRequest(scopes=scopes, nodes=nodes), timeout_s=timeout, as_json=as_json)
