"""Spot checks that the server enforces the table; a program that attacks it is elsewhere."""

import asyncio

import pytest

from protocol import subjects
from protocol.errors import Unavailable
from protocol.names import ALL
from tests.contract.harness import SOON_S, NatsHarness, a_master, gathered
from tests.support.builders import NODE1, NODE2


@pytest.mark.parametrize(
    "subject",
    [
        subjects.status(NODE2),
        subjects.ask_blob(NODE2),
        subjects.manifest(ALL),
        "mesh.files.all.etc/hosts",
        subjects.scope_bell(ALL),
        subjects.node_bell(NODE2),
        subjects.api("status"),
        subjects.rpc(NODE2, "status"),
        "$JS.API.DIRECT.GET.STATUS.mesh.status.node2",
        "$JS.API.DIRECT.GET.FILES_master-candidates",
        "$JS.API.DIRECT.GET.ROLES.mesh.role.node2",
        "$JS.API.DIRECT.GET.BLOBS_all",
        "$JS.API.STREAM.INFO.FILES_all",
        "$JS.API.CONSUMER.CREATE.FILES_all",
        "$SYS.REQ.SERVER.PING",
        f"_INBOX_{subjects.token(NODE2)}.x",
    ],
)
async def test_a_node_may_not_say(nats_bus: NatsHarness, subject: str) -> None:
    await a_master(nats_bus, {NODE1: [ALL], NODE2: [ALL]})
    node = await nats_bus.raw(nats_bus.server.node_seed(NODE1), subjects.inbox_prefix(NODE1))

    async with asyncio.timeout(SOON_S):
        with pytest.raises(Unavailable, match="permit"):
            await node.request(subject)


@pytest.mark.parametrize(
    "subject",
    [
        ">",
        "mesh.>",
        "mesh.bell.>",
        "mesh.bell.scope.master-candidates",
        "mesh.bell.cluster",
        "mesh.bell.node.node2",
        "mesh.status.>",
        "mesh.rpc.*.>",
        "_INBOX_node2.>",
        "_INBOX.>",
        "$SRV.>",
        "$JS.>",
    ],
)
async def test_a_node_may_not_hear(nats_bus: NatsHarness, subject: str) -> None:
    await a_master(nats_bus, {NODE1: [ALL], NODE2: [ALL]})
    agent, _ = await nats_bus.agent(NODE1)
    connection = agent._connection  # type: ignore[attr-defined]

    async def ignore(message: object) -> None: ...

    await connection.client.subscribe(subject, cb=ignore)
    await connection.settle(subjects.direct_get("ROLES", subjects.role(NODE1)))

    (stats,) = await gathered(nats_bus, "$SRV.STATS.gnt-mesh-agent", count=1)
    assert f'subscription to "{subject.lower()}' in stats["endpoints"][0]["data"]["complaint"]
