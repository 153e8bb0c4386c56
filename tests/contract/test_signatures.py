"""What nodes act on counts with the master's signature alone, on either bus."""

import dataclasses
from collections.abc import Callable

import pytest

from protocol import codec, subjects
from protocol.bus import Garbled
from protocol.errors import DecodeError
from protocol.messages import Assignment, NodeBell, Signed
from protocol.names import ALL
from protocol.sealing.envelopes import signed
from protocol.sealing.signatures import Signer
from tests.contract.harness import Harness, a_master
from tests.support.builders import NODE1, NODE2, a_manifest
from tests.support.memory_bus import seed_of

THIEF = Signer(seed_of("another mesh"))
ASSIGNMENT = Assignment(node=NODE1, epoch=1, serial=5, scopes=(ALL,))
ROLE = subjects.role(NODE1)
MANIFEST = "mesh.manifest.all"

FORGERIES: dict[str, Callable[[str, object, Signer], bytes]] = {
    "unsigned": lambda subject, message, _: codec.encode(message),
    "by another key": lambda subject, message, _: signed(subject, message, THIEF),
    "of another subject": lambda _, message, signer: signed(subjects.role(NODE2), message, signer),
    "altered": lambda subject, message, signer: _altered(signed(subject, message, signer)),
    "under another's name": lambda subject, message, signer: _renamed(signed(subject, message, THIEF), signer),
    "twice": lambda subject, message, signer: signed(subject, signer.sign(subject, codec.encode(message)), signer),
}


def _altered(data: bytes) -> bytes:
    envelope = codec.decode(data, Signed)
    return codec.encode(dataclasses.replace(envelope, body=envelope.body.replace(b"all", b"ALL", 1)))


def _renamed(data: bytes, signer: Signer) -> bytes:
    return codec.encode(dataclasses.replace(codec.decode(data, Signed), signer=signer.public_key))


@pytest.mark.parametrize("how", FORGERIES)
async def test_a_forged_assignment_is_a_decode_error(bus: Harness, how: str) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    await bus.overwrite(subjects.ROLES_STREAM, ROLE, FORGERIES[how](ROLE, ASSIGNMENT, bus.signer))

    for side in (agent.assignment(), master.assignment(NODE1)):
        with pytest.raises(DecodeError, match="ign"):
            await side

    await master.assign(ASSIGNMENT)
    assert await agent.assignment() == ASSIGNMENT


@pytest.mark.parametrize("how", FORGERIES)
async def test_a_forged_manifest_is_a_decode_error(bus: Harness, how: str) -> None:
    master, _ = await a_master(bus)
    agent, _ = await bus.agent(NODE1)
    await master.publish(a_manifest(), [])
    head = await master.head(ALL)
    await bus.overwrite("FILES_all", MANIFEST, FORGERIES[how](MANIFEST, head, bus.signer))

    for side in (agent.manifest(ALL), master.head(ALL)):
        with pytest.raises(DecodeError, match="ign"):
            await side


@pytest.mark.parametrize("how", FORGERIES)
async def test_a_forged_look_is_not_begun(bus: Harness, how: str) -> None:
    """A look reads a node's whole disk; a scope's bell, which costs one request, needs no signature."""
    master, _ = await a_master(bus)
    agent, ears = await bus.agent(NODE1)
    await agent.listen([ALL])
    bell = NodeBell(node=NODE1, epoch=1, serial=1, look="forged-all")
    subject = subjects.node_bell(NODE1)

    await bus.inject(subject, FORGERIES[how](subject, bell, bus.signer))

    assert "ign" in (await ears.next(Garbled)).reason
    await master.ring(dataclasses.replace(bell, look="true"))
    assert (await ears.next(NodeBell)).look == "true"
