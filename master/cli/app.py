"""The root command: which commands there are, and where they live. Importing it must stay quick."""

import io
import os
import sys
from typing import Any

import click

from master.cli.failures import exit_code_of
from master.cli.lazy import LazyGroup, Place, chosen_directory

DEBUG_VARIABLE = "GNT_MESH_DEBUG"

COMMANDS = {
    "up": Place("master.cli.up:up", "Run a whole mesh on this machine, in the foreground."),
    "status": Place("master.cli.fleet:status", "Show the fleet: roles, generations, what is missing and why."),
    "watch": Place("master.cli.fleet:watch", "Show the fleet live, until Ctrl-C."),
    "wait": Place("master.cli.fleet:wait", "Wait until every node has what it should have."),
    "cluster": Place("master.cli.cluster:cluster", "The cluster: info, modify, verify, access, audit, keys and more."),
    "node": Place("master.cli.node:node", "Nodes: add, list, info, modify, remove."),
    "group": Place("master.cli.group:group", "Node groups: add, list, remove."),
    "file": Place("master.cli.file:file", "Managed files: what there is, what it was, and the way back."),
    "os": Place("master.cli.os:os", "OS definitions: list, diagnose, info, modify, env."),
    "job": Place("master.cli.job:job", "OS jobs: list, info, watch, cancel."),
    "instance": Place("master.cli.instance:instance", "Instances, and the scripts of their OS."),
    "decode": Place("master.cli.decode:decode", "A message's payload on stdin, JSON on stdout."),
    "version": Place("master.cli.version:version", "Print the version of this command."),
}


class Root(LazyGroup):
    """Turns every failure of every command into one sentence and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no error
        kwargs |= {"prog_name": "gnt-mesh", "standalone_mode": False}
        run = super().main
        sys.exit(exit_code_of(lambda: run(*args, **kwargs), debug=bool(os.environ.get(DEBUG_VARIABLE))))


@click.group(
    cls=Root,
    places=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done; 1 refused or failed; 2 deadline passed, and stderr says what is missing.",
)
@click.version_option(package_name="gnt-mesh", message="gnt-mesh %(version)s")
@click.pass_context
def root(ctx: click.Context) -> None:
    """Keep a cluster's files in sync on every node that should have them.

    \b
    Begin:   gnt-mesh up --dir /tmp/mesh --nodes 3
    Look:    gnt-mesh --dir /tmp/mesh status
    Prove:   gnt-mesh --dir /tmp/mesh wait
    """
    directory = chosen_directory(ctx)
    if directory is not None:
        ctx.default_map = {"up": {"dir": directory, "directory": directory}}
