"""What is checked when a message enters or leaves the bus: subject and content must say the same.

The server vouches for a subject, because it lets nobody else publish there. For a content vouches who has signed it:
what nodes act on (assignments, heads of manifests, job boards, bells of a node) counts only if the master signed it.
"""

import hashlib
from collections.abc import Collection
from typing import TypeVar

from protocol import codec, subjects
from protocol.bus import MANIFEST_INLINE_BYTES_MAX, BlobAsked, Garbled, JobsHeard, StatusHeard
from protocol.errors import DecodeError, Unavailable
from protocol.job_messages import JobBoard, JobReport
from protocol.key_messages import Trust
from protocol.messages import (
    Assignment,
    BlobWanted,
    Manifest,
    ManifestHead,
    NodeBell,
    Question,
    ScopeBell,
    Signed,
    Status,
)
from protocol.names import Digest, NodeName, ScopeName
from protocol.sealing import signatures
from protocol.sealing.keyring import Keyring
from protocol.sealing.signatures import Signer


def signed(subject: str, message: object, signer: Signer) -> bytes:
    """Return what to put on a subject: the message with the master's signature."""
    return codec.encode(signer.sign(subject, codec.encode(message)))


def verified(subject: str, data: bytes, trusted: Collection[str]) -> bytes:
    """Return the encoded message found on a subject; DecodeError unless one of `trusted` has signed it."""
    try:
        envelope = codec.decode(data, Signed)
    except DecodeError as error:
        raise DecodeError(f"{subject}: not signed: {error}") from error
    return signatures.verified(envelope, subject, trusted)


def seal(manifest: Manifest) -> tuple[ManifestHead, bytes]:
    """Return what lies on the manifest's subject, and the encoded manifest: a blob if the head does not hold it."""
    encoded = codec.encode(manifest)
    if len(encoded) > codec.MANIFEST_BYTES_MAX:
        raise Unavailable(f"manifest of {manifest.scope} has {len(encoded)} bytes, limit {codec.MANIFEST_BYTES_MAX}")
    head = ManifestHead(
        scope=manifest.scope,
        epoch=manifest.epoch,
        generation=manifest.generation,
        digest=Digest(hashlib.sha256(encoded).hexdigest()),
        size_bytes=len(encoded),
        inline=encoded if len(encoded) <= MANIFEST_INLINE_BYTES_MAX else b"",
    )
    return head, encoded


def open_head(data: bytes, scope: ScopeName, trusted: Collection[str]) -> ManifestHead:
    """Return the head found on the subject of `scope`."""
    head = codec.decode(verified(subjects.manifest(scope), data, trusted), ManifestHead)
    if head.scope != scope:
        raise DecodeError(f"manifest of {scope}: its head is of scope {head.scope}")
    if head.size_bytes > codec.MANIFEST_BYTES_MAX:
        raise DecodeError(f"manifest of {head.size_bytes} bytes, limit {codec.MANIFEST_BYTES_MAX}")
    return head


def open_manifest(head: ManifestHead, encoded: bytes) -> Manifest:
    """Return the manifest that a head stands for."""
    if hashlib.sha256(encoded).hexdigest() != head.digest:
        raise DecodeError(f"manifest of {head.scope}: its content belies its digest")
    manifest = codec.decode_manifest(encoded)
    if manifest.scope != head.scope or manifest.version != head.version:
        raise DecodeError(f"manifest of {head.scope}: it is of scope {manifest.scope}, version {manifest.version}")
    return manifest


def open_trust(data: bytes, node: NodeName, trusted: Collection[str]) -> Trust:
    """Return whom the master tells a node to believe."""
    return codec.decode(verified(subjects.rpc(node, subjects.TAKE_TRUST), data, trusted), Trust)


def open_question_for(subject: str, data: bytes, trusted: Collection[str]) -> Question:
    """Return what the master asks on a node's subject."""
    return codec.decode(verified(subject, data, trusted), Question)


def open_status(subject: str, data: bytes) -> StatusHeard | Garbled:
    """Return what a node said of itself."""
    try:
        node = subjects.node_of(subject.split(".")[2])
        status = _own(codec.decode(data, Status), node)
    except (DecodeError, ValueError) as error:
        return Garbled(subject, str(error))
    return StatusHeard(node, status)


def open_question(subject: str, data: bytes) -> BlobAsked | JobsHeard | Garbled:
    """Return what a node asks of the master, or says of its jobs."""
    try:
        node, what = subjects.node_of(subject.split(".")[2]), subject.split(".")[3]
        if what == subjects.JOBS:
            return JobsHeard(node, _own(codec.decode(data, JobReport), node))
        wanted = _own(codec.decode(data, BlobWanted), node)
    except (DecodeError, ValueError) as error:
        return Garbled(subject, str(error))
    return BlobAsked(node, wanted)


def encode_bell(bell: ScopeBell | NodeBell, signer: Signer) -> bytes:
    """Return what is rung. A node's bell can have it read its whole disk, so it is signed; a scope's costs one look."""
    return signed(bell_subject(bell), bell, signer) if isinstance(bell, NodeBell) else codec.encode(bell)


def open_scope_bell(subject: str, data: bytes) -> ScopeBell | Garbled:
    """Return what was rung for a scope."""
    try:
        bell = codec.decode(data, ScopeBell)
        if subject != bell_subject(bell):
            raise DecodeError("is another's bell")
    except DecodeError as error:
        return Garbled(subject, str(error))
    return bell


def open_node_bell(subject: str, data: bytes, trusted: Collection[str]) -> NodeBell | Garbled:
    """Return what was rung for a node."""
    try:
        bell = codec.decode(verified(subject, data, trusted), NodeBell)
        if subject != bell_subject(bell):
            raise DecodeError("is another's bell")
    except DecodeError as error:
        return Garbled(subject, str(error))
    return bell


def bell_subject(bell: ScopeBell | NodeBell) -> str:
    """Return where a bell is rung."""
    return subjects.scope_bell(bell.scope) if isinstance(bell, ScopeBell) else subjects.node_bell(bell.node)


def open_assignment(data: bytes, node: NodeName, keyring: Keyring) -> Assignment:
    """Return the assignment found on the subject of `node`, whose keys are now in its keyring."""
    return keyring.take(read_assignment(data, node, keyring.trusted))


def read_assignment(data: bytes, node: NodeName, trusted: Collection[str]) -> Assignment:
    """Return the assignment found on the subject of `node` as it is, keys wrapped."""
    assignment = codec.decode(verified(subjects.role(node), data, trusted), Assignment)
    if assignment.node != node:
        raise DecodeError(f"assignment of {node}: it is that of {assignment.node}")
    return assignment


def open_board(data: bytes, node: NodeName, trusted: Collection[str]) -> JobBoard:
    """Return the job board found on the subject of `node`."""
    board = codec.decode(verified(subjects.os_request(node), data, trusted), JobBoard)
    if board.node != node:
        raise DecodeError(f"job board of {node}: it is that of {board.node}")
    return board


Said = TypeVar("Said", Status, BlobWanted, JobReport)


def _own(said: Said, node: NodeName) -> Said:
    """Return what a node has said if it says it of itself."""
    if said.node != node:
        raise DecodeError(f"claims to be from {said.node}")
    return said
