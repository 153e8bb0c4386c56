"""One connection that stays: it reconnects for ever, and replaces a client that nats-py has given up.

nats-py closes for good on any server error but permissions and staleness; then a new client is built and `prepare`
subscribes again. Foreign exceptions end here: what leaves is `Unavailable`, or `Refused` for a server too old.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from protocol.errors import Refused, Unavailable

SERVER_VERSION_MIN: Final = (2, 12, 7)
"""Older servers forward forged headers between accounts (CVE-2026-33249) or lack atomic batches."""

PING_INTERVAL_S: Final = 10
REQUEST_TIMEOUT_S: Final = 3.0

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
    """A supervised nats client. `changed(True, "")` follows every connect, after `prepare` has run on a new client."""

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
        self._closing = False
        self._rebuilding: asyncio.Task[None] | None = None
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
                await self._build()
        except TimeoutError:
            reason = self._because() or ": no answer"
            raise Unavailable(f"cannot connect to {self._address.url} within {timeout_s} s{reason}") from None

    async def close(self) -> None:
        """End the connection, what was published before still goes out."""
        self._closing = True
        if self._rebuilding:
            self._rebuilding.cancel()
        if self._client and not self._client.is_closed:
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                await asyncio.wait_for(self._client.flush(), 1)
            await self._client.close()

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        """Send without acknowledgement."""
        try:
            await self.client.publish(subject, payload, headers=headers)
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
        """Return the answer; Unavailable if nobody gives one in time."""
        try:
            return await self.client.request(subject, payload, timeout=timeout_s, headers=headers)
        except nats.errors.NoRespondersError as error:
            raise Unavailable(f"{subject}: nobody answers on {self._address.url}") from error
        except nats.errors.TimeoutError as error:
            raise Unavailable(f"{subject}: no answer within {timeout_s:g} s") from error
        except (nats.errors.Error, OSError, asyncio.CancelledError) as error:
            # nats-py cancels the futures of pending requests when it closes; a cancel of ours is not swallowed.
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            raise Unavailable(f"{subject}: {_text(error)}") from error

    async def _build(self) -> None:
        client = Client()
        await client.connect(
            self._address.url,
            name=self._address.name,
            nkeys_seed_str=self._address.seed,
            inbox_prefix=self._address.inbox_prefix,
            max_reconnect_attempts=-1,
            reconnect_time_wait=random.uniform(0.2, 0.8),  # type: ignore[arg-type]  # a float serves as well
            ping_interval=PING_INTERVAL_S,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
        )
        version = client.connected_server_version
        if (version.major, version.minor, version.patch) < SERVER_VERSION_MIN:
            self._closing = True
            await client.close()
            least = ".".join(map(str, SERVER_VERSION_MIN))
            raise Refused(f"nats-server {version} at {self._address.url} is too old: at least {least} is needed")
        self._client = client
        await self._prepare(client)
        self._last_complaint = ""
        self._changed(True, "")

    async def _on_error(self, error: Exception) -> None:
        self._last_complaint = _text(error)
        self._complained(self._last_complaint)

    async def _on_disconnected(self) -> None:
        if not self._closing:
            self._changed(False, self._last_complaint)

    async def _on_reconnected(self) -> None:
        self._last_complaint = ""
        self._changed(True, "")

    async def _on_closed(self) -> None:
        if not self._closing and self._client is not None and self._rebuilding is None:
            self._rebuilding = asyncio.create_task(self._rebuild())

    async def _rebuild(self) -> None:
        try:
            await self._build()
        finally:
            self._rebuilding = None

    def _because(self) -> str:
        return f": {self._last_complaint}" if self._last_complaint else ""


def _text(error: BaseException) -> str:
    text = str(error).removeprefix("nats: ").strip("'\"")
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return text or type(error).__name__


def header(message: Msg, key: str) -> str:
    """Return one header of a message as text, empty if it is not there."""
    headers: dict[str, Any] = message.headers or {}
    return str(headers.get(key, ""))
