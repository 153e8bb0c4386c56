"""One nats-py client: how it is connected, what its server says it is, and how to let go of it.

What nats-py 2.16 does not do by itself, each found by experiment: it waits for its last bytes to be taken before it
reconnects, so a peer that is silent with full buffers holds it for a quarter of an hour; a full buffer blocks its
publishers for ever when the connection goes; a socket that connects to a server which then stays silent is forgotten,
not closed.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nats.errors
from nats.aio.client import Client

from protocol.errors import Refused
from protocol.key_messages import KeyInfo
from protocol.nats_bus.ending import within

Version = tuple[int, int, int]

SERVER_VERSION_MIN: Final[Version] = (2, 12, 7)
"""Older servers forward forged headers between accounts (CVE-2026-33249) or lack atomic batches."""

PING_INTERVAL_S: Final = 10
FLUSH_TIMEOUT_S: Final = 3.0
CLOSE_TIMEOUT_S: Final = 1.0
"""A server that is silent does not keep us from ending."""

UNREAD_TIMEOUT_S: Final = 30
"""What the peer has not taken for so long, it never will."""

logging.getLogger("nats").setLevel(logging.CRITICAL)
# CPython 3.11 says this whenever a TLS connection ends; it means nothing.
logging.getLogger("asyncio").addFilter(lambda record: "eof_received() has no effect" not in record.getMessage())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the server is, and the certificates of the authorities that may vouch for it."""

    url: str
    ca_file: Path


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is and who we are on it."""

    endpoint: Endpoint
    seed: str | Callable[[], str]
    """As a function: what it is now, asked at every connection that is made."""
    name: str
    inbox_prefix: str

    @property
    def url(self) -> str:
        return self.endpoint.url

    def seed_now(self) -> str:
        """Return the key; Refused if it cannot be had."""
        return self.seed if isinstance(self.seed, str) else self.seed()

    def __repr__(self) -> str:
        return f"Address({self.url!r}, name={self.name!r})"


def trust(ca_file: Path) -> ssl.SSLContext:
    """Return what a server has to satisfy: TLS 1.3, the name in its certificate, one of these authorities, no other.

    Refused if the file is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        raise Refused(f"{ca_file}: not the certificates of an authority") from error
    except OSError as error:
        raise Refused(f"{ca_file}: cannot read whom to trust: {os.strerror(error.errno or 0)}") from error
    return context


async def connect(
    client: Client,
    address: Address,
    seed: str,
    trusted: ssl.SSLContext,
    *,
    failed: Callable[[Exception], Awaitable[None]],
    lost: Callable[[], Awaitable[None]],
    reconnected: Callable[[], Awaitable[None]],
    closed: Callable[[], Awaitable[None]],
) -> None:
    """Return when connected, after as many attempts as it takes; each failure is told."""
    await client.connect(
        address.url,
        name=address.name,
        nkeys_seed_str=seed,
        tls=trusted,
        tls_handshake_first=True,  # who waits for the server's greeting first can be talked out of TLS by anybody
        inbox_prefix=address.inbox_prefix,
        max_reconnect_attempts=-1,
        reconnect_time_wait=pause_s(),  # type: ignore[arg-type]  # a float serves as well
        flush_timeout=FLUSH_TIMEOUT_S,
        ping_interval=PING_INTERVAL_S,
        max_outstanding_pings=2,
        error_cb=failed,
        disconnected_cb=lost,
        reconnected_cb=reconnected,
        closed_cb=closed,
    )
    limit_unread(client)


def pause_s() -> float:
    """How long to wait before the next attempt: never the same for a whole fleet."""
    return random.uniform(0.2, 0.8)


def limit_unread(client: Client) -> None:
    """Have the kernel end a connection whose peer takes nothing any more. Once for each socket."""
    if transport := _transport(client):
        with contextlib.suppress(OSError):
            connected = transport.get_extra_info("socket")
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_TIMEOUT_S * 1000)


def version_text(client: Client) -> str:
    return ".".join(map(str, _version(client)))


def require_version(client: Client, url: str) -> None:
    """Refuse a server that is too old; one that does not properly say what it is counts as such."""
    if _version(client) < SERVER_VERSION_MIN:
        least = ".".join(map(str, SERVER_VERSION_MIN))
        raise Refused(f"nats-server {version_text(client)} at {url} is too old: at least {least} is needed")


async def discard(client: Client) -> None:
    """Close a client, whatever state it is in and whether or not the server still listens."""
    with contextlib.suppress(nats.errors.Error, OSError):
        await within(CLOSE_TIMEOUT_S, client.close())
    abort(client)


def abort(client: Client) -> None:
    """Let go of a socket, and of what is still to be sent on it."""
    if transport := _transport(client):
        with contextlib.suppress(AttributeError):  # Python 3.11.2, Debian's, knows no abort after a close under TLS
            transport.abort()


def text_of(error: BaseException) -> str:
    """Return what went wrong as a person would say it."""
    text = str(error).removeprefix("nats: ").strip("'\"")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, BrokenPipeError | ConnectionResetError):
        return "the server ended the connection: it was stopped, or does not know our key"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not believed: {error.verify_message.lower()}"
    if isinstance(error, ssl.SSLError | ssl.CertificateError):
        return "the server does not speak TLS as it should"
    return text or type(error).__name__


def _version(client: Client) -> Version:
    try:
        version = client.connected_server_version
        return version.major, version.minor, version.patch
    except ValueError:
        return 0, 0, 0


def _transport(client: Client) -> asyncio.WriteTransport | None:
    """nats-py has no public way to its socket."""
    writer = getattr(client._transport, "_io_writer", None)
    return writer.transport if isinstance(writer, asyncio.StreamWriter) else None


def certificates(client: Client) -> tuple[KeyInfo, ...]:
    """Return what the server has shown to prove itself on this connection, and whom we would have believed."""
    transport = _transport(client)
    shown: ssl.SSLObject | None = transport.get_extra_info("ssl_object") if transport else None
    if shown is None:
        return ()
    found = [_certificate("server", shown.getpeercert(True) or b"", shown.getpeercert() or {})]
    authorities = zip(shown.context.get_ca_certs(True), shown.context.get_ca_certs(), strict=True)
    return (*found, *(_certificate("authority", der, facts) for der, facts in authorities))


def _certificate(name: str, der: bytes, facts: Mapping[str, Any]) -> KeyInfo:
    return KeyInfo(
        what="certificate",
        name=name,
        fingerprint=hashlib.sha256(der).hexdigest(),
        made=ssl.cert_time_to_seconds(facts["notBefore"]),
        expires=ssl.cert_time_to_seconds(facts["notAfter"]),
        remark=", ".join(value for _, value in facts.get("subjectAltName", ())),
    )
