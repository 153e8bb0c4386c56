"""`gnt-mesh os ...`: what can be installed, where, and with which parameters."""

import click

from master.cli import options
from master.cli.change import change
from master.cli.connect import ask
from master.cli.failures import DONE, FAILED
from master.cli.lazy import MeshCommand, MeshGroup
from master.cli.os_options import os_parameters, os_parameters_option
from master.cli.os_shapes import diagnosis_shape, env_shape, os_shape
from master.cli.output import emit_json, emit_lines, show
from protocol.operator_os_messages import OsDiagnoses, OsEnvQuery, OsInfos, OsModify, OsQuery
from protocol.os_messages import OsEnv


@click.group(cls=MeshGroup)
def os() -> None:
    """OS definitions: list, diagnose, info, modify, env.

    They lie on the nodes, in a search path, and are the administrator's to put there. Every agent tells what it has.
    """


@os.command("list", cls=MeshCommand)
@click.option("--no-headers", is_flag=True, help="Leave out the line with the titles.")
@options.json_option
def list_os(no_headers: bool, as_json: bool) -> None:
    """List what can be installed on every node: OS, or OS+variant. With --json also what is not usable everywhere."""
    infos = ask("os.list", OsQuery(), OsInfos).infos
    if as_json:
        emit_json([os_shape(one) for one in infos])
        return
    from master.cli.os_view import left_out, os_table

    show(os_table([one for one in infos if one.status == "valid"], headers=not no_headers))
    emit_lines(left_out(infos), err=True)


@os.command(cls=MeshCommand)
@click.argument("names", nargs=-1, metavar="[OS]...")
@options.json_option
def diagnose(names: tuple[str, ...], as_json: bool) -> int:
    """Show per node what is valid, what is wrong, and where. Exit code 1 if an OS is not usable everywhere."""
    found = ask("os.diagnose", OsQuery(names=names), OsDiagnoses)
    if as_json:
        emit_json(
            {
                "os": [diagnosis_shape(one) for one in found.diagnoses],
                "silent": list(found.silent),
                "problems": {node: list(problems) for node, problems in found.problems.items()},
            }
        )
    else:
        from master.cli.os_view import NO_OS, diagnoses_view

        if found.diagnoses or found.problems or found.silent:
            show(diagnoses_view(found.diagnoses, found.problems, found.silent))
        else:
            emit_lines([NO_OS], err=True)
    is_well = all(one.status == "valid" for one in found.diagnoses) and not found.problems
    return DONE if is_well else FAILED


@os.command(cls=MeshCommand)
@click.argument("names", nargs=-1, metavar="[OS]...")
@options.json_option
def info(names: tuple[str, ...], as_json: bool) -> None:
    """Show versions, variants, parameters and the cluster's defaults of some OSes, or of all."""
    infos = ask("os.list", OsQuery(names=names), OsInfos).infos
    if as_json:
        emit_json([os_shape(one) for one in infos])
        return
    from master.cli.os_view import NO_OS, os_details

    if infos:
        show(os_details(infos))
    else:
        emit_lines([NO_OS], err=True)


@os.command(cls=MeshCommand)
@click.argument("name", metavar="OS[+VARIANT]")
@os_parameters_option
@options.changing_options
def modify(name: str, parameters: tuple[str, ...], as_json: bool) -> int:
    """Set the cluster's defaults of OS parameters; the value `default` removes one.

    They count for the next install. No instance changes: it keeps what its last install got.

    \b
    gnt-mesh os modify debootstrap -O filesystem=ext4
    gnt-mesh os modify debootstrap+testing -O filesystem=default
    """
    return change("os.modify", OsModify(name=name, parameters=os_parameters(parameters)), as_json=as_json)


@os.command(cls=MeshCommand)
@click.argument("instance")
@click.option(
    "--api", "api_version", type=click.Choice(["10", "15", "20"]), help="As if that were the highest version."
)
@click.option(
    "--action",
    type=click.Choice(["create", "import", "export", "rename", "verify"]),
    default="create",
    show_default=True,
    help="Of which script.",
)
@options.json_option
def env(instance: str, api_version: str | None, action: str, as_json: bool) -> None:
    """Show what a script would get for an instance, and what would be withheld from it. Nothing is run.

    The instance's node is asked: what a script gets is decided there. Values of private parameters stay there.
    """
    query = OsEnvQuery(
        instance=instance,
        action=action,  # type: ignore[arg-type]  # one of the choices
        api_version=int(api_version) if api_version else None,
    )
    found = ask("os.env", query, OsEnv)
    if as_json:
        emit_json(env_shape(found))
        return
    from master.cli.os_view import env_lines

    emit_lines(env_lines(found))
