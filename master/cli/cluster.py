"""`gnt-mesh cluster ...`: the cluster as a whole."""

import click

from master.cli import options
from master.cli.change import change
from master.cli.connect import ask
from master.cli.formats import moment
from master.cli.lazy import MeshCommand, MeshGroup
from master.cli.output import emit_json, show
from master.cli.shapes import cluster_shape
from protocol.operator_messages import ClusterInfo, Nothing, RedistConf


@click.group(cls=MeshGroup)
def cluster() -> None:
    """The cluster as a whole: info, redist-conf."""


@cluster.command(cls=MeshCommand)
@options.json_option
def info(as_json: bool) -> None:
    """Show what is configured, rather than what is happening: that is `gnt-mesh status`."""
    answer = ask("cluster.info", Nothing(), ClusterInfo)
    if as_json:
        emit_json(cluster_shape(answer))
        return
    from master.cli.tables import facts

    show(
        facts(
            (
                ("Cluster name", answer.name),
                ("Cluster UUID", answer.uuid),
                ("Created", moment(answer.ctime)),
                ("Modified", f"{moment(answer.mtime)}, serial number {answer.serial_no}"),
                ("Master", f"{answer.master}, epoch {answer.epoch}"),
                ("Master candidates", ", ".join(answer.master_candidates) or "-"),
                ("Candidate pool size", str(answer.candidate_pool_size)),
                ("Nodes", str(answer.nodes)),
                ("Node groups", ", ".join(answer.groups) or "-"),
                ("Managed files", str(answer.files)),
                ("Generation", f"{answer.generation}, the last {answer.history} are kept"),
                ("Versions", f"master {answer.master_version or '?'}, nats-server {answer.broker_version or '?'}"),
            )
        )
    )


@cluster.command("redist-conf", cls=MeshCommand)
@options.waiting_options(default=True)
def redist_conf(wait: bool, timeout: float, as_json: bool) -> int:
    """Distribute every managed file again, and prove that it is there.

    The master reads every source again and publishes what changed; every node reads its own disk again and repairs
    what differs. Exit code 0: all nodes have all files, durably. Exit code 2: not within the timeout, and stderr says
    which node lacks which file and why. Nothing needs this command to stay in sync; it is for those who want proof.

    \b
    gnt-mesh cluster redist-conf --timeout 60
    """
    return change("cluster.redist-conf", RedistConf(), wait=wait, timeout_s=timeout, as_json=as_json)
