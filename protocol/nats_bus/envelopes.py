"""What is checked when a message enters or leaves the bus: subject and content must say the same.

The server vouches for a subject, because it lets nobody else publish there; nobody vouches for a content.
"""

import hashlib

from protocol import codec, subjects
from protocol.bus import MANIFEST_INLINE_BYTES_MAX, BlobAsked, Garbled, StatusHeard
from protocol.errors import DecodeError, Unavailable
from protocol.messages import Assignment, BlobWanted, Manifest, ManifestHead, NodeBell, ScopeBell, Status
from protocol.names import Digest, NodeName, ScopeName


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


def open_head(data: bytes, scope: ScopeName) -> ManifestHead:
    """Return the head found on the subject of `scope`."""
    head = codec.decode(data, ManifestHead)
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


def open_status(subject: str, data: bytes) -> StatusHeard | Garbled:
    """Return what a node said of itself."""
    try:
        node = subjects.node_of(subject.split(".")[2])
        status = codec.decode(data, Status)
        if status.node != node:
            raise DecodeError(f"claims to be from {status.node}")
    except (DecodeError, ValueError) as error:
        return Garbled(subject, str(error))
    return StatusHeard(node, status)


def open_question(subject: str, data: bytes) -> BlobAsked | Garbled:
    """Return what a node asks of the master."""
    try:
        node = subjects.node_of(subject.split(".")[2])
        wanted = codec.decode(data, BlobWanted)
        if wanted.node != node:
            raise DecodeError(f"claims to be from {wanted.node}")
    except (DecodeError, ValueError) as error:
        return Garbled(subject, str(error))
    return BlobAsked(node, wanted)


def open_bell(subject: str, data: bytes, kind: type[ScopeBell] | type[NodeBell]) -> ScopeBell | NodeBell | Garbled:
    """Return what was rung."""
    try:
        bell = codec.decode(data, kind)
        if subject != bell_subject(bell):
            raise DecodeError("is another's bell")
    except DecodeError as error:
        return Garbled(subject, str(error))
    return bell


def bell_subject(bell: ScopeBell | NodeBell) -> str:
    """Return where a bell is rung."""
    return subjects.scope_bell(bell.scope) if isinstance(bell, ScopeBell) else subjects.node_bell(bell.node)


def open_assignment(data: bytes, node: NodeName) -> Assignment:
    """Return the assignment found on the subject of `node`."""
    assignment = codec.decode(data, Assignment)
    if assignment.node != node:
        raise DecodeError(f"assignment of {node}: it is that of {assignment.node}")
    return assignment
