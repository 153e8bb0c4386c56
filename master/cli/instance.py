"""`gnt-mesh instance ...`: instances as records, and their OS scripts. The mesh starts no virtual machine."""

from typing import Any

import click

from master.cli import options
from master.cli.change import change
from master.cli.connect import ask
from master.cli.instance_shapes import instance_shape
from master.cli.job_change import Confidences, Following, change_with_job, job_options
from master.cli.lazy import MeshCommand, MeshGroup
from master.cli.os_options import (
    confidential_options,
    confidential_parameters,
    disk,
    hypervisor,
    nic,
    os_parameters,
    os_parameters_option,
    scalars,
)
from master.cli.output import emit_json, emit_lines, show
from protocol.instance_messages import (
    InstanceAdd,
    InstanceExport,
    InstanceInfos,
    InstanceModify,
    InstanceQuery,
    InstanceReinstall,
    InstanceRemove,
    InstanceRename,
)

EXPORT_DIRECTORY = "/srv/ganeti/export"

_hypervisor_parameters = click.option(
    "-H", "hvparams", multiple=True, metavar="NAME=VALUE,...", help="Hypervisor parameters; `none` removes one."
)
_backend_parameters = click.option(
    "-B", "--backend-parameters", "beparams", multiple=True, metavar="NAME=VALUE,...", help="As in Ganeti: vcpus, ..."
)
_force_variant = click.option("--force-variant", is_flag=True, help="Pass a variant that the OS does not list.")


@click.group(cls=MeshGroup)
def instance() -> None:
    """Instances, and the scripts of their OS.

    The mesh keeps their records and runs the scripts of their OS. It makes no disk and starts no virtual machine.
    """


def _adding(command: Any) -> Any:
    """The flags of `add`, which `import` takes too."""
    for option in (
        options.changing_options,
        job_options,
        _force_variant,
        click.option("--net", "nets", multiple=True, metavar="mac=M,link=L,...", help="A network interface."),
        click.option("--disk", "disks", multiple=True, metavar="PATH[:SIZE]", help="A disk on the node; repeatable."),
        _backend_parameters,
        _hypervisor_parameters,
        click.option("--hypervisor", "hypervisor_name", metavar="NAME[:k=v,...]", help="Else the first enabled one."),
        confidential_options,
        os_parameters_option,
        click.option("-o", "--os-type", "os", required=True, metavar="OS[+VARIANT]", help="What to install."),
        click.option("-n", "--node", required=True, type=options.node_name, help="The node that holds its disks."),
        click.argument("name"),
    ):
        command = option(command)
    return command


@instance.command(cls=MeshCommand)
@_adding
@click.option("--no-install", is_flag=True, help="Only make the record; run no script.")
def add(name: str, no_install: bool, as_json: bool, **flags: Any) -> int:
    """Add an instance, and install its OS.

    \b
    gnt-mesh instance add web1 -n node2 -o debootstrap+default --disk /dev/vg/web1:10g -O filesystem=ext4
    gnt-mesh instance add web1 -n node2 -o noop --no-install

    Its OS parameters are complete from then on: defaults that change later do not change them, only a reinstall does.
    """
    return _add(name, flags, no_install=no_install, source="", as_json=as_json)


@instance.command("import", cls=MeshCommand)
@_adding
@click.option("--from", "source", required=True, metavar="DIRECTORY", help="On the node, with disk0, disk1, ...")
def import_(name: str, source: str, as_json: bool, **flags: Any) -> int:
    """Add an instance from an export: its OS's import script gets the files on its standard input.

    \b
    gnt-mesh instance import web1 -n node3 -o debootstrap --disk /dev/vg/web1 --from /srv/ganeti/export/web1
    """
    return _add(name, flags, no_install=False, source=source, as_json=as_json)


@instance.command("list", cls=MeshCommand)
@click.option("-n", "--node", type=options.node_name, metavar="NODE", help="Only those of this node.")
@options.json_option
def list_instances(node: str | None, as_json: bool) -> None:
    """List the instances, one per line."""
    found = ask("instance.list", InstanceQuery(node=node or ""), InstanceInfos).instances
    if as_json:
        emit_json([instance_shape(one) for one in found])
        return
    from master.cli.instance_view import instance_table

    show(instance_table(found))


@instance.command(cls=MeshCommand)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@options.json_option
def info(names: tuple[str, ...], as_json: bool) -> None:
    """Show all that is known of some instances, or of all. Private OS parameters are named, and never shown."""
    found = ask("instance.list", InstanceQuery(names=names), InstanceInfos).instances
    if as_json:
        emit_json([instance_shape(one) for one in found])
        return
    from master.cli.instance_view import instance_details

    if found:
        show(instance_details(found))
    else:
        emit_lines(["There is no instance; the first one: gnt-mesh instance add --help"], err=True)


