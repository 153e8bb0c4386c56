"""`gnt-mesh cluster init`: found a cluster on this machine. What does it is `master.first_node`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from master.cli import options
from master.cli.lazy import MeshCommand
from master.cli.output import emit_json, emit_lines
from protocol import services
from protocol.errors import Unavailable

if TYPE_CHECKING:
    from master.core.cluster import ClusterConfig
    from master.first_node import Founded

DAEMONS = ("gnt-mesh-nats.service", "gnt-mesh-master.service", "gnt-mesh-agent.service")


@click.command(cls=MeshCommand)
@click.argument("name", required=False)
@click.option(
    "--from-ganeti",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Follow the running Ganeti cluster whose config.data is there.",
)
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
@click.option(
    "--start/--no-start",
    default=True,
    show_default=True,
    help="Start its services, now and at every boot, where the package and systemd are.",
)
@options.json_option
def init(
    name: str | None,
    from_ganeti: Path | None,
    node: str | None,
    address: str | None,
    port: int | None,
    candidate_pool_size: int | None,
    enabled_hypervisors: tuple[str, ...] | None,
    root: Path,
    start: bool,
    as_json: bool,
) -> None:
    """Found a cluster: this machine becomes its first node, and its master.

    Makes the keys, the cluster's certificate authority, the configuration of nats-server, the settings of every program
    in /etc/gnt-mesh, and config.data. All is checked before anything is written. Where there is a cluster already the
    command is refused, and nothing is touched. Then it starts what it has made: nats-server, master and agent.

    With --from-ganeti the cluster is a running Ganeti's, and stays it: nodes, groups, roles, hypervisors and parameters
    are read from its config.data, now and whenever that changes, and the mesh carries files accordingly. Run it on
    Ganeti's master. Nothing of Ganeti's is ever written.

    \b
    gnt-mesh cluster init mesh1.example.com --address 192.0.2.10
    gnt-mesh cluster init --from-ganeti /var/lib/ganeti
    """
    from master.first_node import PORT_DEFAULT, Wishes, init
    from master.up import broker

    if name is None and from_ganeti is None:
        raise click.UsageError("missing argument 'NAME'", click.get_current_context())
    server = broker.find_server(Path(sys.executable).parent, os.environ.get("PATH", os.defpath))
    wishes = Wishes(
        name=name or "",
        node=node or "",
        address=address or "",
        port=PORT_DEFAULT if port is None else port,
        candidate_pool_size=candidate_pool_size,
        enabled_hypervisors=enabled_hypervisors,
        root=root,
        ganeti_dir=from_ganeti,
    )
    founded = init(wishes, server.version)
    is_served = founded.place.root == Path("/") and services.are_here()
    if is_served and start:
        _start(founded)
    if as_json:
        emit_json(_shape(founded, server.path))
        return
    emit_lines(_sentences(founded))
    if not is_served:
        emit_lines(_by_hand(founded, server.path))
    elif start:
        emit_lines([f"Everything runs, now and after every boot ({services.TARGET}); see: gnt-mesh status"])
    else:
        emit_lines([f"Start it: systemctl enable --now {services.TARGET}"])


def _start(founded: "Founded") -> None:
    try:
        services.start(*DAEMONS)
    except Unavailable as error:
        cluster = founded.config.cluster.cluster_name
        raise Unavailable(f"cluster {cluster} is founded, but not all of it runs: {error}") from error


def _sentences(founded: "Founded") -> list[str]:
    return [
        *_headline(founded.config),
        f" - config.data     {founded.config_data}",
        f" - settings, keys  {founded.place.etc}",
        f" - nats-server     {founded.url}",
    ]


def _by_hand(founded: "Founded", server: Path) -> list[str]:
    place = founded.place
    is_elsewhere = place.root != Path("/")
    other = f" --settings {place.settings('NAME')}" if is_elsewhere else ""
    return [
        "Start it:",
        f"   {server} -c {place.broker_config}",
        f"   gnt-mesh-master{other.replace('NAME', 'master')}",
        f"   gnt-mesh-agent{other.replace('NAME', 'agent')}",
        f"Then see: gnt-mesh {f'--dir {place.etc} ' if is_elsewhere else ''}status",
    ]


def _headline(config: "ClusterConfig") -> list[str]:
    name, master = config.cluster.cluster_name, config.master.name
    if not config.cluster.ganeti_config_data:
        return [f"Cluster {name} is founded; {master} is its first node and its master."]
    nodes = [node.name for node in config.sorted_nodes() if node.name != master]
    lines = [f"The mesh follows Ganeti's cluster {name}; {master} is its master."]
    if nodes:
        lines.append(f"Ganeti has {len(nodes)} more: {', '.join(nodes[:10])}{', ...' if len(nodes) > 10 else ''}.")
    return lines


def _shape(founded: "Founded", server: Path) -> dict[str, object]:
    place = founded.place
    return {
        "cluster": founded.config.cluster.cluster_name,
        "uuid": founded.config.cluster.uuid,
        "master": founded.config.master.name,
        "url": founded.url,
        "config_data": str(founded.config_data),
        "settings": {program: str(place.settings(program)) for program in ("master", "agent", "operator")},
        "broker": {"program": str(server), "config": str(place.broker_config)},
    }
