"""Generations: what the master publishes is what agents read, whole or not at all."""

import pytest

from protocol import codec, subjects
from protocol.bus import MANIFEST_INLINE_BYTES_MAX, BlobAsked
from protocol.errors import DecodeError, Unavailable
from protocol.messages import Assignment, FileEvent
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, managed_path
from protocol.sealing.envelopes import signed
from tests.contract.harness import Harness, a_master
from tests.support.builders import NODE1, NODE2, a_manifest, events_of, many_paths

LONGEST = "/" + "/".join(["é" * 127] * 4 + ["x" * 3])


async def test_a_published_manifest_is_read_as_it_was(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    manifest = a_manifest("/etc/hosts", "/etc/ganeti/x.conf", generation=7)

    await master.publish(manifest, events_of(manifest))

    assert await agent.manifest(ALL) == manifest
    head = await master.head(ALL)
    assert head is not None
    assert (head.version, head.inline) == ((1, 7), codec.encode(manifest))


async def test_before_the_first_generation_there_is_no_manifest(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)

    assert await agent.manifest(ALL) is None
    assert await master.head(ALL) is None


async def test_a_scope_without_streams_is_unavailable(bus: Harness) -> None:
    """None would mean: this scope has no files."""
    master, _ = await a_master(bus, {NODE1: [ALL, VM_CAPABLE]})
    agent, _ = await bus.agent(NODE1)

    with pytest.raises(Unavailable):
        await agent.manifest(VM_CAPABLE)
    with pytest.raises(Unavailable):
        await master.head(VM_CAPABLE)
    with pytest.raises(Unavailable):
        await master.publish(a_manifest(scope=VM_CAPABLE), [])


async def test_the_last_published_manifest_counts(bus: Harness) -> None:
    """Also if its generation is lower: which one wins is the readers' decision, not the bus's."""
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    for generation in (3, 9, 4):
        await master.publish(a_manifest(generation=generation), [])

    manifest = await agent.manifest(ALL)

    assert manifest and manifest.generation == 4


async def test_each_changed_file_leaves_one_event(bus: Harness) -> None:
    master, _ = await a_master(bus)
    manifest = a_manifest("/etc/hosts", LONGEST, "/etc/.x y")
    removed = FileEvent(scope=ALL, epoch=1, generation=2, path=managed_path("/etc/.x y"), change="removed")

    await master.publish(manifest, events_of(manifest))
    await master.publish(a_manifest("/etc/hosts", LONGEST, generation=2), [removed])

    paths = [entry.path for entry in manifest.files]
    assert await bus.stored("FILES_all") == {subjects.file_event(ALL, path) for path in paths} | {"mesh.manifest.all"}


async def test_a_generation_may_have_more_events_than_a_batch_holds(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    manifest = a_manifest(*many_paths(2100))

    await master.publish(manifest, events_of(manifest))

    assert len(await bus.stored("FILES_all")) == 2101
    assert await agent.manifest(ALL) == manifest


async def test_a_large_manifest_travels_as_a_blob(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    manifest = a_manifest(*many_paths(3500))
    assert len(codec.encode(manifest)) > 2 * MANIFEST_INLINE_BYTES_MAX

    await master.publish(manifest, [])

    head = await master.head(ALL)
    assert head and head.inline == b""
    assert await agent.manifest(ALL) == manifest


async def test_a_manifest_whose_blob_is_gone_is_asked_for(bus: Harness) -> None:
    """Nobody but the bus knows that there is a blob behind it."""
    master, heard = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    await master.publish(a_manifest(*many_paths(3500)), [])
    head = await master.head(ALL)
    assert head
    await bus.lose("BLOBS_all", subjects.blob(ALL, head.digest, 0))

    with pytest.raises(Unavailable):
        await agent.manifest(ALL)

    asked = await heard.next(BlobAsked)
    assert (asked.node, asked.wanted.scope, asked.wanted.digest) == (NODE1, ALL, head.digest)


async def test_what_is_no_manifest_is_a_decode_error(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    await bus.overwrite("FILES_all", "mesh.manifest.all", b"\xc1")

    with pytest.raises(DecodeError):
        await agent.manifest(ALL)
    with pytest.raises(DecodeError):
        await master.head(ALL)


async def test_a_manifest_under_another_scope_is_a_decode_error(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    await master.publish(a_manifest(scope=MASTER_CANDIDATES), [])
    head = await master.head(MASTER_CANDIDATES)
    await bus.overwrite("FILES_all", "mesh.manifest.all", signed("mesh.manifest.all", head, bus.signer))

    with pytest.raises(DecodeError, match="master-candidates"):
        await agent.manifest(ALL)


async def test_forgotten_events_are_gone_and_others_stay(bus: Harness) -> None:
    master, _ = await a_master(bus)
    manifest = a_manifest("/etc/a", "/etc/b", LONGEST)
    events = events_of(manifest)
    await master.publish(manifest, events)

    await master.forget_events(events[1:])
    await master.forget_events(events[1:])

    assert await bus.stored("FILES_all") == {"mesh.files.all.etc/a", "mesh.manifest.all"}


async def test_a_dropped_scope_is_gone_and_others_stay(bus: Harness) -> None:
    master, _ = await a_master(bus)
    await master.publish(a_manifest(), [])

    await master.drop_scope(MASTER_CANDIDATES)
    await master.drop_scope(MASTER_CANDIDATES)

    assert await master.head(ALL)
    with pytest.raises(Unavailable):
        await master.head(MASTER_CANDIDATES)


async def test_preparing_again_keeps_what_is_stored(bus: Harness) -> None:
    master, _ = await a_master(bus)
    await master.publish(a_manifest(generation=3), [])

    await master.prepare([ALL, VM_CAPABLE])

    head = await master.head(ALL)
    assert head and head.generation == 3
    assert await master.head(VM_CAPABLE) is None


async def test_a_node_reads_its_own_assignment(bus: Harness) -> None:
    master, _ = await a_master(bus, {NODE1: [ALL], NODE2: [ALL]})
    agent1, _ = await bus.agent(NODE1)
    agent2, _ = await bus.agent(NODE2)
    assignment = Assignment(node=NODE1, epoch=1, serial=5, scopes=(ALL, MASTER_CANDIDATES))

    await master.assign(assignment)

    assert await agent1.assignment() == assignment
    assert await master.assignment(NODE1) == assignment
    assert await agent2.assignment() is None


async def test_an_unassigned_node_has_no_assignment(bus: Harness) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    await master.assign(Assignment(node=NODE1, epoch=1, serial=5, scopes=(ALL,)))

    await master.unassign(NODE1)
    await master.unassign(NODE1)

    assert await agent.assignment() is None
    assert await master.assignment(NODE1) is None
