"""What lies on the bus only encrypted: the contents of secret files, and what a manifest says of them.

One key per scope. A content's name on the bus is a keyed hash, its size is rounded up, its chunks are bound to their
place; a manifest shows names and rounded sizes, and keeps hashes and sizes in a sealed part. So who has no key of the
scope, and sees all of the bus, learns paths, modes, owners, generations and the class of a size; a content that is easy
to guess cannot be found by trying.

Everything here is determined by key and content: what is sealed again is the same bytes, so that what lies on the bus
can be compared with what should. No nonce is ever used for two texts.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import nacl.exceptions
import nacl.utils
from nacl.public import SealedBox
from nacl.secret import SecretBox

from protocol.bus import CHUNK_BYTES
from protocol.errors import DecodeError
from protocol.messages import FileEntry, Manifest, WrappedKey, chunks
from protocol.names import Digest, ScopeName, digest
from protocol.sealing import keys

KEY_BYTES: Final = 32
TAG_BYTES: Final = SecretBox.MACBYTES
LAST_CHUNK_BYTES_MIN: Final = 256
"""Smaller contents cannot be told apart by their size."""

_RECORD_BYTES: Final = 32 + 8
"""What a manifest's sealed part has of each secret: its SHA-256, its size."""

_ID, _NAME, _CONTENT, _MANIFEST, _NONCE = b"key id", b"content name", b"content", b"manifest", b"manifest nonce"


@dataclass(frozen=True, slots=True)
class ScopeKey:
    """What a scope's secrets are sealed with. It is never shown: not in a repr, not in a log."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a scope's key of {len(self.secret)} bytes, it has {KEY_BYTES}")

    @property
    def id(self) -> str:
        """A fingerprint: tells keys apart and says nothing of them."""
        return self.derive(_ID, b"")[:8].hex()

    def derive(self, purpose: bytes, about: bytes) -> bytes:
        """Return 32 bytes that nobody without the key can know; others for each purpose, and for all they are about."""
        return hashlib.blake2b(about, key=self.secret, person=purpose, digest_size=32).digest()


def new_scope_key() -> ScopeKey:
    return ScopeKey(nacl.utils.random(KEY_BYTES))


def wrap(key: ScopeKey, scope: ScopeName, reader: str) -> WrappedKey:
    """Return a scope's key for the holder of a public nkey; ValueError if nothing can be sealed for it."""
    try:
        box = SealedBox(keys.verify_key(reader).to_curve25519_public_key())
    except nacl.exceptions.RuntimeError as error:
        raise ValueError(f"public key {reader[:10]}… is no key that anything could be sealed for") from error
    return WrappedKey(scope=scope, key=key.id, box=bytes(box.encrypt(key.secret)))


def unwrap(wrapped: WrappedKey, seed: str) -> ScopeKey:
    """Return the key that was wrapped for the holder of this seed; DecodeError if it was for another, or altered."""
    try:
        key = ScopeKey(SealedBox(keys.signing_key(seed).to_curve25519_private_key()).decrypt(wrapped.box))
    except (nacl.exceptions.CryptoError, ValueError, TypeError) as error:
        raise DecodeError(f"the key of scope {wrapped.scope} was wrapped for another node, or altered") from error
    if key.id != wrapped.key:
        raise DecodeError(f"the key of scope {wrapped.scope} is {key.id}, not {wrapped.key} as it says")
    return key


