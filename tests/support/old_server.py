"""A server of any version, as far as a client can tell before it refuses to go on."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from master import certificates
from master.certificates import Pair
from protocol.nats_bus import Endpoint


@dataclass
class OldServer:
    endpoint: Endpoint
    visits: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    """One for every connection that was made."""


@asynccontextmanager
async def old_server(
    version: str, directory: Path, *, port: int = 0, authority: Pair | None = None
) -> AsyncIterator[OldServer]:
    """Yield a socket that says it is a nats-server of this version, and answers pings."""
    authority = authority or Pair(directory / "old-ca.key", directory / "old-ca.pem")
    certificate = directory / "old.pem"
    certificates.ensure_authority(authority, "old")
    certificates.ensure_server(certificate, authority, ("127.0.0.1",))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    old = OldServer(Endpoint("", authority.certificate))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "OLD", "version": version, "max_payload": 1048576, "headers": True, "nonce": "abcdef"}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        old.visits.put_nowait(None)
        async for line in reader:
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    old.endpoint = Endpoint(f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}", authority.certificate)
    async with server:
        yield old
