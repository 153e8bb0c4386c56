"""What the contract's tests need of a broker, so that one test body runs on the memory bus and on NATS."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from protocol.bus import AgentBus, Connected, MasterBus, OperatorBus
from protocol.names import ALL, MASTER_CANDIDATES, NodeName, ScopeName
from protocol.nats_bus import NatsAgentBus, NatsMasterBus, NatsOperatorBus, streams
from protocol.nats_bus.clients import Address
from protocol.nats_bus.connection import Connection
from protocol.sealing.signatures import Signer
from tests.support.broker import Broker, broker
from tests.support.builders import NODE1
from tests.support.memory_bus import MemoryBroker, public_key_of

WAIT_S = 20.0

SOON_S = 1.5
"""Half of the time after which a request gives up by itself."""

E = TypeVar("E")


class Ears:
    """What one side has heard, in order."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self._read = 0
        self._more = asyncio.Event()

    def __call__(self, event: object) -> None:
        self.heard.append(event)
        self._more.set()

    async def next(self, kind: type[E]) -> E:
        """Return the next event of one kind that was not returned yet; what came before it is passed over."""
        async with asyncio.timeout(WAIT_S):
            while True:
                while self._read < len(self.heard):
                    event = self.heard[self._read]
                    self._read += 1
                    if isinstance(event, kind):
                        return event
                self._more.clear()
                await self._more.wait()

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.heard)


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Return once the broker says so; it is asked again and again, because nothing announces it."""
    async with asyncio.timeout(WAIT_S):
        while not await check():
            continue


class Harness(Protocol):
    """One broker and its faults."""

    async def master(self) -> tuple[MasterBus, Ears]: ...

    async def agent(self, node: NodeName) -> tuple[AgentBus, Ears]: ...

    async def operator(self) -> OperatorBus: ...

    def grant(self, nodes: Mapping[NodeName, Collection[ScopeName]]) -> None:
        """Say who may read what; in force after the master's `reload_broker`."""

    def public_key(self, node: NodeName) -> str: ...

    @property
    def signer(self) -> Signer:
        """What the master of this broker signs with."""

    async def stored(self, stream: str) -> set[str]:
        """Return the subjects of which a stream holds a message."""

    async def lose(self, stream: str, subject: str) -> None:
        """Have the broker lose one stored message."""

    async def overwrite(self, stream: str, subject: str, payload: bytes) -> None:
        """Put something else where a message is stored."""

    async def inject(self, subject: str, payload: bytes, *, node: NodeName | None = None) -> None:
        """Say anything at all, as an administrator or as a node."""

    async def lose_store(self) -> None:
        """Delete everything stored, below the running broker."""

    async def disconnect(self) -> None: ...

    async def reconnect(self) -> None: ...


class MemoryHarness:
    def __init__(self) -> None:
        self.broker = MemoryBroker()

    async def master(self) -> tuple[MasterBus, Ears]:
        ears = Ears()
        master = self.broker.master(ears)
        await ears.next(Connected)
        return master, ears

    async def agent(self, node: NodeName) -> tuple[AgentBus, Ears]:
        ears = Ears()
        agent = self.broker.agent(node, ears)
        await ears.next(Connected)
        return agent, ears

    async def operator(self) -> OperatorBus:
        return self.broker.operator()

    def grant(self, nodes: Mapping[NodeName, Collection[ScopeName]]) -> None:
        self.broker.grant_only(nodes)

    def public_key(self, node: NodeName) -> str:
        return public_key_of(node)

    @property
    def signer(self) -> Signer:
        return self.broker.signer

    async def stored(self, stream: str) -> set[str]:
        return set(self.broker.streams[stream])

    async def lose(self, stream: str, subject: str) -> None:
        del self.broker.streams[stream][subject]

    async def overwrite(self, stream: str, subject: str, payload: bytes) -> None:
        self.broker.streams[stream][subject] = payload

    async def inject(self, subject: str, payload: bytes, *, node: NodeName | None = None) -> None:
        self.broker.say(subject, payload)

    async def lose_store(self) -> None:
        self.broker.wipe()

    async def disconnect(self) -> None:
        self.broker.disconnect()

    async def reconnect(self) -> None:
        self.broker.reconnect()


