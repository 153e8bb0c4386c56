"""A real mesh for one measurement: a nats-server, a master and agents as processes of their own, below one directory.

`node1` is the master's own node, which holds the sources and has an agent like every other. The nodes that count are
the others: those that receive.
"""

import asyncio
import os
import shutil
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from master import certificates
from master.certificates import Pair
from master.core import broker_config
from master.core.cluster import AncillaryFile, new_cluster, with_cluster
from master.store import save_config
from protocol import durable, identity
from protocol.errors import Unavailable
from protocol.names import ALL, MASTER_CANDIDATES, ManagedPath, NodeName, ScopeName
from protocol.nats_bus import Endpoint, NatsOperatorBus
from protocol.operator_messages import Goal, WaitReply, WaitRequest
from tests.benchmarks.child import Child
from tests.benchmarks.tap import STEP_TIMEOUT_S, Receipts

CONFIG_DATA = ManagedPath("/var/lib/ganeti/config.data")
SECRET = ManagedPath("/var/lib/ganeti/rapi.pem")
SECRET_BYTES = 4096
SWARM_PROCESSES = 2
PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What kind of mesh: how many nodes receive, and how many files lie in scope `all`."""

    receivers: int
    files: int = 25
    is_swarm: bool = False


def managed(number: int) -> ManagedPath:
    """Return the path of one of the files in scope `all`."""
    return ManagedPath(f"/etc/ganeti/file{number}")


class Mesh:
    """All parts and the means to watch them. Made by `running`."""

    def __init__(self, directory: Path, shape: Shape) -> None:
        self.directory = directory
        self.shape = shape
        self._authority = Pair(directory / "keys/ca.key", directory / "keys/ca.pem")
        self.endpoint = Endpoint(f"tls://127.0.0.1:{_free_port()}", self._authority.certificate)
        self.master_node = NodeName("node1")
        self.receivers = tuple(NodeName(f"node{number}") for number in range(2, shape.receivers + 2))
        names = ("master", "system", "admin", "signing", "join")
        keys = {name: directory / f"keys/{name}.nk" for name in names}
        self._public = {name: identity.ensure_seed(path) for name, path in keys.items()}
        certificates.ensure_authority(self._authority, "bench")
        self.admin_seed = identity.read_seed(keys["admin"])
        self.receipts = Receipts(self.endpoint, self.admin_seed)
        self.operator = NatsOperatorBus(self.endpoint, lambda: identity.read_seed(keys["admin"]), "bench")
        self._write_files()
        server = Path(sys.prefix) / "bin" / "nats-server"
        self.broker = self._child(
            "broker", server if server.exists() else "nats-server", "-c", self._broker / "server.conf"
        )
        self.master = self._module("master", "master", "--settings", self.directory / "master.toml")
        self.agents = self._agents()

    @property
    def children(self) -> tuple[Child, ...]:
        return (self.broker, self.master, *self.agents.values())

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        """Every node, the master's own first."""
        return (self.master_node, *self.receivers)

    def root(self, node: NodeName) -> Path:
        return self.directory / "nodes" / node

    def on_disk(self, node: NodeName, path: ManagedPath) -> Path:
        return self.root(node) / path[1:]

    @property
    def generation(self) -> int:
        """The generation of scope `all` that every node is known to hold."""
        return min(self.receipts.generation(node, ALL) for node in self.nodes)

    def edit(self, contents: Mapping[ManagedPath, bytes]) -> int:
        """Rename new contents, synced before, over their sources; return when the first rename began."""
        staged = []
        for number, (path, content) in enumerate(contents.items()):
            staging = self.directory / "staging" / str(number)
            with staging.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            staged.append((staging, self.on_disk(self.master_node, path)))
        started_ns = time.monotonic_ns()
        for staging, source in staged:
            staging.rename(source)
        return started_ns

    def differs(self, contents: Mapping[ManagedPath, bytes]) -> list[str]:
        """Return, as an independent reader, every receiving node's file that does not hold its content."""
        return [
            f"{node}:{path}"
            for node in self.receivers
            for path, content in contents.items()
            if self.on_disk(node, path).read_bytes() != content
        ]

    async def wait(self, goal: Goal | None = None) -> WaitReply:
        """Ask for a goal, or for all that is true now, until no node misses anything."""
        reply = WaitReply(goal=goal or Goal(epoch=1), missing=(), nodes_total=0)
        async with asyncio.timeout(STEP_TIMEOUT_S):
            while True:
                try:
                    request = WaitRequest(goal=goal, patience_s=PATIENCE_S)
                    reply = await self.operator.ask("wait", request, WaitReply, timeout_s=2 * PATIENCE_S)
                except Unavailable:
                    await asyncio.sleep(0.05)
                    continue
                if not reply.missing:
                    return reply

    async def open(self) -> None:
        """Return when every node has given its receipts."""
        self.broker.start()
        await self.receipts.open()
        await self.operator.open()
        self.master.start()
        for agent in self.agents.values():
            agent.start()
        try:
            await self.receipts.until(self.nodes, ALL, 1)
            await self.wait()
        except (AssertionError, TimeoutError) as error:
            tails = "\n".join(f"{child.name}: {child.log_tail()}" for child in self.children[:4])
            raise AssertionError(f"the mesh did not come up: {error}\n{tails}") from error

    async def close(self) -> None:
        await self.receipts.close()
        await self.operator.close()
        for child in reversed(self.children):
            child.terminate()

    def _write_files(self) -> None:
        contents = {managed(number): os.urandom(1024) for number in range(self.shape.files)}
        for path, content in {**contents, SECRET: os.urandom(SECRET_BYTES)}.items():
            self.on_disk(self.master_node, path).parent.mkdir(parents=True, exist_ok=True)
            self.on_disk(self.master_node, path).write_bytes(content)
        (self.directory / "staging").mkdir()
        self._broker.mkdir()
        self._write_config([*((path, ALL) for path in contents), (SECRET, MASTER_CANDIDATES)])
        self._write_settings()

    def _write_config(self, listed: Sequence[tuple[ManagedPath, ScopeName]]) -> None:
        now = time.time()
        keys = [(node, identity.ensure_seed(self.root(node) / "etc/gnt-mesh/agent.nk")) for node in self.nodes]
        uuids = [str(uuid.uuid4()) for _ in range(len(keys) + 2)]
        config = new_cluster("bench", nodes=keys, uuids=uuids, now=now, candidate_pool_size=1)
        files = tuple(AncillaryFile(path=path, scope=scope) for path, scope in sorted(listed))
        config = with_cluster(config, replace(config.cluster, ancillary_files=files), now)
        save_config(self.on_disk(self.master_node, CONFIG_DATA), config)

    def _write_settings(self) -> None:
        url, ca_file = self.endpoint.url, self.endpoint.ca_file
        master = self.root(self.master_node)
        (self.directory / "master.toml").write_text(
            f'server = "{url}"\nca_file = "{ca_file}"\nseed_file = "keys/master.nk"\n'
            f'signing_seed_file = "keys/signing.nk"\n'
            f'system_seed_file = "keys/system.nk"\nadmin_seed_file = "keys/admin.nk"\n'
            f'join_seed_file = "keys/join.nk"\nauthority_key_file = "{self._authority.key}"\n'
            f'broker_certificate_file = "broker/server.pem"\n'
            f'broker_nodes_file = "broker/nodes.conf"\nroot = "{master}"\n'
            f'state_dir = "{master}/var/lib/gnt-mesh/master"\n'
        )
        for node in self.nodes:
            etc = self.root(node) / "etc/gnt-mesh"
            (etc / "master.pub").write_bytes(identity.public_keys_text([self._public["signing"]]))
            (etc / "ca.pem").write_bytes(ca_file.read_bytes())
            (etc / "agent.toml").write_text(
                f'node = "{node}"\nserver = "{url}"\nca_file = "ca.pem"\nseed_file = "agent.nk"\n'
                f'master_keys_file = "master.pub"\n'
                f'root = "{self.root(node)}"\n'
                f'state_dir = "{self.root(node)}/var/lib/gnt-mesh/agent"\n'
            )
        certificate = self._broker / "server.pem"
        certificates.ensure_server(certificate, self._authority, ("127.0.0.1",))
        durable.write_file(self._broker / broker_config.ACCESS_FILE, broker_config.render_access([], []).encode())
        durable.write_file(self._broker / "nodes.conf", broker_config.render_nodes([]).encode())
        keys = {user: [self._public[user]] for user in broker_config.OWN_USERS}
        for name, content in broker_config.render_own(keys).items():
            durable.write_file(self._broker / name, content)
        text = broker_config.render_server(
            server_name="bench",
            host="127.0.0.1",
            port=int(url.rpartition(":")[2]),
            store_dir=str(self._broker / "store"),
            nodes_file="nodes.conf",
            certificate_file=str(certificate),
        )
        durable.write_file(self._broker / "server.conf", text.encode())

    def _agents(self) -> dict[str, Child]:
        own = self.nodes[:1] if self.shape.is_swarm else self.nodes
        agents = {str(node): self._module(node, "node_agent", "--settings", self._agent_settings(node)) for node in own}
        for number in range(SWARM_PROCESSES if self.shape.is_swarm else 0):
            settings = [self._agent_settings(node) for node in self.receivers[number::SWARM_PROCESSES]]
            name = f"swarm{number + 1}"
            agents[name] = self._module(name, "tests.benchmarks.swarm", *settings)
        return agents

    @property
    def _broker(self) -> Path:
        return self.directory / "broker"

    def _agent_settings(self, node: NodeName) -> Path:
        return self.root(node) / "etc/gnt-mesh/agent.toml"

    def _module(self, name: str, module: str, *arguments: str | Path) -> Child:
        return self._child(name, sys.executable, "-m", module, *arguments)

    def _child(self, name: str, *command: str | Path) -> Child:
        return Child(name, command, self.directory / f"{name}.log")


@asynccontextmanager
async def running(directory: Path, shape: Shape) -> AsyncIterator[Mesh]:
    """Yield a mesh whose nodes all hold what they should; end its processes and remove its files afterwards."""
    directory.mkdir(parents=True)
    mesh = Mesh(directory, shape)
    try:
        await mesh.open()
        yield mesh
    finally:
        await mesh.close()
        shutil.rmtree(directory)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
