"""`gnt-mesh cluster ...`: the cluster as a whole."""

import click

from master.cli import options
from master.cli.access import access
from master.cli.audit import audit
from master.cli.change import change
from master.cli.cluster_init import init
from master.cli.cluster_verify import verify
from master.cli.connect import ask
from master.cli.failover import master_failover
from master.cli.formats import moment, yes
from master.cli.keys import keys, renew_crypto
from master.cli.lazy import MeshCommand, MeshGroup
from master.cli.output import emit_json, show
from master.cli.shapes import cluster_shape
from protocol.cluster_messages import ClusterModify
from protocol.operator_messages import ClusterInfo, Nothing, RedistConf


@click.group(cls=MeshGroup)
def cluster() -> None:
    """The cluster: info, modify, verify, access, audit, keys and more."""


cluster.add_command(init)
cluster.add_command(verify)
cluster.add_command(access)
cluster.add_command(audit)
cluster.add_command(keys)
cluster.add_command(renew_crypto)
cluster.add_command(master_failover)


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
                ("Owner", f"Ganeti, followed at {answer.follows}" if answer.follows else "the mesh itself"),
                ("Created", moment(answer.ctime)),
                ("Modified", f"{moment(answer.mtime)}, serial number {answer.serial_no}"),
                ("Master", f"{answer.master}, epoch {answer.epoch}"),
                ("Master candidates", ", ".join(answer.master_candidates) or "-"),
                ("Candidate pool size", str(answer.candidate_pool_size)),
                ("Enabled hypervisors", ", ".join(answer.enabled_hypervisors)),
                *_hvparams(answer),
                ("Manages /etc/hosts", yes(answer.modify_etc_hosts)),
                ("Own master IP script", yes(answer.use_external_mip_script)),
                ("File hooks are asked", yes(answer.file_hooks)),
                ("Nodes", str(answer.nodes)),
                ("Node groups", ", ".join(answer.groups) or "-"),
                ("Managed files", str(answer.files)),
                ("Generation", f"{answer.generation}, the last {answer.history} are kept"),
                ("Versions", f"master {answer.master_version or '?'}, nats-server {answer.broker_version or '?'}"),
            )
        )
    )


@cluster.command(cls=MeshCommand)
@click.option("-C", "--candidate-pool-size", type=options.COUNT, metavar="N", help="How many candidates to want.")
@click.option("--enabled-hypervisors", type=options.name_list, metavar="A,B", help="Which hypervisors the nodes run.")
@click.option(
    "-H",
    "--hypervisor-parameters",
    "hvparams",
    type=options.hypervisor_parameters,
    multiple=True,
    metavar="HYPERVISOR:NAME=VALUE,...",
    help="Hypervisor parameters; NAME=default forgets one.",
)
@options.yes_no_option("--modify-etc-hosts", help="Whether the master's /etc/hosts is the one of all nodes.")
@options.yes_no_option("--use-external-mip-script", help="Whether the script for the master's address is your own.")
@options.yes_no_option("--file-hooks", help="Whether the file hooks are asked, and what they have named counts.")
@options.waiting_options(default=True)
def modify(
    candidate_pool_size: int | None,
    enabled_hypervisors: tuple[str, ...] | None,
    hvparams: tuple[tuple[str, dict[str, str | None]], ...],
    modify_etc_hosts: bool | None,
    use_external_mip_script: bool | None,
    file_hooks: bool | None,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> int:
    """Change settings of the cluster, and wait until the nodes' disks agree.

    A larger candidate pool is filled at once, from the groups with the fewest candidates, and each choice is explained;
    a smaller one demotes nobody. A hypervisor that is enabled has its files shipped to every vm-capable node at once.

    \b
    gnt-mesh cluster modify -C 5
    gnt-mesh cluster modify --enabled-hypervisors kvm,xen-hvm
    gnt-mesh cluster modify -H kvm:vnc_password_file=/etc/ganeti/vnc,vnc_tls=yes
    """
    parameters: dict[str, dict[str, str | None]] = {}
    for hypervisor, values in hvparams:
        parameters.setdefault(hypervisor, {}).update(values)
    request = ClusterModify(
        candidate_pool_size=candidate_pool_size,
        enabled_hypervisors=enabled_hypervisors,
        hvparams=parameters,
        modify_etc_hosts=modify_etc_hosts,
        use_external_mip_script=use_external_mip_script,
        file_hooks=file_hooks,
    )
    if request == ClusterModify():
        raise click.UsageError("nothing to modify: give at least one setting", click.get_current_context())
    return change("cluster.modify", request, wait=wait, timeout_s=timeout, as_json=as_json)


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


def _hvparams(info: ClusterInfo) -> list[tuple[str, str]]:
    """One line per hypervisor that has parameters."""
    return [
        (f"Parameters of {hypervisor}", ", ".join(f"{name}={value}" for name, value in sorted(values.items())))
        for hypervisor, values in sorted(info.hvparams.items())
    ]