class NatsHarness:
    def __init__(self, server: Broker) -> None:
        self.server = server
        self._open: list[Any] = []

    async def master(self) -> tuple[MasterBus, Ears]:
        ears = Ears()
        keys = self.server.keys
        url, signer = self.server.endpoint, self.server.signer
        master = NatsMasterBus(url, keys.master, keys.system, ears, signer=signer, version="1.2.3")
        await self._opened(master)
        await ears.next(Connected)
        return master, ears

    async def agent(self, node: NodeName) -> tuple[AgentBus, Ears]:
        ears = Ears()
        seed, trusted = self.server.node_seed(node), self.server.trusted
        await self._opened(agent := NatsAgentBus(self.server.endpoint, seed, node, ears, trusted=trusted))
        await ears.next(Connected)
        return agent, ears

    async def operator(self) -> OperatorBus:
        await self._opened(operator := NatsOperatorBus(self.server.endpoint, self.server.keys.admin))
        return operator

    async def raw(self, seed: str, prefix: str = "_INBOX_raw") -> Connection:
        """Return a bare connection that hears nothing, as whoever has this seed."""

        async def prepare(client: object) -> None: ...

        connection = Connection(
            Address(self.server.endpoint, seed, "raw", prefix),
            prepare=prepare,
            changed=lambda connected, reason: None,
            complained=lambda reason: None,
        )
        await self._opened(connection)
        return connection

    def grant(self, nodes: Mapping[NodeName, Collection[ScopeName]]) -> None:
        self.server.set_nodes(nodes)

    def public_key(self, node: NodeName) -> str:
        return self.server.node_key(node)

    @property
    def signer(self) -> Signer:
        return self.server.signer

    async def stored(self, stream: str) -> set[str]:
        admin = await self.raw(self.server.keys.admin)
        return set(await streams.stored_subjects(admin, stream, ">"))

    async def lose(self, stream: str, subject: str) -> None:
        await streams.purge(await self.raw(self.server.keys.admin), stream, subject)

    async def overwrite(self, stream: str, subject: str, payload: bytes) -> None:
        await streams.store(await self.raw(self.server.keys.admin), (subject, payload, {}))

    async def inject(self, subject: str, payload: bytes, *, node: NodeName | None = None) -> None:
        seed = self.server.node_seed(node) if node else self.server.keys.admin
        connection = await self.raw(seed)
        await connection.publish(subject, payload)
        await connection.close()

    async def lose_store(self) -> None:
        self.server.lose_store()

    async def disconnect(self) -> None:
        await self.server.kill()

    async def reconnect(self) -> None:
        await self.server.start()

    async def close(self) -> None:
        for each in reversed(self._open):
            await each.close()

    async def _opened(self, bus: Any) -> None:
        self._open.append(bus)
        async with asyncio.timeout(WAIT_S):
            await bus.open()


@asynccontextmanager
async def nats_harness(directory: Path) -> AsyncIterator[NatsHarness]:
    """Yield a real server's harness; everything opened through it is closed before the server ends."""
    async with broker(directory) as server:
        harness = NatsHarness(server)
        try:
            yield harness
        finally:
            await harness.close()


async def a_master(
    bus: Harness,
    nodes: Mapping[NodeName, Collection[ScopeName]] | None = None,
    *,
    scopes: Collection[ScopeName] = (ALL, MASTER_CANDIDATES),
) -> tuple[MasterBus, Ears]:
    """Return a master that has let these nodes in and made the streams."""
    bus.grant({NODE1: [ALL]} if nodes is None else nodes)
    master, ears = await bus.master()
    await master.reload_broker()
    await master.prepare(scopes)
    return master, ears


async def gathered(bus: NatsHarness, subject: str, *, count: int) -> list[dict[str, Any]]:
    """Return so many answers to one question of an administrator."""
    admin = await bus.raw(bus.server.keys.admin)
    answers: asyncio.Queue[Any] = asyncio.Queue()
    inbox = admin.client.new_inbox()
    await admin.client.subscribe(inbox, cb=answers.put)
    await admin.client.publish(subject, reply=inbox)
    async with asyncio.timeout(WAIT_S):
        return [json.loads((await answers.get()).data) for _ in range(count)]
