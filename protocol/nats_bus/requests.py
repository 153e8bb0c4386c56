"""Questions to the bus that end quickly: with an answer, with the server's refusal, or with the connection.

nats-py's own `request` knows one bad end, its timeout. Measured on 2.15.1, through the service imports: nobody there
(also: no such stream) is answered after 1 ms; a subject that is not permitted is never answered, the server
complains on the side instead, lower-cased by nats-py; a killed server leaves every question unanswered. The last two
cost the whole timeout if nobody looks.
"""

import asyncio
import re
import secrets
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from protocol.errors import NoAnswer, Unavailable, Unreachable

_NO_RESPONDERS = "503"
_NOT_PERMITTED = re.compile(r'permissions violation for publish to "([^"]+)')


class NobodyAnswers(Unreachable):
    """The server has looked: there is no one to answer on this subject. No stream of that name, for a direct get."""


class NotPermitted(Unavailable):
    """The server does not let us ask this."""


class Requests:
    """The open questions of one client. They do not survive its connection."""

    def __init__(self, client: Client, inbox_prefix: str) -> None:
        self._client = client
        self._inbox = f"{inbox_prefix}.{secrets.token_hex(11)}"
        self._asked = 0
        self._open: dict[str, tuple[str, asyncio.Future[Msg | Unavailable]]] = {}

    async def start(self) -> None:
        """Subscribe to the answers. To be called once, on a connected client."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_answer)

    async def ask(self, subject: str, payload: bytes, headers: dict[str, str] | None, *, timeout_s: float) -> Msg:
        """Return the answer; Unavailable says why there is none."""
        self._asked += 1
        reply = f"{self._inbox}.{self._asked}"
        answer: asyncio.Future[Msg | Unavailable] = asyncio.get_running_loop().create_future()
        self._open[reply] = (subject, answer)
        try:
            async with asyncio.timeout(timeout_s):
                await send(self._client, subject, payload, headers=headers, reply=reply)
                outcome = await answer
        except TimeoutError:
            raise NoAnswer(f"{subject}: no answer within {timeout_s:.3g} s") from None
        finally:
            del self._open[reply]
        if isinstance(outcome, Unavailable):
            raise outcome
        if header(outcome, "Status") == _NO_RESPONDERS:
            raise NobodyAnswers(f"{subject}: nobody answers")
        return outcome

    async def settled(self, timeout_s: float) -> None:
        """Return when every question has its answer, and at the latest after a while."""
        if waiting := [answer for _, answer in self._open.values()]:
            await asyncio.wait(waiting, timeout=timeout_s)

    def refused(self, complaint: str) -> None:
        """End the questions that the server refuses, if that is what it complains of."""
        if found := _NOT_PERMITTED.search(complaint.lower()):
            self._fail(NotPermitted, "the server does not permit it", subject=found[1])

    def lost(self, reason: str) -> None:
        """End every question: what was asked on this connection is not answered on the next."""
        self._fail(NoAnswer, reason)

    def _fail(self, kind: type[Unavailable], reason: str, *, subject: str | None = None) -> None:
        for asked, answer in self._open.values():
            if subject in (None, asked.lower()) and not answer.done():
                answer.set_result(kind(f"{asked}: {reason}"))

    async def _on_answer(self, message: Msg) -> None:
        _, answer = self._open.get(message.subject, ("", None))
        if answer and not answer.done():
            answer.set_result(message)


async def send(
    client: Client, subject: str, payload: bytes, *, headers: dict[str, str] | None, reply: str = ""
) -> None:
    """Publish. nats-py swallows a cancellation while it waits for a full buffer to empty; here it goes on."""
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    await client.publish(subject, payload, reply=reply, headers=headers)
    if task and task.cancelling() > cancelled:
        raise asyncio.CancelledError


def header(message: Msg, key: str) -> str:
    """Return one header of a message as text, empty if it is not there."""
    headers: dict[str, Any] = message.headers or {}
    return str(headers.get(key, ""))
