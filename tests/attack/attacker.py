"""Connects with somebody's credentials, tries every route, and tells what came of it; a witness looks on from CTL.

All routes are fired, then one permitted question settles that the server has handled them; so two thousand attempts
take seconds. What is refused is not waited for: only what arrives, or is stored, counts.
"""

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from nats.aio.msg import Msg

from protocol.nats_bus import streams
from protocol.nats_bus.connection import Connection
from tests.attack import routes
from tests.attack.routes import Route
from tests.support.walled import WAIT_S, Raw, Walled

MARKER = b"FORGED-BY-ATTACKER"
PAUSE_EVERY = 200


@dataclass
class Findings:
    """What an attacker got hold of, and what it has changed. Both should be empty."""

    attempts: int = 0
    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)


class Witness:
    """Hears everything in the master's account, and knows what is stored."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.heard: list[Msg] = []

    async def open(self) -> None:
        async def hear(message: Msg) -> None:
            self.heard.append(message)

        await self._connection.client.subscribe(">", cb=hear)
        await self._connection.settle("$JS.API.INFO")

    async def stored(self) -> dict[str, str]:
        """Return subject and hash of everything that is stored, by stream, and the streams' own configuration."""
        found: dict[str, str] = {}
        for name in sorted(await streams.names(self._connection)):
            info = await streams.call(self._connection, f"STREAM.INFO.{name}", {"subjects_filter": ">"})
            found[f"stream {name}"] = str(sorted(info["config"].items()))
            found[f"consumers of {name}"] = str(info["state"]["consumer_count"])
            for subject in info["state"].get("subjects") or {}:
                answer = await self._connection.request(f"$JS.API.DIRECT.GET.{name}.{subject}")
                found[f"{name} {subject}"] = hashlib.sha256(answer.data).hexdigest()
        return found

    async def forged(self, own: Iterable[str]) -> set[str]:
        """Return the subjects on which the attacker's marker was heard that are not its own."""
        await self._connection.settle("$JS.API.INFO")
        mine = tuple(own)
        return {message.subject for message in self.heard if MARKER in message.data and message.subject not in mine}


async def attack(
    cluster: Walled, attacker: Raw, inbox: str, *, own: tuple[str, ...], settles: str, secrets: Iterable[bytes]
) -> Findings:
    """Try everything, and return what came of it. `settles` is a question that this attacker may ask."""
    findings = Findings()
    witness = Witness((await cluster.raw(cluster.server.keys.admin, "_INBOX_witness")).connection)
    await witness.open()
    before = await witness.stored()
    blob = next(key.split(" ", 1)[1] for key in before if key.startswith(f"{routes.SECRET_STREAMS[1]} "))
    wanted = tuple(secrets)
    assert wanted

    async def hear(message: Msg) -> None:
        if any(secret in message.data for secret in wanted):
            findings.read.add(message.subject)

    client = attacker.connection.client
    await client.subscribe(f"{inbox}.>", cb=hear)
    for subject in routes.subscriptions("candidate"):
        await client.subscribe(subject, cb=hear)
        await client.subscribe(subject, queue="thieves", cb=hear)
    await _fire(attacker, findings, inbox, [*routes.direct_gets(blob), *routes.api_reads(blob, inbox)], settles)
    await cluster.ring_secrets()
    await _fire(attacker, findings, inbox, [*routes.forgeries(MARKER, own), *routes.sabotage()], settles)
    findings.written = await witness.forged(own)
    after = await witness.stored()
    mine = {f"STATUS {subject}" for subject in own} | {f"OSLOG {subject}" for subject in own}
    findings.written |= {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} - mine
    return findings


async def _fire(attacker: Raw, findings: Findings, inbox: str, shots: list[Route], settles: str) -> None:
    client = attacker.connection.client
    for number, route in enumerate(shots):
        reply = route.reply or f"{inbox}.r{number}"
        await client.publish(route.subject, route.body, reply=reply, headers=route.headers or None)
        findings.attempts += 1
        if number % PAUSE_EVERY == 0:
            await client.flush()
    async with asyncio.timeout(WAIT_S):
        await attacker.connection.settle(settles)
        await client.flush()
