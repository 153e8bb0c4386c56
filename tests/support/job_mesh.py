"""A real nats-server, a master in this process and agents as processes of their own: jobs as they run in earnest."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from master.api.jobs import JobVerbs
from master.api.nodes import NodeVerbs
from master.core.cluster import new_cluster
from master.daemon import MasterDaemon
from master.door import Door
from master.managed_files import ManagedFiles
from master.settings import MasterSettings
from master.source_watch import SourceWatch
from master.sources import Sources
from master.store import Store, save_config
from node_agent import os_run
from protocol import subjects
from protocol.errors import Refused
from protocol.job_messages import ENDED
from protocol.names import NodeName
from protocol.nats_bus import NatsOperatorBus, streams
from protocol.nats_bus.master import NatsMasterBus
from protocol.operator_job_messages import JobInfo, JobNews
from protocol.os_messages import OsJob
from tests.support.broker import Broker, broker
from tests.support.job_rig import script
from tests.support.job_values import a_job
from tests.support.values import SURROUNDINGS

WAIT_S = 40.0
SPLIT = os.environ.get("GNT_MESH_TEST_SPLIT") == "1"
"""Run every test of jobs with an agent that has a helper."""
CONFIG_DATA = "var/lib/ganeti/config.data"
MASTER = NodeName("node1")
NODE = NodeName("node2")
SCRIPTS = ("create", "import", "export", "rename")


def an_os(
    directory: Path, name: str, *, api: str = "15", files: Mapping[str, str] | None = None, **scripts: str
) -> Path:
    """Write an OS definition; scripts that are not given succeed."""
    place = directory / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "ganeti_api_version").write_text(f"{api}\n")
    for file, text in (files or {}).items():
        (place / file).write_text(text)
    for one in (*SCRIPTS, *(("verify",) if int(api) >= 20 else ())):
        script(place, scripts.get(one, "exit 0"), one)
    return place


class JobMesh:
    """`nodes` are the cluster's; only those of which an agent was started are online. Split: each has a helper too."""

    def __init__(
        self, tmp_path: Path, server: Broker, nodes: tuple[NodeName, ...] = (MASTER, NODE), *, split: bool = False
    ) -> None:
        self.split = split
        self._helpers: dict[NodeName, subprocess.Popen[bytes]] = {}
        self.tmp_path = tmp_path
        self.server = server
        self.nodes = nodes
        self.count = tmp_path / "count"
        self.daemon: MasterDaemon
        self._master: asyncio.Task[None] | None = None
        self._agents: dict[NodeName, subprocess.Popen[bytes]] = {}
        self._log = (tmp_path / "agents.log").open("ab")
        self._master_keys = tmp_path / "master.pub"
        self._master_keys.write_text("\n".join(server.trusted) + "\n")
        keys = [(node, server.node_key(node)) for node in nodes]
        uuids = [str(uuid.uuid4()) for _ in range(len(nodes) + 2)]
        config = new_cluster("test", nodes=keys, uuids=uuids, now=time.time())
        (tmp_path / "root" / CONFIG_DATA).parent.mkdir(parents=True)
        save_config(tmp_path / "root" / CONFIG_DATA, replace(config))

    def os(self, name: str, create: str, node: NodeName = NODE, **more: Any) -> None:
        """Have an OS on a node of which every create is counted."""
        counted = f"echo $INSTANCE_NAME >> {self.count}\n{create}"
        an_os(self.root(node) / "srv/ganeti/os", name, **({"create": counted} | more))

    def root(self, node: NodeName) -> Path:
        return self.tmp_path / "nodes" / node

    def jobs_dir(self, node: NodeName = NODE) -> Path:
        return self.tmp_path / "state" / node / "jobs"

    def runs(self) -> list[str]:
        """Return the instances that were created, each time that one was."""
        return self.count.read_text().split() if self.count.exists() else []

    async def start_master(self, **knobs: Any) -> None:
        """Start a master from what is on the disk, with these settings of its own."""
        settings = MasterSettings(
            server=self.server.url,
            ca_file=self.server.endpoint.ca_file,
            seed_file=self.tmp_path,
            system_seed_file=self.tmp_path,
            signing_seed_file=self.tmp_path,
            broker_nodes_file=self.server.directory / "nodes.conf",
            root=self.tmp_path / "root",
            state_dir=self.tmp_path / "master",
            beat_interval_s=0.5,
            patrol_interval_s=1.0,
            **knobs,
        )
        store = Store(settings.state_dir, settings.root / CONFIG_DATA)
        config = store.open()
        sources = Sources(settings.root, store.blobs_dir, size_bytes_max=settings.file_size_bytes_max)
        managed = ManagedFiles(SURROUNDINGS, sources, SourceWatch(settings, sources))
        self.daemon = MasterDaemon(settings, config, store, managed)
        keys = self.server.keys
        endpoint, signer = self.server.endpoint, self.server.signer
        self._bus = NatsMasterBus(endpoint, keys.master, keys.system, self.daemon.hear, signer=signer, version="0.0.0")
        served = asyncio.Event()

        async def serve() -> None:
            nouns = (JobVerbs(self.daemon), NodeVerbs(self.daemon, Door(settings)))
            await self._bus.serve({verb: each for noun in nouns for verb, each in noun.handlers().items()})
            served.set()

        await self._bus.open()
        self._master = asyncio.create_task(self.daemon.run(self._bus, serve))
        serving = asyncio.create_task(served.wait())
        await asyncio.wait((serving, self._master), timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        if self._master.done():
            self._master.result()
        assert served.is_set()

    async def stop_master(self) -> None:
        """End it in the middle of whatever it does."""
        if self._master:
            self._master.cancel()
            await asyncio.gather(self._master, return_exceptions=True)
            await self._bus.close()
            self._master = None

    def start_agent(self, node: NodeName = NODE, *, within: tuple[str, ...] = (), **settings: Any) -> None:
        """Start an agent, `within` a command that becomes it."""
        path = str(self._settings(node, settings))
        if self.split:
            self.kill_helper(node)
            self.start_helper(node)
        self._agents[node] = self._spawn("node_agent", "--settings", path, within=within)

    def start_helper(self, node: NodeName = NODE) -> None:
        """Start what has the rights, with the settings of the agent's last start."""
        settings = str(self.tmp_path / f"{node}.toml")
        self._helpers[node] = self._spawn("node_agent.privileged", "--settings", settings)

    def kill_helper(self, node: NodeName = NODE) -> None:
        if helper := self._helpers.pop(node, None):
            helper.kill()
            helper.wait(WAIT_S)

    def start_swarm(self, nodes: Iterable[NodeName], **settings: Any) -> None:
        """Start the agents of many nodes in two processes."""
        paths = [str(self._settings(node, settings)) for node in nodes]
        for number in range(2):
            self._agents[NodeName(f"swarm{number}")] = self._spawn("tests.benchmarks.swarm", *paths[number::2])

    def _settings(self, node: NodeName, settings: Mapping[str, Any]) -> Path:
        self.root(node).mkdir(parents=True, exist_ok=True)
        self.server.node_seed(node)
        facts = {
            "node": node,
            "server": self.server.url,
            "ca_file": str(self.server.endpoint.ca_file),
            "seed_file": str(self.server.directory / "keys" / f"node-{node}"),
            "master_keys_file": str(self._master_keys),
            "root": str(self.root(node)),
            "state_dir": str(self.tmp_path / "state" / node),
            "transfer_paths": [str(self.tmp_path / "export")],
            "os_search_path": ["/srv/ganeti/os"],
            "beat_interval_s": 0.5,
            "retry_first_s": 0.1,
            **(self._split_settings(node) if self.split else {}),
            **settings,
        }
        path = self.tmp_path / f"{node}.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items()))
        return path

    def _split_settings(self, node: NodeName) -> dict[str, str]:
        """The journal stays where tests look for it: it is the helper's now."""
        return {
            "state_dir": str(self.tmp_path / "agents" / node),
            "helper_state_dir": str(self.tmp_path / "state" / node),
            "helper_socket": str(self.tmp_path / f"{node}.sock"),
            "agent_user": Path("/proc/self").owner(),
        }

    def _spawn(self, *command: str, within: tuple[str, ...] = ()) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*within, sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def kill_agent(self, node: NodeName = NODE, number: int = signal.SIGKILL) -> None:
        process = self._agents.pop(node)
        process.send_signal(number)
        process.wait(WAIT_S)

    def kill_runner(self, job: str, node: NodeName = NODE) -> None:
        """kill -9 of whatever owns the job's script."""
        mark = msgspec.json.decode((self.jobs_dir(node) / job / os_run.STARTED).read_bytes())
        os.kill(mark["pid"], signal.SIGKILL)

    async def online(self, node: NodeName = NODE) -> None:
        await self.until(lambda: self.daemon.fleet.is_online(node, time.monotonic()))

    async def submit(self, job: OsJob, **more: Any) -> JobInfo:
        return await self.daemon.jobs.submit(job, **more)

    async def until(self, condition: Any, *, timeout_s: float = WAIT_S) -> None:
        """Return once it is so; looked at whenever the master has progressed."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                await self.daemon.progress.wait(0.05)

    async def status(self, job: str, *statuses: str, timeout_s: float = WAIT_S) -> JobInfo:
        """Return a job as soon as it is in one of these states; its end, if none are given."""
        wanted = statuses or ENDED
        await self.until(lambda: self.daemon.jobs.info(job).status in wanted, timeout_s=timeout_s)
        return self.daemon.jobs.info(job)

    async def output(self, job: str) -> str:
        """Return all output that the master has of a job, once it has all that it keeps."""
        text, offset = b"", 0
        async with asyncio.timeout(WAIT_S):
            while True:
                news: JobNews = await self.daemon.jobs.follow(job, offset=offset, revision=-1, patience_s=1.0)
                text, offset = text + news.text, news.offset
                if news.job.status in ENDED and not news.has_more:
                    return text.decode()

    async def lose_board(self, node: NodeName = NODE) -> None:
        """Have the broker lose what was posted for a node."""
        async with asyncio.timeout(WAIT_S):
            while await self._bus.board(node) is None:
                await self.daemon.progress.wait(0.05)
        await streams.purge(self._bus._connection, subjects.OSREQ_STREAM, subjects.os_request(node))

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[NatsOperatorBus]:
        bus = NatsOperatorBus(self.server.endpoint, self.server.keys.admin)
        await bus.open()
        try:
            yield bus
        finally:
            await bus.close()

    async def close(self) -> None:
        await self.stop_master()
        for node in list(self._agents):
            self.kill_agent(node)
        for node in list(self._helpers):
            self.kill_helper(node)
        for started in self.tmp_path.glob(f"state/*/jobs/*/{os_run.STARTED}"):
            with contextlib.suppress(Exception):
                if os_run.is_held(started.parent / os_run.LOCK):
                    os.kill(msgspec.json.decode(started.read_bytes())["pid"], signal.SIGTERM)
        self._log.close()


@asynccontextmanager
async def job_mesh(
    tmp_path: Path, nodes: tuple[NodeName, ...] = (MASTER, NODE), *, split: bool = SPLIT
) -> AsyncIterator[JobMesh]:
    """Yield a mesh with a master and an agent on `NODE` that is online."""
    async with broker(tmp_path / "broker") as server:
        mesh = JobMesh(tmp_path, server, nodes, split=split)
        try:
            await mesh.start_master()
            mesh.start_agent()
            await mesh.online()
            yield mesh
        except BaseException as error:
            error.add_note((tmp_path / "agents.log").read_text()[-3000:])
            raise
        finally:
            await mesh.close()


def create(job: str, os: str, **more: Any) -> OsJob:
    return a_job(job, os=os, node=more.pop("node", NODE), **more)


__all__ = ["CONFIG_DATA", "MASTER", "NODE", "JobMesh", "Refused", "an_os", "create", "job_mesh"]
