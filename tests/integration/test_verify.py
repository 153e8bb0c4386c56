"""`cluster verify` through the real master and real disks of several nodes, on the memory bus."""

import asyncio
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from master.api import verbs
from master.audit import AuditLog
from master.core.cluster import AncillaryFile, new_cluster
from master.daemon import MasterDaemon
from master.managed_files import ManagedFiles
from master.settings import MasterSettings
from master.source_watch import SourceWatch
from master.sources import Sources
from master.store import Store, save_config
from master.verifier import RUNS_WAITING_MAX
from node_agent.files import NodeFiles
from node_agent.verifying import Verifying
from protocol import codec
from protocol.bus import OperatorBus
from protocol.errors import Refused, Unavailable
from protocol.names import ALL, MASTER_CANDIDATES, ManagedPath, NodeName
from protocol.operator_messages import Changed, GroupAdd, NodeModify
from protocol.paging import ask_nodes, ask_status
from protocol.verify_messages import ClusterVerified, ClusterVerify, FilesSeen, Finding, LookAtFiles
from tests.support.local_disk import a_disk
from tests.support.memory_bus import MemoryBroker, public_key_of
from tests.support.memory_sides import MemoryAgentBus
from tests.support.values import SURROUNDINGS

FILE = ManagedPath("/etc/file")
SECRET = ManagedPath("/etc/secret")
CONFIG_DATA = "/var/lib/ganeti/config.data"
NODES = tuple(NodeName(f"node{number}") for number in range(1, 5))
"""node1 is the master; there is no other candidate."""


class Cluster:
    """A master that runs, and one disk per node, which holds what the test puts there."""

    def __init__(self, root: Path, broker: MemoryBroker, daemon: MasterDaemon, operator: OperatorBus) -> None:
        self.root = root
        self.broker = broker
        self.daemon = daemon
        self.operator = operator
        self.agents: dict[NodeName, MemoryAgentBus] = {}

    def on(self, node: str, path: str) -> Path:
        return self.root / node / path[1:]

    def fill(self, node: str) -> None:
        """Give a node what it should have."""
        for entry in self.daemon.desired.manifests[ALL].files:
            self.on(node, entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.on("node1", entry.path), self.on(node, entry.path))

    async def serve(self, node: NodeName, look: Callable[[LookAtFiles], object] | None = None) -> None:
        """Have a node answer: from its disk, or as the test has it."""
        (self.root / node).mkdir(exist_ok=True)
        backups = self.root / f"backups-{node}"
        files = NodeFiles(self.root / node, allowed=["/etc", "/var/lib"], protected=[], backups=backups)
        agent = self.agents[node] = self.broker.agent(node, lambda event: None)
        own = Verifying(node, a_disk(files, self.root / f"state-{node}"))
        await agent.serve({"verify": (LookAtFiles, look or own.look)})

    async def verify(self, **request: object) -> list[Finding]:
        """Return all findings of one run, page by page."""
        findings: list[Finding] = []
        question = ClusterVerify(patience_s=5.0, **request)  # type: ignore[arg-type]
        while True:
            reply = await self.operator.ask("cluster.verify", question, ClusterVerified)
            findings += reply.findings
            if reply.is_over and len(findings) == reply.findings_total:
                return findings
            question = ClusterVerify(run=reply.run, offset=len(findings), patience_s=5.0)


