"""codec: what comes in may be anything; what goes out comes back the same."""

import json
import struct
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import codec
from protocol.bus import MANIFEST_INLINE_BYTES_MAX
from protocol.errors import DecodeError
from protocol.messages import Manifest, NodeBell, Refusals, ScopeBell, Status
from protocol.operator_messages import ClusterStatus, Goal, Nothing, ScopeInfo
from tests.support import strategies
from tests.support.builders import NODE1, a_manifest, a_status, many_paths

BELL = ScopeBell(scope=strategies.scope_name("all"), epoch=1, generation=2)

packable = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.binary(), inner, max_size=5),
    max_leaves=20,
)


def packed(**fields: Any) -> bytes:
    return bytes(msgpack.packb({"v": 1, "kind": "ScopeBell", "scope": "all", "epoch": 1, "generation": 2} | fields))


@pytest.mark.parametrize("kind", codec.KINDS.values(), ids=codec.KINDS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(data=st.data())
def test_every_kind_comes_back_as_it_went(kind: type, data: st.DataObject) -> None:
    message = data.draw(strategies.of(kind))

    encoded = codec.encode(message)

    assert codec.decode(encoded, kind) == message
    assert codec.decode_any(encoded) == message
    assert codec.encode(codec.decode(encoded, kind)) == encoded
    json.loads(codec.as_json(message))


def test_every_module_of_messages_is_known() -> None:
    """Otherwise `gnt-mesh decode` could not show what is said with them."""
    modules = {path.stem for path in Path(codec.__file__).parent.glob("*messages.py")}

    assert {kind.__module__.removeprefix("protocol.") for kind in codec.KINDS.values()} == modules


def test_equal_messages_have_equal_bytes() -> None:
    """A manifest is known by the digest of its bytes, and a goal's maps are filled in any order."""
    goal = Goal(epoch=1, generations={"b": 1, "a": 2, "c": 3})
    other = Goal(epoch=1, generations={"c": 3, "a": 2, "b": 1})

    assert goal == other
    assert codec.encode(goal) == codec.encode(other)


@given(st.binary(max_size=300))
def test_random_bytes_are_a_decode_error(data: bytes) -> None:
    for decode in (codec.decode_any, codec.decode_manifest, lambda data: codec.decode(data, Status)):
        with pytest.raises(DecodeError):
            decode(data)


@given(st.sampled_from(sorted(codec.KINDS)), st.dictionaries(st.text(max_size=10), packable, max_size=5))
def test_a_message_of_random_fields_is_read_or_is_a_decode_error(kind: str, fields: dict[str, object]) -> None:
    data = msgpack.packb({**fields, "v": 1, "kind": kind})
    try:
        message = codec.decode_any(data)
    except DecodeError:
        return
    assert type(message) is codec.KINDS[kind]


@given(kind=st.sampled_from(list(codec.KINDS.values())), data=st.data())
def test_a_damaged_message_is_read_or_is_a_decode_error(kind: type, data: st.DataObject) -> None:
    encoded = bytearray(codec.encode(data.draw(strategies.of(kind))))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        codec.decode(bytes(encoded[: data.draw(st.integers(0, len(encoded)))]), kind)
    except DecodeError as error:
        assert str(error)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        b"\x81\xa1v" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        msgpack.packb(msgpack.Timestamp(1)),
        msgpack.packb([1, 2]),
        msgpack.packb("text"),
        msgpack.packb({1: 2}),
        msgpack.packb({}),
        msgpack.packb({"v": 1}),
        msgpack.packb({"kind": "ScopeBell"}),
        msgpack.packb({"v": "1", "kind": "ScopeBell"}),
        msgpack.packb({"v": True, "kind": "ScopeBell"}),
        msgpack.packb({"v": 1, "kind": None}),
        msgpack.packb({"v": 1, "kind": "NoSuchKind"}),
        msgpack.packb({"v": 1, "kind": "ScopeBell"}) + b"\x00",
        packed(scope="no-such-scope"),
        packed(scope=b"all"),
        packed(epoch=0),
        packed(epoch="1"),
        packed(epoch=1.0),
        packed(epoch=None),
        packed(is_beat=1),
        packed(extra="x" * 70_000),
        packed(kind=[[]] * 1000),
        packed(generation=struct.unpack("d", b"\xff" * 8)[0]),
    ],
)
def test_what_is_no_message_is_a_decode_error(data: bytes) -> None:
    for decode in (codec.decode_any, lambda data: codec.decode(data, ScopeBell)):
        with pytest.raises(DecodeError):
            decode(data)


def test_a_kind_of_lists_in_lists_is_a_decode_error() -> None:
    """Printing it would recurse as deep as it is."""
    deep: list[object] = []
    for _ in range(500):
        deep = [deep]

    with pytest.raises(DecodeError):
        codec.decode(packed(kind=deep), ScopeBell)


def test_unknown_keys_are_ignored() -> None:
    """A newer peer may add some."""
    assert codec.decode(packed(added={"a": [1, b"2"]}), ScopeBell) == BELL


def test_a_key_that_is_not_text_is_a_decode_error() -> None:
    raw = msgpack.packb({b"bytes": 1, "v": 1, "kind": "ScopeBell", "scope": "all", "epoch": 1, "generation": 2})

    with pytest.raises(DecodeError):
        codec.decode(raw, ScopeBell)


def test_a_higher_version_is_refused() -> None:
    with pytest.raises(DecodeError, match="wire version 4, this side knows up to 3: upgrade"):
        codec.decode(packed(v=4), ScopeBell)


def test_another_kind_is_refused_by_name() -> None:
    with pytest.raises(DecodeError, match="a ScopeBell where a NodeBell belongs"):
        codec.decode(codec.encode(BELL), NodeBell)


def test_a_message_above_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(DecodeError, match="message of 1048577 bytes, limit 1048576"):
        codec.decode(b"\xc1" * (codec.MESSAGE_BYTES_MAX + 1), ScopeBell)


def test_a_manifest_may_be_larger_than_a_message() -> None:
    manifest = a_manifest(*many_paths(8000))
    encoded = codec.encode(manifest)
    assert len(encoded) > codec.MESSAGE_BYTES_MAX > MANIFEST_INLINE_BYTES_MAX

    assert codec.decode_manifest(encoded) == manifest
    with pytest.raises(DecodeError, match="limit 1048576"):
        codec.decode(encoded, Manifest)


def test_the_status_of_a_large_fleet_fits() -> None:
    """The widest answer there is."""
    status = ClusterStatus(
        cluster="c",
        master=NODE1,
        epoch=1,
        scopes={f"group-{number}": ScopeInfo(generation=1, files=1, nodes=1, size_bytes=1) for number in range(500)},
        nodes=(),
    )
    assert codec.decode(codec.encode(status), ClusterStatus) == status


def test_every_message_has_a_kind() -> None:
    assert {"Manifest", "Status", "Goal", "Nothing"} <= codec.KINDS.keys()
    assert "Digest" not in codec.KINDS
    assert codec.decode_any(codec.encode(Nothing())) == Nothing()


def test_json_shows_bytes_and_nested_values() -> None:
    assert json.loads(codec.as_json(a_status()))["refusals"] == {"count": 0, "last": ""}
    assert json.loads(codec.as_json(Refusals(count=1, last="süd"), indent=0)) == {"count": 1, "last": "süd"}
