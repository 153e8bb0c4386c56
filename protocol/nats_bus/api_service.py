"""The master's API as a NATS micro service: `nats micro info gnt-mesh-master` lists it, `nats req` can call it."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, Service

from protocol import subjects
from protocol.bus import Asker, Guard, Handler, unguarded
from protocol.nats_bus.answering import PlainChannel, answer

SERVICE = "gnt-mesh-master"
DRAIN_S: Final = 2.0


class ApiService:
    """Endpoints for operators. They are started anew on each new client; requests are answered side by side."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._handlers: Mapping[str, tuple[type, Handler]] = {}
        self._guard: Guard = unguarded
        self._service: Service | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def serve(self, client: Client, handlers: Mapping[str, tuple[type, Handler]], guard: Guard) -> None:
        self._handlers, self._guard = handlers, guard
        await self.start(client)

    async def drain(self) -> None:
        """Take no more requests; return when those before are answered. Who only waits for news is left after a while.

        A change that has been begun is told to its asker.
        """
        with contextlib.suppress(NatsError, TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                if self._service is not None:
                    await self._service.stop()
                await asyncio.gather(*map(asyncio.shield, self._answering))

    async def close(self) -> None:
        """Leave the requests that are still being answered."""
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def start(self, client: Client) -> None:
        if not self._handlers:
            return
        self._service = await add_service(
            client, name=SERVICE, version=self._version, description="what operators ask of the gnt-mesh master"
        )
        for verb, (kind, handler) in self._handlers.items():
            await self._service.add_endpoint(
                EndpointConfig(
                    name=verb.replace(".", "-"),
                    subject=subjects.api(verb),
                    handler=self._endpoint(verb, kind, handler),
                    metadata={"request": kind.__name__},
                )
            )

    def _endpoint(self, verb: str, kind: type, handler: Handler):  # type: ignore[no-untyped-def]
        async def accept(request: Request) -> None:
            async def guarded(message: object) -> object:
                return await self._guard(_asker(request), verb, message, handler)

            task = asyncio.create_task(answer(request, kind, guarded, who="the master", channel=PlainChannel()))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

        return accept


def _asker(request: Request) -> Asker:
    """The server sets this header on whatever comes from another account, and replaces one that the asker has set.

    Within our own account there is none, unless an administrator of it, who is as mighty as the master, has set one.
    """
    try:
        facts = json.loads((request.headers or {}).get("Nats-Request-Info", ""))
        return Asker(account=str(facts["acc"]), key=str(facts.get("user", "")), origin=str(facts.get("host", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Asker()