@instance.command(cls=MeshCommand)
@click.argument("name")
@click.option("-o", "--os-type", "os", metavar="OS[+VARIANT]", help="Only the record changes; no script is run.")
@_force_variant
@_hypervisor_parameters
@_backend_parameters
@os_parameters_option
@options.changing_options
def modify(
    name: str,
    os: str | None,
    force_variant: bool,
    hvparams: tuple[str, ...],
    beparams: tuple[str, ...],
    parameters: tuple[str, ...],
    as_json: bool,
) -> int:
    """Change an instance's record. OS parameters cannot be changed like this: only a reinstall changes them."""
    request = InstanceModify(
        name=name,
        os=os,
        force_variant=force_variant,
        hvparams=scalars(hvparams),
        beparams=scalars(beparams),
        parameters=tuple(os_parameters(parameters)),
    )
    return change("instance.modify", request, as_json=as_json)


@instance.command(cls=MeshCommand)
@click.argument("name")
@click.option("-o", "--os-type", "os", default="", metavar="OS[+VARIANT]", help="Another OS, or variant.")
@os_parameters_option
@confidential_options
@click.option(
    "--keep-known-os-parameters",
    "keep_known",
    is_flag=True,
    help="With another OS: keep the stored OS parameters that it declares, and say which are dropped.",
)
@_force_variant
@job_options
@options.changing_options
def reinstall(
    name: str,
    os: str,
    parameters: tuple[str, ...],
    private: tuple[str, ...],
    secret: tuple[str, ...],
    keep_known: bool,
    force_variant: bool,
    as_json: bool,
    **following: Any,
) -> int:
    """Install an instance again: what is on its disks is lost.

    With the same OS the stored OS parameters count below those given; `-O NAME=default` goes back to the default. With
    another OS they are discarded, unless --keep-known-os-parameters. What the script got is stored when it has ended.
    """
    job = Following(**following)
    request = InstanceReinstall(
        name=name,
        job=job.wishes,
        os=os,
        parameters=os_parameters(parameters),
        keep_known=keep_known,
        force_variant=force_variant,
    )
    confidences = Confidences(confidential_parameters(private), confidential_parameters(secret))
    return change_with_job("instance.reinstall", request, job, confidences=confidences, as_json=as_json)


@instance.command(cls=MeshCommand)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--no-script", is_flag=True, help="Only rename the record; run no script.")
@job_options
@options.changing_options
def rename(old: str, new: str, no_script: bool, as_json: bool, **following: Any) -> int:
    """Rename an instance, and run its OS's rename script. The new name stays, even if the script fails."""
    job = Following(**following)
    request = InstanceRename(name=old, new_name=new, job=None if no_script else job.wishes)
    return change_with_job("instance.rename", request, job, as_json=as_json)


@instance.command(cls=MeshCommand)
@click.argument("name")
@click.option("--to", "target", metavar="DIRECTORY", help=f"On the node; {EXPORT_DIRECTORY}/NAME if not given.")
@job_options
@options.changing_options
def export(name: str, target: str | None, as_json: bool, **following: Any) -> int:
    """Export an instance: what its OS's export script prints for each disk becomes disk0, disk1, ... on the node."""
    job = Following(**following)
    request = InstanceExport(name=name, directory=target or f"{EXPORT_DIRECTORY}/{name}", job=job.wishes)
    return change_with_job("instance.export", request, job, as_json=as_json)


@instance.command(cls=MeshCommand)
@click.argument("name")
@options.changing_options
def remove(name: str, as_json: bool) -> int:
    """Forget an instance. Its disks stay as they are."""
    return change("instance.remove", InstanceRemove(name=name), as_json=as_json)


def _add(name: str, flags: dict[str, Any], *, no_install: bool, source: str, as_json: bool) -> int:
    wanted = {key: flags.pop(key) for key in ("submit", "no_wait", "own_id", "time_limit", "debug")}
    job = Following(**wanted)
    chosen, own = hypervisor(flags["hypervisor_name"]) if flags["hypervisor_name"] else ("", {})
    request = InstanceAdd(
        name=name,
        node=flags["node"],
        os=flags["os"],
        hypervisor=chosen,
        hvparams={**own, **scalars(flags["hvparams"])},
        beparams=scalars(flags["beparams"]),
        parameters=os_parameters(flags["parameters"]),
        disks=tuple(map(disk, flags["disks"])),
        nics=tuple(map(nic, flags["nets"])),
        force_variant=flags["force_variant"],
        job=None if no_install else job.wishes,
        import_from=source,
    )
    confidences = Confidences(confidential_parameters(flags["private"]), confidential_parameters(flags["secret"]))
    return change_with_job("instance.add", request, job, confidences=confidences, as_json=as_json)
