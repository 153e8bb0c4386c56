"""The values that travel. Frozen, checked when made, so that a value in hand is a valid value.

`codec` turns them into bytes and back; a key this side does not know is ignored, so a newer peer may add some.
Operators' requests and replies are in `operator_messages`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from protocol.names import (
    Digest,
    ManagedPath,
    NodeName,
    ScopeName,
    digest,
    managed_path,
    node_name,
    public_key,
    scope_name,
)

REASON_CHARS_MAX = 400
ERRORS_MAX = 50
SIGNATURE_BYTES = 64
SUCCESSION_MAX = 8
ANSWER_KEY_BYTES = 32


def _check_signature(signature: bytes) -> None:
    if len(signature) != SIGNATURE_BYTES:
        raise ValueError(f"signature of {len(signature)} bytes, an Ed25519 one has {SIGNATURE_BYTES}")


def _check_version(epoch: int, generation: int) -> None:
    if epoch < 1 or generation < 0:
        raise ValueError(f"epoch {epoch}, generation {generation}: epoch counts from 1, generation from 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One managed file as it should be: where, what content, whose."""

    path: ManagedPath
    digest: Digest
    size_bytes: int
    mode: int
    owner: str
    group: str
    generation: int
    """The generation in which this entry last changed; of two scopes that list a path, the higher one counts."""
    secret: bool = False
    """The content lies on the bus only encrypted; there, digest and size are not the true ones (SPEC.md, 4.3)."""

    def __post_init__(self) -> None:
        managed_path(self.path)
        digest(self.digest)
        if self.size_bytes < 0 or self.generation < 0:
            raise ValueError(f"{self.path}: size {self.size_bytes} or generation {self.generation} is negative")
        if not 0 <= self.mode <= 0o7777:
            raise ValueError(f"{self.path}: mode {self.mode:o} is not permission bits")
        if not self.owner or not self.group:
            raise ValueError(f"{self.path}: owner and group are names, or numbers as text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """A path that left a scope: nodes remove it, and keep a dated backup unless `purge`."""

    path: ManagedPath
    generation: int
    purge: bool = False

    def __post_init__(self) -> None:
        managed_path(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Every file of one scope in one generation: what should be true on each of its nodes.

    `key` and `sealed` are how one with secrets lies on the bus: who opens it gets one without them.
    """

    scope: ScopeName
    epoch: int
    generation: int
    files: tuple[FileEntry, ...] = ()
    withdrawn: tuple[Withdrawal, ...] = ()
    key: str = ""
    """Fingerprint of the scope's key with which the secrets are sealed."""
    sealed: bytes = b""
    """True digests and sizes of the secret files."""

    def __post_init__(self) -> None:
        scope_name(self.scope)
        _check_version(self.epoch, self.generation)
        paths = [entry.path for entry in self.files]
        if any(left >= right for left, right in pairwise(paths)):
            raise ValueError(f"manifest of {self.scope}: paths are not sorted or not unique")

    @property
    def version(self) -> tuple[int, int]:
        """What orders two manifests of one scope: the master's term comes first (design, D2)."""
        return (self.epoch, self.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestHead:
    """What lies on a scope's manifest subject: its version and digest, and the manifest itself if it is small.

    `inline` is empty when the encoded manifest is too large for one message; it is then a blob of the same scope.
    """

    scope: ScopeName
    epoch: int
    generation: int
    digest: Digest
    size_bytes: int
    inline: bytes = b""

    def __post_init__(self) -> None:
        scope_name(self.scope)
        digest(self.digest)
        _check_version(self.epoch, self.generation)
        if self.size_bytes < 0:
            raise ValueError(f"head of {self.scope}: size {self.size_bytes} is negative")

    @property
    def version(self) -> tuple[int, int]:
        return (self.epoch, self.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEvent:
    """What happened to one file in one generation: for people and tools that watch; agents decide by manifest."""

    scope: ScopeName
    epoch: int
    generation: int
    path: ManagedPath
    change: Literal["changed", "removed"]
    entry: FileEntry | None = None

    def __post_init__(self) -> None:
        scope_name(self.scope)
        managed_path(self.path)
        _check_version(self.epoch, self.generation)
        if (self.entry is None) != (self.change == "removed"):
            raise ValueError(f"event for {self.path}: a changed file has an entry, a removed one has none")
        if self.entry and self.entry.path != self.path:
            raise ValueError(f"event for {self.path}: its entry is for {self.entry.path}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A scope's key, for one node alone: sealed for the node's nkey."""

    scope: ScopeName
    key: str
    """Its fingerprint."""
    box: bytes

    def __post_init__(self) -> None:
        scope_name(self.scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Which scopes one node is in. `serial` grows with every change of the node's own assignment."""

    node: NodeName
    epoch: int
    serial: int
    scopes: tuple[ScopeName, ...]
    is_master: bool = False
    """The node holds the sources: its agent proves them and never writes them."""
    is_offline: bool = False
    """The node gives back what it may no longer hold, and takes nothing new."""
    keys: tuple[WrappedKey, ...] = ()
    """What opens the secrets of these scopes. Whoever opens an assignment keeps them, and hands it on without."""

    def __post_init__(self) -> None:
        node_name(self.node)
        for scope in self.scopes:
            scope_name(scope)
        if len(set(self.scopes)) != len(self.scopes):
            raise ValueError(f"assignment of {self.node}: a scope twice")
        _check_version(self.epoch, self.serial)

    @property
    def version(self) -> tuple[int, int]:
        return (self.epoch, self.serial)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeBell:
    """Rung when a scope has a new generation, and as a beat so that silence means a dead subscription."""

    scope: ScopeName
    epoch: int
    generation: int
    is_beat: bool = False

    def __post_init__(self) -> None:
        scope_name(self.scope)
        _check_version(self.epoch, self.generation)

    @property
    def version(self) -> tuple[int, int]:
        return (self.epoch, self.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeBell:
    """Rung for one node: look at your assignment, report; with `look`, read every managed file again first."""

    node: NodeName
    epoch: int
    serial: int
    look: str = ""

    def __post_init__(self) -> None:
        node_name(self.node)
        _check_version(self.epoch, self.serial)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeReceipt:
    """A node's word that this generation of this scope is on its disk, fsynced and read back (design, D4)."""

    scope: ScopeName
    epoch: int
    generation: int

    def __post_init__(self) -> None:
        scope_name(self.scope)
        _check_version(self.epoch, self.generation)

    @property
    def version(self) -> tuple[int, int]:
        return (self.epoch, self.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileError:
    """Why one file of one scope is not as it should be. An empty path stands for the whole scope."""

    path: str
    reason: str
    scope: str = ""

    def __post_init__(self) -> None:
        if len(self.reason) > REASON_CHARS_MAX or len(self.path) > 4 * 1024:
            raise ValueError(f"error of {len(self.reason)} characters, limit {REASON_CHARS_MAX}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """How many messages this side has refused since it started, and why it refused the last one."""

    count: int = 0
    last: str = ""

    def and_one_more(self, reason: str) -> "Refusals":
        return Refusals(count=self.count + 1, last=reason[:REASON_CHARS_MAX])


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Presence and receipts of one node: what is on its disk now, and what stands in the way of the rest."""

    node: NodeName
    boot: str
    """Chosen anew by each agent process, so that a restart is seen."""
    sequence: int
    """Grows within one boot: of two statuses of one boot the higher counts."""
    serial: int
    """The serial of the assignment that the agent acts on; 0 before it has one."""
    receipts: tuple[ScopeReceipt, ...] = ()
    holding: tuple[ScopeName, ...] = ()
    """Scopes of which files that the mesh wrote are still on this disk, assigned or not."""
    errors: tuple[FileError, ...] = ()
    errors_count: int = 0
    """All errors; `errors` itself stops at 50."""
    refusals: Refusals = field(default_factory=Refusals)
    look: str = ""
    """The token of the last NodeBell whose full look is finished."""
    agent_version: str = ""
    os_report: str = ""
    """The digest of the node's encoded OsReport, fetched by the master when it is a new one; empty: not read yet."""

    def __post_init__(self) -> None:
        node_name(self.node)
        if len(self.errors) > ERRORS_MAX:
            raise ValueError(f"{len(self.errors)} errors in a status, limit {ERRORS_MAX}")
        for scope in self.holding:
            scope_name(scope)

    def receipt(self, scope: ScopeName) -> ScopeReceipt | None:
        """Return the receipt for one scope, None if the node has not given one."""
        return next((receipt for receipt in self.receipts if receipt.scope == scope), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobWanted:
    """A node asks the master to store a blob of a scope again, because the broker no longer has it."""

    node: NodeName
    scope: ScopeName
    digest: Digest

    def __post_init__(self) -> None:
        node_name(self.node)
        scope_name(self.scope)
        digest(self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """One signing key's word that another one speaks for the master from now on."""

    signer: str
    former: str
    signature: bytes
    """The former's, over the signer (`protocol.sealing.signatures`)."""

    def __post_init__(self) -> None:
        public_key(self.signer)
        public_key(self.former)
        _check_signature(self.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A message with its sender's signature. `body` is the encoded message, which nobody should believe without it."""

    signer: str
    """The public nkey of the key that has signed."""
    signature: bytes
    """Ed25519, over the subject and the body (`protocol.sealing.signatures`)."""
    body: bytes
    succession: tuple[Succession, ...] = ()
    """How the signer came to speak for the master, oldest first: for those who know a key before it."""

    def __post_init__(self) -> None:
        public_key(self.signer)
        _check_signature(self.signature)
        if len(self.succession) > SUCCESSION_MAX:
            raise ValueError(f"a succession of {len(self.succession)} keys, limit {SUCCESSION_MAX}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the master asks of a node, and the key for which the answer is to be sealed."""

    body: bytes
    """The encoded request."""
    answer_key: bytes
    """X25519, made for this question."""

    def __post_init__(self) -> None:
        if len(self.answer_key) != ANSWER_KEY_BYTES:
            raise ValueError(f"answer key of {len(self.answer_key)} bytes, an X25519 one has {ANSWER_KEY_BYTES}")


def chunks(size_bytes: int, chunk_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Yield (index, offset, length) of each chunk of a content; nothing for an empty one."""
    for index, offset in enumerate(range(0, size_bytes, chunk_bytes)):
        yield index, offset, min(chunk_bytes, size_bytes - offset)
