"""The master's loop on a real server and real files: what it stores, restores, and throws away."""

import asyncio
import contextlib
import hashlib
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from master.core.cluster import AncillaryFile, ClusterConfig, new_cluster
from master.daemon import MasterDaemon
from master.managed_files import ManagedFiles
from master.settings import MasterSettings
from master.source_watch import SourceWatch
from master.sources import Sources
from master.store import Store, save_config
from protocol import codec
from protocol.errors import Deposed, Unavailable
from protocol.messages import Assignment, Manifest, ManifestHead
from protocol.names import ALL, Digest, ManagedPath, NodeName
from protocol.nats_bus import streams
from protocol.nats_bus.agent import NatsAgentBus
from protocol.nats_bus.master import NatsMasterBus
from protocol.sealing.envelopes import signed
from tests.support.broker import Broker, broker
from tests.support.values import SURROUNDINGS

NODE = NodeName("node1")
CONFIG_DATA = "var/lib/ganeti/config.data"


@dataclass
class Running:
    """A master in this process, and the bus of its own node to look through."""

    daemon: MasterDaemon
    bus: NatsMasterBus
    node: NatsAgentBus
    server: Broker
    root: Path
    store: Store
    task: "asyncio.Task[None]"

    async def manifest(self) -> Manifest:
        manifest = await self.node.manifest(ALL)
        assert manifest
        return manifest

    async def until(self, condition: Callable[[Manifest], bool]) -> Manifest:
        """Return the manifest of `all` once it is so; looked at whenever the master has progressed."""
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(Unavailable):
                    manifest = await self.node.manifest(ALL)
                    if manifest and condition(manifest):
                        return manifest
                await self.daemon.progress.wait(0.1)

    async def on_the_bus(self) -> set[str]:
        blobs = await streams.stored_subjects(self.bus._connection, "BLOBS_all", "mesh.blob.all.>")
        return {subject.split(".")[3] for subject in blobs}

    def digests(self) -> set[str]:
        return {path.name for path in self.store.blobs_dir.iterdir()}


def listed(manifest: Manifest) -> list[str]:
    """Return what is in a manifest beside the ssconf files."""
    return [entry.path for entry in manifest.files if "/ssconf_" not in entry.path]


def cluster_with(files: list[str]) -> ClusterConfig:
    uuids = [str(uuid.uuid4()) for _ in range(3)]
    config = new_cluster("test", nodes=[(NODE, "")], uuids=uuids, now=time.time())
    listed = tuple(AncillaryFile(path=ManagedPath(path), scope=ALL) for path in sorted(files))
    return replace(config, cluster=replace(config.cluster, ancillary_files=listed))


@asynccontextmanager
async def running(tmp_path: Path, server: Broker, **knobs: float) -> AsyncIterator[Running]:
    root = tmp_path / "root"
    settings = MasterSettings(
        server=server.url,
        ca_file=server.endpoint.ca_file,
        seed_file=tmp_path,
        system_seed_file=tmp_path,
        signing_seed_file=tmp_path,
        broker_nodes_file=tmp_path / "unused.conf",
        root=root,
        state_dir=tmp_path / "state",
        **knobs,  # type: ignore[arg-type]
    )
    store = Store(settings.state_dir, root / CONFIG_DATA)
    config = store.open()
    sources = Sources(root, store.blobs_dir, size_bytes_max=settings.file_size_bytes_max)
    managed = ManagedFiles(SURROUNDINGS, sources, SourceWatch(settings, sources))
    daemon = MasterDaemon(settings, config, store, managed)
    keys, hear = server.keys, daemon.hear
    bus = NatsMasterBus(server.endpoint, keys.master, keys.system, hear, signer=server.signer, version="0.0.0")
    node = NatsAgentBus(server.endpoint, server.node_seed(NODE), NODE, lambda event: None, trusted=server.trusted)
    served = asyncio.Event()

    async def serve() -> None:
        served.set()

    await bus.open()
    await node.open()
    task = asyncio.create_task(daemon.run(bus, serve))
    try:
        async with asyncio.timeout(60):
            waiting = asyncio.create_task(served.wait())
            await asyncio.wait((waiting, task), return_when=asyncio.FIRST_COMPLETED)
        if not served.is_set():
            waiting.cancel()
            task.result()
        yield Running(daemon, bus, node, server, root, store, task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await node.close()
        await bus.close()


@asynccontextmanager
async def a_master(tmp_path: Path, files: dict[str, bytes], **knobs: float) -> AsyncIterator[Running]:
    root = tmp_path / "root"
    save_config(root / CONFIG_DATA, cluster_with(list(files)))
    for path, content in files.items():
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / path[1:]).write_bytes(content)
    async with broker(tmp_path / "broker") as server:
        server.set_nodes({NODE: [ALL]})
        await server.stop()
        await server.start()
        async with running(tmp_path, server, **knobs) as master:
            yield master


