"""`gnt-mesh cluster master-failover`: a candidate becomes the master. `master.failover` does it, on its disk."""

import shlex
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from master.cli import options
from master.cli.change import wait_until
from master.cli.connect import Session, with_bus
from master.cli.failures import DEADLINE_PASSED, DONE, complain
from master.cli.formats import moment
from master.cli.lazy import MeshCommand, chosen_directory
from master.cli.output import emit_json, emit_lines
from protocol.errors import Refused, Unavailable
from protocol.operator_messages import ClusterStatus, WaitRequest
from protocol.paging import ask_status

if TYPE_CHECKING:
    from master.core.cluster import ClusterConfig
    from master.failover import Seat
    from master.up.layout import Layout

PAUSE_S: Final = 0.2


@click.command("master-failover", cls=MeshCommand)
@click.option(
    "--node",
    type=options.node_name,
    metavar="NODE",
    help="The candidate that becomes the master; without it, the node that this machine is.",
)
@click.option(
    "--no-voting", is_flag=True, help="Take over although no master can say whether this candidate has the last change."
)
@click.option(
    "--confirm",
    type=click.Choice(["removals"]),
    multiple=True,
    help="Do it although some nodes lose files whose sources the new master does not have.",
)
@click.option("--dry-run", is_flag=True, help="Only check whether it can be done, and say what would be.")
@click.option(
    "--root", type=click.Path(path_type=Path), default="/", show_default=True, metavar="DIR", help="This node's root."
)
@options.timeout_option
@options.json_option
def master_failover(
    node: str | None,
    no_voting: bool,
    confirm: tuple[str, ...],
    dry_run: bool,
    root: Path,
    timeout: float,
    as_json: bool,
) -> int:
    """Make a master candidate the master: from its own files, in a new epoch.

    Run it on the candidate, with its agent stopped, once the former master is stopped or gone; in a mesh made by
    `gnt-mesh up` anywhere, and it does the rest by itself. What lies on the candidate's disk is what counts from then
    on. The former master stays a candidate; a master of an earlier epoch that comes back ends by itself.

    \b
    gnt-mesh --dir /tmp/mesh cluster master-failover --node node2
    gnt-mesh cluster master-failover --no-voting
    """
    layout = _mesh_here(chosen_directory(click.get_current_context()))
    if layout and not node:
        raise click.UsageError("missing option '--node'", click.get_current_context())
    wishes = Wishes(node or socket.gethostname(), no_voting=no_voting, removals="removals" in confirm, dry_run=dry_run)
    if layout:
        return _in_mesh(layout, wishes, timeout_s=timeout, as_json=as_json)
    return _on_this_node(root, wishes, as_json=as_json)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for."""

    node: str
    no_voting: bool
    removals: bool
    dry_run: bool


def _in_mesh(layout: "Layout", wishes: Wishes, *, timeout_s: float, as_json: bool) -> int:
    """The marker says who the master is, and an `up` that runs on the directory follows it at once."""
    from master import failover
    from master.up.claim import is_claimed
    from master.up.layout import read_marker, write_marker

    marker = read_marker(layout)
    assert marker, "`_mesh_here` has found it"
    seat, where = layout.seat(wishes.node), shlex.quote(str(layout.directory))
    if not seat.config_file.exists():
        failover.look(layout.seat(marker.master), wishes.node)  # says who could be it
    before, after = failover.look(seat, wishes.node)
    proof = _proof(before, wishes, _fleet() if is_claimed(layout) else None)
    _check_sources(seat, before, wishes)
    told = _shape(before, after, [_sentence(before, after), proof])
    if wishes.dry_run:
        return _tell(told, as_json=as_json, is_dry=True)
    write_marker(layout, replace(marker, master_node=wishes.node))
    if not is_claimed(layout):
        told["done"] = [f"{wishes.node} is the master from the next start on: gnt-mesh up --dir {where}", proof]
        return _tell(told, as_json=as_json)
    if not with_bus(lambda session: _is_master(session, after, timeout_s)):
        complain(f"after {timeout_s:g} s {wishes.node} does not answer as the master; see what gnt-mesh up says")
        return DEADLINE_PASSED
    told["done"] = [*told["done"], f"Sources are edited below {seat.root}."]
    if not as_json:
        _tell(told, as_json=False)
    return wait_until(WaitRequest(), timeout_s=timeout_s, as_json=as_json, told=told)


def _on_this_node(root: Path, wishes: Wishes, *, as_json: bool) -> int:
    from master import failover
    from master.first_node import prepare_master, seat

    here = seat(root)
    before, after = failover.look(here, wishes.node)
    fleet = _fleet()
    if fleet:
        raise Refused(f"{fleet.master} is the master and answers; first stop it there: systemctl stop gnt-mesh-master")
    proof = _proof(before, wishes, None)
    _check_sources(here, before, wishes)
    prepare_master(root, dry_run=wishes.dry_run)
    told = _shape(before, after, [_sentence(before, after), proof])
    if not wishes.dry_run:
        failover.take_over(here, wishes.node)
        told["done"] = [
            *told["done"],
            "Now start it, and then this node's agent again: systemctl start gnt-mesh-master gnt-mesh-agent",
        ]
    return _tell(told, as_json=as_json, is_dry=wishes.dry_run)


def _mesh_here(directory: Path | None) -> "Layout | None":
    """Return the mesh of `gnt-mesh up` in the directory that was chosen, if one was."""
    if directory is None:
        return None
    from master.settings import UP_MARKER_FILE
    from master.up.layout import Layout

    if not (directory / UP_MARKER_FILE).is_file():
        raise Refused(f"{directory} has no mesh of gnt-mesh up; on a node itself the command needs no --dir")
    return Layout(directory.resolve())


def _fleet() -> ClusterStatus | None:
    """Return what the master says now, None if nobody answers."""
    try:
        return with_bus(lambda session: ask_status(session.bus))
    except (Refused, Unavailable):
        return None


def _proof(config: "ClusterConfig", wishes: Wishes, fleet: ClusterStatus | None) -> str:
    """Return why the candidate's files may be relied on; Refused if nobody can say so and that was not wished for."""
    name, held = wishes.node, f"serial number {config.serial_no} of {moment(config.mtime)}"
    if fleet and any(node.name == name and node.online and node.in_sync for node in fleet.nodes):
        return f"{name} holds all that {fleet.master} has published."
    if wishes.no_voting:
        return f"Nobody has proven that {name} had the last change: it holds {held}."
    if fleet:
        raise Refused(f"{name} does not hold all it must yet; first: gnt-mesh wait --node {name}. {_ANYHOW}")
    raise Refused(f"no master answers that could say whether {name} has the last change: it holds {held}. {_ANYHOW}")


