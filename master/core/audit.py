"""The audit log's chain: who asked for which change, from where; each entry names the hash of the one before it.

Who alters, removes or inserts an entry must alter every later one, and the last hash, which others may have noted.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Final, Literal

import msgspec

FIRST: Final = "0" * 64
"""What the first entry names as the hash before it."""

TEXT_CHARS_MAX: Final = 256
ITEMS_MAX: Final = 64

_TELLING: Final = re.compile("secret|password|seed|sealed|proof")

Outcome = Literal["asked", "done", "refused", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the log. A request has two: one before it is carried out, and one that says how that ended."""

    number: int
    time: float
    who: str
    """The name of an administrator's access, or what the server calls the asker."""
    key: str
    """The public key with which the server knows the asker."""
    origin: str
    """The address that the asker's connection came from."""
    verb: str
    outcome: Outcome
    what: dict[str, object]
    of: int = 0
    """The number of the entry that says what was asked; 0 in that entry itself."""
    before: str


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry of a chain: its number and its hash."""

    number: int = 0
    digest: str = FIRST


def line_of(entry: Entry) -> bytes:
    """Return the entry as one line of JSON."""
    return msgspec.json.encode(entry) + b"\n"


def entry_of(line: bytes) -> Entry:
    """Return the entry in a line; ValueError if there is none."""
    try:
        return msgspec.json.decode(line, type=Entry)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error


def head_of(entry: Entry, line: bytes) -> Head:
    return Head(entry.number, hashlib.sha256(line).hexdigest())


def follow(lines: Iterable[bytes], noted: Head | None = None) -> tuple[Head, str]:
    """Walk along the chain; return its last sound entry, and what is wrong after it, empty if nothing is.

    `noted` is a head that was written down elsewhere: a chain that does not reach it has lost its end.
    """
    head = Head()
    seen = noted is None or noted == head
    for line in lines:
        try:
            entry = entry_of(line)
        except ValueError as error:
            return head, f"entry {head.number + 1} cannot be read: {error}"
        if entry.number != head.number + 1:
            return head, f"after entry {head.number} comes entry {entry.number}: some were removed or inserted"
        if entry.before != head.digest:
            return head, f"entry {head.number} is not what entry {entry.number} saw: it was altered"
        head = head_of(entry, line)
        seen = seen or noted == head
    if not seen:
        assert noted
        if head.number < noted.number:
            return head, f"there were {noted.number} entries: the last {noted.number - head.number} are gone"
        return head, f"entry {noted.number} is not the one that was written: the log was replaced from there on"
    return head, ""


def shown(request: object) -> dict[str, object]:
    """Return what of a request may be written down: names, flags and numbers. Contents and parameters' values may not.

    Of `key=value` and of mappings, whose values may be passwords, the keys are shown alone, and what is no plain value
    not at all.
    """
    if not is_dataclass(request):
        return {}
    named = [field.name for field in fields(request) if not _TELLING.search(field.name)]
    facts = {name: _plain(getattr(request, name)) for name in named}
    return {name: value for name, value in facts.items() if value is not None}


def _plain(value: object) -> object:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value[:TEXT_CHARS_MAX]
    if isinstance(value, Mapping):
        return sorted(str(key)[:TEXT_CHARS_MAX] for key in value)[:ITEMS_MAX]
    if isinstance(value, tuple | list | frozenset):
        items = [item for item in list(value)[:ITEMS_MAX] if isinstance(item, bool | int | float | str)]
        return [_plain(item.partition("=")[0] if isinstance(item, str) else item) for item in items]
    return None
