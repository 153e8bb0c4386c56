"""Names and digests that travel, and the rules that make each of them safe.

A name that passes here may be put into a subject, a permission or a file path without escaping surprises:
no rule lets through a wildcard, a token separator, a control character or a path that climbs.
"""

import base64
import binascii
import functools
import re
from typing import Final, NewType

NodeName = NewType("NodeName", str)
"""A host name, dots allowed, underscores not (subjects write the dot as an underscore)."""

ScopeName = NewType("ScopeName", str)
"""One subject token: `all`, `master-candidates`, `vm-capable` or `group-NAME`."""

GroupName = NewType("GroupName", str)

Digest = NewType("Digest", str)
"""SHA-256 of a content, 64 lower-case hexadecimal digits."""

ManagedPath = NewType("ManagedPath", str)
"""The absolute, normalised path of a managed file, as a node sees it below its own root."""

ALL: Final = ScopeName("all")
MASTER_CANDIDATES: Final = ScopeName("master-candidates")
VM_CAPABLE: Final = ScopeName("vm-capable")
GROUP_PREFIX: Final = "group-"

PATH_BYTES_MAX: Final = 1024
COMPONENT_BYTES_MAX: Final = 255

PATHS_REMEMBERED_MAX: Final = 4096
KEYS_REMEMBERED_MAX: Final = 256
"""Names that were found to be good lately are not checked again: the same ones come with every message."""

_USER_KEY_PREFIX = 20 << 3
_NODE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*", re.ASCII)
_GROUP = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def node_name(text: str) -> NodeName:
    """Return `text` as a node name; ValueError names the rule it breaks."""
    if len(text) > 63 or not _NODE.fullmatch(text):
        raise ValueError(f"node name {text!r}: letters, digits, '-' and single dots, at most 63 characters")
    return NodeName(text)


def group_name(text: str) -> GroupName:
    """Return `text` as the name of a node group; ValueError names the rule it breaks."""
    if not _GROUP.fullmatch(text):
        raise ValueError(f"group name {text!r}: letters, digits, '_' and '-', at most 40 characters")
    return GroupName(text)


def group_scope(group: GroupName) -> ScopeName:
    """Return the scope of one node group."""
    return ScopeName(GROUP_PREFIX + group_name(group))


def scope_name(text: str) -> ScopeName:
    """Return `text` as a scope; ValueError lists what a scope can be."""
    if text in (ALL, MASTER_CANDIDATES, VM_CAPABLE):
        return ScopeName(text)
    if text.startswith(GROUP_PREFIX) and _GROUP.fullmatch(text.removeprefix(GROUP_PREFIX)):
        return ScopeName(text)
    raise ValueError(f"scope {text!r}: one of {ALL}, {MASTER_CANDIDATES}, {VM_CAPABLE}, {GROUP_PREFIX}NAME")


def is_secret(scope: ScopeName) -> bool:
    """True for a scope whose files are withdrawn without leaving a copy behind (design, D5)."""
    return scope == MASTER_CANDIDATES


def digest(text: str) -> Digest:
    """Return `text` as a digest; ValueError if it is not 64 lower-case hexadecimal digits."""
    if not _DIGEST.fullmatch(text):
        raise ValueError(f"digest {text[:80]!r}: 64 lower-case hexadecimal digits")
    return Digest(text)


@functools.lru_cache(KEYS_REMEMBERED_MAX)
def public_key(text: str) -> str:
    """Return `text` as a user's public nkey; ValueError if it is none.

    Its checksum counts: the server refuses its whole configuration for one mistyped key.
    """
    if len(text) != 56 or not text.startswith("U"):
        raise ValueError(f"public key {text[:80]!r}: 56 letters and digits, beginning with U")
    try:
        raw = base64.b32decode(text)
    except (binascii.Error, ValueError):
        raise ValueError(f"public key {text[:80]!r}: only A to Z and 2 to 7") from None
    if raw[0] != _USER_KEY_PREFIX or binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise ValueError(f"public key {text[:80]!r}: its checksum is wrong, a letter or digit must be mistyped")
    return text


@functools.lru_cache(PATHS_REMEMBERED_MAX)
def managed_path(text: str) -> ManagedPath:
    """Return `text` as a managed path; ValueError names the rule it breaks.

    Absolute and already normalised, so that equal files have equal names; no `..`, no control character, valid
    Unicode, at most 1024 bytes in all and 255 in one component.
    """
    shown = repr(text[:200])
    if not text.startswith("/"):
        raise ValueError(f"path {shown} is not absolute")
    if _CONTROL.search(text):
        raise ValueError(f"path {shown} contains a control character")
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"path {shown} is not valid UTF-8") from None
    if len(encoded) > PATH_BYTES_MAX:
        raise ValueError(f"path of {len(encoded)} bytes, limit {PATH_BYTES_MAX}: {shown}")
    for component in text[1:].split("/"):
        if component in ("", ".", ".."):
            raise ValueError(f"path {shown} is not normalised: it has an empty, '.' or '..' component")
        if len(component.encode()) > COMPONENT_BYTES_MAX:
            raise ValueError(f"path {shown} has a component over {COMPONENT_BYTES_MAX} bytes")
    return ManagedPath(text)