async def test_more_files_than_one_batch_may_hold_are_one_generation(tmp_path: Path) -> None:
    """The server takes 1000 messages in an atomic batch; 2,500 new files are one generation all the same."""
    files = {f"/etc/many/{number:05}": str(number).encode() for number in range(2500)}
    async with a_master(tmp_path, files) as master:
        manifest = await master.manifest()
        assert len(listed(manifest)) == 2500
        assert {entry.generation for entry in manifest.files} == {manifest.generation}
        stored = await streams.stored_subjects(master.bus._connection, "FILES_all", "mesh.files.all.>")
        assert len(stored) == len(manifest.files)
        head = await master.bus.head(ALL)
        assert head and not head.inline, "such a manifest is too large to travel inline"


async def test_contents_that_no_kept_generation_names_are_removed_everywhere(tmp_path: Path) -> None:
    """The disk keeps what the last two generations name; the bus what nodes may be fetching: this one and the last."""
    async with a_master(tmp_path, {"/etc/file": b"turn 0"}, patrol_interval_s=0.2, history_generations=2) as master:
        digests = [(await master.manifest()).files[0].digest]
        for turn in range(1, 6):
            (master.root / "etc/new").write_bytes(f"turn {turn}".encode())
            (master.root / "etc/new").rename(master.root / "etc/file")
            manifest = await master.until(lambda manifest: manifest.files[0].digest != digests[-1])
            digests.append(manifest.files[0].digest)

        async with asyncio.timeout(20):
            while master.digests() & set(digests) != set(digests[-2:]):
                await master.daemon.progress.wait(0.1)
            while await master.on_the_bus() & set(digests) != set(digests[-2:]):
                await master.daemon.progress.wait(0.1)


async def test_a_manifest_of_somebody_elses_making_is_replaced(tmp_path: Path) -> None:
    """The patrol compares what lies on the bus with the disk."""
    async with a_master(tmp_path, {"/etc/file": b"x"}, patrol_interval_s=0.2) as master:
        good = await master.manifest()
        encoded = codec.encode(replace(good, files=()))
        digest = Digest(hashlib.sha256(encoded).hexdigest())
        head = ManifestHead(
            scope=ALL,
            epoch=1,
            generation=good.generation,
            digest=digest,
            size_bytes=len(encoded),
            inline=encoded,
        )
        payload = signed("mesh.manifest.all", head, master.server.signer)
        await streams.store(master.bus._connection, ("mesh.manifest.all", payload, {}))

        assert await master.until(lambda manifest: manifest == good)


@pytest.mark.parametrize("how", ["while it runs", "while it is down"])
async def test_a_lost_store_is_filled_again_from_the_disk(tmp_path: Path, how: str) -> None:
    async with a_master(tmp_path, {"/etc/file": b"x" * 2_000_000}, patrol_interval_s=0.2) as master:
        good = await master.manifest()
        if how == "while it is down":
            await master.server.kill()
            master.server.lose_store()
            await master.server.start()
        else:
            master.server.lose_store()

        (master.root / "etc/new").write_bytes(b"y" * 2_000_000)
        (master.root / "etc/new").rename(master.root / "etc/file")
        after = await master.until(lambda manifest: manifest.generation > good.generation)

        entry = after.files[0]
        assert (
            b"".join([part async for part in master.node.blob(ALL, entry.digest, entry.size_bytes)]) == b"y" * 2_000_000
        )


async def test_an_older_disk_goes_beyond_what_the_bus_has(tmp_path: Path) -> None:
    """The master's state was restored from a backup: no node may have to go back."""
    async with a_master(tmp_path, {"/etc/file": b"x"}) as master:
        server = master.server
        await master.bus.publish(Manifest(scope=ALL, epoch=1, generation=500), [])
        await master.bus.assign(Assignment(node=NODE, epoch=1, serial=700, scopes=(ALL,)))
        async with running(tmp_path, server) as second:
            manifest = await second.until(lambda manifest: manifest.generation > 500)
            assert listed(manifest) == ["/etc/file"]
            async with asyncio.timeout(20):
                while (assignment := await second.node.assignment()) is None or assignment.serial <= 700:
                    await second.daemon.progress.wait(0.1)


async def test_a_new_term_goes_on_counting_and_ends_the_former_master(tmp_path: Path) -> None:
    """A candidate that took over has files and no history. Who was the master ends, with a sentence, and stays so."""
    async with a_master(tmp_path, {"/etc/file": b"x"}, patrol_interval_s=0.2) as former:
        before, config = await former.manifest(), former.daemon.desired.config
        shutil.copytree(former.root, tmp_path / "candidate/root")
        after = replace(config, cluster=replace(config.cluster, epoch=2))
        save_config(tmp_path / "candidate/root" / CONFIG_DATA, after)

        async with running(tmp_path / "candidate", former.server) as master:
            manifest = await master.manifest()
            assert manifest.version > (2, before.generation)
            assert listed(manifest) == ["/etc/file"]
            with pytest.raises(Deposed, match=r"epoch 2.* this master is of epoch 1"):
                async with asyncio.timeout(20):
                    await former.task
            with pytest.raises(Deposed):
                async with running(tmp_path, former.server):
                    pass
            assert await master.manifest() == manifest


async def test_started_again_it_publishes_nothing_that_is_there_already(tmp_path: Path) -> None:
    async with a_master(tmp_path, {"/etc/file": b"x"}) as master:
        before = await master.manifest()
        async with running(tmp_path, master.server) as second:
            assert await second.manifest() == before
            assert second.store.generation == before.generation
