"""What only a real server does: versions, kills, refusals, and what is visible with the plain `nats` command."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from protocol import codec, identity, subjects
from protocol.bus import Connected, Disconnected
from protocol.errors import NoAnswer, Refused, Unavailable
from protocol.messages import FileEvent, NodeBell, ScopeBell, Status
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, managed_path
from protocol.nats_bus import SERVER_VERSION_MIN, NatsAgentBus, NatsMasterBus, NatsOperatorBus, streams
from protocol.operator_messages import Changed, GroupAdd
from protocol.sealing.signatures import Signer
from tests.contract.harness import SOON_S, WAIT_S, Ears, NatsHarness, a_master, gathered
from tests.support.builders import NODE1, NODE2, a_manifest, a_status, events_of
from tests.support.old_server import old_server

ME_STATUS = subjects.rpc(NODE1, "status")


@pytest.mark.parametrize("version", ["2.9.10", "2.11.15", "2.12.6", "2.12.6-RC.1", "none"])
async def test_a_server_that_is_too_old_is_refused(tmp_path: Path, version: str) -> None:
    """Not by the feature that fails first: 2.9 silently ignores what it does not know."""
    identity.ensure_seed(tmp_path / "seed")
    seed = identity.read_seed(tmp_path / "seed")
    async with old_server(version, tmp_path) as old:
        for bus in (
            NatsAgentBus(old.endpoint, seed, NODE1, Ears(), trusted=()),
            NatsMasterBus(old.endpoint, seed, seed, Ears(), signer=Signer(seed), version="1.0.0"),
            NatsOperatorBus(old.endpoint, seed),
        ):
            with pytest.raises(Refused, match=r"too old: at least 2\.12\.7"):
                await bus.open()
            await bus.close()


async def test_a_server_that_was_replaced_by_an_older_one_is_not_used(nats_bus: NatsHarness) -> None:
    """And the agent comes back by itself when somebody has noticed."""
    await a_master(nats_bus)
    agent, ears = await nats_bus.agent(NODE1)
    await nats_bus.disconnect()
    await ears.next(Disconnected)

    server = nats_bus.server
    old_one = old_server("2.12.6", server.directory, port=server.port, authority=server.authority)
    async with old_one as old, asyncio.timeout(WAIT_S):
        for _ in range(8):
            await old.visits.get()
        with pytest.raises(Unavailable, match="too old"):
            await agent.manifest(ALL)
    await nats_bus.reconnect()

    await ears.next(Connected)
    assert (ears.count(Connected), ears.count(Disconnected)) == (2, 1)
    assert await agent.manifest(ALL) is None


async def test_nobody_listening_is_unavailable_in_time(tmp_path: Path) -> None:
    identity.ensure_seed(tmp_path / "seed")
    async with old_server("2.15.1", tmp_path) as gone:
        pass
    operator = NatsOperatorBus(gone.endpoint, identity.read_seed(tmp_path / "seed"))

    with pytest.raises(Unavailable, match="connection refused"):
        await operator.open(timeout_s=0.2)
    await operator.close()


async def test_a_key_that_nobody_knows_is_unavailable_with_the_servers_word(nats_bus: NatsHarness) -> None:
    """Its word, or that it ended the connection: over TLS either may be noticed first."""
    operator = NatsOperatorBus(nats_bus.server.endpoint, nats_bus.server.node_seed(NODE2))

    with pytest.raises(Unavailable, match=r"Authorization Violation|does not know our key"):
        await operator.open(timeout_s=2.0)
    await operator.close()


async def test_the_master_knows_the_servers_version(nats_bus: NatsHarness) -> None:
    master, heard = await nats_bus.master()
    assert tuple(map(int, master.broker_version.split("."))) >= SERVER_VERSION_MIN

    await nats_bus.disconnect()
    await heard.next(Disconnected)

    assert master.broker_version == ""


async def test_what_cannot_be_read_is_known_at_once(nats_bus: NatsHarness) -> None:
    """A missing stream, a scope that was not granted, and a server that dies: none costs the timeout."""
    await a_master(nats_bus, {NODE1: [ALL, VM_CAPABLE]})
    agent, _ = await nats_bus.agent(NODE1)

    async with asyncio.timeout(SOON_S):
        with pytest.raises(Unavailable, match="nobody answers"):
            await agent.manifest(VM_CAPABLE)
        with pytest.raises(Unavailable, match="permit"):
            await agent.manifest(MASTER_CANDIDATES)
        assert await agent.manifest(ALL) is None


async def test_requests_under_way_end_when_the_server_is_killed(nats_bus: NatsHarness) -> None:
    master, heard = await a_master(nats_bus)
    agent, ears = await nats_bus.agent(NODE1)
    nats_bus.server.pause()
    asked = [asyncio.ensure_future(agent.manifest(ALL)), asyncio.ensure_future(master.head(ALL))]
    await asyncio.wait(asked, timeout=0.05)
    assert not any(task.done() for task in asked)

    async with asyncio.timeout(SOON_S):
        await nats_bus.server.kill()
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [NoAnswer, NoAnswer]

    await nats_bus.server.start()
    await heard.next(Connected)
    await ears.next(Disconnected)
    await ears.next(Connected)
    assert await agent.manifest(ALL) is None


async def test_a_cancelled_request_is_cancelled_and_the_connection_lives(nats_bus: NatsHarness) -> None:
    await a_master(nats_bus)
    agent, ears = await nats_bus.agent(NODE1)
    nats_bus.server.pause()
    for coroutine in (agent.manifest(ALL), agent.listen([ALL])):
        task = asyncio.ensure_future(coroutine)
        await asyncio.wait([task], timeout=0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    nats_bus.server.resume()

    assert await agent.manifest(ALL) is None
    assert ears.count(Disconnected) == 0


async def test_a_client_that_the_server_has_closed_is_replaced(nats_bus: NatsHarness) -> None:
    """nats-py gives up for good on this error; a message of the allowed size, but for its headers, is enough."""

    async def add(request: GroupAdd) -> GroupAdd:
        return request

    master, heard = await a_master(nats_bus)
    await master.serve({"group.add": (GroupAdd, add)})
    agent, ears = await nats_bus.agent(NODE1)
    await agent.listen([ALL])
    sides: list[tuple[Any, Ears]] = [(master, heard), (agent, ears)]
    for bus, ear in sides:
        payload = b"x" * codec.MESSAGE_BYTES_MAX
        await bus._connection.publish(subjects.status(NODE1), payload, {"Mesh": "x"})
        await ear.next(Disconnected)
        await ear.next(Connected)

    operator = await nats_bus.operator()
    assert await operator.ask("group.add", GroupAdd(name="x"), GroupAdd) == GroupAdd(name="x")
    await master.ring(ScopeBell(scope=ALL, epoch=1, generation=1))
    assert await ears.next(ScopeBell)
    assert await agent.manifest(ALL) is None


async def test_a_configuration_that_the_server_refuses_changes_nothing(nats_bus: NatsHarness) -> None:
    master, _ = await a_master(nats_bus)
    agent, _ = await nats_bus.agent(NODE1)
    nodes = nats_bus.server.directory / "nodes.conf"
    nodes.write_text("users: [ { nkey: UNONSENSE } ]")

    with pytest.raises(Unavailable, match="refuses its configuration"):
        await master.reload_broker()

    assert await agent.manifest(ALL) is None


async def test_a_store_deleted_below_the_server_is_found_by_preparing(nats_bus: NatsHarness) -> None:
    """Nothing else tells at first: reads and small writes go on from what the server has open."""
    master, _ = await a_master(nats_bus)
    await master.publish(a_manifest(), [])
    nats_bus.server.lose_store()

    await master.publish(a_manifest(generation=2), [])
    head = await master.head(ALL)
    assert head and head.generation == 2

    with pytest.raises(Unavailable, match="10069"):
        await master.prepare([ALL])
    await master.prepare([ALL], afresh=True)
    await master.publish(a_manifest(generation=3), [])
    await master.prepare([ALL])
    assert await master.head(ALL)


async def test_a_silent_server_keeps_nobody_from_ending(nats_bus: NatsHarness) -> None:
    """Also with more on its way than the socket takes: whoever waits for room can be cancelled."""
    master, _ = await a_master(nats_bus)
    nats_bus.server.pause()
    waiting: list[asyncio.Future[None]] = []
    while not waiting:  # below TLS there is one more buffer, which the first round fills
        filling = [
            asyncio.ensure_future(master._connection.publish("mesh.x", b"x" * 1_000_000))  # type: ignore[attr-defined]
            for _ in range(20)
        ]
        await asyncio.wait(filling, timeout=0.05)
        waiting = [task for task in filling if not task.done()]

    for task in waiting:
        task.cancel()
    async with asyncio.timeout(SOON_S):
        await asyncio.wait(waiting)
    assert waiting
    assert all(task.cancelled() for task in waiting)
    async with asyncio.timeout(WAIT_S):
        await master.close()


async def test_services_are_visible_to_administrators(nats_bus: NatsHarness) -> None:
    """`nats micro ls` shows the master and every agent, across the accounts."""

    async def add(request: GroupAdd) -> Changed:
        raise AssertionError("not asked")

    master, _ = await a_master(nats_bus)
    await master.serve({"group.add": (GroupAdd, add)})
    await nats_bus.agent(NODE1)

    infos = {info["name"]: info for info in await gathered(nats_bus, "$SRV.INFO", count=2)}

    assert infos["gnt-mesh-agent"]["metadata"] == {"node": NODE1}
    assert infos["gnt-mesh-master"]["version"] == "1.2.3"
    assert [end["subject"] for end in infos["gnt-mesh-master"]["endpoints"]] == ["mesh.api.group.add"]


async def test_an_agents_stats_show_what_the_server_complains_of(nats_bus: NatsHarness) -> None:
    await a_master(nats_bus)
    agent, _ = await nats_bus.agent(NODE1)
    await agent.listen([MASTER_CANDIDATES])

    (stats,) = await gathered(nats_bus, "$SRV.STATS.gnt-mesh-agent", count=1)

    assert "mesh.bell.scope.master-candidates" in stats["endpoints"][0]["data"]["complaint"]


async def test_the_status_endpoint_answers_administrators(nats_bus: NatsHarness) -> None:
    await a_master(nats_bus)
    agent, _ = await nats_bus.agent(NODE1)
    admin = await nats_bus.raw(nats_bus.server.keys.admin)

    early = await admin.request(ME_STATUS)
    await agent.report(a_status())
    answer = await admin.request(ME_STATUS)

    assert (early.headers or {})["Nats-Service-Error-Code"] == "503"
    assert codec.decode(answer.data, Status) == a_status()
    assert (answer.headers or {})["Mesh-Node"] == NODE1


async def test_the_status_endpoint_does_not_answer_a_node(nats_bus: NatsHarness) -> None:
    """It may not ask, and an answer that it has delivered here as a question is none (SPEC.md, section 3)."""
    master, _ = await a_master(nats_bus, {NODE1: [ALL], NODE2: [ALL]})
    await master.publish(a_manifest(), [])
    agent, _ = await nats_bus.agent(NODE1)
    await agent.report(a_status())
    other = await nats_bus.raw(nats_bus.server.node_seed(NODE2), subjects.inbox_prefix(NODE2))

    with pytest.raises(Unavailable, match="permit"):
        await other.request(ME_STATUS)
    await other.client.publish(subjects.direct_get("FILES_all", "mesh.manifest.all"), reply=ME_STATUS)
    await other.settle(subjects.direct_get("FILES_all", "mesh.manifest.all"))

    (stats,) = await gathered(nats_bus, "$SRV.STATS.gnt-mesh-agent", count=1)
    endpoint = stats["endpoints"][0]
    assert (endpoint["num_requests"], endpoint["num_errors"]) == (1, 0), "it came, and was not answered"


async def test_the_longest_subject_is_not_too_long(nats_bus: NatsHarness) -> None:
    """1020 bytes that are no ASCII, each three characters in a subject; a node asks for it by direct get."""
    path = "/" + "/".join(["é" * 127] * 4)
    master, _ = await a_master(nats_bus)
    await master.publish(a_manifest(path), events_of(a_manifest(path)))
    node = await nats_bus.raw(nats_bus.server.node_seed(NODE1), subjects.inbox_prefix(NODE1))

    subject = subjects.file_event(ALL, managed_path(path))
    answer = await node.request(subjects.direct_get("FILES_all", subject))

    assert len(subject) > 3000
    assert codec.decode(answer.data, FileEvent).path == path
    async with asyncio.timeout(SOON_S):
        with pytest.raises(Unavailable, match="permit"):
            await node.request(subjects.direct_get("FILES_master-candidates", subject))


async def test_a_fault_in_hearing_reaches_the_loop_and_the_subscription_lives(nats_bus: NatsHarness) -> None:
    """nats-py would count it among the server's complaints; the daemon is to die of it (conventions, section 5)."""
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    master, _ = await a_master(nats_bus)
    agent, ears = await nats_bus.agent(NODE1)
    await agent.listen([ALL])

    def fail(event: object) -> None:
        ears(event)
        if event == NodeBell(node=NODE1, epoch=1, serial=1):
            raise AssertionError("never")

    agent._hear = fail  # type: ignore[attr-defined]
    await master.ring(NodeBell(node=NODE1, epoch=1, serial=1))
    await master.ring(NodeBell(node=NODE1, epoch=1, serial=2))

    assert [(await ears.next(NodeBell)).serial for _ in range(2)] == [1, 2]
    assert [type(fault["exception"]) for fault in faults] == [AssertionError]


