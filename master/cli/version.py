"""`gnt-mesh version`."""

import click

from master.cli.lazy import MeshCommand
from master.cli.options import json_option
from master.cli.output import emit_json


@click.command(cls=MeshCommand)
@json_option
def version(as_json: bool) -> None:
    """Print the version of this command.

    What the master and the broker run is in `gnt-mesh cluster info`, what each agent runs in `gnt-mesh node info`.
    """
    from importlib.metadata import version as installed

    number = installed("gnt-mesh")
    if as_json:
        emit_json({"version": number})
    else:
        click.echo(f"gnt-mesh {number}")
