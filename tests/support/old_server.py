"""A server of any version, as far as a client can tell before it refuses to go on."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def old_server(version: str) -> AsyncIterator[str]:
    """Yield the address of a socket that says it is a nats-server of this version, and answers pings."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "OLD", "version": version, "max_payload": 1048576, "headers": True, "nonce": "abcdef"}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        async for line in reader:
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"nats://127.0.0.1:{port}"