async def test_the_streams_are_those_of_the_specification(nats_bus: NatsHarness) -> None:
    await a_master(nats_bus, scopes=[ALL])
    admin = await nats_bus.raw(nats_bus.server.keys.admin)

    assert await streams.names(admin) == {"FILES_all", "BLOBS_all", "ROLES", "STATUS", "OSREQ", "OSLOG"}
    for name in await streams.names(admin):
        config = (await streams.call(admin, f"STREAM.INFO.{name}"))["config"]
        assert config["allow_direct"]
        assert not config["allow_rollup_hdrs"]
        assert config.get("no_ack", False) == (name in ("STATUS", "OSLOG"))
        assert config["max_msgs_per_subject"] == (-1 if name == "OSLOG" else 1)


async def test_facts_are_also_in_the_headers(nats_bus: NatsHarness) -> None:
    """What a person sees with `nats sub` and `nats stream get`."""
    master, _ = await a_master(nats_bus)
    agent, _ = await nats_bus.agent(NODE1)
    await agent.listen([ALL])
    admin = await nats_bus.raw(nats_bus.server.keys.admin)
    seen: asyncio.Queue[Any] = asyncio.Queue()
    await admin.client.subscribe("mesh.bell.>", cb=seen.put)
    await admin.settle("$JS.API.INFO")

    await master.publish(a_manifest(generation=7), [])
    await master.ring(NodeBell(node=NODE1, epoch=1, serial=4))
    stored = await admin.request(subjects.direct_get("FILES_all", "mesh.manifest.all"))

    async with asyncio.timeout(WAIT_S):
        assert (await seen.get()).headers == {"Mesh-Bell": "node", "Mesh-Node": NODE1, "Mesh-Serial": "4"}
    assert (stored.headers or {})["Mesh-Generation"] == "7"
