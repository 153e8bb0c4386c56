"""One connection that stays: it reconnects for ever, and replaces a client that nats-py has given up.

nats-py closes for good on any server error but permissions and staleness; then a new client is built and `prepare`
subscribes again. Foreign exceptions end here: what leaves is `Unavailable`, or `Refused` for a server too old.
"""

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from protocol.errors import Refused, Unavailable
from protocol.nats_bus.requests import NobodyAnswers, Requests, send

SERVER_VERSION_MIN: Final = (2, 12, 7)
"""Older servers forward forged headers between accounts (CVE-2026-33249) or lack atomic batches."""

PING_INTERVAL_S: Final = 10
REQUEST_TIMEOUT_S: Final = 3.0
CLOSE_TIMEOUT_S: Final = 1.0
"""A server that is silent does not keep us from ending."""

UNREAD_TIMEOUT_S: Final = 30
"""What the peer has not taken for so long, it never will. nats-py would wait for it before it reconnects."""

logging.getLogger("nats").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is and who we are on it."""

    url: str
    seed: str
    name: str
    inbox_prefix: str

    def __repr__(self) -> str:
        return f"Address({self.url!r}, name={self.name!r})"


class Connection:
    """A supervised nats client. `changed(True, "")` follows every connect, after `prepare` has run on a new client.

    A loss is told once, however often the next attempts fail. What `prepare` subscribed is in force when `changed`
    is called.
    """

    def __init__(
        self,
        address: Address,
        *,
        prepare: Callable[[Client], Awaitable[None]],
        changed: Callable[[bool, str], None],
        complained: Callable[[str], None],
    ) -> None:
        self._address = address
        self._prepare = prepare
        self._changed = changed
        self._complained = complained
        self._client: Client | None = None
        self._requests: Requests | None = None
        self._is_up = False
        self._closing = False
        self._rebuilding: asyncio.Task[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._last_complaint = ""

    @property
    def client(self) -> Client:
        """The live client; Unavailable while there is none."""
        if self._client is None or not self._client.is_connected:
            raise Unavailable(f"not connected to {self._address.url}" + self._because())
        return self._client

    @property
    def server_version(self) -> str:
        return str(self._client.connected_server_version) if self._client and self._client.is_connected else ""

    async def open(self, *, timeout_s: float | None = None) -> None:
        """Return once connected; without a timeout it tries for ever. Refused if the server is too old."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._build_until_done()
        except TimeoutError:
            reason = self._because() or ": no answer"
            raise Unavailable(f"cannot connect to {self._address.url} within {timeout_s} s{reason}") from None

    async def close(self) -> None:
        """End the connection, what was published before still goes out."""
        self._closing = True
        if self._rebuilding:
            self._rebuilding.cancel()
            await asyncio.gather(self._rebuilding, return_exceptions=True)
        if self._requests:
            self._requests.lost("the connection was closed")
        if self._client:
            with contextlib.suppress(nats.errors.Error, OSError):
                if self._client.is_connected:
                    await asyncio.wait_for(self._client.flush(), CLOSE_TIMEOUT_S)
                await asyncio.wait_for(self._client.close(), CLOSE_TIMEOUT_S)
            _abort(self._client)

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        """Send without acknowledgement."""
        try:
            await send(self.client, subject, payload, headers=headers)
        except (nats.errors.Error, OSError) as error:
            raise Unavailable(f"{subject}: {_text(error)}") from error

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Msg:
        """Return the answer; Unavailable as soon as it is known that there will be none."""
        assert self.client.is_connected
        assert self._requests
        try:
            return await self._requests.ask(subject, payload, headers, timeout_s=timeout_s)
        except (nats.errors.Error, OSError) as error:
            raise Unavailable(f"{subject}: {_text(error)}") from error

    async def settle(self, subject: str) -> None:
        """Return when the server has handled all that was sent before. `subject` is any that we may ask on.

        Not `flush()`: its ping overtakes what is queued, and one that is cancelled ends nats-py's reading for good.
        """
        with contextlib.suppress(NobodyAnswers):
            await self.request(subject)

    async def _build_until_done(self) -> None:
        while True:
            try:
                return await self._build()
            except Unavailable as error:
                self._last_complaint = str(error)
            await asyncio.sleep(_wait_s())

    async def _build(self) -> None:
        client = Client()
        requests = Requests(client, self._address.inbox_prefix)
        try:
            await self._connect(client)
            _limit_unread(client)
            self._require_version(client)
            await requests.start()
            await self._prepare(client)
            await client.flush()
            await client.flush()  # the first ping overtakes what was queued, the second does not
        except (nats.errors.Error, OSError) as error:
            await self._discard(client)
            raise Unavailable(_text(error)) from error
        except BaseException:
            await self._discard(client)
            raise
        self._client, self._requests = client, requests
        if client.is_closed:
            raise Unavailable("closed by the server" + self._because())
        if client.is_connected:
            self._tell_up()

    async def _connect(self, client: Client) -> None:
        async def on_error(error: Exception) -> None:
            self._on_error(client, error)

        async def on_disconnected() -> None:
            self._on_lost(client)

        async def on_reconnected() -> None:
            self._on_reconnected(client)

        async def on_closed() -> None:
            self._on_closed(client)

        await client.connect(
            self._address.url,
            name=self._address.name,
            nkeys_seed_str=self._address.seed,
            inbox_prefix=self._address.inbox_prefix,
            max_reconnect_attempts=-1,
            reconnect_time_wait=_wait_s(),  # type: ignore[arg-type]  # a float serves as well
            flush_timeout=REQUEST_TIMEOUT_S,  # without it, a full buffer blocks for ever when the connection goes
            ping_interval=PING_INTERVAL_S,
            max_outstanding_pings=2,
            error_cb=on_error,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
            closed_cb=on_closed,
        )

    async def _discard(self, client: Client) -> None:
        """Close a client that never became ours, whatever state it is in."""
        with contextlib.suppress(nats.errors.Error, OSError):
            await client.close()

    def _require_version(self, client: Client) -> None:
        version = client.connected_server_version
        if (version.major, version.minor, version.patch) < SERVER_VERSION_MIN:
            least = ".".join(map(str, SERVER_VERSION_MIN))
            raise Refused(f"nats-server {version} at {self._address.url} is too old: at least {least} is needed")

    def _on_error(self, client: Client, error: Exception) -> None:
        if not isinstance(error, (nats.errors.Error, OSError)):
            # A callback of ours has failed: nobody else's fault, and not to be lost among the server's complaints.
            asyncio.get_running_loop().call_exception_handler({"message": "a bus callback failed", "exception": error})
        if client.is_connecting or client.is_reconnecting:
            _abort(client)  # nats-py forgets to close what it connected to a server that then stays silent
        if "permissions violation" not in (complaint := _text(error)):
            self._last_complaint = complaint
        elif self._requests and client is self._client:
            self._requests.refused(complaint)
        self._complained(complaint)

    def _on_lost(self, client: Client) -> None:
        if client is self._client:
            self._tell_down(self._last_complaint or "the connection was lost")

    def _on_reconnected(self, client: Client) -> None:
        _limit_unread(client)
        if client is not self._client:
            return
        try:
            self._require_version(client)
        except Refused as error:
            self._last_complaint = str(error)
            self._retiring = asyncio.create_task(self._discard(client))
        else:
            self._tell_up()

    def _on_closed(self, client: Client) -> None:
        if client is self._client and not self._closing and self._rebuilding is None:
            self._rebuilding = asyncio.create_task(self._rebuild())

    async def _rebuild(self) -> None:
        try:
            while True:
                await asyncio.sleep(_wait_s())
                try:
                    return await self._build()
                except (Unavailable, Refused) as error:
                    self._last_complaint = str(error)
        finally:
            self._rebuilding = None

    def _tell_up(self) -> None:
        self._is_up = True
        self._last_complaint = ""
        self._changed(True, "")

    def _tell_down(self, reason: str) -> None:
        if self._requests:
            self._requests.lost(reason)
        if self._is_up and not self._closing:
            self._is_up = False
            self._changed(False, reason)

    def _because(self) -> str:
        return f": {self._last_complaint}" if self._last_complaint else ""


def _limit_unread(client: Client) -> None:
    if transport := _transport(client):
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_TIMEOUT_S * 1000)


def _abort(client: Client) -> None:
    """Let go of a connection whose last bytes nobody takes."""
    if transport := _transport(client):
        transport.abort()


def _transport(client: Client) -> asyncio.WriteTransport | None:
    """nats-py has no public way to its socket."""
    writer = getattr(client._transport, "_io_writer", None)
    return writer.transport if isinstance(writer, asyncio.StreamWriter) else None


def _wait_s() -> float:
    """How long to wait before the next attempt: never the same for a whole fleet."""
    return random.uniform(0.2, 0.8)


def _text(error: BaseException) -> str:
    text = str(error).removeprefix("nats: ").strip("'\"")
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return text or type(error).__name__
