"""Fetches what a file held in two generations, in pieces, and compares it line by line if it is text."""

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.bus import OperatorBus
from protocol.errors import Unavailable
from protocol.history_messages import ContentPart, ContentQuery, FileDiff
from protocol.messages import FileEntry

TEXT_BYTES_MAX: Final = 1024 * 1024
"""What is larger is not compared line by line: nobody reads that, and it takes very long."""
CONTEXT_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """The lines that differ, as `diff -u` has them; or in `note` why there are none although contents differ."""

    lines: tuple[str, ...] = ()
    note: str = ""


async def compare(
    bus: OperatorBus, one: FileDiff, generations: tuple[int, int], *, show_secrets: bool = False
) -> Comparison:
    """Return how the contents of a file differ."""
    if one.before and one.after and one.before.digest == one.after.digest:
        return Comparison()
    if one.is_secret and not show_secrets:
        return Comparison(note="a secret; its content is shown with --show-secrets")
    if any(entry.size_bytes > TEXT_BYTES_MAX for entry in (one.before, one.after) if entry):
        return Comparison(note="too large to be compared line by line")
    old, new = [
        await _content(bus, generation, entry, is_secret=one.is_secret)
        for generation, entry in zip(generations, (one.before, one.after), strict=True)
    ]
    try:
        texts = [_lines(content) for content in (old, new)]
    except ValueError:
        return Comparison(note="binary")
    return Comparison(tuple(_unified(*texts)))


async def _content(bus: OperatorBus, generation: int, entry: FileEntry | None, *, is_secret: bool) -> bytes:
    """Of a secret its hash is not told, and its size roughly: it ends where nothing more comes."""
    content = bytearray()
    while entry and len(content) < entry.size_bytes:
        query = ContentQuery(generation=generation, path=entry.path, offset=len(content), show_secrets=is_secret)
        part = await bus.ask("file.content", query, ContentPart)
        if not part.data:
            break
        content += part.data
    if entry and not is_secret and hashlib.sha256(content).hexdigest() != entry.digest:
        raise Unavailable(f"{entry.path}: what the master keeps of generation {generation} is damaged")
    return bytes(content)


def _lines(content: bytes) -> list[str]:
    """Return the lines of a text; ValueError if it is none."""
    if b"\0" in content:
        raise ValueError("binary")
    *lines, last = content.decode().split("\n")
    return [*(f"{line}\n" for line in lines), *([last] if last else [])]


def _unified(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    _, _, *lines = [*difflib.unified_diff(old, new, n=CONTEXT_LINES)] or ["", ""]
    for line in lines:
        yield line.rstrip("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"
