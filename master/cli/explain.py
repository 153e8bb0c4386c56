"""`gnt-mesh file explain`: which rule puts a file on a node, or what keeps it away."""

from dataclasses import asdict

import click

from master.cli import options
from master.cli.connect import ask
from master.cli.lazy import MeshCommand
from master.cli.output import emit_json
from protocol.file_messages import FileExplain, FileExplanation


@click.command(cls=MeshCommand)
@click.argument("path", type=options.managed_path)
@click.option("--node", required=True, metavar="NODE", help="The node it is about.")
@options.json_option
def explain(path: str, node: str, as_json: bool) -> None:
    """Say why a file goes to a node, or why it does not: the rule, the scope, and what would be different if.

    \b
    gnt-mesh file explain /var/lib/ganeti/rapi.pem --node node3
    """
    answer = ask("file.explain", FileExplain(path=path, node=node), FileExplanation)
    if as_json:
        emit_json(asdict(answer))
        return
    click.echo("\n".join(answer.lines))
