"""`gnt-mesh cluster keys` and `renew-crypto`: how old keys and certificates are, and new ones."""

import time

import click

from master.cli import options
from master.cli.connect import Session, ask, with_bus
from master.cli.failures import DEADLINE_PASSED, DONE, FAILED, complain
from master.cli.formats import count, moment
from master.cli.lazy import MeshCommand
from master.cli.output import emit_json, emit_lines, show
from protocol.errors import Refused, Unavailable
from protocol.key_messages import NODES_PART, KeyInfo, KeyInfos, RenewalQuery, RenewCrypto, Renewed
from protocol.operator_messages import Nothing

DAY_S = 86400.0
SOON_DAYS = 30
RENEWAL_S = 120.0
PATIENCE_S = 0.5


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
@click.option("--node", "nodes", type=options.node_name, multiple=True, metavar="NODE", help="This node's key alone.")
@click.option(
    "--new-cluster-certificate", "authority", is_flag=True, help="The authority, and the server's certificate."
)
@click.option("--new-server-certificate", "server", is_flag=True, help="The server's certificate and its key.")
@click.option("--new-master-keys", "master", is_flag=True, help="Those that master and administrator connect with.")
@click.option("--new-signing-key", "signing", is_flag=True, help="The key that the master signs with.")
@click.option("--new-scope-keys", "scopes", is_flag=True, help="What the secrets of each scope are sealed with.")
@click.option("--new-node-certificates", "all_nodes", is_flag=True, help="The keys of all nodes.")
@options.json_option
def renew_crypto(nodes: tuple[str, ...], as_json: bool, **parts: bool) -> int:
    """Give the cluster and its nodes new keys and certificates, while all goes on; without options, all of them.

    What is new and what was before are both valid until each node has confirmed the new one; each node makes its key
    itself. A node that is not there keeps what it has, still gets in, and is told as soon as it is back. Whatever is
    killed on the way, the renewal goes on by itself. Secrets are sealed anew with the new keys of their scopes, which
    their nodes have before that; what was read under a former key has been read.

    Exit code 2: some nodes could not be reached, or the renewal is not over yet.

    \b
    gnt-mesh cluster renew-crypto
    gnt-mesh cluster renew-crypto --node node2
    gnt-mesh cluster renew-crypto --new-cluster-certificate
    """
    chosen = tuple(NODES_PART if part == "all_nodes" else part for part, is_wanted in parts.items() if is_wanted)
    if nodes and chosen:
        raise Refused("--node is for the keys of some nodes alone: give it without the other options")

    async def work(session: Session) -> Renewed:
        request = RenewCrypto(nodes=nodes, parts=chosen, by=session.asker())
        return await _until_over(session, await session.bus.ask("keys.renew", request, Renewed))

    renewed = with_bus(work)
    if as_json:
        failed = [{"node": one.node, "reason": one.reason} for one in renewed.failed]
        emit_json({"is_over": renewed.is_over, "done": list(renewed.done), "failed": failed})
    else:
        _tell(renewed)
    if any(not one.node for one in renewed.failed):
        return FAILED
    return DONE if renewed.is_over and not renewed.failed else DEADLINE_PASSED


async def _until_over(session: Session, renewed: Renewed) -> Renewed:
    """Follow a renewal. The master takes up its own keys by beginning again, and does not answer while it does."""
    deadline_s = session.clock() + RENEWAL_S
    while not renewed.is_over and session.clock() < deadline_s:
        query = RenewalQuery(run=renewed.run, patience_s=PATIENCE_S)
        try:
            renewed = await session.bus.ask("keys.follow", query, Renewed)
        except Unavailable:
            await session.sleep(PATIENCE_S)
    return renewed


def _tell(renewed: Renewed) -> None:
    emit_lines(renewed.done)
    missing = [one for one in renewed.failed if one.node]
    for one in renewed.failed:
        if not one.node:
            complain(one.reason)
    if missing:
        complain(f"{count(len(missing), 'node')} could not be given all that is new")
        emit_lines([f"  {one.node}: {one.reason}" for one in missing], err=True)
    if not renewed.is_over:
        complain("the renewal is not over yet, and goes on by itself; see: gnt-mesh cluster keys")


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