_ANYHOW: Final = "To take over all the same: --no-voting"


def _check_sources(seat: "Seat", config: "ClusterConfig", wishes: Wishes) -> None:
    from master.failover import check_sources

    if not wishes.removals:
        check_sources(seat, config, wishes.node)


async def _is_master(session: Session, config: "ClusterConfig", timeout_s: float) -> bool:
    """Return True as soon as the new master answers, False if it does not in time."""
    deadline_s = session.clock() + timeout_s
    while session.clock() < deadline_s:
        try:
            fleet = await ask_status(session.bus)
        except Unavailable:
            pass
        else:
            if fleet.epoch >= config.cluster.epoch:
                return True
        await session.sleep(PAUSE_S)
    return False


def _sentence(before: "ClusterConfig", after: "ClusterConfig") -> str:
    former, name = before.master.name, after.master.name
    return f"{name} is the master in the place of {former}, epoch {after.cluster.epoch}; {former} is a candidate."


def _shape(before: "ClusterConfig", after: "ClusterConfig", done: list[str]) -> dict[str, Any]:
    return {"master": after.master.name, "former": before.master.name, "epoch": after.cluster.epoch, "done": done}


def _tell(told: dict[str, Any], *, as_json: bool, is_dry: bool = False) -> int:
    if as_json:
        emit_json({"dry_run": True, **told} if is_dry else told)
    elif is_dry:
        emit_lines(["Dry run: nothing was changed. This would be done:", *(f"  {line}" for line in told["done"])])
    else:
        emit_lines(told["done"])
    return DONE
