"""Who may vouch for the server: whether those whom the master names do, before anybody relies on them alone."""

import asyncio
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from protocol.errors import Refused, Unavailable
from protocol.nats_bus import clients

PORT_DEFAULT: Final = 4222
HANDSHAKE_S: Final = 5.0


async def check(url: str, authorities: str, former: Path) -> None:
    """Return if one of these authorities, PEM, vouches for the server at `url`, in a handshake of its own.

    Refused if they are none, or if the newest of them is older than the newest in the file `former`: somebody repeats
    what the master once said. Unavailable if the server does not show a certificate of theirs.
    """
    context = context_of(authorities)
    if _newest(context) < _newest(clients.trust(former)):
        raise Refused("these authorities are older than the ones that are trusted here")
    address = urlsplit(url)
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            _, writer = await asyncio.open_connection(address.hostname, address.port or PORT_DEFAULT, ssl=context)
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"{url}, with the authorities that are new: {clients.text_of(error)}") from error
    writer.transport.abort()


def context_of(authorities: str) -> ssl.SSLContext:
    """Return what a server has to satisfy for whom these, PEM, may vouch; Refused if they are none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=authorities)
    except (ssl.SSLError, ValueError, TypeError) as error:  # the last for what is not ASCII
        raise Refused("not the certificates of an authority") from error
    return context


def _newest(context: ssl.SSLContext) -> float:
    """Return when the newest of the authorities was made."""
    return max((ssl.cert_time_to_seconds(str(facts["notBefore"])) for facts in context.get_ca_certs()), default=0.0)
