"""`gnt-mesh cluster init`: found a cluster on this machine. What does it is `master.first_node`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from master.cli import options
from master.cli.lazy import MeshCommand
from master.cli.output import emit_json, emit_lines

if TYPE_CHECKING:
    from master.first_node import Founded


@click.command(cls=MeshCommand)
@click.argument("name")
@click.option("--node", metavar="NODE", help="This node's name; else this machine's host name.")
@click.option("--address", metavar="HOST", help="Where the nodes reach nats-server; else the node's name.")
@click.option("--port", type=int, metavar="PORT", help="Where nats-server listens; 4222 if not given.")
@click.option(
    "-C", "--candidate-pool-size", type=int, metavar="N", help="How many candidates to want; 10 if not given."
)
@click.option(
    "--enabled-hypervisors", type=options.name_list, metavar="A,B", help="What the nodes run; kvm if not given."
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default="/",
    show_default=True,
    metavar="DIR",
    help="Below which everything is put.",
)
@options.json_option
def init(
    name: str,
    node: str | None,
    address: str | None,
    port: int | None,
    candidate_pool_size: int | None,
    enabled_hypervisors: tuple[str, ...] | None,
    root: Path,
    as_json: bool,
) -> None:
    """Found a cluster: this machine becomes its first node, and its master.

    Makes the keys, the cluster's certificate authority, the configuration of nats-server, the settings of every program
    in /etc/gnt-mesh, and config.data. All is checked before anything is written. Where there is a cluster already the
    command is refused, and nothing is touched.

    \b
    gnt-mesh cluster init mesh1.example.com --address 192.0.2.10
    """
    from master.first_node import POOL_SIZE_DEFAULT, PORT_DEFAULT, Wishes, init
    from master.up import broker

    server = broker.find_server(Path(sys.executable).parent, os.environ.get("PATH", os.defpath))
    wishes = Wishes(
        name=name,
        node=node or "",
        address=address or "",
        port=PORT_DEFAULT if port is None else port,
        candidate_pool_size=POOL_SIZE_DEFAULT if candidate_pool_size is None else candidate_pool_size,
        root=root,
    )
    if enabled_hypervisors is not None:
        from dataclasses import replace

        wishes = replace(wishes, enabled_hypervisors=enabled_hypervisors)
    founded = init(wishes, server.version)
    if as_json:
        emit_json(_shape(founded, server.path))
    else:
        emit_lines(_sentences(founded, server.path))


def _sentences(founded: "Founded", server: Path) -> list[str]:
    cluster, place = founded.config.cluster, founded.place
    is_elsewhere = place.root != Path("/")
    other = f" --settings {place.settings('NAME')}" if is_elsewhere else ""
    return [
        f"Cluster {cluster.cluster_name} is founded; {founded.config.master.name} is its first node and its master.",
        f" - config.data     {place.config_data()}",
        f" - settings, keys  {place.etc}",
        f" - nats-server     {founded.url}",
        "Start it:",
        f"   {server} -c {place.broker_config}",
        f"   gnt-mesh-master{other.replace('NAME', 'master')}",
        f"   gnt-mesh-agent{other.replace('NAME', 'agent')}",
        f"Then see: gnt-mesh {f'--dir {place.etc} ' if is_elsewhere else ''}status",
    ]


def _shape(founded: "Founded", server: Path) -> dict[str, object]:
    place = founded.place
    return {
        "cluster": founded.config.cluster.cluster_name,
        "uuid": founded.config.cluster.uuid,
        "master": founded.config.master.name,
        "url": founded.url,
        "config_data": str(place.config_data()),
        "settings": {program: str(place.settings(program)) for program in ("master", "agent", "operator")},
        "broker": {"program": str(server), "config": str(place.broker_config)},
    }
