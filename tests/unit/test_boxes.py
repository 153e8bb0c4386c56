"""What lies on the bus of a secret: nothing that tells it, nothing that can be moved, and the same each time."""

import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec
from protocol.bus import CHUNK_BYTES
from protocol.errors import DecodeError
from protocol.messages import FileEntry, Manifest
from protocol.names import ALL, MASTER_CANDIDATES
from protocol.sealing import boxes
from protocol.sealing.boxes import ContentBox, ScopeKey
from tests.support.builders import an_entry
from tests.support.memory_bus import public_key_of, seed_of

KEY, OTHER = ScopeKey(bytes(range(32))), ScopeKey(bytes(32))
PASSWORD = b"hunter2\n"


def a_secret(content: bytes = PASSWORD, path: str = "/etc/secret", generation: int = 1) -> FileEntry:
    return dataclasses.replace(an_entry(path, content=content, generation=generation), secret=True)


def sealed_chunks(box: ContentBox, content: bytes) -> list[bytes]:
    return [box.seal(index, content[offset : offset + length]) for index, offset, length in box.parts()]


def opened(box: ContentBox, data: list[bytes]) -> bytes:
    return b"".join(box.open(index, data[index], length) for index, _, length in box.parts())


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_what_was_sealed_is_opened(size: int) -> None:
    content = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    box = ContentBox(KEY, a_secret(content))

    data = sealed_chunks(box, content)

    assert opened(ContentBox(KEY, a_secret(content)), data) == content
    assert data == sealed_chunks(box, content), "the same each time, so that it can be compared"
    assert len(data) == box.count == max(1, -(-size // CHUNK_BYTES))
    assert all(content[:16] not in part for part in data) or size < 16


def test_small_contents_look_alike() -> None:
    lengths = {len(sealed_chunks(ContentBox(KEY, a_secret(b"x" * size)), b"x" * size)[0]) for size in range(257)}
    classes = {boxes.public_entry(a_secret(b"x" * size), KEY).size_bytes for size in range(257)}

    assert (lengths, classes) == ({256 + boxes.TAG_BYTES}, {256})


@given(st.integers(0, 5 * CHUNK_BYTES))
def test_the_class_of_a_size_is_what_its_chunks_show(size: int) -> None:
    entry = dataclasses.replace(a_secret(), size_bytes=size)
    lengths = [
        len(ContentBox(KEY, entry).seal(index, bytes(length))) for index, _, length in ContentBox(KEY, entry).parts()
    ]

    assert sum(lengths) - len(lengths) * boxes.TAG_BYTES == boxes.public_entry(entry, KEY).size_bytes
    assert size <= boxes.public_entry(entry, KEY).size_bytes < 2 * max(size, 256)


def test_chunks_cannot_change_places_and_none_can_be_left_out() -> None:
    content = bytes(CHUNK_BYTES) * 2 + b"end"
    box = ContentBox(KEY, a_secret(content))
    data = sealed_chunks(box, content)

    for swapped in ([data[1], data[0], data[2]], [data[0], data[0], data[2]], [data[0], data[2], data[2]]):
        with pytest.raises(DecodeError, match="not what was sealed there"):
            opened(box, swapped)
    shorter = ContentBox(KEY, a_secret(content[: 2 * CHUNK_BYTES]))
    with pytest.raises(DecodeError):
        opened(shorter, data[:2])


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: b"", lambda d: d + b"\0", lambda d: bytes([d[0] ^ 1]) + d[1:]]
)
def test_an_altered_chunk_is_refused(damage) -> None:  # type: ignore[no-untyped-def]
    box = ContentBox(KEY, a_secret())

    with pytest.raises(DecodeError):
        box.open(0, damage(box.seal(0, PASSWORD)), len(PASSWORD))


def test_a_chunk_of_another_length_is_refused() -> None:
    box = ContentBox(KEY, a_secret(b"x" * 300))

    with pytest.raises(DecodeError, match="256 bytes, not 512"):
        box.open(0, box.seal(0, b"x"), 300)


def test_key_path_and_content_give_each_another_name() -> None:
    """Equal secrets at two paths cannot be seen to be equal, nor one that a guess was put beside."""
    names = {
        ContentBox(key, a_secret(content, path)).name
        for key in (KEY, OTHER)
        for content in (PASSWORD, b"other")
        for path in ("/etc/a", "/etc/b")
    }
    assert len(names) == 8


