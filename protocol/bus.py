"""What each side needs of the bus, and nothing more: three interfaces, with NATS and memory behind them.

Every method raises `Unavailable` when the bus cannot do its work now, and `DecodeError` when what it got is not a
message of ours. What the bus tells by itself arrives through the `hear` function given to the adapter: one call per
event, in order, from the event loop, and it must not block.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

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
)
from protocol.names import Digest, NodeName, ScopeName
from protocol.os_names import JobId

CHUNK_BYTES: Final = 512 * 1024
"""Size of every chunk of a blob but the last."""

EVENTS_PER_BATCH: Final = 900
"""The server takes at most 1000 messages in one atomic batch."""

MANIFEST_INLINE_BYTES_MAX: Final = 256 * 1024
"""A larger manifest is stored as a blob, and its head names the digest."""

Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class Connected:
    """The bus is there (again). What was rung meanwhile is lost: look."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The bus is gone. The adapter goes on trying by itself."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Garbled:
    """A peer sent something that was refused before it became a message."""

    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class StatusHeard:
    """A status, on the subject of `node`: the server vouches for the subject, nobody for the content."""

    node: NodeName
    status: Status


@dataclass(frozen=True, slots=True)
class NodeLeft:
    """The server saw the connection with this public key end."""

    public_key: str


@dataclass(frozen=True, slots=True)
class BlobAsked:
    """A node, vouched for by the server, misses a blob on the bus."""

    node: NodeName
    wanted: BlobWanted


@dataclass(frozen=True, slots=True)
class JobsHeard:
    """What a node says of its jobs, on its own subject."""

    node: NodeName
    report: JobReport


@dataclass(frozen=True, slots=True)
class AsSigned:
    """What the master has said, as it lay on the bus: for one who wants to check it again."""

    kind: Literal["assignment", "manifest", "board"]
    version: tuple[int, int]
    data: bytes
    scope: ScopeName | None = None
    rest: bytes = b""
    """Of a manifest that is too large for its head: the manifest."""


Witness = Callable[[AsSigned], None]

AgentEvent = Connected | Disconnected | Garbled | ScopeBell | NodeBell
MasterEvent = Connected | Disconnected | Garbled | StatusHeard | NodeLeft | BlobAsked | JobsHeard

Handler = Callable[..., Awaitable[object]]
"""Takes the decoded request, returns the reply; raises `Refused` or `Unavailable` with the sentence for the asker."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as the server says: the asker cannot say so itself."""

    account: str = ""
    key: str = ""
    origin: str = ""


Guard = Callable[[Asker, str, object, Handler], Awaitable[object]]
"""Takes asker, verb, decoded request and handler; answers by calling the handler, or refuses."""


async def unguarded(asker: Asker, verb: str, request: object, handler: Handler) -> object:
    """Let everybody ask who can."""
    return await handler(request)


class Box(Protocol):
    """What makes of a content something that may lie on the bus (`protocol.sealing`)."""

    @property
    def name(self) -> Digest: ...

    def parts(self) -> Iterator[tuple[int, int, int]]:
        """Yield index, offset and length of each chunk, at least one."""

    def seal(self, index: int, part: bytes) -> bytes: ...


