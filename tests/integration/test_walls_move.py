"""Walls move with the cluster: at once, on live connections, and nothing new is said before they stand."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from nats.errors import Error as NatsError

from protocol import subjects
from protocol.errors import Unavailable
from protocol.names import ALL, MASTER_CANDIDATES, NodeName
from protocol.nats_bus import direct
from protocol.nats_bus.connection import Connection
from protocol.operator_messages import Changed, NodeModify, NodeRemove
from tests.support.walled import CANDIDATE, OPEN_FILE, REGULAR, SECRET_FILE, Raw, Walled, walled

LET_IN_S = 0.2
VOID_S = 1.0
WAIT_S = 20.0


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Walled]:
    async with walled(tmp_path) as running:
        yield running


async def manifest_of(connection: Connection, scope: str = MASTER_CANDIDATES) -> bytes:
    """Return what lies on a scope's manifest subject; Unavailable if the server does not let us."""
    message = await direct.last(connection, f"FILES_{scope}", f"mesh.manifest.{scope}")
    assert message
    return message.data


async def hearing(raw: Raw, scope: str) -> list[bytes]:
    """Return a list into which everything falls that the connection hears of a scope's bells."""
    heard: list[bytes] = []

    async def hear(message: object) -> None:
        heard.append(message.data)  # type: ignore[attr-defined]

    await raw.connection.client.subscribe(f"mesh.bell.scope.{scope}", cb=hear)
    await raw.connection.client.flush()
    return heard


async def test_a_promoted_node_reads_its_new_scope_at_once_on_the_same_connection(cluster: Walled) -> None:
    node = await cluster.as_node(REGULAR)
    with pytest.raises(Unavailable):
        await manifest_of(node.connection)

    asked_s = time.monotonic()
    await cluster.ask("node.modify", NodeModify(name=REGULAR, master_candidate=True), Changed)
    assert await manifest_of(node.connection)

    assert time.monotonic() - asked_s < LET_IN_S
    assert (node.ups, node.downs) == (1, 0), "the connection was kept"


async def test_a_demoted_node_reads_nothing_from_the_moment_the_command_returns(cluster: Walled) -> None:
    """It ignores every bell, goes on asking, and comes again with a new connection."""
    node = await cluster.as_node(CANDIDATE)
    heard = await hearing(node, MASTER_CANDIDATES)
    assert await manifest_of(node.connection)
    read: list[bytes] = []
    stopped = asyncio.Event()

    async def insist() -> None:
        while not stopped.is_set():
            try:
                read.append(await manifest_of(node.connection))
            except Unavailable:
                await asyncio.sleep(0)

    insisting = asyncio.create_task(insist())
    demoted = await cluster.ask("node.modify", NodeModify(name=CANDIDATE, master_candidate=False), Changed)
    read.clear()
    heard.clear()
    cluster.source(SECRET_FILE).write_bytes(b"a new secret\n")
    await cluster.daemon.desired.refresh(None, "test")
    again = await cluster.as_node(CANDIDATE)
    for attempt in (node, again):
        with pytest.raises(Unavailable):
            await manifest_of(attempt.connection)
    stopped.set()
    await insisting

    generation = cluster.daemon.desired.manifests[MASTER_CANDIDATES].generation
    assert generation > demoted.goal.generations[MASTER_CANDIDATES]
    assert read == [] and heard == []
    assert await manifest_of(again.connection, ALL)


@pytest.mark.parametrize("how", ["removed", "another key"])
async def test_a_voided_identity_is_cut_off_within_a_second_and_stays_out(cluster: Walled, how: str) -> None:
    node = await cluster.as_node(REGULAR)
    assert await manifest_of(node.connection, ALL)
    lost = asyncio.Event()
    node.changed = lambda is_up: None if is_up else lost.set()  # type: ignore[method-assign]

    asked_s = time.monotonic()
    if how == "removed":
        await cluster.ask("node.remove", NodeRemove(name=REGULAR), Changed)
    else:
        other = cluster.server.node_key(NodeName("reinstalled"))
        await cluster.ask("node.modify", NodeModify(name=REGULAR, public_key=other), Changed)
    async with asyncio.timeout(WAIT_S):
        await lost.wait()

    assert time.monotonic() - asked_s < VOID_S
    with pytest.raises(Unavailable):
        await manifest_of(node.connection, ALL)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await cluster.as_node(REGULAR)
    if how == "another key":
        new = await cluster.raw(cluster.server.node_seed(NodeName("reinstalled")), subjects.inbox_prefix(REGULAR))
        assert await manifest_of(new.connection, ALL)


async def test_nothing_new_is_said_before_the_walls_stand(cluster: Walled) -> None:
    """A broker that refuses its file goes on with the old walls: then the secret waits, not the wall."""
    node = await cluster.as_node(CANDIDATE)
    before = await manifest_of(node.connection)
    config = cluster.server.directory / "nats-server.conf"
    sound = config.read_text()
    config.write_text(sound + "\nnonsense {")

    await cluster.ask("node.modify", NodeModify(name=CANDIDATE, master_candidate=False), Changed)
    cluster.source(SECRET_FILE).write_bytes(b"a new secret\n")
    await cluster.daemon.desired.refresh(None, "test")
    assert await manifest_of(node.connection) == before, "nothing new for the one that is still inside"

    config.write_text(sound)
    async with asyncio.timeout(WAIT_S):
        while not cluster.daemon.desired.publisher.is_enforced:
            await cluster.daemon.progress.wait(0.1)
    with pytest.raises((Unavailable, NatsError)):
        await manifest_of(node.connection)


async def test_removal_says_so_if_the_broker_could_not_be_told(cluster: Walled) -> None:
    config = cluster.server.directory / "nats-server.conf"
    config.write_text(config.read_text() + "\nnonsense {")

    changed = await cluster.ask("node.remove", NodeRemove(name=REGULAR), Changed)

    assert "the broker could not be told yet" in " ".join(changed.done)
    assert cluster.source(OPEN_FILE).exists()
