"""Secrets on the bus: who has the key reads them, everybody else sees names, and nothing can be put in their place."""

import dataclasses
from pathlib import Path

import pytest

from master.vault import Vault, open_vault
from protocol.bus import CHUNK_BYTES, AgentBus, MasterBus
from protocol.errors import Unavailable
from protocol.messages import Assignment, FileEntry, FileEvent, Manifest
from protocol.names import ALL, NodeName
from tests.contract.harness import Harness, a_master
from tests.support.builders import NODE1, NODE2, an_entry

PASSWORD = b"correct horse battery staple"
LARGE = PASSWORD * 40_000


def a_secret(content: bytes = PASSWORD, path: str = "/etc/secret") -> FileEntry:
    return dataclasses.replace(an_entry(path, content=content), secret=True)


class Sealing:
    """What the publisher does, in few words."""

    def __init__(self, bus: Harness, master: MasterBus, directory: Path) -> None:
        self.bus, self.master, self.directory = bus, master, directory
        self.vault: Vault = open_vault(directory / "state")
        self.vault.ensure([ALL])

    async def assign(self, node: NodeName, serial: int = 1, *, reader: NodeName | None = None) -> None:
        keys = self.vault.wrapped([ALL], self.bus.public_key(reader or node))
        await self.master.assign(Assignment(node=node, epoch=1, serial=serial, scopes=(ALL,), keys=keys))

    async def publish(self, *contents: bytes, generation: int = 1) -> Manifest:
        files = tuple(a_secret(content, f"/etc/{number}") for number, content in enumerate(contents))
        for entry, content in zip(files, contents, strict=True):
            source = self.directory / entry.digest
            source.write_bytes(content)
            box = self.vault.box(ALL, entry)
            await self.master.put_blob(ALL, entry.digest, source, entry.size_bytes, box=box)
        manifest = Manifest(scope=ALL, epoch=1, generation=generation, files=files)
        events = [
            FileEvent(scope=ALL, epoch=1, generation=1, path=entry.path, change="changed", entry=entry)
            for entry in files
        ]
        await self.master.publish(self.vault.sealed(manifest), [self.vault.public_event(event) for event in events])
        return manifest


async def sealing(bus: Harness, directory: Path) -> tuple[Sealing, AgentBus]:
    master, _ = await a_master(bus, {NODE1: [ALL], NODE2: [ALL]})
    agent, _ = await bus.agent(NODE1)
    here = Sealing(bus, master, directory)
    await here.assign(NODE1)
    return here, agent


async def content(agent: AgentBus, entry: FileEntry) -> bytes:
    return b"".join([part async for part in agent.secret(ALL, entry)])


@pytest.mark.parametrize("secret", [b"", PASSWORD, LARGE], ids=["empty", "short", "of three chunks"])
async def test_a_node_with_the_key_reads_what_was_sealed(bus: Harness, tmp_path: Path, secret: bytes) -> None:
    here, agent = await sealing(bus, tmp_path)
    manifest = await here.publish(secret)

    assert await agent.manifest(ALL) == manifest
    assert await content(agent, manifest.files[0]) == secret


async def test_what_lies_on_the_bus_has_another_name_and_is_stored_once(bus: Harness, tmp_path: Path) -> None:
    here, agent = await sealing(bus, tmp_path)
    manifest = await here.publish(LARGE)
    stored = await bus.stored("BLOBS_all")

    await here.publish(LARGE)

    assert await bus.stored("BLOBS_all") == stored
    name = agent.blob_name(ALL, manifest.files[0]) or here.vault.name(ALL, manifest.files[0])
    assert stored == {f"mesh.blob.all.{name}.{index}" for index in range(3)}
    assert not any(manifest.files[0].digest in subject for subject in stored)
    assert await here.master.keep_blobs(ALL, [name]) == 0
    assert await here.master.keep_blobs(ALL, []) == 1


async def test_a_node_without_the_key_cannot_even_name_a_secret(bus: Harness, tmp_path: Path) -> None:
    """It has been let in too early, or its key was wrapped for who it was before."""
    here, _ = await sealing(bus, tmp_path)
    other, _ = await bus.agent(NODE2)
    await here.assign(NODE2, reader=NODE1)
    manifest = await here.publish(PASSWORD)

    for asked in (other.manifest(ALL), content(other, manifest.files[0])):
        with pytest.raises(Unavailable, match="has not been given the key"):
            await asked
    assert other.blob_name(ALL, manifest.files[0]) is None


async def test_a_renewed_key_is_fetched_when_it_is_needed(bus: Harness, tmp_path: Path) -> None:
    """The bell of the new generation may be heard before the one of the assignment."""
    here, agent = await sealing(bus, tmp_path)
    await here.publish(PASSWORD)
    await agent.manifest(ALL)

    here.vault.renew([ALL])
    await here.assign(NODE1, 2)
    manifest = await here.publish(PASSWORD, generation=2)

    assert await agent.manifest(ALL) == manifest
    assert await content(agent, manifest.files[0]) == PASSWORD
    assert len(await bus.stored("BLOBS_all")) == 2, "the same content under another key has another name"


async def test_a_content_that_was_sealed_anew_is_read_at_the_second_try(bus: Harness, tmp_path: Path) -> None:
    """A repair comes from a manifest that the node has had for long, and the key may have been renewed since."""
    here, agent = await sealing(bus, tmp_path)
    (entry,) = (await here.publish(PASSWORD)).files
    assert await content(agent, entry) == PASSWORD
    here.vault.renew([ALL])
    await here.assign(NODE1, 2)
    await here.publish(PASSWORD, generation=2)
    await here.master.keep_blobs(ALL, [here.vault.name(ALL, entry)])

    with pytest.raises(Unavailable, match="lacks chunk 0"):
        await content(agent, entry)

    assert await content(agent, entry) == PASSWORD
    assert agent.blob_name(ALL, entry) == here.vault.name(ALL, entry)


@pytest.mark.parametrize("how", ["another's", "another chunk", "plain", "empty", "one bit"])
async def test_nothing_can_be_put_in_the_place_of_a_secret(bus: Harness, tmp_path: Path, how: str) -> None:
    here, agent = await sealing(bus, tmp_path)
    manifest = await here.publish(LARGE, b"other" * CHUNK_BYTES)
    entry, other = manifest.files
    box, other_box = here.vault.box(ALL, entry), here.vault.box(ALL, other)
    assert box and other_box
    genuine = box.seal(0, LARGE[:CHUNK_BYTES])
    payload = {
        "another's": other_box.seal(0, (b"other" * CHUNK_BYTES)[:CHUNK_BYTES]),
        "another chunk": box.seal(1, LARGE[CHUNK_BYTES : 2 * CHUNK_BYTES]),
        "plain": LARGE[:CHUNK_BYTES],
        "empty": b"",
        "one bit": bytes([genuine[0] ^ 1]) + genuine[1:],
    }[how]
    await bus.overwrite("BLOBS_all", f"mesh.blob.all.{box.name}.0", payload)

    with pytest.raises(Unavailable, match="chunk 0"):
        await content(agent, entry)

    assert await content(agent, other) == b"other" * CHUNK_BYTES
