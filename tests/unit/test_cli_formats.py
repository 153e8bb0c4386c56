"""How single values look to a person."""

import pytest

from master.cli.formats import count, mode, one_line, printable, size, span


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1 MiB"),
        (64 * 1024**2, "64 MiB"),
        (3 * 1024**4, "3 TiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 d")]
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_modes_and_counts() -> None:
    assert (mode(0o644), mode(0o4755), mode(0)) == ("0644", "4755", "0000")
    assert (count(1, "node"), count(0, "node")) == ("1 node", "0 nodes")


def test_text_from_afar_stays_text() -> None:
    assert printable("größe [b] a  b") == "größe [b] a  b"
    assert printable("\x1b[2J\x9b\x00\u202e") == "\\x1b[2J\\x9b\\x00\\u202e"
    assert one_line(" - a  b\r\n\nc") == " - a  b c"
