"""A real nats-server for one test: configured as in production, in the test's own directory, ended with it."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from master import certificates, founding
from master.certificates import Pair
from master.core import broker_config
from protocol import durable, identity
from protocol.names import NodeName, ScopeName
from protocol.nats_bus import Endpoint
from protocol.permissions import AccessRole
from protocol.sealing.signatures import Signer

SERVER = Path(sys.prefix) / "bin" / "nats-server"

_LISTENING = re.compile(r"Listening for client connections on (\S+):(\d+)")
_READY = "Server is ready"
_START_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Keys:
    """The seeds that are neither a node's nor an operator's: of four users, and of the master's word."""

    master: str
    admin: str
    system: str
    signing: str
    """Not a user: what the master says is signed with it."""
    join: str


class Broker:
    """One server on one port, which survives its restarts. Only processes started here are ever signalled."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store_dir = directory / "store"
        self.port = -1
        self.log: deque[str] = deque(maxlen=200)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self.keys = Keys(*(self._seed(name) for name in ("master", "admin", "system", "signing", "join")))
        self.authority = Pair(directory / "ca.key", directory / "ca.pem")
        self.certificate = directory / "server.pem"
        certificates.ensure_authority(self.authority, "test")
        certificates.ensure_server(self.certificate, self.authority, ("127.0.0.1",))
        self.set_own()
        self.set_nodes({})
        self.set_access({})

    @property
    def url(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.url, self.authority.certificate)

    def node_seed(self, node: NodeName) -> str:
        """Return a node's seed, made when it is first asked for."""
        return self._seed(f"node-{node}")

    def node_key(self, node: NodeName) -> str:
        self.node_seed(node)
        return self._key(f"node-{node}")

    @property
    def signer(self) -> Signer:
        return Signer(self.keys.signing)

    @property
    def trusted(self) -> frozenset[str]:
        return frozenset({self.signer.public_key})

    def set_nodes(self, nodes: Mapping[NodeName, Collection[ScopeName]]) -> None:
        """Write which node may read which scopes. The server sees it when it reloads or starts."""
        text = broker_config.render_nodes((self.node_key(node), node, scopes) for node, scopes in nodes.items())
        durable.write_file(self.directory / "nodes.conf", text.encode())

    def set_own(self) -> None:
        """Write whom it knows as the cluster's own users."""
        founding.put_own_users(
            {user: self.directory / "keys" / user for user in broker_config.OWN_USERS}, self.directory / "nodes.conf"
        )

    def set_access(self, users: Mapping[str, AccessRole], scopes: Collection[ScopeName] = ()) -> None:
        """Write who is operator and who observer, as `set_nodes`."""
        text = broker_config.render_access(((name, self.user_key(name), role) for name, role in users.items()), scopes)
        durable.write_file(self.directory / broker_config.ACCESS_FILE, text.encode())

    def user_seed(self, name: str) -> str:
        """Return the seed of an operator or observer, made when it is first asked for."""
        return self._seed(f"user-{name}")

    def user_key(self, name: str) -> str:
        self.user_seed(name)
        return self._key(f"user-{name}")

    async def start(self) -> None:
        """Start the server and return once it says that it is ready."""
        assert self._process is None
        config = self.directory / "nats-server.conf"
        config.write_text(self._config())
        self._process = await asyncio.create_subprocess_exec(
            SERVER, "-c", config, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
        )
        ready = asyncio.Event()
        self._reader = asyncio.create_task(self._read_log(self._process, ready))
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await ready.wait()
        finally:
            if self._process.returncode is not None or not ready.is_set():
                await self.kill()
                raise AssertionError("nats-server did not start:\n" + "\n".join(self.log))

    async def kill(self) -> None:
        """End the server as a power cut would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End the server in order; also one that is paused."""
        self.resume()
        await self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Make the server silent without closing a connection; it is when this returns."""
        assert self._process is not None
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def lose_store(self) -> None:
        """Delete the whole data directory, whether the server runs or not."""
        shutil.rmtree(self.store_dir, ignore_errors=True)

    def _config(self) -> str:
        return broker_config.render_server(
            server_name="test",
            host="127.0.0.1",
            port=self.port,
            store_dir=str(self.store_dir),
            nodes_file="nodes.conf",
            certificate_file=str(self.certificate),
        )

    def _seed(self, name: str) -> str:
        identity.ensure_seed(self.directory / "keys" / name)
        return identity.read_seed(self.directory / "keys" / name)

    def _key(self, name: str) -> str:
        return identity.read_public_key(self.directory / "keys" / name)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._reader:
            await self._reader

    async def _read_log(self, process: asyncio.subprocess.Process, ready: asyncio.Event) -> None:
        assert process.stderr
        async for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip()
            self.log.append(line)
            if found := _LISTENING.search(line):
                self.port = int(found[2])
            if _READY in line:
                ready.set()
        ready.set()


@contextlib.asynccontextmanager
async def broker(directory: Path) -> AsyncIterator[Broker]:
    """Yield a running server whose files are all below `directory`."""
    server = Broker(directory)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
