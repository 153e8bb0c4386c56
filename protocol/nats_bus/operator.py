"""An operator's side of the bus over NATS (SPEC.md, section 6)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from protocol import codec, subjects
from protocol.bus import Reply
from protocol.errors import DecodeError, Refused, Unavailable, Unreachable
from protocol.nats_bus.answering import REFUSED
from protocol.nats_bus.clients import Address, Endpoint
from protocol.nats_bus.connection import Connection
from protocol.nats_bus.requests import NobodyAnswers, NotPermitted, header

MASTER_START_S: Final = 3.0
"""How long a master that was killed may take until it serves again, before a request gives up on it."""

ASK_AGAIN_S: Final = 0.1


class NatsOperatorBus:
    """Implements `OperatorBus`."""

    def __init__(
        self,
        endpoint: Endpoint,
        seed: str | Callable[[], str],
        name: str = "gnt-mesh",
        *,
        inbox_prefix: str = "_INBOX_operator",
    ) -> None:
        self._rung = asyncio.Event()
        self._connection = Connection(
            Address(endpoint, seed, name, inbox_prefix),
            prepare=self._prepare,
            changed=lambda connected, reason: self._rung.set(),
            complained=lambda reason: None,
        )

    async def open(self, *, timeout_s: float = 5.0) -> None:
        """Return once connected; Unavailable with the reason if the server cannot be reached in time."""
        await self._connection.open(timeout_s=timeout_s)

    async def close(self) -> None:
        await self._connection.close()

    async def ask(self, verb: str, request: object, reply: type[Reply], *, timeout_s: float = 10.0) -> Reply:
        answer = await self._request(subjects.api(verb), codec.encode(request), timeout_s)
        return open_answer(verb, answer, reply)

    async def _request(self, subject: str, payload: bytes, timeout_s: float) -> Msg:
        """As long as nobody answers nobody has heard the request either: a master that is starting will.

        What this user may not ask is Refused: an operator may ask everything.
        """
        deadline_s = time.monotonic() + min(timeout_s, MASTER_START_S)
        while True:
            try:
                return await self._connection.request(subject, payload, timeout_s=timeout_s)
            except NobodyAnswers as error:
                if time.monotonic() > deadline_s:
                    raise Unreachable(f"no master answers on {subject}") from error
            except NotPermitted as error:
                raise Refused(f"{error}: an observer looks, and changes nothing; ask an operator") from error
            await asyncio.sleep(ASK_AGAIN_S)

    async def bells(self) -> AsyncIterator[None]:
        self._rung.clear()
        yield
        while True:
            await self._rung.wait()
            self._rung.clear()
            yield

    async def _prepare(self, client: Client) -> None:
        await client.subscribe(subjects.CLUSTER_BELL, cb=self._on_bell)

    async def _on_bell(self, message: Msg) -> None:
        self._rung.set()


def open_answer(verb: str, answer: Msg, reply: type[Reply]) -> Reply:
    """Return what the master has answered; Refused or Unavailable with its sentence."""
    code = header(answer, "Nats-Service-Error-Code")
    if code:
        reason = answer.data.decode(errors="replace") or header(answer, "Nats-Service-Error")
        raise Refused(reason) if code == REFUSED else Unavailable(reason)
    try:
        return codec.decode(answer.data, reply)
    except DecodeError as error:
        raise Unavailable(f"{verb}: the master's answer is not understood: {error}") from error
