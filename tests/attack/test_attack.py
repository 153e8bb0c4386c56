"""The walls hold against whoever has credentials and ill will; and the attack sees: with the master's it succeeds.

Each test is one set of credentials and every route of `routes`. Afterwards the service goes on as if nothing had been.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from nats.errors import Error as NatsError

from protocol import subjects
from protocol.access_messages import AccessAdd
from protocol.errors import DecodeError, Unavailable
from protocol.names import ALL, MASTER_CANDIDATES
from protocol.nats_bus import direct
from protocol.operator_messages import Changed, NodeModify, NodeRemove
from protocol.sealing.boxes import ContentBox, new_scope_key
from tests.attack.attacker import attack
from tests.support.walled import CANDIDATE, MASTER, OPEN_FILE, REGULAR, SECRET, SECRET_FILE, Raw, Walled, walled

NEW_SECRET = b"a secret that came later\n"
ATTEMPTS_MIN = 1400


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Walled]:
    async with walled(tmp_path) as running:
        yield running


def telling(cluster: Walled, secret: bytes = SECRET) -> tuple[bytes, ...]:
    """What must not be read: the content, and what the manifest of the candidates says of it."""
    manifest = cluster.daemon.desired.manifests[MASTER_CANDIDATES]
    digest = next(entry.digest for entry in manifest.files if entry.path == SECRET_FILE)
    return (secret.strip(), digest.encode(), SECRET_FILE.encode())


def own_of(node: str) -> tuple[str, ...]:
    return (f"mesh.status.{node}", f"mesh.os.log.{node}.job1", f"mesh.ask.{node}.blob")


async def attack_as_node(cluster: Walled, attacker: Raw, node: str, secret: bytes = SECRET) -> None:
    settles = f"$JS.API.DIRECT.GET.ROLES.mesh.role.{node}"
    found = await attack(
        cluster, attacker, f"_INBOX_{node}", own=own_of(node), settles=settles, secrets=telling(cluster, secret)
    )
    assert (found.read, found.written) == (set(), set())
    assert found.attempts > ATTEMPTS_MIN
    await goes_on(cluster)


async def goes_on(cluster: Walled) -> None:
    """A change reaches the bus, and a node reads it; nothing has to be restored for that."""
    before = cluster.daemon.desired.manifests[ALL].generation
    cluster.source(OPEN_FILE).write_bytes(f"after generation {before}\n".encode())
    await cluster.daemon.desired.refresh(None, "test")
    manifest = cluster.daemon.desired.manifests[ALL]
    assert manifest.generation > before and not cluster.daemon.desired.restore_due.is_set()
    node = await cluster.as_node(MASTER)
    message = await direct.last(node.connection, f"FILES_{ALL}", f"mesh.manifest.{ALL}")
    assert message and next(e.digest for e in manifest.files if e.path == OPEN_FILE).encode() in message.data


async def test_a_regular_node_reads_and_forges_nothing(cluster: Walled) -> None:
    await attack_as_node(cluster, await cluster.as_node(REGULAR), REGULAR)


async def test_a_demoted_node_reads_nothing_that_came_later(cluster: Walled) -> None:
    """On the connection that it had as a candidate."""
    attacker = await cluster.as_node(CANDIDATE)
    await cluster.ask("node.modify", NodeModify(name=CANDIDATE, master_candidate=False), Changed)
    cluster.source(SECRET_FILE).write_bytes(NEW_SECRET)
    await cluster.daemon.desired.refresh(None, "test")
    await attack_as_node(cluster, attacker, CANDIDATE, NEW_SECRET)


async def test_a_removed_node_does_not_come_in(cluster: Walled) -> None:
    attacker = await cluster.as_node(CANDIDATE)
    lost = asyncio.Event()
    attacker.changed = lambda is_up: None if is_up else lost.set()  # type: ignore[method-assign]
    await cluster.ask("node.remove", NodeRemove(name=CANDIDATE), Changed)
    async with asyncio.timeout(1.0):
        await lost.wait()

    with pytest.raises(Unavailable):
        await attacker.connection.request(f"$JS.API.DIRECT.GET.FILES_{ALL}.mesh.manifest.{ALL}")
    for inbox in (subjects.inbox_prefix(CANDIDATE), "_INBOX_master", "_INBOX_join"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.8):
                await cluster.raw(cluster.server.node_seed(CANDIDATE), inbox)
    await goes_on(cluster)


async def test_an_observer_reads_no_secret_and_changes_nothing(cluster: Walled) -> None:
    request = AccessAdd(name="olivia", role="observer", public_key=cluster.server.user_key("olivia"))
    await cluster.ask("access.add", request, Changed)
    attacker = await cluster.raw(cluster.server.user_seed("olivia"), "_INBOX_olivia")
    serial = cluster.daemon.desired.config.serial_no

    found = await attack(cluster, attacker, "_INBOX_olivia", own=(), settles="OPS.API.INFO", secrets=telling(cluster))

    assert (found.read, found.written) == (set(), set())
    assert found.attempts > ATTEMPTS_MIN
    assert cluster.daemon.desired.config.serial_no == serial
    await goes_on(cluster)


async def test_who_is_not_in_yet_reads_and_forges_nothing(cluster: Walled) -> None:
    attacker = await cluster.raw(cluster.server.keys.join, "_INBOX_join")
    found = await attack(cluster, attacker, "_INBOX_join", own=(), settles="mesh.api.join", secrets=telling(cluster))
    assert (found.read, found.written) == (set(), set())
    await goes_on(cluster)


async def test_the_same_attack_succeeds_with_the_masters_credentials(cluster: Walled) -> None:
    """Else it would prove nothing: a blind attacker finds no hole in any wall."""
    attacker = await cluster.raw(cluster.server.keys.master, "_INBOX_thief")
    found = await attack(cluster, attacker, "_INBOX_thief", own=(), settles="$JS.API.INFO", secrets=telling(cluster))
    assert len(found.read) > 15, "the manifest still tells the path, whatever seals the content"
    assert len(found.written) > 20


async def test_who_reads_everything_and_has_the_key_of_the_scope_sees_the_content(cluster: Walled) -> None:
    """So what the attack looks for is really there; without the key nobody finds it, the administrator included."""
    reader, vault = await cluster.raw(cluster.server.keys.admin, "_INBOX_reader"), cluster.daemon.desired.vault
    manifest = cluster.daemon.desired.manifests[MASTER_CANDIDATES]
    entry, key = next(e for e in manifest.files if e.path == SECRET_FILE), vault.key(MASTER_CANDIDATES)
    assert key
    box = ContentBox(key, entry)
    subject = subjects.blob(MASTER_CANDIDATES, box.name, 0)

    message = await direct.last(reader.connection, subjects.blobs_stream(MASTER_CANDIDATES), subject)

    assert message and SECRET not in message.data and box.open(0, message.data, len(SECRET)) == SECRET
    with pytest.raises(DecodeError):
        ContentBox(new_scope_key(), entry).open(0, message.data, len(SECRET))


async def test_nobody_stops_the_service_with_its_own_rights(cluster: Walled) -> None:
    """Messages too large, a flood of its own statuses, subscriptions without end, and answers that it never takes."""
    attacker = await cluster.as_node(REGULAR)
    client = attacker.connection.client

    async def never(message: object) -> None:
        await asyncio.Event().wait()

    for number in range(2000):
        await client.subscribe(f"_INBOX_{REGULAR}.{number}", cb=never)
    for number in range(2000):
        await client.publish(f"mesh.status.{REGULAR}", b"x" * 1000, reply=f"_INBOX_{REGULAR}.{number}")
        await client.publish(f"$JS.API.DIRECT.GET.FILES_{ALL}", b'{"seq":1,"batch":1000}', reply=f"_INBOX_{REGULAR}.1")
    await goes_on(cluster)

    with pytest.raises((Unavailable, NatsError)):
        client._max_payload = 64 * 1024 * 1024
        await client.publish(f"mesh.status.{REGULAR}", b"x" * (2 * 1024 * 1024))
        await attacker.connection.settle(f"$JS.API.DIRECT.GET.ROLES.mesh.role.{REGULAR}")
    await goes_on(cluster)
