"""The master's API as a NATS micro service: `nats micro info gnt-mesh-master` lists it, `nats req` can call it."""

import asyncio
from collections.abc import Mapping

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, Service

from protocol import codec, subjects
from protocol.bus import Handler
from protocol.errors import DecodeError, Refused, Unavailable

SERVICE = "gnt-mesh-master"

REFUSED = "400"
UNAVAILABLE = "503"
FAULT = "500"


class ApiService:
    """Endpoints for operators. They are started anew on each new client; requests are answered side by side."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._handlers: Mapping[str, tuple[type, Handler]] = {}
        self._service: Service | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def serve(self, client: Client, handlers: Mapping[str, tuple[type, Handler]]) -> None:
        self._handlers = handlers
        await self.start(client)

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
                    handler=self._endpoint(kind, handler),
                    metadata={"request": kind.__name__},
                )
            )

    def _endpoint(self, kind: type, handler: Handler):  # type: ignore[no-untyped-def]
        async def accept(request: Request) -> None:
            task = asyncio.create_task(_answer(request, kind, handler))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

        return accept


async def _answer(request: Request, kind: type, handler: Handler) -> None:
    try:
        try:
            message = codec.decode(request.data, kind) if request.data else kind()
        except TypeError as error:
            raise DecodeError(f"an empty {kind.__name__}, which has parameters without a default") from error
        reply = codec.encode(await handler(message))
        if len(reply) > codec.MESSAGE_BYTES_MAX:
            raise Unavailable(f"the answer has {len(reply)} bytes, limit {codec.MESSAGE_BYTES_MAX}: ask for fewer")
        await request.respond(reply)
    except (Refused, DecodeError) as error:
        await _respond_error(request, REFUSED, error)
    except Unavailable as error:
        await _respond_error(request, UNAVAILABLE, error)
    except NatsError:
        return  # the asker is gone, or we are: it asks again
    except Exception as error:
        # Ours. The operator need not wait for the timeout, and the daemon hears of it through its loop's handler.
        await _respond_error(request, FAULT, Unavailable(f"the master failed: {type(error).__name__}"))
        asyncio.get_running_loop().call_exception_handler({"message": "an API handler failed", "exception": error})


async def _respond_error(request: Request, code: str, error: Exception) -> None:
    try:
        description = " ".join(str(error).split()).encode("ascii", "backslashreplace").decode()
        await request.respond_error(code, description or type(error).__name__, data=str(error).encode(errors="replace"))
    except NatsError:
        return
