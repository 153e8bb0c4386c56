"""What scripts print, made harmless."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.core.job_text import harmless, last_line, whole


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (b"plain\tand\nlines\n", "plain\tand\nlines\n"),
        ("süd\n".encode(), "süd\n"),
        (b"\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        (b"10%\r20%\r\ndone\n", "10%\n20%\ndone\n"),
        (b"\xff\x00\n", "\\xff\\x00\n"),
        ("\u202eevil\u2028\x9b".encode(), "\\u202eevil\\u2028\\x9b"),
    ],
)
def test_output_controls_nothing(output: bytes, text: str) -> None:
    assert harmless(output) == text


@given(st.binary(max_size=200))
def test_whatever_is_printed_is_text_without_control(output: bytes) -> None:
    text = harmless(output)

    text.encode("utf-8")
    assert all(unicodedata.category(char) not in ("Cc", "Zl", "Zp") or char in "\n\t" for char in text)


@given(st.text(max_size=30), st.integers(1, 4))
def test_parts_that_were_cut_anywhere_make_the_same_text_as_the_whole(text: str, size: int) -> None:
    output, parts, place = text.encode(), "", 0
    while place < len(output):
        data = output[place : place + size + 4]
        is_end = place + len(data) == len(output)
        data = whole(data, is_end=is_end)
        assert data, "there is progress"
        parts += harmless(data)
        place += len(data)

    assert parts == harmless(output)


def test_the_last_line_is_the_last_that_says_something() -> None:
    assert last_line(b"first\nE: no such suite\n\n  \n") == "E: no such suite"
    assert last_line(b"\n \n") == ""
    assert len(last_line(b"x" * 1000)) == 200
