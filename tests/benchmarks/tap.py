"""Sees what the mesh says on the bus, with an administrator's key and next to no cost: a bare reader of the protocol.

The moment of arrival is taken when the bytes come out of the socket, before anything is decoded.
"""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import nkeys

from protocol import codec, subjects
from protocol.messages import Status
from protocol.names import NodeName, ScopeName
from protocol.nats_bus import Endpoint, trust

CONNECT_PAUSE_S = 0.005
STEP_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Heard:
    """One message and when its bytes arrived, on the monotonic clock."""

    at_ns: int
    subject: str
    payload: bytes


class Tap:
    """Subscriptions that survive the server's death: while there is none, it is tried again every few milliseconds."""

    def __init__(self, endpoint: Endpoint, seed: str, hear: Callable[[Heard], None], over: Sequence[str]) -> None:
        self._port = urlsplit(endpoint.url).port
        self._trust = trust(endpoint.ca_file)
        self._seed = seed
        self._hear = hear
        self._over = over
        self._up = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Return when the server has the subscriptions."""
        self._running = asyncio.create_task(self._run())
        async with asyncio.timeout(STEP_TIMEOUT_S):
            await self._up.wait()

    async def close(self) -> None:
        if self._running:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._read()
            self._up.clear()
            await asyncio.sleep(CONNECT_PAUSE_S)

    async def _read(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._trust)
        try:
            info = json.loads((await reader.readline()).removeprefix(b"INFO "))
            writer.write(self._greeting(info["nonce"]))
            while line := await reader.readline():
                at_ns = time.monotonic_ns()
                if line.startswith((b"MSG ", b"HMSG ")):
                    await self._take(reader, line.decode().split(), at_ns)
                elif line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
                elif line.startswith(b"PONG"):
                    self._up.set()
                elif line.startswith(b"-ERR"):
                    raise AssertionError(f"the server says: {line.decode()}")
        finally:
            writer.close()

    def _greeting(self, nonce: str) -> bytes:
        pair = nkeys.from_seed(bytearray(self._seed.encode()))
        signature = base64.urlsafe_b64encode(pair.sign(nonce.encode())).rstrip(b"=").decode()
        options = {
            "nkey": pair.public_key.decode(),
            "sig": signature,
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "lang": "bench",
            "version": "1",
            "protocol": 1,
        }
        wanted = "".join(f"SUB {subject} {number}\r\n" for number, subject in enumerate(self._over, start=1))
        return f"CONNECT {json.dumps(options)}\r\n{wanted}PING\r\n".encode()

    async def _take(self, reader: asyncio.StreamReader, words: list[str], at_ns: int) -> None:
        total = int(words[-1])
        header = int(words[-2]) if words[0] == "HMSG" else 0
        body = await reader.readexactly(total + 2)
        self._hear(Heard(at_ns, words[1], body[header:total]))


class Receipts:
    """Who has said to hold what, and when it said so first."""

    def __init__(self, endpoint: Endpoint, seed: str) -> None:
        self._tap = Tap(endpoint, seed, self._take, [subjects.STATUS_ALL])
        self._arrived: list[tuple[int, NodeName, dict[ScopeName, int]]] = []
        self._statuses: dict[NodeName, Status] = {}
        self._more = asyncio.Event()

    async def open(self) -> None:
        await self._tap.open()

    async def close(self) -> None:
        await self._tap.close()

    def forget(self) -> None:
        """Begin a new record; what the nodes hold now stays known."""
        self._arrived.clear()

    def generation(self, node: NodeName, scope: ScopeName) -> int:
        """Return the generation that a node's last status names, 0 before its first receipt."""
        status = self._statuses.get(node)
        receipt = status.receipt(scope) if status else None
        return receipt.generation if receipt else 0

    async def until(self, nodes: Sequence[NodeName], scope: ScopeName, generation: int) -> None:
        """Return when all these nodes hold at least this generation of the scope."""
        try:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                while any(self.generation(node, scope) < generation for node in nodes):
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            late = [node for node in nodes if self.generation(node, scope) < generation]
            raise AssertionError(f"no receipt of {scope} {generation} from {', '.join(late[:5])}") from None

    def last_ns(self, nodes: Sequence[NodeName], scope: ScopeName, generation: int) -> int:
        """Return when the last of these nodes first gave a receipt for the generation, since `forget`."""
        first: dict[NodeName, int] = {}
        for at_ns, node, receipts in self._arrived:
            if receipts.get(scope, 0) >= generation:
                first.setdefault(node, at_ns)
        return max(first[node] for node in nodes)

    def _take(self, heard: Heard) -> None:
        status = codec.decode(heard.payload, Status)
        receipts = {receipt.scope: receipt.generation for receipt in status.receipts}
        self._arrived.append((heard.at_ns, status.node, receipts))
        self._statuses[status.node] = status
        self._more.set()
