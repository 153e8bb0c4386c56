"""The master's side of the bus over NATS (SPEC.md, sections 4 and 5).

Two connections: one in CTL for everything, one in SYS to have the server read its configuration again and to hear
which connections end.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg

from protocol import codec, headers, permissions, subjects
from protocol.bus import (
    CHUNK_BYTES,
    EVENTS_PER_BATCH,
    Box,
    Connected,
    Disconnected,
    Guard,
    Handler,
    MasterEvent,
    NodeLeft,
    Reply,
    StatusHeard,
    unguarded,
)
from protocol.errors import Unavailable
from protocol.job_messages import JobBoard
from protocol.key_messages import KeyInfo, Trust
from protocol.messages import (
    Assignment,
    FileEvent,
    Manifest,
    ManifestHead,
    NodeBell,
    ScopeBell,
    chunks,
)
from protocol.names import Digest, NodeName, ScopeName
from protocol.nats_bus import clients, direct, streams
from protocol.nats_bus.api_service import ApiService
from protocol.nats_bus.clients import Address, Endpoint
from protocol.nats_bus.connection import Connection
from protocol.nats_bus.requests import NobodyAnswers, header
from protocol.sealing import envelopes
from protocol.sealing.questions import Questioner
from protocol.sealing.signatures import Signer

CHUNKS_IN_FLIGHT = 8


class NatsMasterBus:
    """Implements `MasterBus`. `open` returns when connected for the first time. What nodes act on goes out signed."""

    def __init__(
        self,
        endpoint: Endpoint,
        seed: str,
        system_seed: str,
        hear: Callable[[MasterEvent], None],
        *,
        signer: Signer,
        version: str,
    ) -> None:
        self._hear = hear
        self._signer = signer
        self._trusted = signer.trusted
        self._stored: dict[ScopeName, dict[Digest, int]] = {}
        self._api = ApiService(version)
        self._connection = Connection(
            Address(endpoint, seed, "gnt-mesh-master", "_INBOX_master"),
            prepare=self._prepare,
            changed=self._changed,
            complained=lambda reason: None,
        )
        self._system = Connection(
            Address(endpoint, system_seed, "gnt-mesh-master (system)", "_INBOX_master"),
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

    async def drain(self) -> None:
        """Answer the operators who have asked, and no more."""
        await self._api.drain()

    async def close(self) -> None:
        await self._api.close()
        await self._connection.close()
        await self._system.close()

    async def prepare(self, scopes: Collection[ScopeName], *, afresh: bool = False) -> None:
        self._stored = {}
        await streams.ensure(self._connection, sorted(scopes), afresh=afresh)

    async def drop_scope(self, scope: ScopeName) -> None:
        self._stored.pop(scope, None)
        for stream in (subjects.files_stream(scope), subjects.blobs_stream(scope)):
            await streams.delete(self._connection, stream)

    async def put_blob(
        self, scope: ScopeName, content: Digest, source: Path, size_bytes: int, *, box: Box | None = None
    ) -> None:
        stored, name = await self._blobs(scope), box.name if box else content
        parts = list(box.parts() if box else chunks(size_bytes, CHUNK_BYTES))
        if stored.get(name, 0) == len(parts):
            return
        stored[name] = 0  # a part of it is there, should this fail half-way: `keep_blobs` has to know
        try:
            await self._store_file(scope, content, source, parts, box)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        stored[name] = len(parts)

    async def drop_blob(self, scope: ScopeName, content: Digest) -> None:
        await streams.purge(self._connection, subjects.blobs_stream(scope), f"mesh.blob.{scope}.{content}.*")
        (await self._blobs(scope)).pop(content, None)

    async def keep_blobs(self, scope: ScopeName, contents: Collection[Digest]) -> int:
        unwanted = sorted(set(await self._blobs(scope)) - set(contents))
        for content in unwanted:
            await self.drop_blob(scope, content)
        return len(unwanted)

    async def publish(self, manifest: Manifest, events: Collection[FileEvent]) -> None:
        head, encoded = envelopes.seal(manifest)
        if not head.inline:
            await self._put_bytes(manifest.scope, head.digest, encoded)
        batch = [(subjects.file_event(e.scope, e.path), codec.encode(e), headers.event_headers(e)) for e in events]
        subject = subjects.manifest(manifest.scope)
        batch.append((subject, envelopes.signed(subject, head, self._signer), headers.manifest_headers(manifest)))
        for start in range(0, len(batch), EVENTS_PER_BATCH):
            await streams.store_batch(self._connection, batch[start : start + EVENTS_PER_BATCH])

    async def head(self, scope: ScopeName) -> ManifestHead | None:
        message = await direct.last(self._connection, subjects.files_stream(scope), subjects.manifest(scope))
        return envelopes.open_head(message.data, scope, self._trusted) if message else None

    async def forget_events(self, events: Collection[FileEvent]) -> None:
        for event in events:
            subject = subjects.file_event(event.scope, event.path)
            await streams.purge(self._connection, subjects.files_stream(event.scope), subject)

    async def assign(self, assignment: Assignment) -> None:
        facts = headers.assignment_headers(assignment)
        subject = subjects.role(assignment.node)
        await streams.store(self._connection, (subject, envelopes.signed(subject, assignment, self._signer), facts))

    async def assignment(self, node: NodeName) -> Assignment | None:
        message = await direct.last(self._connection, subjects.ROLES_STREAM, subjects.role(node))
        return envelopes.read_assignment(message.data, node, self._trusted) if message else None

    async def unassign(self, node: NodeName) -> None:
        await streams.purge(self._connection, subjects.ROLES_STREAM, subjects.role(node))
        await streams.purge(self._connection, subjects.STATUS_STREAM, subjects.status(node))
        await streams.purge(self._connection, subjects.OSREQ_STREAM, subjects.os_request(node))

    async def post_board(self, board: JobBoard) -> None:
        subject, facts = subjects.os_request(board.node), headers.board_headers(board)
        await streams.store(self._connection, (subject, envelopes.signed(subject, board, self._signer), facts))

    async def board(self, node: NodeName) -> JobBoard | None:
        message = await direct.last(self._connection, subjects.OSREQ_STREAM, subjects.os_request(node))
        return envelopes.open_board(message.data, node, self._trusted) if message else None

    async def ring(self, bell: ScopeBell | NodeBell) -> None:
        payload = envelopes.encode_bell(bell, self._signer)
        await self._connection.publish(envelopes.bell_subject(bell), payload, headers.bell_headers(bell))

    async def ring_cluster(self) -> None:
        await self._connection.publish(subjects.CLUSTER_BELL, b"")

    async def statuses(self) -> list[StatusHeard]:
        known = await streams.stored_subjects(self._connection, subjects.STATUS_STREAM, subjects.STATUS_ALL)
        found = []
        for subject in known:
            message = await direct.last(self._connection, subjects.STATUS_STREAM, subject)
            heard = envelopes.open_status(subject, message.data) if message else None
            if isinstance(heard, StatusHeard):
                found.append(heard)
        return found

    async def reload_broker(self) -> None:
        """The answer arrives after the server has applied its file, so what follows sees the new permissions.

        A server that refuses its file goes on as it was. Of several servers only the one we are connected to reloads.
        """
        server = json.loads((await self._system.request("$SYS.REQ.SERVER.PING.IDZ")).data)["id"]
        message = await self._system.request(f"$SYS.REQ.SERVER.{server}.RELOAD", timeout_s=10)
        answer = json.loads(message.data)
        if "error" in answer:
            raise Unavailable(f"the broker refuses its configuration: {answer['error'].get('description')}")

    async def certificates(self) -> tuple[KeyInfo, ...]:
        return clients.certificates(self._connection.client)

    def forget_former(self) -> None:
        self._signer.succession = ()
        self._trusted = self._signer.trusted

    async def is_connected(self, public_key: str) -> bool:
        """Of several servers only the first to answer is heard."""
        body = json.dumps({"auth": True, "user": public_key, "acc": permissions.NODES}).encode()
        answer = json.loads((await self._system.request("$SYS.REQ.SERVER.PING.CONNZ", body)).data)
        return bool(answer.get("data", {}).get("connections"))

    async def serve(self, handlers: Mapping[str, tuple[type, Handler]], guard: Guard = unguarded) -> None:
        await self._api.serve(self._connection.client, handlers, guard)
        await self._connection.settle(f"{streams.API}.INFO")

    def signed_trust(self, node: NodeName, trust: Trust) -> bytes:
        return envelopes.signed(subjects.rpc(node, subjects.TAKE_TRUST), trust, self._signer)

    async def ask_node(
        self, node: NodeName, verb: str, request: object, reply: type[Reply], *, timeout_s: float
    ) -> Reply:
        subject, questioner = subjects.rpc(node, verb), Questioner()
        payload = envelopes.signed(subject, questioner.ask(codec.encode(request)), self._signer)
        try:
            message = await self._connection.request(subject, payload, timeout_s=timeout_s)
        except NobodyAnswers:
            raise Unavailable("its agent is not connected, or cannot answer this yet") from None
        if header(message, "Nats-Service-Error-Code"):
            raise Unavailable(message.data.decode(errors="replace") or header(message, "Nats-Service-Error"))
        return codec.decode(questioner.open(message.data), reply)

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

    async def _store_file(
        self, scope: ScopeName, content: Digest, source: Path, parts: Sequence[tuple[int, int, int]], box: Box | None
    ) -> None:
        """The last chunk goes out once the whole hash is right: what belies its digest never becomes a blob.

        What was sent is waited for even then: the server may store it after a removal that was asked for later.
        """
        slots = asyncio.Semaphore(CHUNKS_IN_FLIGHT)
        hashed = hashlib.sha256()
        async with asyncio.TaskGroup() as group:
            for index, offset, length in parts:
                await slots.acquire()
                part = await asyncio.to_thread(_read_part, source, offset, length)
                hashed.update(part)
                if index == len(parts) - 1 and hashed.hexdigest() != content:
                    break
                name, data = (box.name, box.seal(index, part)) if box else (content, part)
                task = group.create_task(self._store_chunk(scope, name, index, data))
                task.add_done_callback(lambda _: slots.release())
        if hashed.hexdigest() != content:
            raise Unavailable(f"{source.parent}: a content is not what it was any more")

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
        self._hear(envelopes.open_status(message.subject, message.data))

    async def _on_ask(self, message: Msg) -> None:
        self._hear(envelopes.open_question(message.subject, message.data))

    async def _on_disconnect(self, message: Msg) -> None:
        key = str(json.loads(message.data).get("client", {}).get("user", ""))
        try:
            is_gone = bool(key) and not await self.is_connected(key)  # it may have come anew before it left
        except Unavailable:
            return
        if is_gone:
            self._hear(NodeLeft(key))

    def _changed(self, connected: bool, reason: str) -> None:
        self._stored = {}
        self._hear(Connected() if connected else Disconnected(reason))


def _read_part(source: Path, offset: int, length: int) -> bytes:
    try:
        with source.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as error:
        raise Unavailable(f"{source.parent}: a stored content cannot be read: {error.strerror}") from error