class ContentBox:
    """One secret content, in chunks. `name` is where it lies on the bus."""

    def __init__(self, key: ScopeKey, entry: FileEntry) -> None:
        """`entry` is an opened one, with the true hash and size."""
        self._name = Digest(key.derive(_NAME, bytes.fromhex(entry.digest) + entry.path.encode()).hex())
        self.size_bytes = entry.size_bytes
        self._box = SecretBox(key.derive(_CONTENT, self._name.encode()))

    @property
    def name(self) -> Digest:
        return self._name

    @property
    def count(self) -> int:
        """How many chunks there are: at least one, so that an empty content cannot be told from a small one."""
        return max(1, -(-self.size_bytes // CHUNK_BYTES))

    def parts(self) -> Iterator[tuple[int, int, int]]:
        """Yield index, offset and length of what each chunk holds."""
        yield from chunks(self.size_bytes, CHUNK_BYTES) if self.size_bytes else ((0, 0, 0),)

    def seal(self, index: int, part: bytes) -> bytes:
        padded = part.ljust(_padded(len(part)), b"\0")
        return self._box.encrypt(padded, self._nonce(index)).ciphertext

    def open(self, index: int, data: bytes, length: int) -> bytes:
        """Return what a chunk holds; DecodeError if it is another's, another one's place, cut off or altered."""
        try:
            padded = self._box.decrypt(data, self._nonce(index))
        except (nacl.exceptions.CryptoError, ValueError) as error:
            raise DecodeError(f"chunk {index} of {self.name[:12]}… is not what was sealed there") from error
        if len(padded) != _padded(length):
            raise DecodeError(f"chunk {index} of {self.name[:12]}… has {len(padded)} bytes, not {_padded(length)}")
        return padded[:length]

    def _nonce(self, index: int) -> bytes:
        """The key is this content's own, so a chunk's place is enough, and whether it is the last."""
        return index.to_bytes(8, "big") + bytes([index == self.count - 1]) + bytes(SecretBox.NONCE_SIZE - 9)


def public_entry(entry: FileEntry, key: ScopeKey) -> FileEntry:
    """Return what everybody may see of an entry: of a secret, its name on the bus and the class of its size."""
    if not entry.secret:
        return entry
    return replace(entry, digest=ContentBox(key, entry).name, size_bytes=size_class(entry.size_bytes))


def seal_manifest(manifest: Manifest, key: ScopeKey) -> Manifest:
    """Return what may lie on the bus of a manifest. One without secrets is that already."""
    secrets = [entry for entry in manifest.files if entry.secret]
    if not secrets:
        return manifest
    records = b"".join(bytes.fromhex(entry.digest) + entry.size_bytes.to_bytes(8, "big") for entry in secrets)
    box, about = _manifest_box(manifest, key)
    nonce = hashlib.blake2b(records, key=key.derive(_NONCE, about), digest_size=SecretBox.NONCE_SIZE).digest()
    files = tuple(public_entry(entry, key) for entry in manifest.files)
    return replace(manifest, files=files, key=key.id, sealed=bytes(box.encrypt(records, nonce)))


def open_manifest(manifest: Manifest, key: ScopeKey) -> Manifest:
    """Return a manifest with true hashes and sizes; DecodeError if it was sealed with another key, or altered."""
    box, _ = _manifest_box(manifest, key)
    try:
        records = box.decrypt(manifest.sealed)
    except (nacl.exceptions.CryptoError, ValueError) as error:
        raise DecodeError(f"manifest of {manifest.scope}: its sealed part is not what was sealed there") from error
    secrets = [entry for entry in manifest.files if entry.secret]
    if len(records) != _RECORD_BYTES * len(secrets):
        raise DecodeError(f"manifest of {manifest.scope}: {len(records)} sealed bytes for {len(secrets)} secrets")
    parts = (records[start : start + _RECORD_BYTES] for start in range(0, len(records), _RECORD_BYTES))
    opened = {entry.path: _opened(entry, part) for entry, part in zip(secrets, parts, strict=True)}
    files = tuple(opened.get(entry.path, entry) for entry in manifest.files)
    return replace(manifest, files=files, key="", sealed=b"")


def _opened(entry: FileEntry, record: bytes) -> FileEntry:
    return replace(entry, digest=digest(record[:32].hex()), size_bytes=int.from_bytes(record[32:], "big"))


def _manifest_box(manifest: Manifest, key: ScopeKey) -> tuple[SecretBox, bytes]:
    about = f"{manifest.scope} {manifest.epoch} {manifest.generation}".encode()
    return SecretBox(key.derive(_MANIFEST, about)), about


def _padded(length: int) -> int:
    """Return the length to which a chunk's content is filled up: powers of two, up to a full chunk."""
    return max(LAST_CHUNK_BYTES_MIN, 1 << (length - 1).bit_length()) if length else LAST_CHUNK_BYTES_MIN


def size_class(size_bytes: int) -> int:
    """Return the size that is shown of a secret: only so much that contents of about one size look alike."""
    whole = max(0, -(-size_bytes // CHUNK_BYTES) - 1) * CHUNK_BYTES
    return whole + _padded(size_bytes - whole)
