"""A node's side of the bus over NATS (SPEC.md, section 4)."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping
from functools import partial
from itertools import chain

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from protocol import codec, subjects
from protocol.bus import CHUNK_BYTES, AgentEvent, AsSigned, Connected, Disconnected, Handler, Witness
from protocol.errors import DecodeError, Unavailable
from protocol.headers import status_headers
from protocol.job_messages import JobBoard, JobReport
from protocol.key_messages import Trust
from protocol.messages import (
    Assignment,
    BlobWanted,
    FileEntry,
    Manifest,
    ManifestHead,
    Status,
    chunks,
)
from protocol.names import Digest, NodeName, ScopeName
from protocol.nats_bus import direct
from protocol.nats_bus.authorities import check
from protocol.nats_bus.clients import Address, Endpoint
from protocol.nats_bus.connection import Connection
from protocol.nats_bus.node_service import NodeService
from protocol.nats_bus.openings import Openings
from protocol.os_names import JobId
from protocol.sealing import envelopes
from protocol.sealing.boxes import ContentBox
from protocol.sealing.keyring import Keyring

CHUNKS_IN_FLIGHT = 4


class NatsAgentBus:
    """Implements `AgentBus`. `open` returns when connected for the first time. `trusted` are the master's keys.

    `witness` is shown what the master has signed whenever it was found to be so.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        seed: str,
        node: NodeName,
        hear: Callable[[AgentEvent], None],
        *,
        trusted: Collection[str],
        witness: Witness = lambda message: None,
    ) -> None:
        address = Address(endpoint, seed, f"gnt-mesh-agent {node}", subjects.inbox_prefix(node))
        self._node = node
        self._hear = hear
        self._witness = witness
        self._keyring = Keyring(seed, trusted)
        self._openings = Openings(self._keyring, self.assignment)
        self._scopes: tuple[ScopeName, ...] = ()
        self._subscriptions: list[Subscription] = []
        self._service = NodeService(node, self._keyring)
        self._endpoint = endpoint
        self._connection = Connection(
            address, prepare=self._prepare, changed=self._changed, complained=self._complained
        )

    async def open(self) -> None:
        await self._connection.open()

    async def close(self) -> None:
        await self._service.close()
        await self._connection.close()

    async def use_seed(self, seed: str) -> None:
        self._keyring.use_seed(seed)
        await self._connection.use_seed(seed)

    def open_trust(self, word: bytes) -> Trust:
        return envelopes.open_trust(word, self._node, self._keyring.trusted)

    async def check_authorities(self, authorities: str) -> None:
        await check(self._endpoint.url, authorities, self._endpoint.ca_file)

    def use_master_keys(self, public_keys: Collection[str]) -> None:
        self._keyring.trusted = public_keys

    async def listen(self, scopes: Collection[ScopeName]) -> None:
        """The new subscriptions are in force before the old ones go: a bell may be heard twice, never missed."""
        self._scopes = tuple(sorted(scopes))
        client, former = self._connection.client, self._subscriptions
        try:
            await self._subscribe(client)
            await self._settle()
        except nats.errors.Error as error:
            raise Unavailable(f"cannot listen: {error}") from error
        finally:
            for subscription in former:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()

    async def assignment(self) -> Assignment | None:
        message = await direct.last(self._connection, subjects.ROLES_STREAM, subjects.role(self._node))
        if message is None:
            return None
        assignment = envelopes.open_assignment(message.data, self._node, self._keyring)
        self._witness(AsSigned("assignment", assignment.version, message.data))
        return assignment

    async def manifest(self, scope: ScopeName) -> Manifest | None:
        message = await direct.last(self._connection, subjects.files_stream(scope), subjects.manifest(scope))
        if message is None:
            return None
        head = envelopes.open_head(message.data, scope, self._keyring.trusted)
        rest = b"" if head.inline else await self._manifest_blob(head)
        manifest = await self._openings.manifest(envelopes.open_manifest(head, head.inline or rest))
        self._witness(AsSigned("manifest", manifest.version, message.data, scope, rest))
        return manifest

    def blob(self, scope: ScopeName, content: Digest, size_bytes: int) -> AsyncIterator[bytes]:
        chunk = partial(self._chunk, scope, content)
        return self._in_order(chunk(index, length) for index, _, length in chunks(size_bytes, CHUNK_BYTES))

    async def secret(self, scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        box = await self._openings.box(scope, entry)
        reads = (self._opened(scope, box, index, length) for index, _, length in box.parts())
        try:
            async with contextlib.aclosing(self._in_order(reads)) as parts:
                async for part in parts:
                    yield part
        except Unavailable:
            await self._openings.note_failure()
            raise

    def blob_name(self, scope: ScopeName, entry: FileEntry) -> Digest | None:
        return self._openings.name(scope, entry)

    async def _in_order(self, reads: Iterator[Coroutine[None, None, bytes]]) -> AsyncGenerator[bytes, None]:
        """Yield what the reads return, a few of them under way at the same time."""
        first, second = next(reads, None), next(reads, None)
        if first is None or second is None:
            if first is not None:
                yield await first  # most contents are one chunk
            return
        waiting: deque[asyncio.Task[bytes]] = deque()
        try:
            for read in chain((first, second), reads):
                waiting.append(asyncio.create_task(read))
                if len(waiting) == CHUNKS_IN_FLIGHT:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def report(self, status: Status) -> None:
        self._service.status = status
        await self._connection.publish(subjects.status(self._node), codec.encode(status), status_headers(status))

    async def ask_blob(self, wanted: BlobWanted) -> None:
        await self._connection.publish(subjects.ask_blob(self._node), codec.encode(wanted))

    async def serve(self, handlers: Mapping[str, tuple[type, Handler]]) -> None:
        try:
            await self._service.serve(handlers)
        except nats.errors.Error:
            return  # they are served on the next client
        with contextlib.suppress(Unavailable):  # not connected yet
            await self._settle()

    async def _settle(self) -> None:
        await self._connection.settle(subjects.direct_get(subjects.ROLES_STREAM, subjects.role(self._node)))

    async def board(self) -> JobBoard | None:
        message = await direct.last(self._connection, subjects.OSREQ_STREAM, subjects.os_request(self._node))
        if message is None:
            return None
        board = envelopes.open_board(message.data, self._node, self._keyring.trusted)
        self._witness(AsSigned("board", board.version, message.data))
        return board

    async def report_jobs(self, report: JobReport) -> None:
        await self._connection.publish(subjects.ask_jobs(self._node), codec.encode(report))

    async def say_output(self, job: JobId, text: bytes) -> None:
        await self._connection.publish(subjects.os_log(self._node, job), text)

    async def _manifest_blob(self, head: ManifestHead) -> bytes:
        """Only the bus knows that this manifest is a blob, so the bus asks for it if it is not there."""
        try:
            return b"".join([part async for part in self.blob(head.scope, head.digest, head.size_bytes)])
        except Unavailable:
            await self.ask_blob(BlobWanted(node=self._node, scope=head.scope, digest=head.digest))
            raise

    async def _chunk(self, scope: ScopeName, content: Digest, index: int, length: int) -> bytes:
        data = await self._stored_chunk(scope, content, index)
        if len(data) != length:
            raise Unavailable(f"blob {content[:12]}… of {scope}: chunk {index} is {len(data)} bytes, not {length}")
        return data

    async def _opened(self, scope: ScopeName, box: ContentBox, index: int, length: int) -> bytes:
        try:
            return box.open(index, await self._stored_chunk(scope, box.name, index), length)
        except DecodeError as error:
            raise Unavailable(str(error)) from error

    async def _stored_chunk(self, scope: ScopeName, name: Digest, index: int) -> bytes:
        message = await direct.last(self._connection, subjects.blobs_stream(scope), subjects.blob(scope, name, index))
        if message is None:
            raise Unavailable(f"blob {name[:12]}… of {scope}: the broker lacks chunk {index}")
        return message.data

    async def _prepare(self, client: Client) -> None:
        await self._subscribe(client)
        await self._service.start(client)

    async def _subscribe(self, client: Client) -> None:
        self._subscriptions = []
        self._subscriptions.append(await client.subscribe(subjects.node_bell(self._node), cb=self._on_node_bell))
        for scope in self._scopes:
            self._subscriptions.append(await client.subscribe(subjects.scope_bell(scope), cb=self._on_scope_bell))

    async def _on_node_bell(self, message: Msg) -> None:
        self._hear(envelopes.open_node_bell(message.subject, message.data, self._keyring.trusted))

    async def _on_scope_bell(self, message: Msg) -> None:
        self._hear(envelopes.open_scope_bell(message.subject, message.data))

    def _changed(self, connected: bool, reason: str) -> None:
        self._hear(Connected() if connected else Disconnected(reason))

    def _complained(self, reason: str) -> None:
        self._service.complaint = reason
