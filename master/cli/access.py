"""`gnt-mesh cluster access ...`: operators and observers."""

import json
from dataclasses import replace
from pathlib import Path

import click

from master.cli import options
from master.cli.asker import asker
from master.cli.change import change
from master.cli.connect import ask, settings_of
from master.cli.formats import moment
from master.cli.lazy import MeshCommand, MeshGroup, chosen_directory
from master.cli.output import emit_json, emit_lines, show
from protocol.access_messages import AccessAdd, AccessInfos, AccessRemove, AccessRenew
from protocol.errors import Refused
from protocol.key_messages import Authorities
from protocol.operator_messages import Changed, Nothing
from protocol.permissions import OPS_PREFIX, access_inbox


@click.group(cls=MeshGroup)
def access() -> None:
    """Who may use this tool and the `nats` command: add, list, remove."""


@access.command(cls=MeshCommand)
@click.argument("name")
@click.option("--role", type=click.Choice(["operator", "observer"]), required=True, help="What it may do.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where the files are made; else ./NAME.")
@options.changing_options
def add(name: str, role: str, out: Path | None, as_json: bool) -> int:
    """Let somebody in, and make what they need.

    An operator may ask for everything; an observer may look at everything but the contents of secrets, and change
    nothing. The private key is made here and stays in DIR, with the settings of this tool (`gnt-mesh --dir DIR`) and a
    context file of the plain command (`nats --context DIR/nats-context.json`).

    \\b
    gnt-mesh cluster access add alice --role observer --out ~/alice
    """
    from protocol import durable, identity

    directory = (out or Path(name)).absolute()
    seed = directory / "access.nk"
    if seed.exists():
        raise Refused(f"{seed} is there already; choose another --out")
    ours = settings_of(chosen_directory(click.get_current_context()))
    durable.make_directory(directory)
    request = AccessAdd(name=name, role=role, public_key=identity.ensure_seed(seed))
    try:
        code = change("access.add", request, as_json=as_json)
    except BaseException:
        seed.unlink()
        raise
    if options.remarks(click.get_current_context()).dry_run:
        seed.unlink()
        return code
    durable.write_file(directory / "ca.pem", ours.ca_file.read_bytes(), mode=0o644)
    values = {"name": name, "server": ours.server, "ca_file": "ca.pem", "seed_file": seed.name}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    durable.write_file(directory / "operator.toml", "\n".join([*lines, ""]).encode())
    context = _context(name, ours.server, directory, seed)
    durable.write_file(directory / "nats-context.json", json.dumps(context, indent=2).encode() + b"\n")
    if not as_json:
        emit_lines([f"gnt-mesh --dir {directory} status", f"nats --context {directory}/nats-context.json stream ls"])
    return code


@access.command("list", cls=MeshCommand)
@options.json_option
def list_access(as_json: bool) -> None:
    """List operators and observers."""
    found = ask("access.list", Nothing(), AccessInfos).access
    if as_json:
        emit_json([{"name": a.name, "role": a.role, "public_key": a.public_key, "ctime": a.ctime} for a in found])
        return
    from master.cli.tables import table

    show(
        table(("Name", "Role", "Since", "Public key"), [(a.name, a.role, moment(a.ctime), a.public_key) for a in found])
    )


@access.command(cls=MeshCommand)
@click.argument("name")
@options.changing_options
def remove(name: str, as_json: bool) -> int:
    """Shut somebody out: at once, live connections included."""
    return change("access.remove", AccessRemove(name=name), as_json=as_json)


@access.command(cls=MeshCommand)
@options.changing_options
def renew(as_json: bool) -> int:
    """Take up a new key of one's own, and the cluster's newest authority.

    The new key is made here and stays here. Both are valid until the new one is in use; killed anywhere, this can be
    done again.

    \b
    gnt-mesh cluster access renew
    """
    from protocol import durable, identity

    ctx = click.get_current_context()
    ours = settings_of(chosen_directory(ctx))
    request = AccessRenew(name=ours.name, public_key=identity.ensure_seed(identity.next_of(ours.seed_file)))
    if options.remarks(ctx).dry_run:
        identity.next_of(ours.seed_file).unlink()
        return change("access.renew", request, as_json=as_json)
    ask("access.renew", replace(request, by=asker()), Changed)
    authorities = ask("keys.authorities", Nothing(), Authorities).authorities.encode()
    identity.take_next(ours.seed_file)
    if ours.ca_file.read_bytes() != authorities:
        durable.write_file(ours.ca_file, authorities, mode=0o644)
    return change("access.renew", replace(request, is_taken_up=True), as_json=as_json)


def _context(name: str, server: str, directory: Path, seed: Path) -> dict[str, object]:
    return {
        "description": f"gnt-mesh, as {name}",
        "url": server,
        "ca": str(directory / "ca.pem"),
        "tls_first": True,
        "nkey": str(seed),
        "inbox_prefix": access_inbox(name),
        "jetstream_api_prefix": OPS_PREFIX,
    }
