"""How single values look to a person."""

import time


def printable(text: str) -> str:
    """Return a text that cannot move the cursor or colour the screen: a node may have sent it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def one_line(text: str) -> str:
    """Return a printable text without line breaks; all blanks stay, a path may have them."""
    return printable(" ".join(filter(None, text.splitlines())))


def yes(value: bool) -> str:
    """Return Y or N, as Ganeti shows flags."""
    return "Y" if value else "N"


def size(size_bytes: int) -> str:
    """Return a size as 512 B, 1.5 KiB, 64 MiB."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    value, unit = size_bytes / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value < 1023.95:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


def mode(bits: int) -> str:
    """Return permission bits as four octal digits."""
    return f"{bits:04o}"


def span(seconds: float) -> str:
    """Return a time span as 12 s, 5 min, 3 h, 2 d."""
    for unit_s, unit, bound_s in ((1, "s", 120), (60, "min", 7200), (3600, "h", 48 * 3600)):
        if seconds < bound_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def took(seconds: float) -> str:
    """Return how long something took: as a span, but below 10 s more exactly, 0.3 s."""
    return f"{seconds:.1f} s" if seconds < 9.95 else span(seconds)


def moment(timestamp: float) -> str:
    """Return a time stamp in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))


def count(number: int, noun: str) -> str:
    """Return a number with its noun: 1 node, 3 nodes."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