def test_a_public_entry_tells_nothing_that_could_be_guessed() -> None:
    public = boxes.public_entry(a_secret(), KEY)

    assert public.digest not in (hashlib.sha256(PASSWORD).hexdigest(), a_secret().digest)
    assert public == dataclasses.replace(a_secret(), digest=public.digest, size_bytes=256)
    assert boxes.public_entry(an_entry(), KEY) == an_entry()


def a_manifest(*files: FileEntry, generation: int = 3) -> Manifest:
    ordered = tuple(sorted(files, key=lambda entry: entry.path))
    return Manifest(scope=MASTER_CANDIDATES, epoch=1, generation=generation, files=ordered)


def test_a_manifest_is_sealed_and_opened() -> None:
    manifest = a_manifest(a_secret(), an_entry("/etc/plain"), a_secret(b"", "/etc/empty"))

    public = boxes.seal_manifest(manifest, KEY)

    assert boxes.open_manifest(public, KEY) == manifest
    assert public == boxes.seal_manifest(manifest, KEY), "the same each time"
    encoded = codec.encode(public)
    for entry in manifest.files:
        shown = entry.digest.encode() in encoded or bytes.fromhex(entry.digest) in encoded
        assert shown == (not entry.secret)
    assert boxes.seal_manifest(a_manifest(an_entry()), KEY) == a_manifest(an_entry())


def test_what_is_sealed_of_a_manifest_has_a_size_that_tells_only_how_many_secrets_there_are() -> None:
    small, large = a_manifest(a_secret(b"")), a_manifest(a_secret(b"x" * 100_000))

    assert len(boxes.seal_manifest(small, KEY).sealed) == len(boxes.seal_manifest(large, KEY).sealed)


@pytest.mark.parametrize(
    "change",
    [
        {"sealed": b""},
        {"sealed": bytes(200)},
        {"generation": 4},
        {"epoch": 2},
        {"scope": ALL},
        {"files": ()},
        {"files": (a_secret(), a_secret(path="/etc/two"))},
    ],
)
def test_an_altered_manifest_is_refused(change: dict[str, object]) -> None:
    public = dataclasses.replace(boxes.seal_manifest(a_manifest(a_secret()), KEY), **change)  # type: ignore[arg-type]

    with pytest.raises(DecodeError):
        boxes.open_manifest(public, KEY)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(DecodeError):
        boxes.open_manifest(boxes.seal_manifest(a_manifest(a_secret()), KEY), OTHER)
    with pytest.raises(DecodeError):
        ContentBox(OTHER, a_secret()).open(0, ContentBox(KEY, a_secret()).seal(0, PASSWORD), len(PASSWORD))


def test_a_wrapped_key_is_for_one_node_alone() -> None:
    wrapped = boxes.wrap(KEY, ALL, public_key_of("node1"))  # type: ignore[arg-type]

    assert boxes.unwrap(wrapped, seed_of("node1")) == KEY
    assert KEY.secret not in codec.encode(wrapped)
    assert wrapped.box != boxes.wrap(KEY, ALL, public_key_of("node1")).box  # type: ignore[arg-type]
    for seed, changed in (
        (seed_of("node2"), wrapped),
        (seed_of("node1"), dataclasses.replace(wrapped, box=wrapped.box[:-1])),
        (seed_of("node1"), dataclasses.replace(wrapped, box=b"")),
        (seed_of("node1"), dataclasses.replace(wrapped, key=OTHER.id)),
    ):
        with pytest.raises(DecodeError):
            boxes.unwrap(changed, seed)


def test_a_key_that_nothing_can_be_sealed_for_is_refused() -> None:
    text = "UAAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQDRJ3"
    with pytest.raises(ValueError, match="public key"):
        boxes.wrap(KEY, ALL, text)


def test_a_key_is_not_shown() -> None:
    assert KEY.secret.hex() not in f"{KEY!r}{KEY}{KEY.id}"
    assert repr(KEY.secret) not in repr(KEY)
    assert KEY.id != OTHER.id and len(KEY.id) == 16
    assert boxes.new_scope_key() != boxes.new_scope_key()
    with pytest.raises(ValueError, match="31 bytes"):
        ScopeKey(bytes(31))
