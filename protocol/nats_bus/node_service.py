"""What an agent answers on `mesh.rpc.NODE.…`: its status to anybody in CTL, everything else to the master alone.

Each endpoint answers only requests that the server says come from the CTL account: another node could otherwise
have the master's answers delivered here as questions (SPEC.md, section 3).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping

from nats.aio.client import Client
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, Service

from protocol import codec, permissions, subjects
from protocol.bus import Handler
from protocol.headers import status_headers
from protocol.messages import Question, Status
from protocol.names import NodeName
from protocol.nats_bus.answering import UNAVAILABLE, answer
from protocol.sealing import envelopes, questions
from protocol.sealing.keyring import Keyring

SERVICE = "gnt-mesh-agent"
VERSION = f"{codec.VERSION}.0.0"


class NodeService:
    """The agent as a NATS micro service. `status` is what it answers with when it is asked for that."""

    def __init__(self, node: NodeName, keyring: Keyring) -> None:
        self._node = node
        self._keyring = keyring
        self._service: Service | None = None
        self._handlers: Mapping[str, tuple[type, Handler]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self.status: Status | None = None
        self.complaint = ""
        """What the server last complained of: a bell that was not granted, for one. Shown in the service's stats."""

    async def start(self, client: Client) -> None:
        """Announce the service on a new client; the one on the client before went with it."""
        self._service = None
        service = await add_service(
            client,
            name=SERVICE,
            version=VERSION,
            description=f"gnt-mesh agent of {self._node}",
            metadata={"node": self._node},
            stats_handler=lambda _: {"complaint": self.complaint},
        )
        await self._add(service, "status", self._answer_status)
        await self._add_handlers(service, offered := self._handlers)
        self._service = service
        if self._handlers is not offered:
            await self._add_handlers(service, self._handlers)

    async def serve(self, handlers: Mapping[str, tuple[type, Handler]]) -> None:
        """Answer these verbs too, now and on every later client. To be called once."""
        assert not self._handlers
        self._handlers = handlers
        if self._service is not None:
            await self._add_handlers(self._service, handlers)

    async def close(self) -> None:
        """Leave the requests that are still being answered."""
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def _add_handlers(self, service: Service, handlers: Mapping[str, tuple[type, Handler]]) -> None:
        for verb, (kind, handler) in handlers.items():
            await self._add(service, verb, self._answering_with(kind, handler))

    async def _add(self, service: Service, verb: str, handle: Callable[[Request], Awaitable[None]]) -> None:
        async def check(request: Request) -> None:
            if _asking_account(request) == permissions.CTL:
                await handle(request)

        await service.add_endpoint(EndpointConfig(name=verb, subject=subjects.rpc(self._node, verb), handler=check))

    def _answering_with(self, kind: type, handler: Handler) -> Callable[[Request], Awaitable[None]]:
        """Requests are answered side by side: what one does must not keep the next from being refused."""

        async def accept(request: Request) -> None:
            channel = QuestionChannel(self._keyring.trusted)
            task = asyncio.create_task(answer(request, kind, handler, who=self._node, channel=channel))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

        return accept

    async def _answer_status(self, request: Request) -> None:
        if self.status is None:
            await request.respond_error(UNAVAILABLE, f"{self._node} has not looked at its files yet")
        else:
            await request.respond(codec.encode(self.status), headers=status_headers(self.status))


class QuestionChannel:
    """One question of the master: signed by it, and answered for its eyes only."""

    def __init__(self, trusted: Collection[str]) -> None:
        self._trusted = trusted
        self._question: Question

    def receive(self, request: Request) -> bytes:
        self._question = envelopes.open_question_for(request.subject, request.data, self._trusted)
        return self._question.body

    def wrap(self, reply: bytes) -> bytes:
        return questions.seal_answer(self._question, reply)


def _asking_account(request: Request) -> str:
    raw = (request.headers or {}).get("Nats-Request-Info", "")
    try:
        account = json.loads(raw).get("acc", "")
    except (ValueError, AttributeError):
        return ""
    return str(account)
