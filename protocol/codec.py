"""Messages to bytes and back: msgpack with every limit set, checked against the message's type by msgspec.

The only importer of msgpack. A message is one map: `v` (wire version), `kind` (its type), and its fields. Keys
that this side does not know are ignored; a higher `v` is refused, because its meaning may have changed.
"""

from typing import Any, Final, TypeVar

import msgpack
import msgspec

from protocol import (
    access_messages,
    change_messages,
    cluster_messages,
    file_messages,
    history_messages,
    instance_messages,
    job_messages,
    key_messages,
    messages,
    operator_job_messages,
    operator_messages,
    operator_os_messages,
    os_messages,
    verify_messages,
)
from protocol.errors import DecodeError
from protocol.messages import Manifest

T = TypeVar("T")

VERSION: Final = 3
MESSAGE_BYTES_MAX: Final = 1024 * 1024
"""Equal to the server's `max_payload`: nothing larger can be one message."""
MANIFEST_BYTES_MAX: Final = 64 * 1024 * 1024
"""A manifest that is not inline travels as a blob: about 300,000 files."""

KINDS: Final[dict[str, type]] = {
    kind.__name__: kind
    for module in (
        access_messages,
        change_messages,
        cluster_messages,
        file_messages,
        history_messages,
        instance_messages,
        job_messages,
        key_messages,
        messages,
        operator_job_messages,
        operator_messages,
        operator_os_messages,
        os_messages,
        verify_messages,
    )
    for kind in vars(module).values()
    if isinstance(kind, type) and kind.__module__ == module.__name__
}


def encode(message: object) -> bytes:
    """Return a message as bytes. Equal messages have equal bytes, in whatever order their maps were filled."""
    fields = msgspec.to_builtins(message, builtin_types=(bytes,), order="deterministic")
    return bytes(msgpack.packb({"v": VERSION, "kind": type(message).__name__, **fields}, use_bin_type=True))


def decode(data: bytes, expected: type[T], *, bytes_max: int = MESSAGE_BYTES_MAX) -> T:
    """Return the message in `data`; DecodeError says what is wrong with it, never any other exception."""
    fields = _unpack(data, bytes_max)
    kind = fields.pop("kind")
    if kind != expected.__name__:
        raise DecodeError(f"a {kind[:40]} where a {expected.__name__} belongs")
    return _convert(fields, expected)


def decode_any(data: bytes) -> object:
    """Return whatever message of ours is in `data`: for tools that show what they are given."""
    fields = _unpack(data, MESSAGE_BYTES_MAX)
    kind = KINDS.get(fields.pop("kind"))
    if kind is None:
        raise DecodeError("a kind of message that this version does not know")
    return _convert(fields, kind)


def as_json(message: object, *, indent: int = 2) -> str:
    """Return a message as JSON text for a person or a script; bytes appear as base64."""
    return msgspec.json.format(msgspec.json.encode(message), indent=indent).decode()


def decode_manifest(data: bytes) -> Manifest:
    """Return a manifest that travelled inline or as a blob."""
    return decode(data, Manifest, bytes_max=MANIFEST_BYTES_MAX)


def _unpack(data: bytes, bytes_max: int) -> dict[str, Any]:
    if len(data) > bytes_max:
        raise DecodeError(f"message of {len(data)} bytes, limit {bytes_max}")
    try:
        fields = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_str_len=64 * 1024,
            max_bin_len=bytes_max,
            max_array_len=bytes_max // 64,
            max_map_len=64 * 1024,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException, RecursionError, TypeError) as error:
        raise DecodeError(f"not msgpack: {error or type(error).__name__}") from error
    if not isinstance(fields, dict):
        raise DecodeError(f"a {type(fields).__name__} where a map belongs")
    version = fields.pop("v", None)
    if type(version) is not int or not isinstance(fields.get("kind"), str):
        raise DecodeError("no version or kind: not a message of this mesh")
    if version > VERSION:
        raise DecodeError(f"wire version {version}, this side knows up to {VERSION}: upgrade it")
    return fields


def _convert(fields: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(fields, kind, strict=True)
    except (msgspec.ValidationError, ValueError, OverflowError, RecursionError) as error:
        raise DecodeError(f"{kind.__name__}: {error}") from error
