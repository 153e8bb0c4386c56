"""One connection that stays: it reconnects for ever, and replaces a client that nats-py has given up.

nats-py closes for good on any server error but permissions and staleness; then a new client is built and `prepare`
subscribes again. Foreign exceptions end here: what leaves is `Unavailable`, or `Refused` for a server too old.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ssl import SSLCertVerificationError, SSLContext
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from protocol.errors import Refused, Unavailable, Unreachable
from protocol.nats_bus import clients
from protocol.nats_bus.clients import Address
from protocol.nats_bus.ending import end, within
from protocol.nats_bus.requests import NobodyAnswers, Requests, send

REQUEST_TIMEOUT_S: Final = 3.0
DRAIN_S: Final = 1.0
SWITCH_S: Final = 5.0
"""How long the server may take to let us in with another key before the connection with the former one is given up."""

_CUT_OFF: Final = (ConnectionResetError, BrokenPipeError)


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
        self._known_as = ""
        self._switching = asyncio.Lock()

    @property
    def client(self) -> Client:
        """The live client; Unreachable while there is none."""
        if self._client is None or not self._client.is_connected:
            raise Unreachable(f"not connected to {self._address.url}" + self._because())
        return self._client

    @property
    def server_version(self) -> str:
        return clients.version_text(self._client) if self._client and self._client.is_connected else ""

    async def open(self, *, timeout_s: float | None = None) -> None:
        """Return once connected; without a timeout it tries for ever. Refused if the server is too old."""
        try:
            await within(timeout_s, self._build_until_done())
        except TimeoutError as error:
            reason = self._because() or ": no answer"
            raise Unreachable(f"cannot connect to {self._address.url} within {timeout_s:g} s{reason}") from error

    async def close(self) -> None:
        """End the connection, what was published before still goes out."""
        self._closing = True
        if self._rebuilding:
            await end(self._rebuilding)
        if self._requests:
            self._requests.lost("the connection was closed")
        if self._client:
            if self._client.is_connected:
                with contextlib.suppress(nats.errors.Error, OSError):
                    await within(clients.CLOSE_TIMEOUT_S, self._client.flush())
            await clients.discard(self._client)

    async def use_seed(self, seed: str) -> None:
        """Connect anew, as the holder of this key, with whom the file of the endpoint trusts now.

        The former connection ends when the new one is there and what was asked on it is answered.
        """
        async with self._switching:
            self._address = replace(self._address, seed=seed)
            former, asked = self._client, self._requests
            if former is None or asked is None or self._closing:
                return
            if former.is_connected:
                with contextlib.suppress(Unavailable, TimeoutError):
                    await within(SWITCH_S, self._build())
                    await asked.settled(REQUEST_TIMEOUT_S)
                with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                    await within(DRAIN_S, former.drain())  # what we have been asked on it is still taken
            asked.lost("the connection was replaced")
            await clients.discard(former)
        if self._client and self._client.is_closed:
            self._on_closed(self._client)

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        """Send without acknowledgement."""
        try:
            await send(self.client, subject, payload, headers=headers)
        except (nats.errors.Error, OSError) as error:
            raise Unavailable(f"{subject}: {clients.text_of(error)}") from error

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
            raise Unavailable(f"{subject}: {clients.text_of(error)}") from error

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
            await asyncio.sleep(clients.pause_s())

    async def _build(self) -> None:
        trusted, seed = clients.trust(self._address.endpoint.ca_file), self._address.seed_now()
        client = Client()
        requests = Requests(client, self._address.inbox_prefix)
        try:
            await self._connect(client, seed, trusted)
            clients.require_version(client, self._address.url)
            await requests.start()
            await self._prepare(client)
            await client.flush()
            await client.flush()  # the first ping overtakes what was queued, the second does not
        except (nats.errors.Error, OSError) as error:
            await clients.discard(client)
            told = self._last_complaint if isinstance(error, _CUT_OFF) else ""
            raise Unavailable(told or clients.text_of(error)) from error
        except BaseException:
            await clients.discard(client)
            raise
        self._client, self._requests, self._known_as = client, requests, seed
        if client.is_closed:
            raise Unavailable("closed by the server" + self._because())
        if client.is_connected:
            self._tell_up()

    async def _connect(self, client: Client, seed: str, trusted: SSLContext) -> None:
        async def failed(error: Exception) -> None:
            self._on_error(client, error)

        async def lost() -> None:
            self._on_lost(client)

        async def reconnected() -> None:
            self._on_reconnected(client)

        async def closed() -> None:
            self._on_closed(client)

        await clients.connect(
            client, self._address, seed, trusted, failed=failed, lost=lost, reconnected=reconnected, closed=closed
        )

    def _on_error(self, client: Client, error: Exception) -> None:
        if not isinstance(error, (nats.errors.Error, OSError)):
            # A callback of ours has failed: nobody else's fault, and not to be lost among the server's complaints.
            asyncio.get_running_loop().call_exception_handler({"message": "a bus callback failed", "exception": error})
        if client.is_connecting or client.is_reconnecting:
            clients.abort(client)  # nats-py forgets to close what it connected to a server that then stays silent
        complaint = clients.text_of(error)
        if "permissions violation" in complaint:
            if self._requests and client is self._client:
                self._requests.refused(complaint)
        elif not (isinstance(error, _CUT_OFF) and self._last_complaint):
            # The server gives its reason, then cuts us off: the reason is what we are asked for.
            self._last_complaint = complaint
        if client is self._client and not client.is_connected and self._is_outdated(error):
            self._retiring = asyncio.create_task(clients.discard(client))  # the next one reads both files again
        self._complained(complaint)

    def _is_outdated(self, error: Exception) -> bool:
        """True if the server refuses, or is refused, because of what was read before this client was made."""
        if isinstance(error, SSLCertVerificationError):
            return True
        try:
            return "authorization violation" in str(error).lower() and self._address.seed_now() != self._known_as
        except Refused:
            return False

    def _on_lost(self, client: Client) -> None:
        if client is self._client:
            self._tell_down(self._last_complaint or "the connection was lost")

    def _on_reconnected(self, client: Client) -> None:
        clients.limit_unread(client)
        if client is not self._client:
            return
        try:
            clients.require_version(client, self._address.url)
        except Refused as error:
            self._last_complaint = str(error)
            self._retiring = asyncio.create_task(clients.discard(client))
        else:
            self._tell_up()

    def _on_closed(self, client: Client) -> None:
        if self._switching.locked():
            return  # whoever replaces the connection looks at what there is in the end
        if client is self._client and not self._closing and self._rebuilding is None:
            self._rebuilding = asyncio.create_task(self._rebuild())

    async def _rebuild(self) -> None:
        try:
            while True:
                await asyncio.sleep(clients.pause_s())
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
