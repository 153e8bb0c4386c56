"""messages: a value in hand is a valid value."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import messages
from protocol.messages import (
    Assignment,
    BlobWanted,
    FileError,
    FileEvent,
    Manifest,
    ManifestHead,
    NodeBell,
    Question,
    Refusals,
    ScopeBell,
    ScopeReceipt,
    Signed,
    Status,
    Succession,
    Withdrawal,
    WrappedKey,
    chunks,
)
from protocol.names import ALL
from tests.support.builders import NODE1, a_digest, a_manifest, a_status, an_entry
from tests.support.values import a_public_key

ENTRY = an_entry()
SCOPED = {"scope": ALL, "epoch": 1, "generation": 1}

VALID: list[Any] = [
    ENTRY,
    Withdrawal(path=ENTRY.path, generation=1),
    a_manifest(),
    ManifestHead(**SCOPED, digest=a_digest(), size_bytes=1),
    FileEvent(**SCOPED, path=ENTRY.path, change="changed", entry=ENTRY),
    Assignment(node=NODE1, epoch=1, serial=1, scopes=(ALL,)),
    ScopeBell(**SCOPED),
    NodeBell(node=NODE1, epoch=1, serial=1),
    ScopeReceipt(**SCOPED),
    FileError(path="/etc/hosts", reason="why"),
    a_status(),
    BlobWanted(node=NODE1, scope=ALL, digest=a_digest()),
    Signed(signer=a_public_key("master"), signature=bytes(64), body=b""),
    Succession(signer=a_public_key("next"), former=a_public_key("master"), signature=bytes(64)),
    WrappedKey(scope=ALL, key="", box=b""),
    Question(body=b"", answer_key=bytes(32)),
]

BAD: dict[str, list[object]] = {
    "scope": ["", "All", "group-", "a.b"],
    "node": ["", "a_b", "*"],
    "epoch": [0, -1],
    "path": ["", "etc/hosts", "/../x"],
    "digest": ["", "A" * 64],
    "signer": ["", "U" * 56],
    "signature": [b"", bytes(63), bytes(65)],
    "answer_key": [b"", bytes(31)],
}

CHECKED = [
    (type(message).__name__, field.name, bad)
    for message in VALID
    for field in dataclasses.fields(message)
    for bad in BAD.get(field.name, [])
    if not isinstance(message, FileError)
]


@pytest.mark.parametrize(("kind", "field", "bad"), CHECKED)
def test_every_name_and_every_epoch_is_checked(kind: str, field: str, bad: object) -> None:
    message = next(message for message in VALID if type(message).__name__ == kind)

    with pytest.raises(ValueError, match=r".+"):
        dataclasses.replace(message, **{field: bad})


def test_every_message_is_tried_here() -> None:
    kinds = {kind for kind in vars(messages).values() if dataclasses.is_dataclass(kind)}

    assert kinds == {type(message) for message in VALID} | {Refusals}


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (ENTRY, {"size_bytes": -1}),
        (ENTRY, {"generation": -1}),
        (ENTRY, {"mode": 0o10000}),
        (ENTRY, {"mode": -1}),
        (ENTRY, {"owner": ""}),
        (ENTRY, {"group": ""}),
        (a_manifest(), {"generation": -1}),
        (a_manifest(), {"files": (an_entry("/b"), an_entry("/a"))}),
        (a_manifest(), {"files": (an_entry("/a"), an_entry("/a"))}),
        (VALID[4], {"entry": None}),
        (VALID[4], {"change": "removed"}),
        (VALID[4], {"entry": an_entry("/etc/other")}),
        (VALID[3], {"size_bytes": -1}),
        (VALID[7], {"serial": -1}),
        (VALID[5], {"scopes": (ALL, ALL)}),
        (VALID[5], {"scopes": ("nowhere",)}),
        (VALID[5], {"serial": -1}),
        (VALID[9], {"reason": "x" * (messages.REASON_CHARS_MAX + 1)}),
        (VALID[9], {"path": "x" * 4097}),
        (a_status(), {"errors": (VALID[9],) * (messages.ERRORS_MAX + 1)}),
        (a_status(), {"holding": ("nowhere",)}),
    ],
)
def test_an_impossible_value_is_refused(message: Any, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        dataclasses.replace(message, **change)


def test_messages_are_values() -> None:
    """Frozen, and made by naming every field: a field added later changes no call."""
    for message in VALID:
        name = dataclasses.fields(message)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(message, name, getattr(message, name))
        with pytest.raises(TypeError):
            type(message)(*(getattr(message, field.name) for field in dataclasses.fields(message)))


def test_the_epoch_comes_first_in_every_comparison() -> None:
    """A master deposed by a failover cannot win, however many generations it makes."""
    for kind in (Manifest, ScopeBell, ScopeReceipt):
        assert kind(scope=ALL, epoch=2, generation=1).version > kind(scope=ALL, epoch=1, generation=9).version
    assert Assignment(node=NODE1, epoch=2, serial=1, scopes=()).version == (2, 1)
    assert ManifestHead(**SCOPED, digest=a_digest(), size_bytes=1).version == (1, 1)


def test_an_error_of_a_whole_scope_has_no_path() -> None:
    assert FileError(path="", reason="no manifest", scope=ALL).scope == ALL


def test_a_status_finds_the_receipt_of_a_scope() -> None:
    receipt = ScopeReceipt(**SCOPED)
    status = dataclasses.replace(a_status(), receipts=(receipt,))

    assert status.receipt(ALL) == receipt
    assert Status.receipt(a_status(), ALL) is None


def test_refusals_count_and_keep_the_last_reason_short() -> None:
    refusals = Refusals().and_one_more("first").and_one_more("x" * 1000)

    assert (refusals.count, len(refusals.last)) == (2, messages.REASON_CHARS_MAX)


@given(st.integers(0, 10_000), st.integers(1, 700))
def test_chunks_cover_a_content_without_gap(size_bytes: int, chunk_bytes: int) -> None:
    parts = list(chunks(size_bytes, chunk_bytes))

    assert [index for index, _, _ in parts] == list(range(len(parts)))
    assert [offset for _, offset, _ in parts] == list(range(0, size_bytes, chunk_bytes))
    assert sum(length for _, _, length in parts) == size_bytes
    assert all(0 < length <= chunk_bytes for _, _, length in parts)
    assert all(length == chunk_bytes for _, _, length in parts[:-1])
