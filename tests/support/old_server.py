"""A server of any version, as far as a client can tell before it refuses to go on."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class OldServer:
    url: str
    visits: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    """One for every connection that was made."""


@asynccontextmanager
async def old_server(version: str, *, port: int = 0) -> AsyncIterator[OldServer]:
    """Yield a socket that says it is a nats-server of this version, and answers pings."""
    old = OldServer("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "OLD", "version": version, "max_payload": 1048576, "headers": True, "nonce": "abcdef"}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        old.visits.put_nowait(None)
        async for line in reader:
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    old.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield old
