"""One agent against a bus that fails in silence: dead subscriptions, lost and forged bells, damaged contents."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from node_agent.core.agent import Agent, Timing
from node_agent.core.run_plan import RunPlan
from node_agent.daemon import AgentDaemon
from node_agent.files import NodeFiles
from node_agent.job_keeper import JobKeeper
from node_agent.journal import Journal
from node_agent.os_service import OsService
from node_agent.runners import Runners
from node_agent.settings import AgentSettings
from protocol import subjects
from protocol.bus import BlobAsked, MasterEvent, StatusHeard
from protocol.errors import Refused
from protocol.messages import Assignment, FileEntry, Manifest, ScopeBell
from protocol.names import ALL, Digest, ManagedPath, NodeName
from protocol.nats_bus import streams
from protocol.nats_bus.agent import NatsAgentBus
from protocol.nats_bus.master import NatsMasterBus
from protocol.os_messages import Confidential, OsJob
from tests.support.broker import Broker, broker
from tests.support.local_disk import a_disk

NODE = NodeName("node2")
OWNER = Path("/proc/self").owner()
GROUP = Path("/proc/self").group()


@dataclass
class Pair:
    """One master's bus and one real agent on a real server."""

    server: Broker
    master: NatsMasterBus
    heard: "asyncio.Queue[MasterEvent]"
    root: Path

    async def publish(self, generation: int, *, ring: bool) -> None:
        content = f"generation {generation}\n".encode()
        digest = Digest(hashlib.sha256(content).hexdigest())
        source = self.root.parent / digest
        source.write_bytes(content)
        entry = FileEntry(
            path=ManagedPath("/etc/file"),
            digest=digest,
            size_bytes=len(content),
            mode=0o644,
            owner=OWNER,
            group=GROUP,
            generation=generation,
        )
        await self.master.put_blob(ALL, digest, source, len(content))
        await self.master.publish(Manifest(scope=ALL, epoch=1, generation=generation, files=(entry,)), [])
        if ring:
            await self.master.ring(ScopeBell(scope=ALL, epoch=1, generation=generation))

    async def until_receipt(self, generation: int) -> None:
        async with asyncio.timeout(20):
            while True:
                match await self.heard.get():
                    case StatusHeard(_, status) if (
                        receipt := status.receipt(ALL)
                    ) and receipt.generation >= generation:
                        return
                    case _:
                        continue


def no_plan(job: OsJob) -> RunPlan:
    raise Refused("this node runs nothing")


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    root = tmp_path / "root"
    root.mkdir()
    settings = AgentSettings(
        node=NODE,
        server="",
        ca_file=tmp_path,
        seed_file=tmp_path,
        master_keys_file=tmp_path,
        root=root,
        state_dir=tmp_path / "state",
        watch_step_ms=50,
    )
    backups = tmp_path / "backups"
    backups.mkdir(mode=0o700)
    files = NodeFiles(root, allowed=["/etc"], protected=[], backups=backups)
    agent = Agent(NODE, boot="boot", timing=Timing(deaf_after_s=1.5, beat_interval_s=1.0))
    disk = a_disk(files, tmp_path / "state", root=root)
    os_service = OsService(disk, lambda _: Confidential())
    jobs = JobKeeper(Journal(tmp_path / "jobs", old_max=1), Runners(keeps_spare=False), no_plan, limit=1)
    daemon = AgentDaemon(settings, agent, disk, os_service, jobs)
    heard: asyncio.Queue[MasterEvent] = asyncio.Queue()
    async with broker(tmp_path / "broker") as server:
        server.set_nodes({NODE: [ALL]})
        keys, hear = server.keys, heard.put_nowait
        master = NatsMasterBus(server.endpoint, keys.master, keys.system, hear, signer=server.signer, version="0.0.0")
        await master.open()
        await master.prepare([ALL])
        await master.reload_broker()
        await master.assign(Assignment(node=NODE, epoch=1, serial=1, scopes=(ALL,)))
        bus = NatsAgentBus(server.endpoint, server.node_seed(NODE), NODE, daemon.hear, trusted=server.trusted)
        await disk.recall()
        running = asyncio.create_task(daemon.run(bus))
        await bus.open()
        yield Pair(server, master, heard, root)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await bus.close()
        await master.close()


async def test_silence_makes_the_agent_look_and_subscribe_anew(pair: Pair) -> None:
    await pair.publish(1, ring=True)
    await pair.until_receipt(1)
    pair.server.set_nodes({NODE: []})
    await pair.master.reload_broker()  # the server drops the subscription of the scope's bell, and tells nobody twice
    pair.server.set_nodes({NODE: [ALL]})
    await pair.master.reload_broker()

    await pair.publish(2, ring=True)
    await pair.until_receipt(2)
    assert (pair.root / "etc/file").read_text() == "generation 2\n"

    await pair.publish(3, ring=True)
    await pair.until_receipt(3)


async def test_a_bell_that_was_lost_costs_a_beat(pair: Pair) -> None:
    await pair.publish(1, ring=True)
    await pair.until_receipt(1)

    await pair.publish(2, ring=False)
    await pair.master.ring(ScopeBell(scope=ALL, epoch=1, generation=2, is_beat=True))

    await pair.until_receipt(2)


async def test_a_forged_bell_costs_a_look_and_nothing_else(pair: Pair) -> None:
    await pair.publish(1, ring=True)
    await pair.until_receipt(1)

    await pair.master.ring(ScopeBell(scope=ALL, epoch=1, generation=10**9))  # forged: costs one look

    await pair.publish(2, ring=True)
    await pair.until_receipt(2)


async def test_a_content_that_the_broker_has_wrong_is_refused_and_asked_for(pair: Pair) -> None:
    """Damaged in the broker's store: never written, and the master hears of it."""
    await pair.publish(1, ring=True)
    await pair.until_receipt(1)
    await pair.publish(2, ring=False)
    digest = hashlib.sha256(b"generation 2\n").hexdigest()
    damaged = (subjects.blob(ALL, Digest(digest), 0), b"generation X\n", {})
    await streams.store(pair.master._connection, damaged)

    await pair.master.ring(ScopeBell(scope=ALL, epoch=1, generation=2))

    async with asyncio.timeout(20):
        while not isinstance(event := await pair.heard.get(), BlobAsked):
            continue
    assert (event.node, event.wanted.digest) == (NODE, digest)
    assert (pair.root / "etc/file").read_text() == "generation 1\n"

    await pair.master.drop_blob(ALL, Digest(digest))
    await pair.publish(2, ring=True)
    await pair.until_receipt(2)
