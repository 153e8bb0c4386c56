"""A cluster whose master runs in this process on a real nats-server; the nodes' sides are for the tests to play.

`node1` is the master's own node, `candidate` a master candidate, `regular` a regular one.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from master.api import verbs
from master.audit import AuditLog, name_of
from master.core.cluster import AncillaryFile, new_cluster
from master.daemon import MasterDaemon
from master.managed_files import ManagedFiles
from master.settings import MasterSettings
from master.source_watch import SourceWatch
from master.sources import Sources
from master.store import Store, save_config
from protocol import subjects
from protocol.names import ALL, MASTER_CANDIDATES, ManagedPath, NodeName
from protocol.nats_bus import NatsMasterBus
from protocol.nats_bus.clients import Address
from protocol.nats_bus.connection import Connection
from tests.support.broker import Broker, broker
from tests.support.values import SURROUNDINGS

MASTER, CANDIDATE, REGULAR = NodeName("node1"), NodeName("candidate"), NodeName("regular")
CONFIG_DATA = "var/lib/ganeti/config.data"
OPEN_FILE, SECRET_FILE = ManagedPath("/etc/motd"), ManagedPath("/etc/secret")
OPEN, SECRET = b"for everybody\n", b"for candidates alone\n"
WAIT_S = 30.0

Reply = TypeVar("Reply")


@dataclass
class Raw:
    """A bare connection with somebody's credentials."""

    connection: Connection
    ups: int = 0
    downs: int = 0

    def changed(self, is_up: bool) -> None:
        self.ups += is_up
        self.downs += not is_up


class Walled:
    """The running cluster."""

    def __init__(self, server: Broker, settings: MasterSettings, daemon: MasterDaemon) -> None:
        self.server = server
        self.settings = settings
        self.daemon = daemon
        self.audit_log = AuditLog(settings.state_dir, lambda asker: name_of(asker, daemon.desired.config))
        self.handlers = verbs.handlers(daemon, self.audit_log, version="0.0.0")
        self._open: list[Connection] = []

    async def ask(self, verb: str, request: object, reply: type[Reply]) -> Reply:
        """Return what the master answers, as if an operator had asked."""
        answer = await self.handlers[verb][1](request)
        assert isinstance(answer, reply)
        return answer

    async def raw(self, seed: str, inbox: str) -> Raw:
        """Return a connection as whoever has this seed; it reconnects at will."""

        async def prepare(client: object) -> None: ...

        raw: Raw
        connection = Connection(
            Address(self.server.endpoint, seed, "raw", inbox),
            prepare=prepare,
            changed=lambda is_up, reason: raw.changed(is_up),
            complained=lambda reason: None,
        )
        raw = Raw(connection)
        self._open.append(connection)
        async with asyncio.timeout(WAIT_S):
            await connection.open()
        return raw

    async def as_node(self, node: NodeName) -> Raw:
        return await self.raw(self.server.node_seed(node), subjects.inbox_prefix(node))

    async def ring_secrets(self) -> None:
        """Have the master say something new of the candidates' scope, so that there is something to overhear."""
        desired = self.daemon.desired
        await desired.publisher.ring(desired.manifests[MASTER_CANDIDATES])

    def source(self, path: ManagedPath) -> Path:
        return self.settings.root / path[1:]

    async def close(self) -> None:
        for connection in self._open:
            await connection.close()


@asynccontextmanager
async def walled(directory: Path) -> AsyncIterator[Walled]:
    """Yield the cluster when its master serves and everything is on the bus."""
    async with broker(directory / "broker") as server:
        nodes = [(node, server.node_key(node)) for node in (MASTER, CANDIDATE, REGULAR)]
        config = new_cluster(
            "walled",
            nodes=nodes,
            uuids=[str(uuid.uuid4()) for _ in range(5)],
            now=time.time(),
            candidate_pool_size=1,
            master_candidates=2,
        )
        listed = (
            AncillaryFile(path=OPEN_FILE, scope=ALL),
            AncillaryFile(path=SECRET_FILE, scope=MASTER_CANDIDATES),
        )
        config = replace(config, cluster=replace(config.cluster, ancillary_files=listed))
        root = directory / "root"
        save_config(root / CONFIG_DATA, config)
        settings = MasterSettings(
            server=server.url,
            ca_file=server.endpoint.ca_file,
            seed_file=directory,
            system_seed_file=directory,
            signing_seed_file=server.directory / "keys/signing",
            broker_nodes_file=server.directory / "nodes.conf",
            join_seed_file=server.directory / "keys/join",
            root=root,
            state_dir=directory / "state",
        )
        (root / "etc").mkdir(parents=True)
        (root / OPEN_FILE[1:]).write_bytes(OPEN)
        (root / SECRET_FILE[1:]).write_bytes(SECRET)
        async with _serving(server, settings) as cluster:
            yield cluster


@asynccontextmanager
async def _serving(server: Broker, settings: MasterSettings) -> AsyncIterator[Walled]:
    store = Store(settings.state_dir, settings.root / CONFIG_DATA)
    config = store.open()
    sources = Sources(settings.root, store.blobs_dir, size_bytes_max=settings.file_size_bytes_max)
    daemon = MasterDaemon(settings, config, store, ManagedFiles(SURROUNDINGS, sources, SourceWatch(settings, sources)))
    bus = NatsMasterBus(
        server.endpoint, server.keys.master, server.keys.system, daemon.hear, signer=server.signer, version="0.0.0"
    )
    served = asyncio.Event()

    cluster = Walled(server, settings, daemon)

    async def serve() -> None:
        cluster.audit_log.open()
        await bus.serve(cluster.handlers, cluster.audit_log.guard)
        served.set()

    await bus.open()
    running = asyncio.create_task(daemon.run(bus, serve))
    try:
        serving = asyncio.ensure_future(served.wait())
        await asyncio.wait({serving, running}, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        assert serving.done(), "the master does not serve"
        yield cluster
    finally:
        await cluster.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await bus.close()
