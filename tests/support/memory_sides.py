"""The three sides of the memory bus; `memory_bus` is what they talk to."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from protocol import codec, subjects
from protocol.bus import (
    CHUNK_BYTES,
    AgentEvent,
    Asker,
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
from protocol.errors import DecodeError, NoAnswer, Refused, Unavailable, Unreachable
from protocol.job_messages import JobBoard, JobReport
from protocol.key_messages import KeyInfo, Trust
from protocol.messages import (
    Assignment,
    BlobWanted,
    FileEntry,
    FileEvent,
    Manifest,
    ManifestHead,
    NodeBell,
    ScopeBell,
    Status,
    chunks,
)
from protocol.names import Digest, NodeName, ScopeName
from protocol.nats_bus.openings import Openings
from protocol.os_names import JobId
from protocol.sealing import envelopes, questions
from protocol.sealing.keyring import Keyring
from protocol.sealing.questions import Questioner

if TYPE_CHECKING:
    from tests.support.memory_bus import MemoryBroker


class Side:
    """One connection: whether it is there, and what it tells. Events of a side that left are not handed over."""

    def __init__(self, broker: "MemoryBroker") -> None:
        self.broker = broker
        self.is_connected = False
        self.is_closed = False

    def can_connect(self) -> bool:
        return self.broker.is_up and not self.is_closed

    def follow(self) -> None:
        """Connect or disconnect, as the world has it now."""
        if self.is_connected != self.can_connect():
            self.is_connected = not self.is_connected
            self.changed()

    def changed(self) -> None: ...

    async def reach(self, subject: str) -> None:
        """Come to the server; Unavailable if there is no way."""
        self._require_connection(subject)
        await self.broker.travel(subject)
        self._require_connection(subject)

    async def close(self) -> None:
        self.is_closed = True
        self.follow()
        self.broker.forget(self)  # type: ignore[arg-type]

    def _require_connection(self, subject: str) -> None:
        if not self.is_connected:
            raise Unreachable(f"{subject}: not connected")


class AnsweringSide(Side):
    """A side that answers requests, side by side. What goes wrong in a handler is said as the real adapters say it."""

    def __init__(self, broker: "MemoryBroker", who: str) -> None:
        super().__init__(broker)
        self.who = who
        self.handlers: Mapping[str, tuple[type, Handler]] = {}
        self.guard: Guard = unguarded
        self._answering: set[asyncio.Task[bytes]] = set()

    async def close(self) -> None:
        for task in self._answering:
            task.cancel()
        await super().close()

    async def answer(self, verb: str, payload: bytes, timeout_s: float) -> bytes:
        """Return the encoded reply to whoever asks. The handler goes on if nobody waits for it any more."""
        kind, handler = self.handlers[verb]
        task = asyncio.ensure_future(self._reply(verb, kind, handler, payload))
        self._answering.add(task)
        task.add_done_callback(self._answered)
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done() or task.cancelled():
            raise NoAnswer(f"{verb}: no answer within {timeout_s:g} s")
        return task.result()

    def _answered(self, task: asyncio.Task[bytes]) -> None:
        self._answering.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may not wait any more

    async def _reply(self, verb: str, kind: type, handler: Handler, payload: bytes) -> bytes:
        try:
            request: object = codec.decode(payload, kind)
            reply = codec.encode(await self.guard(Asker(), verb, request, handler))
            if len(reply) > codec.MESSAGE_BYTES_MAX:
                raise Unavailable(f"the answer has {len(reply)} bytes, limit {codec.MESSAGE_BYTES_MAX}: ask for fewer")
            return reply
        except DecodeError as error:
            raise Refused(str(error)) from error
        except (Refused, Unavailable):
            raise
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler({"message": f"{verb} failed", "exception": error})
            raise Unavailable(f"{self.who} failed: {type(error).__name__}") from error


class MemoryAgentBus(AnsweringSide):
    """Implements `AgentBus`."""

    def __init__(
        self, broker: "MemoryBroker", node: NodeName, hear: Callable[[AgentEvent], None], public_key: str
    ) -> None:
        super().__init__(broker, node)
        self.node = node
        self.public_key = public_key
        self._keyring = Keyring(broker.seed_of(node), broker.trusted)
        self._openings = Openings(self._keyring, self.assignment)
        self.is_cut = False
        self.heard: frozenset[ScopeName] = frozenset()
        self._wanted: frozenset[ScopeName] = frozenset()
        self._hear = hear

    def can_connect(self) -> bool:
        return super().can_connect() and not self.is_cut and self.broker.admits(self.node)

    def changed(self) -> None:
        self.heard = self._wanted & self.broker.granted(self.node) if self.is_connected else frozenset()
        if not self.is_closed:
            event = Connected() if self.is_connected else Disconnected("cut off")
            asyncio.get_running_loop().call_soon(self._hear, event)
        if not self.is_connected:
            for master in self.broker.masters:
                master.tell(NodeLeft(self.public_key))

    def tell(self, event: AgentEvent) -> None:
        if self.is_connected:
            asyncio.get_running_loop().call_soon(self._hear, event)

    async def listen(self, scopes: Collection[ScopeName]) -> None:
        self._wanted = frozenset(scopes)
        await self.reach("listen")
        self.heard = self._wanted & self.broker.granted(self.node)

    async def assignment(self) -> Assignment | None:
        found = await self._read(subjects.ROLES_STREAM, subjects.role(self.node))
        return envelopes.open_assignment(found, self.node, self._keyring) if found is not None else None

    async def manifest(self, scope: ScopeName) -> Manifest | None:
        found = await self._read(subjects.files_stream(scope), subjects.manifest(scope), scope)
        if found is None:
            return None
        head = envelopes.open_head(found, scope, self.broker.trusted)
        try:
            encoded = head.inline or b"".join([part async for part in self.blob(scope, head.digest, head.size_bytes)])
        except Unavailable:
            await self.ask_blob(BlobWanted(node=self.node, scope=scope, digest=head.digest))
            raise
        return await self._openings.manifest(envelopes.open_manifest(head, encoded))

    async def blob(self, scope: ScopeName, content: Digest, size_bytes: int) -> AsyncIterator[bytes]:
        for index, _, length in chunks(size_bytes, CHUNK_BYTES):
            part = await self._read(subjects.blobs_stream(scope), subjects.blob(scope, content, index), scope)
            if part is None or len(part) != length:
                raise Unavailable(f"blob {content[:12]}… of {scope}: the broker lacks chunk {index}")
            yield part

    async def secret(self, scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        box = await self._openings.box(scope, entry)
        try:
            for index, _, length in box.parts():
                part = await self._read(subjects.blobs_stream(scope), subjects.blob(scope, box.name, index), scope)
                if part is None:
                    raise Unavailable(f"blob {box.name[:12]}… of {scope}: the broker lacks chunk {index}")
                yield box.open(index, part, length)
        except DecodeError as error:
            raise Unavailable(str(error)) from error
        except Unavailable:
            await self._openings.note_failure()
            raise

    def blob_name(self, scope: ScopeName, entry: FileEntry) -> Digest | None:
        return self._openings.name(scope, entry)

    async def report(self, status: Status) -> None:
        payload = codec.encode(status)
        await self.reach(subjects.status(self.node))
        self.broker.say(subjects.status(self.node), payload)

    async def ask_blob(self, wanted: BlobWanted) -> None:
        payload = codec.encode(wanted)
        await self.reach(subjects.ask_blob(self.node))
        self.broker.say(subjects.ask_blob(self.node), payload)

    async def serve(self, handlers: Mapping[str, tuple[type, Handler]]) -> None:
        self.handlers = handlers

    async def board(self) -> JobBoard | None:
        found = await self._read(subjects.OSREQ_STREAM, subjects.os_request(self.node))
        return envelopes.open_board(found, self.node, self.broker.trusted) if found is not None else None

    async def report_jobs(self, report: JobReport) -> None:
        payload = codec.encode(report)
        await self.reach(subjects.ask_jobs(self.node))
        self.broker.say(subjects.ask_jobs(self.node), payload)

    async def say_output(self, job: JobId, text: bytes) -> None:
        await self.reach(subjects.os_log(self.node, job))
        self.broker.output.setdefault(subjects.os_log(self.node, job), []).append(text)

    def open_trust(self, word: bytes) -> Trust:
        return envelopes.open_trust(word, self.node, self._keyring.trusted)

    async def check_authorities(self, authorities: str) -> None:
        await self.reach("authorities")

    def use_master_keys(self, public_keys: Collection[str]) -> None:
        self._keyring.trusted = public_keys

    async def answer(self, verb: str, payload: bytes, timeout_s: float) -> bytes:
        try:
            question = envelopes.open_question_for(subjects.rpc(self.node, verb), payload, self.broker.trusted)
        except DecodeError as error:
            raise Refused(str(error)) from error
        return questions.seal_answer(question, await super().answer(verb, question.body, timeout_s))

    async def _read(self, stream: str, subject: str, scope: ScopeName | None = None) -> bytes | None:
        await self.reach(subject)
        if scope is not None and scope not in self.broker.granted(self.node):
            raise Unavailable(f"{subject}: the server does not permit it")
        return self.broker.stream(stream).get(subject)


class MemoryMasterBus(AnsweringSide):
    """Implements `MasterBus`."""

    broker_version = "memory"

    def __init__(self, broker: "MemoryBroker", hear: Callable[[MasterEvent], None]) -> None:
        super().__init__(broker, "the master")
        self._hear = hear
        self._believed: dict[ScopeName, dict[Digest, int]] = {}

    def changed(self) -> None:
        self._believed = {}
        if not self.is_closed:
            event = Connected() if self.is_connected else Disconnected("cut off")
            asyncio.get_running_loop().call_soon(self._hear, event)

    def tell(self, event: MasterEvent) -> None:
        if self.is_connected:
            asyncio.get_running_loop().call_soon(self._hear, event)

    async def prepare(self, scopes: Collection[ScopeName], *, afresh: bool = False) -> None:
        await self.reach("prepare")
        self._believed = {}
        scoped = [name for scope in scopes for name in (subjects.files_stream(scope), subjects.blobs_stream(scope))]
        for name in (*scoped, subjects.ROLES_STREAM, subjects.STATUS_STREAM, subjects.OSREQ_STREAM):
            if afresh:
                self.broker.streams.pop(name, None)
            self.broker.streams.setdefault(name, {})

    async def drop_scope(self, scope: ScopeName) -> None:
        await self.reach("drop")
        self._believed.pop(scope, None)
        for name in (subjects.files_stream(scope), subjects.blobs_stream(scope)):
            self.broker.streams.pop(name, None)

    async def put_blob(
        self, scope: ScopeName, content: Digest, source: Path, size_bytes: int, *, box: Box | None = None
    ) -> None:
        stored, name = await self._blobs(scope), box.name if box else content
        parts = list(box.parts() if box else chunks(size_bytes, CHUNK_BYTES))
        if stored.get(name, 0) == len(parts):
            return
        stored[name] = 0
        try:
            data = source.read_bytes()
        except OSError as error:
            raise Unavailable(f"{source}: {error.strerror}") from error
        if len(data) != size_bytes or hashlib.sha256(data).hexdigest() != content:
            raise Unavailable(f"{source.parent}: a content is not what it was any more")
        for index, offset, length in parts:
            part = data[offset : offset + length]
            await self._put_chunk(scope, name, index, box.seal(index, part) if box else part)
        stored[name] = len(parts)

    async def drop_blob(self, scope: ScopeName, content: Digest) -> None:
        await self.reach(subjects.blobs_stream(scope))
        stream = self.broker.stream(subjects.blobs_stream(scope))
        for subject in [subject for subject in stream if subject.split(".")[3] == content]:
            del stream[subject]
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
        batch = {subjects.file_event(event.scope, event.path): codec.encode(event) for event in events}
        subject = subjects.manifest(manifest.scope)
        batch[subject] = envelopes.signed(subject, head, self.broker.signer)
        await self.reach(subject)
        self.broker.stream(subjects.files_stream(manifest.scope)).update(batch)

    async def head(self, scope: ScopeName) -> ManifestHead | None:
        await self.reach(subjects.manifest(scope))
        found = self.broker.stream(subjects.files_stream(scope)).get(subjects.manifest(scope))
        return envelopes.open_head(found, scope, self.broker.trusted) if found is not None else None

    async def forget_events(self, events: Collection[FileEvent]) -> None:
        for event in events:
            await self.reach(subjects.file_event(event.scope, event.path))
            stream = self.broker.stream(subjects.files_stream(event.scope))
            stream.pop(subjects.file_event(event.scope, event.path), None)

    async def assign(self, assignment: Assignment) -> None:
        subject = subjects.role(assignment.node)
        payload = envelopes.signed(subject, assignment, self.broker.signer)
        await self.reach(subject)
        self.broker.stream(subjects.ROLES_STREAM)[subject] = payload

    async def assignment(self, node: NodeName) -> Assignment | None:
        await self.reach(subjects.role(node))
        found = self.broker.stream(subjects.ROLES_STREAM).get(subjects.role(node))
        return envelopes.read_assignment(found, node, self.broker.trusted) if found is not None else None

    async def unassign(self, node: NodeName) -> None:
        await self.reach(subjects.role(node))
        self.broker.stream(subjects.ROLES_STREAM).pop(subjects.role(node), None)
        self.broker.stream(subjects.STATUS_STREAM).pop(subjects.status(node), None)
        self.broker.stream(subjects.OSREQ_STREAM).pop(subjects.os_request(node), None)

    async def post_board(self, board: JobBoard) -> None:
        payload = envelopes.signed(subjects.os_request(board.node), board, self.broker.signer)
        await self.reach(subjects.os_request(board.node))
        self.broker.stream(subjects.OSREQ_STREAM)[subjects.os_request(board.node)] = payload

    async def board(self, node: NodeName) -> JobBoard | None:
        await self.reach(subjects.os_request(node))
        found = self.broker.stream(subjects.OSREQ_STREAM).get(subjects.os_request(node))
        return envelopes.open_board(found, node, self.broker.trusted) if found is not None else None

    async def ring(self, bell: ScopeBell | NodeBell) -> None:
        payload, subject = envelopes.encode_bell(bell, self.broker.signer), envelopes.bell_subject(bell)
        await self.reach(subject)
        self.broker.say(subject, payload)

    def forget_former(self) -> None: ...

    def signed_trust(self, node: NodeName, trust: Trust) -> bytes:
        return envelopes.signed(subjects.rpc(node, subjects.TAKE_TRUST), trust, self.broker.signer)

    async def certificates(self) -> tuple[KeyInfo, ...]:
        return ()

    async def ring_cluster(self) -> None:
        await self.reach(subjects.CLUSTER_BELL)
        self.broker.say(subjects.CLUSTER_BELL, b"")

    async def statuses(self) -> list[StatusHeard]:
        await self.reach(subjects.STATUS_ALL)
        stored = self.broker.stream(subjects.STATUS_STREAM).items()
        heard = [envelopes.open_status(subject, data) for subject, data in stored]
        return [status for status in heard if isinstance(status, StatusHeard)]

    async def reload_broker(self) -> None:
        await self.reach("reload")
        self.broker.reload()

    async def serve(self, handlers: Mapping[str, tuple[type, Handler]], guard: Guard = unguarded) -> None:
        await self.reach(subjects.API_PREFIX)
        self.handlers, self.guard = handlers, guard

    async def ask_node(
        self, node: NodeName, verb: str, request: object, reply: type[Reply], *, timeout_s: float
    ) -> Reply:
        subject, questioner = subjects.rpc(node, verb), Questioner()
        payload = envelopes.signed(subject, questioner.ask(codec.encode(request)), self.broker.signer)
        await self.reach(subject)
        serving = [agent for agent in self.broker.agents if agent.node == node and agent.is_connected]
        if not serving or verb not in serving[-1].handlers:
            raise Unavailable("its agent is not connected, or cannot answer this yet")
        try:
            answer = await serving[-1].answer(verb, payload, timeout_s)
        except Refused as error:
            raise Unavailable(str(error)) from error
        return codec.decode(questioner.open(answer), reply)

    async def _blobs(self, scope: ScopeName) -> dict[Digest, int]:
        """What the broker has, as this side believes since it last asked; the same belief as the real adapter's."""
        if scope not in self._believed:
            await self.reach(subjects.blobs_stream(scope))
            counts: dict[Digest, int] = {}
            for subject in self.broker.stream(subjects.blobs_stream(scope)):
                content = Digest(subject.split(".")[3])
                counts[content] = counts.get(content, 0) + 1
            self._believed[scope] = counts
        return self._believed[scope]

    async def _put_bytes(self, scope: ScopeName, content: Digest, data: bytes) -> None:
        parts = list(chunks(len(data), CHUNK_BYTES))
        for index, offset, length in parts:
            await self._put_chunk(scope, content, index, data[offset : offset + length])
        (await self._blobs(scope))[content] = len(parts)

    async def _put_chunk(self, scope: ScopeName, name: Digest, index: int, data: bytes) -> None:
        subject = subjects.blob(scope, name, index)
        await self.reach(subject)
        self.broker.stream(subjects.blobs_stream(scope))[subject] = data


class MemoryOperatorBus(Side):
    """Implements `OperatorBus`."""

    def __init__(self, broker: "MemoryBroker") -> None:
        super().__init__(broker)
        self.rung = asyncio.Event()

    def changed(self) -> None:
        self.rung.set()

    async def ask(self, verb: str, request: object, reply: type[Reply], *, timeout_s: float = 10.0) -> Reply:
        payload = codec.encode(request)
        await self.reach(subjects.api(verb))
        serving = [master for master in self.broker.masters if master.is_connected and verb in master.handlers]
        if not serving:
            raise Unreachable(f"{verb}: nobody answers")
        answer = await serving[-1].answer(verb, payload, timeout_s)
        try:
            return codec.decode(answer, reply)
        except DecodeError as error:
            raise Unavailable(f"{verb}: the master's answer is not understood: {error}") from error

    async def bells(self) -> AsyncIterator[None]:
        self.rung.clear()
        yield
        while True:
            await self.rung.wait()
            self.rung.clear()
            yield
