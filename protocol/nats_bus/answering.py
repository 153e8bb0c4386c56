"""How a micro service of ours answers: the reply, or code and sentence of what is wrong (SPEC.md, section 6)."""

import asyncio
from typing import Protocol

from nats.errors import Error as NatsError
from nats.micro.request import Request

from protocol import codec
from protocol.bus import Handler
from protocol.errors import DecodeError, Refused, Unavailable

REFUSED = "400"
UNAVAILABLE = "503"
FAULT = "500"


class Channel(Protocol):
    """How one request arrived, and its reply goes."""

    def receive(self, request: Request) -> bytes: ...

    def wrap(self, reply: bytes) -> bytes: ...


class PlainChannel:
    """As it is: between operators and the master, who are in one account."""

    def receive(self, request: Request) -> bytes:
        return request.data

    def wrap(self, reply: bytes) -> bytes:
        return reply


async def answer(request: Request, kind: type, handler: Handler, *, who: str, channel: Channel) -> None:
    """Have a request answered by its handler. An asker that is gone is no error; a fault of ours is told to both."""
    try:
        try:
            data = channel.receive(request)
            message = codec.decode(data, kind) if data else kind()
        except TypeError as error:
            raise DecodeError(f"an empty {kind.__name__}, which has parameters without a default") from error
        reply = channel.wrap(codec.encode(await handler(message)))
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
        # Ours. The asker need not wait for the timeout, and the daemon hears of it through its loop's handler.
        await _respond_error(request, FAULT, Unavailable(f"{who} failed: {type(error).__name__}"))
        asyncio.get_running_loop().call_exception_handler({"message": "a handler failed", "exception": error})


async def _respond_error(request: Request, code: str, error: Exception) -> None:
    try:
        description = " ".join(str(error).split()).encode("ascii", "backslashreplace").decode()
        await request.respond_error(code, description or type(error).__name__, data=str(error).encode(errors="replace"))
    except NatsError:
        return
