"""`gnt-mesh up`: a whole mesh on this machine, in the foreground. What runs it is `master.up`."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from master.up.mesh import Summary


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Where everything lies: keys, broker, logs, and a root directory per node.",
)
@click.option("--nodes", type=int, metavar="N", help="How many nodes, the first is the master; 3 for a new mesh.")
@click.option("--candidate-pool-size", type=int, metavar="N", help="How many master candidates; 1 for a new mesh.")
@click.option("--cluster-name", metavar="NAME", help="The cluster's name; `mesh` for a new mesh.")
@click.option("--port", type=int, metavar="PORT", help="Where nats-server listens, on 127.0.0.1; else a free port.")
@click.option(
    "--log-format",
    type=click.Choice(["auto", "console", "json"]),
    default="auto",
    show_default=True,
    help="How the daemons write their logs, below DIR/log.",
)
def up(
    directory: Path,
    nodes: int | None,
    candidate_pool_size: int | None,
    cluster_name: str | None,
    port: int | None,
    log_format: str,
) -> None:
    """Run a whole mesh on this machine: nats-server, the master and an agent per node, until Ctrl-C.

    Started again on the same DIR it goes on where it was, and no option is needed; a larger --nodes adds nodes. Node
    nodeK has its root at DIR/nodes/nodeK. node1 is the master: what is edited below its root appears below the others.

    \b
    gnt-mesh up --dir /tmp/mesh --nodes 3
    gnt-mesh --dir /tmp/mesh status
    """
    from master.up import mesh
    from master.up.bootstrap import Wanted

    wanted = Wanted(nodes=nodes, candidate_pool_size=candidate_pool_size, cluster_name=cluster_name, port=port)
    mesh.up(directory, wanted, log_format=log_format, environment=os.environ, terminal=ClickTerminal())


class ClickTerminal:
    """Implements the mesh's `Terminal`. A terminal that went away (SIGHUP, a closed pipe) must not end anything."""

    def say(self, sentence: str) -> None:
        _print(f"\r{sentence}" if sys.stdout.isatty() else sentence)  # over the ^C that the terminal shows

    def ready(self, summary: "Summary") -> None:
        _print("\n".join(_ready_lines(summary)))


def _ready_lines(summary: "Summary") -> list[str]:
    command = _this_command()
    where = shlex.quote(str(summary.directory))
    root = summary.directory / "nodes" / summary.master
    others = [node for node in summary.ready if node != summary.master]
    ready = f"{len(summary.ready)} of {summary.nodes}" if len(summary.ready) < summary.nodes else f"{summary.nodes}"
    nats = f"nats --context {shlex.quote(str(summary.nats_context))} stream ls"
    lines = [
        click.style(f"Cluster {summary.cluster_name} is up", fg="green", bold=True)
        + f": {ready} {'node' if summary.nodes == 1 else 'nodes'}, {summary.master} is the master.",
        "",
        _row("edit", f"{root}/etc/..."),
        *([_row("see", f"{summary.directory / 'nodes' / others[0]}/etc/...")] if others else []),
        _row("address", summary.url),
        _row("logs", f"{summary.directory / 'log'}"),
        "",
        _row("try", f"{command} --dir {where} status"),
        _row("", f"{command} --dir {where} file add /etc/motd --scope all"),
        _row("", nats),
        "",
        click.style("Ctrl-C ends it.", dim=True),
    ]
    return ["", *lines, ""] if sys.stdout.isatty() else lines


def _row(title: str, text: str) -> str:
    return f"  {click.style(f'{title:<9}', fg='cyan')}{text}"


def _this_command() -> str:
    """Return how to call this program again: by its name, where the shell finds it."""
    return "gnt-mesh" if shutil.which("gnt-mesh") else shlex.quote(sys.argv[0])


def _print(text: str) -> None:
    try:
        click.echo(text)
    except OSError:
        # What could not be written is not to be tried again at the end, where it would become the exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