@asynccontextmanager
async def a_cluster(tmp_path: Path, *, files: int = 1, absent: int = 0) -> AsyncIterator[Cluster]:
    """Yield a cluster of four nodes that are there, and others of which nobody has heard."""
    root, own = tmp_path / "nodes", tmp_path / "nodes/node1"
    paths = {ManagedPath(f"{FILE}{number or ''}"): ALL for number in range(files)} | {SECRET: MASTER_CANDIDATES}
    for path in paths:
        (own / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (own / path[1:]).write_text(f"{path}\n")
        (own / path[1:]).chmod(0o640)
    members = (*NODES, *(NodeName(f"absent{number}") for number in range(absent)))
    uuids = [str(uuid.uuid4()) for _ in range(len(members) + 2)]
    keys = [(node, public_key_of(node)) for node in members]
    config = new_cluster("test", nodes=keys, uuids=uuids, now=time.time(), candidate_pool_size=1)
    listed = tuple(AncillaryFile(path=path, scope=scope) for path, scope in sorted(paths.items()))
    save_config(own / CONFIG_DATA[1:], replace(config, cluster=replace(config.cluster, ancillary_files=listed)))
    settings = MasterSettings(
        server="",
        ca_file=tmp_path,
        seed_file=tmp_path,
        system_seed_file=tmp_path,
        signing_seed_file=tmp_path,
        broker_nodes_file=tmp_path / "nodes.conf",
        root=own,
        state_dir=tmp_path / "state",
    )
    store = Store(settings.state_dir, own / CONFIG_DATA[1:])
    sources = Sources(own, tmp_path / "state/blobs", size_bytes_max=settings.file_size_bytes_max)
    managed = ManagedFiles(SURROUNDINGS, sources, SourceWatch(settings, sources))
    daemon = MasterDaemon(settings, store.open(), store, managed)
    broker = MemoryBroker(
        lambda: {node.name: daemon.desired.config.scopes_of(node) for node in daemon.desired.config.nodes.values()}
    )
    bus, served = broker.master(daemon.hear), asyncio.Event()

    async def serve() -> None:
        await bus.serve(verbs.handlers(daemon, AuditLog(settings.state_dir, lambda asker: ""), version="0.0.0"))
        served.set()

    running = asyncio.create_task(daemon.run(bus, serve))
    cluster = Cluster(root, broker, daemon, broker.operator())
    try:
        async with asyncio.timeout(20):
            await served.wait()
        for node in NODES:
            cluster.fill(node) if node != "node1" else None
            await cluster.serve(node)
        yield cluster
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await bus.close()


def told(findings: list[Finding]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(found.problem, found.path, found.nodes) for found in findings]


async def test_all_is_well(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        reply = await cluster.operator.ask("cluster.verify", ClusterVerify(patience_s=5.0), ClusterVerified)

        assert (reply.is_over, reply.nodes, reply.nodes_done) == (True, 4, 4)
        assert reply.files == len(cluster.daemon.desired.files())
        assert (reply.findings, reply.findings_total, reply.offline) == ((), 0, ())


async def test_everything_that_can_be_wrong_on_the_disks_is_found(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        cluster.on("node2", FILE).unlink()
        cluster.on("node3", FILE).write_text("by hand\n")
        cluster.on("node4", FILE).chmod(0o600)
        cluster.on("node3", SECRET).write_text("leaked\n")

        missing, different, attributes, unexpected, variants = await cluster.verify()

        assert told([missing, unexpected]) == [("missing", FILE, ("node2",)), ("unexpected", SECRET, ("node3",))]
        assert [one.nodes for one in different.variants] == [("node1", "node4"), ("node3",)]
        assert (attributes.problem, attributes.wanted[-4:]) == ("attributes", "0640")
        assert [(one.what[-4:], one.nodes) for one in attributes.variants] == [("0600", ("node4",))]
        assert (variants.problem, variants.path) == ("different", SECRET)


async def test_a_node_that_is_not_there_is_a_finding_and_not_a_failure(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        cluster.broker.disconnect(NodeName("node3"))

        (silent,) = await cluster.verify()

        assert (silent.problem, silent.node) == ("silent", "node3")
        assert "not connected" in silent.reason


async def test_a_node_that_does_not_answer_in_time_is_a_finding_and_not_a_failure(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        never = asyncio.Event()

        async def hang(request: LookAtFiles) -> FilesSeen:
            await never.wait()
            raise AssertionError

        await cluster.agents[NodeName("node3")].serve({"verify": (LookAtFiles, hang)})

        (silent,) = await cluster.verify(node_timeout_s=0.1)

        assert (silent.problem, silent.node) == ("silent", "node3")
        assert "no answer within 0.1 s" in silent.reason


async def test_what_the_master_holds_back_is_found(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        cluster.on("node1", FILE).write_text("")
        cluster.on("node1", SECRET).unlink()

        findings = await cluster.verify()

        sources = [(found.path, found.reason[:22]) for found in findings if found.problem == "source"]
        assert sources == [(FILE, "became empty on the ma"), (SECRET, "vanished from the mast")]
        assert {found.node for found in findings if found.problem == "source"} == {"node1"}


async def test_an_edit_made_before_is_what_is_compared_with(tmp_path: Path) -> None:
    """The master reads its sources first; what lies on the nodes is then old."""
    async with a_cluster(tmp_path) as cluster:
        cluster.on("node1", FILE).write_text("edited\n")

        (different,) = await cluster.verify()

        assert [(one.is_published, one.nodes) for one in different.variants] == [
            (True, ("node1",)),
            (False, ("node2", "node3", "node4")),
        ]


async def test_what_is_published_while_nodes_are_asked_is_asked_for_again(tmp_path: Path) -> None:
    """Otherwise a file that arrived meanwhile would be called different."""
    async with a_cluster(tmp_path) as cluster:
        asked: list[tuple[str, ...]] = []
        node4 = NodeName("node4")
        honest = cluster.agents[node4].handlers["verify"][1]

        async def edit_first(request: LookAtFiles) -> object:
            asked.append(request.paths)
            if len(asked) == 1:
                for node in NODES:
                    cluster.on(node, FILE).write_text("edited meanwhile\n")
                await cluster.daemon.desired.refresh(None, "test")
            return await honest(request)

        await cluster.agents[node4].serve({"verify": (LookAtFiles, edit_first)})

        assert await cluster.verify() == []
        assert {FILE, SECRET, CONFIG_DATA} <= set(asked[0])
        assert asked[1:] == [(FILE,)]


async def test_a_group_is_verified_by_itself(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        await cluster.operator.ask("group.add", GroupAdd(name="rack2"), Changed)
        await cluster.operator.ask("node.modify", NodeModify(name="node3", group="rack2"), Changed)
        for node in ("node2", "node3"):
            cluster.fill(node)
            cluster.on(node, FILE).unlink()

        assert told(await cluster.verify(group="rack2")) == [("missing", FILE, ("node3",))]
        with pytest.raises(Refused, match="rack9"):
            await cluster.verify(group="rack9")


async def test_offline_nodes_are_left_alone_and_named(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        await cluster.operator.ask("node.modify", NodeModify(name="node3", offline=True), Changed)
        for node in NODES[1:]:
            cluster.fill(node)
        cluster.on("node3", FILE).unlink()

        reply = await cluster.operator.ask("cluster.verify", ClusterVerify(patience_s=5.0), ClusterVerified)

        assert (reply.nodes, reply.offline, reply.findings) == (3, ("node3",), ())


async def test_many_files_are_asked_for_and_found_in_pages(tmp_path: Path) -> None:
    async with a_cluster(tmp_path, files=1200) as cluster:
        files = cluster.daemon.desired.manifests[ALL].files
        for entry in files:
            cluster.on("node2", entry.path).unlink()

        findings = await cluster.verify()

        assert len(findings) == len(files) > 1200
        assert {found.nodes for found in findings} == {("node2",)}


async def test_runs_wait_for_their_turn_and_too_many_are_told_so(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        go_on = asyncio.Event()
        honest = cluster.agents[NODES[1]].handlers["verify"][1]

        async def wait(request: LookAtFiles) -> object:
            await go_on.wait()
            return await honest(request)

        await cluster.agents[NODES[1]].serve({"verify": (LookAtFiles, wait)})
        start = ClusterVerify(patience_s=0.0)
        ask = cluster.operator.ask
        runs = [await ask("cluster.verify", start, ClusterVerified) for _ in range(RUNS_WAITING_MAX)]
        assert not any(run.is_over for run in runs)
        with pytest.raises(Unavailable, match="under way already"):
            await ask("cluster.verify", start, ClusterVerified)

        go_on.set()
        for run in runs:
            ended = await ask("cluster.verify", ClusterVerify(run=run.run, patience_s=5.0), ClusterVerified)
            assert (ended.is_over, ended.findings) == (True, ())


async def test_a_run_that_is_not_kept_any_more_is_refused(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as cluster:
        with pytest.raises(Refused, match="run it again"):
            await cluster.verify(run="0123")
        with pytest.raises(Refused, match="at most 60 s"):
            await cluster.verify(node_timeout_s=0.0)


async def test_a_large_fleet_is_listed_and_verified_whole(tmp_path: Path) -> None:
    """Each of these answers is larger than one message may be."""
    async with a_cluster(tmp_path, absent=3500) as cluster:
        status = await ask_status(cluster.operator)
        listed = await ask_nodes(cluster.operator)
        findings = await cluster.verify()

    assert len(codec.encode(status)) > codec.MESSAGE_BYTES_MAX
    assert len(status.nodes) == len(listed) == 3504
    assert [node.name for node in listed] == [node.name for node in cluster.daemon.desired.config.sorted_nodes()]
    assert [found.problem for found in findings] == ["silent"] * 3500
