"""`gnt-mesh cluster keys` and `renew-crypto`: how old keys and certificates are, and new ones."""

import time

import click

from master.cli import options
from master.cli.connect import Session, ask, with_bus
from master.cli.failures import DEADLINE_PASSED, DONE, complain
from master.cli.formats import count, moment
from master.cli.lazy import MeshCommand
from master.cli.output import emit_json, emit_lines, show
from protocol.key_messages import KeyInfo, KeyInfos, RenewCrypto, Renewed
from protocol.operator_messages import Nothing

DAY_S = 86400.0
SOON_DAYS = 30
RENEWAL_ANSWER_S = 60.0


@click.command("keys", cls=MeshCommand)
@options.json_option
def keys(as_json: bool) -> None:
    """Show every key and certificate, how old it is, and when it expires.

    Only certificates expire by themselves; keys are good until they are renewed or removed.
    """
    found = ask("keys.list", Nothing(), KeyInfos).keys
    if as_json:
        emit_json([_shape(one) for one in found])
        return
    from master.cli.tables import table

    now = time.time()
    rows = [
        (one.what, one.name, _age(one, now), _expiry(one, now), one.fingerprint[:16], one.remark or "-")
        for one in found
    ]
    show(table(("Kind", "Name", "Age", "Expires", "Fingerprint", "Remark"), rows))


@click.command("renew-crypto", cls=MeshCommand)
@click.option("--node", "nodes", type=options.node_name, multiple=True, metavar="NODE", help="Only this one.")
@options.json_option
def renew_crypto(nodes: tuple[str, ...], as_json: bool) -> int:
    """Give every node a new key, or one node, while all goes on.

    Each node makes its key itself. Both keys are valid until the broker has seen the node come back with the new one;
    then the old one is void. Exit code 2: some nodes could not be reached, and keep what they have.

    \b
    gnt-mesh cluster renew-crypto
    gnt-mesh cluster renew-crypto --node node2
    """

    async def work(session: Session) -> Renewed:
        request = RenewCrypto(nodes=nodes, by=session.asker())
        return await session.bus.ask("keys.renew", request, Renewed, timeout_s=RENEWAL_ANSWER_S)

    renewed = with_bus(work)
    if as_json:
        emit_json(
            {"done": list(renewed.done), "failed": [{"node": one.node, "reason": one.reason} for one in renewed.failed]}
        )
    else:
        emit_lines(renewed.done)
    if not renewed.failed:
        return DONE
    if not as_json:
        complain(f"{count(len(renewed.failed), 'node')} could not be given a new key; try again when they are there")
        emit_lines([f"  {one.node}: {one.reason}" for one in renewed.failed], err=True)
    return DEADLINE_PASSED


def _shape(one: KeyInfo) -> dict[str, object]:
    return {
        "what": one.what,
        "name": one.name,
        "fingerprint": one.fingerprint,
        "made": one.made,
        "expires": one.expires or None,
        "remark": one.remark,
    }


def _age(one: KeyInfo, now: float) -> str:
    return count(int(max(now - one.made, 0.0) // DAY_S), "day") if one.made else "?"


def _expiry(one: KeyInfo, now: float) -> str:
    if not one.expires:
        return "-"
    left = int((one.expires - now) // DAY_S)
    if left < 0:
        return f"{moment(one.expires)} EXPIRED"
    return f"{moment(one.expires)}, SOON" if left < SOON_DAYS else moment(one.expires)
