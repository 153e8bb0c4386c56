"""Whatever a script prints, as text that does no harm: not to a terminal, not to a log, not to JSON. Pure."""

import re
from typing import Final

LAST_LINE_CHARS_MAX: Final = 200

_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
"""Control characters but tab and line feed, and what changes the direction of a line."""


def harmless(output: bytes) -> str:
    """Return output as text. What is no UTF-8 or could control a terminal is shown escaped; lines stay lines."""
    text = output.decode("utf-8", "backslashreplace").replace("\r\n", "\n").replace("\r", "\n")
    return _HARMFUL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def whole(output: bytes, *, is_end: bool) -> bytes:
    """Return `output` without a character or a line end at its end of which the rest is still to come."""
    if is_end:
        return output
    for back in range(1, min(4, len(output)) + 1):
        byte = output[-back]
        if byte & 0xC0 == 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return output[:-back] if back < length else output
        if byte & 0xC0 != 0x80:
            break
    return output[:-1] if output.endswith(b"\r") else output


def last_line(output: bytes) -> str:
    """Return the last line that says something, shortened; empty if none does."""
    lines = harmless(output).split("\n")
    return next((line.strip()[:LAST_LINE_CHARS_MAX] for line in reversed(lines) if line.strip()), "")