class AgentBus(Protocol):
    """One node's side: it pulls by direct get alone, and says only what is its own."""

    async def listen(self, scopes: Collection[ScopeName]) -> None:
        """Hear this node's bell and the bells of these scopes and no others. Called again, it subscribes anew."""

    async def assignment(self) -> Assignment | None:
        """Return this node's assignment as the bus has it, None if it has none. Its keys are kept by the bus's side."""

    async def manifest(self, scope: ScopeName) -> Manifest | None:
        """Return the scope's manifest as the bus has it, its digest checked; None if it has none."""

    def blob(self, scope: ScopeName, content: Digest, size_bytes: int) -> AsyncIterator[bytes]:
        """Yield the content's chunks in order. The caller verifies the digest. Unavailable if a chunk is missing."""

    def secret(self, scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        """Yield a secret's content, opened; otherwise as `blob`. Unavailable also if this node has not the key."""

    def blob_name(self, scope: ScopeName, entry: FileEntry) -> Digest | None:
        """Return the name under which the bus has a content, of a secret not its digest; None without its key."""

    async def report(self, status: Status) -> None:
        """Say what is on this node's disk. Not acknowledged: said again with every beat."""

    async def ask_blob(self, wanted: BlobWanted) -> None:
        """Tell the master that the bus lacks a blob."""

    async def serve(self, handlers: Mapping[str, tuple[type, Handler]]) -> None:
        """Answer the master, and nobody in the account of the nodes: per verb the request type and its handler.

        To be called once; before the first connection is early enough. Requests are answered side by side.
        """

    async def board(self) -> JobBoard | None:
        """Return this node's job board as the bus has it, None if it has none."""

    async def report_jobs(self, report: JobReport) -> None:
        """Tell the master how this node's jobs are. Not acknowledged: said again until the board shows it."""

    async def say_output(self, job: JobId, text: bytes) -> None:
        """Say output of a job aloud, as text, for people who listen. Nobody acts on it."""

    async def use_seed(self, seed: str) -> None:
        """Connect anew with this key, and with whom the settings' file trusts now; then leave the connection before."""

    def open_trust(self, word: bytes) -> Trust:
        """Return whom the master names in a TakeTrust; DecodeError if it is not the master who does."""

    async def check_authorities(self, authorities: str) -> None:
        """Return if these, PEM, vouch for the server; Unavailable if not, Refused if they are older than ours."""

    def use_master_keys(self, public_keys: Collection[str]) -> None:
        """From now on believe who signs with one of these, and nobody else."""

    async def close(self) -> None: ...


class MasterBus(Protocol):
    """The master's side: it stores what should be true, rings, hears receipts, answers operators."""

    @property
    def broker_version(self) -> str:
        """The connected server's version, empty before the first connection."""

    async def prepare(self, scopes: Collection[ScopeName], *, afresh: bool = False) -> None:
        """Make every stream exist as configured; forget what was believed to be stored.

        With `afresh` the derived streams are deleted first: the cure for a store whose files are damaged or gone.
        """

    async def drop_scope(self, scope: ScopeName) -> None:
        """Remove a scope's streams: its last manifest named no file and no node is in it any more."""

    async def put_blob(
        self, scope: ScopeName, content: Digest, source: Path, size_bytes: int, *, box: "Box | None" = None
    ) -> None:
        """Store a content from a file, unless the scope already has all of it; in a box, under the box's name."""

    async def drop_blob(self, scope: ScopeName, content: Digest) -> None:
        """Remove one blob of a scope, complete or not."""

    async def keep_blobs(self, scope: ScopeName, contents: Collection[Digest]) -> int:
        """Remove every blob of a scope that is not in `contents`; return how many were removed."""

    async def publish(self, manifest: Manifest, events: Collection[FileEvent]) -> None:
        """Store the events and then the manifest, of which readers see all or nothing."""

    async def head(self, scope: ScopeName) -> ManifestHead | None:
        """Return what lies on the scope's manifest subject, None if nothing does."""

    async def forget_events(self, events: Collection[FileEvent]) -> None:
        """Remove the events of paths that no kept generation names any more."""

    async def assign(self, assignment: Assignment) -> None:
        """Store a node's assignment."""

    async def assignment(self, node: NodeName) -> Assignment | None:
        """Return what the bus has as a node's assignment."""

    async def unassign(self, node: NodeName) -> None:
        """Remove what the bus has of a node that is no longer in the cluster."""

    async def post_board(self, board: JobBoard) -> None:
        """Store a node's job board."""

    async def board(self, node: NodeName) -> JobBoard | None:
        """Return what the bus has as a node's job board."""

    async def ring(self, bell: ScopeBell | NodeBell) -> None:
        """Ring one scope's or one node's bell. Fire and forget."""

    async def ring_cluster(self) -> None:
        """Tell operators who watch that something may have changed."""

    async def statuses(self) -> list[StatusHeard]:
        """Return the last status of every node that the bus has: how it was, not how it is."""

    async def reload_broker(self) -> None:
        """Have the server read its configuration again; Unavailable with the server's word if it refuses."""

    async def certificates(self) -> tuple[KeyInfo, ...]:
        """Return the certificate that the server shows, and those of the authorities that are trusted."""

    def forget_former(self) -> None:
        """Nobody needs to be told any more how our signing key came to be the master's."""

    async def is_connected(self, public_key: str) -> bool:
        """Return whether somebody is connected with this key now: the server's word, nobody else's."""

    async def serve(self, handlers: Mapping[str, tuple[type, Handler]], guard: Guard = unguarded) -> None:
        """Answer operators: per verb the request type and its handler. Every request passes the guard."""

    def signed_trust(self, node: NodeName, trust: Trust) -> bytes:
        """Return what a node is to be told in a TakeTrust."""

    async def ask_node(
        self, node: NodeName, verb: str, request: object, reply: type[Reply], *, timeout_s: float
    ) -> Reply:
        """Return what a node's agent answers; Unavailable says why it does not, in its own words if it has said so."""

    async def close(self) -> None: ...


class OperatorBus(Protocol):
    """An operator's side: requests, and a bell that says when to look again."""

    async def ask(self, verb: str, request: object, reply: type[Reply], *, timeout_s: float = 10.0) -> Reply:
        """Return the master's reply; Refused or Unavailable with its sentence, Unreachable if there is no master,
        NoAnswer if it does not answer in time."""

    def bells(self) -> AsyncIterator[None]:
        """Yield once at the start and then whenever something may have changed, however often it did meanwhile."""

    async def close(self) -> None: ...
