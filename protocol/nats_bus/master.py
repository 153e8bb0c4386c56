"""The master's side of the bus over NATS (SPEC.md, sections 4 and 5).

Two connections: one in CTL for everything, one in SYS to have the server read its configuration again and to hear
which connections end.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg

from protocol import codec, headers, permissions, subjects
from protocol.bus import (
    CHUNK_BYTES,
    EVENTS_PER_BATCH,
    MANIFEST_INLINE_BYTES_MAX,
    BlobAsked,
    Connected,
    Disconnected,
    Garbled,
    Handler,
    MasterEvent,
    NodeLeft,
    StatusHeard,
)
from protocol.errors import DecodeError, Unavailable
from protocol.messages import (
    Assignment,
    BlobWanted,
    FileEvent,
    Manifest,
    ManifestHead,
    NodeBell,
    ScopeBell,
    Status,
    chunks,
)
from protocol.names import Digest, NodeName, ScopeName
from protocol.nats_bus import direct, streams
from protocol.nats_bus.api_service import ApiService
from protocol.nats_bus.connection import Address, Connection

CHUNKS_IN_FLIGHT = 8


class NatsMasterBus:
    """Implements `MasterBus`. `open` returns when connected for the first time."""

    def __init__(
        self, url: str, seed: str, system_seed: str, hear: Callable[[MasterEvent], None], *, version: str
    ) -> None:
        self._hear = hear
        self._stored: dict[ScopeName, dict[Digest, int]] = {}
        self._api = ApiService(version)
        self._connection = Connection(
            Address(url, seed, "gnt-mesh-master", "_INBOX_master"),
            prepare=self._prepare,
            changed=self._changed,
            complained=lambda reason: None,
        )
        self._system = Connection(
            Address(url, system_seed, "gnt-mesh-master (system)", "_INBOX_master"),
            prepare=self._prepare_system,
            changed=lambda connected, reason: None,
            complained=lambda reason: None,
        )

    @property
    def broker_version(self) -> str:
        return self._connection.server_version

    async def open(self) -> None:
        await self._system.open()
        await self._connection.open()

    async def close(self) -> None:
        await self._connection.close()
        await self._system.close()

    async def prepare(self, scopes: Collection[ScopeName], *, afresh: bool = False) -> None:
        self._stored = {}
        await streams.ensure(self._connection, sorted(scopes), afresh=afresh)

    async def drop_scope(self, scope: ScopeName) -> None:
        self._stored.pop(scope, None)
        for stream in (subjects.files_stream(scope), subjects.blobs_stream(scope)):
            await streams.delete(self._connection, stream)

    async def put_blob(self, scope: ScopeName, content: Digest, source: Path, size_bytes: int) -> None:
        stored = await self._blobs(scope)
        count = len(list(chunks(size_bytes, CHUNK_BYTES)))
        if stored.get(content, 0) == count:
            return
        slots = asyncio.Semaphore(CHUNKS_IN_FLIGHT)

        async def put(index: int, offset: int, length: int) -> None:
            async with slots:
                part = await asyncio.to_thread(_read_part, source, offset, length)
                await self._store_chunk(scope, content, index, part)

        async with asyncio.TaskGroup() as group:
            for chunk in chunks(size_bytes, CHUNK_BYTES):
                group.create_task(put(*chunk))
        stored[content] = count

    async def keep_blobs(self, scope: ScopeName, contents: Collection[Digest]) -> int:
        stored = await self._blobs(scope)
        unwanted = sorted(set(stored) - set(contents))
        for content in unwanted:
            await streams.purge(self._connection, subjects.blobs_stream(scope), f"mesh.blob.{scope}.{content}.*")
            del stored[content]
        return len(unwanted)

    async def publish(self, manifest: Manifest, events: Collection[FileEvent]) -> None:
        encoded = codec.encode(manifest)
        digest = Digest(hashlib.sha256(encoded).hexdigest())
        is_inline = len(encoded) <= MANIFEST_INLINE_BYTES_MAX
        if not is_inline:
            await self._put_bytes(manifest.scope, digest, encoded)
        head = ManifestHead(
            scope=manifest.scope,
            epoch=manifest.epoch,
            generation=manifest.generation,
            digest=digest,
            size_bytes=len(encoded),
            inline=encoded if is_inline else b"",
        )
        batch = [(subjects.file_event(e.scope, e.path), codec.encode(e), headers.event_headers(e)) for e in events]
        batch.append((subjects.manifest(manifest.scope), codec.encode(head), headers.manifest_headers(manifest)))
        for start in range(0, len(batch), EVENTS_PER_BATCH):
            await streams.store_batch(self._connection, batch[start : start + EVENTS_PER_BATCH])

    async def head(self, scope: ScopeName) -> ManifestHead | None:
        message = await direct.last(self._connection, subjects.files_stream(scope), subjects.manifest(scope))
        return codec.decode(message.data, ManifestHead) if message else None

    async def forget_events(self, events: Collection[FileEvent]) -> None:
        for event in events:
            subject = subjects.file_event(event.scope, event.path)
            await streams.purge(self._connection, subjects.files_stream(event.scope), subject)

    async def assign(self, assignment: Assignment) -> None:
        facts = headers.assignment_headers(assignment)
        await streams.store(self._connection, (subjects.role(assignment.node), codec.encode(assignment), facts))

    async def assignment(self, node: NodeName) -> Assignment | None:
        message = await direct.last(self._connection, subjects.ROLES_STREAM, subjects.role(node))
        return codec.decode(message.data, Assignment) if message else None

    async def unassign(self, node: NodeName) -> None:
        await streams.purge(self._connection, subjects.ROLES_STREAM, subjects.role(node))
        await streams.purge(self._connection, subjects.STATUS_STREAM, subjects.status(node))

    async def ring(self, bell: ScopeBell | NodeBell) -> None:
        subject = subjects.scope_bell(bell.scope) if isinstance(bell, ScopeBell) else subjects.node_bell(bell.node)
        await self._connection.publish(subject, codec.encode(bell), headers.bell_headers(bell))

    async def ring_cluster(self) -> None:
        await self._connection.publish(subjects.CLUSTER_BELL, b"")

    async def statuses(self) -> list[StatusHeard]:
        known = await streams.stored_subjects(self._connection, subjects.STATUS_STREAM, subjects.STATUS_ALL)
        found = []
        for subject in known:
            message = await direct.last(self._connection, subjects.STATUS_STREAM, subject)
            heard = _status_in(subject, message.data) if message else None
            if isinstance(heard, StatusHeard):
                found.append(heard)
        return found

    async def reload_broker(self) -> None:
        """The answer arrives after the server has applied its file, so what follows sees the new permissions."""
        server = json.loads((await self._system.request("$SYS.REQ.SERVER.PING.IDZ")).data)["id"]
        message = await self._system.request(f"$SYS.REQ.SERVER.{server}.RELOAD", timeout_s=10)
        answer = json.loads(message.data)
        if "error" in answer:
            raise Unavailable(f"the broker refuses its configuration: {answer['error'].get('description')}")

    async def serve(self, handlers: Mapping[str, tuple[type, Handler]]) -> None:
        await self._api.serve(self._connection.client, handlers)

    async def _blobs(self, scope: ScopeName) -> dict[Digest, int]:
        """Return how many chunks of each blob the broker holds, asked once per connection."""
        if scope not in self._stored:
            prefix = f"mesh.blob.{scope}."
            known = await streams.stored_subjects(self._connection, subjects.blobs_stream(scope), f"{prefix}>")
            counts: dict[Digest, int] = {}
            for subject in known:
                content = Digest(subject.removeprefix(prefix).partition(".")[0])
                counts[content] = counts.get(content, 0) + 1
            self._stored[scope] = counts
        return self._stored[scope]

    async def _put_bytes(self, scope: ScopeName, content: Digest, data: bytes) -> None:
        parts = list(chunks(len(data), CHUNK_BYTES))
        for index, offset, length in parts:
            await self._store_chunk(scope, content, index, data[offset : offset + length])
        (await self._blobs(scope))[content] = len(parts)

    async def _store_chunk(self, scope: ScopeName, content: Digest, index: int, part: bytes) -> None:
        await streams.store(self._connection, (subjects.blob(scope, content, index), part, {}))

    async def _prepare(self, client: Client) -> None:
        await client.subscribe(subjects.STATUS_ALL, cb=self._on_status)
        await client.subscribe(subjects.ASK_ALL, cb=self._on_ask)
        await self._api.start(client)

    async def _prepare_system(self, client: Client) -> None:
        await client.subscribe(f"$SYS.ACCOUNT.{permissions.NODES}.DISCONNECT", cb=self._on_disconnect)

    async def _on_status(self, message: Msg) -> None:
        self._hear(_status_in(message.subject, message.data))

    async def _on_ask(self, message: Msg) -> None:
        try:
            node = subjects.node_of(message.subject.split(".")[2])
            wanted = codec.decode(message.data, BlobWanted)
            if wanted.node != node:
                raise DecodeError(f"claims to be from {wanted.node}")
        except (DecodeError, ValueError) as error:
            self._hear(Garbled(message.subject, str(error)))
        else:
            self._hear(BlobAsked(node, wanted))

    async def _on_disconnect(self, message: Msg) -> None:
        key = str(json.loads(message.data).get("client", {}).get("user", ""))
        if key:
            self._hear(NodeLeft(key))

    def _changed(self, connected: bool, reason: str) -> None:
        self._stored = {}
        self._hear(Connected() if connected else Disconnected(reason))


def _status_in(subject: str, data: bytes) -> StatusHeard | Garbled:
    try:
        node = subjects.node_of(subject.split(".")[2])
        status = codec.decode(data, Status)
        if status.node != node:
            raise DecodeError(f"claims to be from {status.node}")
    except (DecodeError, ValueError) as error:
        return Garbled(subject, str(error))
    return StatusHeard(node, status)


def _read_part(source: Path, offset: int, length: int) -> bytes:
    try:
        with source.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as error:
        raise Unavailable(f"{source}: {error.strerror}") from error
