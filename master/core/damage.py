"""Where a JSON text is damaged: line, column and key, for the person who has to repair it.

The decoder says what is wrong and at which byte, or at which kind of key (`$.nodes[...].offline`). Here that becomes
the one place in the text. Nothing here decides whether a text is good.
"""

import json
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

Keys = tuple[str | int, ...]

DEPTH_MAX: Final = 50
"""No text of ours is nested deeper; beyond that only the offset is said."""

_SPACE = re.compile(r"[ \t\n\r]*")
_ATOM = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,:\[\]{}"]+', re.DOTALL)
_BYTE = re.compile(r"\s*\(byte (\d+)\)$")
_WHERE = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[(\.\.\.)\]")


class Misfit(ValueError):
    """Values that are each well formed and do not go together; `keys` lead to the one to look at."""

    def __init__(self, reason: str, *keys: str | int) -> None:
        super().__init__(reason)
        self.keys: Keys = keys


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong, and where: line and column count from 1, in characters."""

    reason: str
    line: int
    column: int
    keys: Keys = ()

    def __str__(self) -> str:
        key = f" ({'.'.join(map(str, self.keys))})" if self.keys else ""
        return f"line {self.line}, column {self.column}{key}: {self.reason}"


def locate(raw: bytes, error: Exception, decode: Callable[[bytes], object]) -> Damage:
    """Return where `error`, which `decode` raised for `raw`, has its cause."""
    text = raw.decode(errors="surrogateescape")
    reason = str(error)
    if isinstance(error, RecursionError):
        return _at(text, len(text), "nested too deep")
    if where := _WHERE.search(reason):
        keys = _keys_of(raw, error, where, decode)
        return at_keys(text, keys, reason[: where.start()])
    if isinstance(error, msgspec.ValidationError):
        return at_keys(text, error.__cause__.keys if isinstance(error.__cause__, Misfit) else (), reason)
    if not _BYTE.search(reason) and not isinstance(error, UnicodeDecodeError):
        return _at(text, len(text.rstrip()), reason)
    return _at(text, *_broken(raw, text, reason))


def at_keys(text: str, keys: Keys, reason: str) -> Damage:
    """Return the place of the value to which `keys` lead; if a key is missing, of what it is missing from."""
    known = dict(places(text))
    while keys and keys not in known:
        keys = keys[:-1]
    return _damage(text, known.get(keys, 0), keys, reason)


def duplicates(text: str) -> Iterator[tuple[Keys, int]]:
    """Yield the keys that stand twice in one object of a well-formed text: a decoder silently keeps the last."""
    seen: set[Keys] = set()
    for keys, offset in places(text):
        if keys in seen:
            yield keys, offset
        seen.add(keys)


def unknown(raw: object, understood: object, keys: Keys = ()) -> Iterator[Keys]:
    """Yield the keys in `raw` that are not in what was understood of it."""
    if isinstance(raw, dict) and isinstance(understood, dict):
        for key, value in raw.items():
            if key in understood:
                yield from unknown(value, understood[key], (*keys, key))
            else:
                yield (*keys, key)
    elif isinstance(raw, list) and isinstance(understood, list | tuple):
        for index, (value, known) in enumerate(zip(raw, understood, strict=False)):
            yield from unknown(value, known, (*keys, index))


def places(text: str) -> Iterator[tuple[Keys, int]]:
    """Yield every value of a JSON text, outer ones first: the keys that lead to it, and the offset where it begins.

    Ends where the text stops being JSON.
    """
    try:
        yield from _values(text, 0, ())
    except _NotJsonError:
        return


class _NotJsonError(Exception):
    pass


def _values(text: str, at: int, keys: Keys) -> Generator[tuple[Keys, int], None, int]:
    """Yield the values from `at` on, and return where the first of them ends."""
    at = _skip(text, at)
    yield keys, at
    opening = text[at : at + 1]
    if opening not in ("{", "["):
        return _end_of_atom(text, at)
    if len(keys) > DEPTH_MAX:
        raise _NotJsonError
    closing, index = {"{": "}", "[": "]"}[opening], 0
    at = _skip(text, at + 1)
    while text[at : at + 1] != closing:
        key: str | int = index
        if opening == "{":
            end = _end_of_atom(text, at)
            key, at = _string(text[at:end]), _skip(text, end) + 1
        at = _skip(text, (yield from _values(text, at, (*keys, key))))
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != closing:
            raise _NotJsonError
        index += 1
    return at + 1


def _string(quoted: str) -> str:
    try:
        return str(json.loads(quoted, strict=False))
    except ValueError:
        raise _NotJsonError from None


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _end_of_atom(text: str, at: int) -> int:
    atom = _ATOM.match(text, at)
    if atom is None:
        raise _NotJsonError
    return atom.end()


def _keys_of(raw: bytes, error: Exception, where: re.Match[str], decode: Callable[[bytes], object]) -> Keys:
    """Return the keys meant by a pattern in which `[...]` stands for any: whichever alone makes the same error."""
    keys: Keys = ()
    document = json.loads(raw)
    for name, index, anything in _STEP.findall(where[1]):
        if anything:
            name = _culprit(document, keys, str(error), decode)
        keys = (*keys, int(index) if index else name)
    return keys + (error.__cause__.keys if isinstance(error.__cause__, Misfit) else ())


def _culprit(document: Any, keys: Keys, complaint: str, decode: Callable[[bytes], object]) -> str:
    """Return the key of the object at `keys` without whose fellows the decoder still complains in the same words."""
    parent: Any = None
    found = document
    for key in keys:
        parent, found = found, found[key]
    try:
        for name, value in found.items():
            parent[keys[-1]] = {name: value}
            try:
                decode(json.dumps(document).encode())
            except Exception as error:
                if str(error) == complaint:
                    return str(name)
    finally:
        parent[keys[-1]] = found
    return "?"


def _broken(raw: bytes, text: str, reason: str) -> tuple[int, str]:
    """Return the character at which the text stops being JSON, and why. The decoder itself may stop a little later."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos, error.msg
    except RecursionError:
        pass
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return len(raw[: error.start].decode()), f"byte 0x{raw[error.start]:02x} is not UTF-8"
    byte = _BYTE.search(reason)
    return len(raw[: int(byte[1])].decode(errors="surrogateescape")) if byte else 0, _BYTE.sub("", reason)


def _at(text: str, offset: int, reason: str) -> Damage:
    """Return the damage at an offset, with the keys that were being read there."""
    keys: Keys = ()
    for inner, begins in places(text):
        if begins > offset:
            break
        keys = inner
    return _damage(text, offset, keys, reason)


def _damage(text: str, offset: int, keys: Keys, reason: str) -> Damage:
    before = text[:offset]
    return Damage(reason, before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1, keys)
