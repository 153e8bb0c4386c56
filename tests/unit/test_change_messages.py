"""protocol/change_messages.py: what a client says about itself is bounded, and harmless to whoever reads it later."""

import pytest

from protocol import codec
from protocol.change_messages import BY_CHARS_MAX, REASON_CHARS_MAX, ChangeRequest
from protocol.errors import DecodeError
from protocol.operator_messages import FileRemove, GroupAdd, NodeModify


def test_every_changing_request_may_say_who_asks_and_why() -> None:
    request = FileRemove(path="/etc/x", by="root@master1", reason="größer, neuer", dry_run=True)

    assert codec.decode(codec.encode(request), FileRemove) == request


def test_a_request_that_says_nothing_is_understood() -> None:
    """An older client, or somebody with the plain `nats` command."""
    assert codec.decode(codec.encode(GroupAdd(name="rack1")), GroupAdd).reason == ""


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[31mred", "\x00", "\u2028", "\u202e"])
def test_what_could_disturb_a_screen_is_not_understood(text: str) -> None:
    for field in ("by", "reason"):
        with pytest.raises(ValueError, match=f"{field} .*: one line of printable characters"):
            ChangeRequest(**{field: text})


def test_nobody_can_fill_the_masters_disk_with_words() -> None:
    NodeModify(name="node2", by="x" * BY_CHARS_MAX, reason="y" * REASON_CHARS_MAX)
    with pytest.raises(ValueError, match="by of 201 characters, limit 200"):
        ChangeRequest(by="x" * 201)
    with pytest.raises(ValueError, match="reason of 401 characters, limit 400"):
        ChangeRequest(reason="y" * 401)


def test_the_wire_checks_it_again() -> None:
    forged = codec.encode(GroupAdd(name="g", reason="fine")).replace(b"fine", b"f\nne")

    with pytest.raises(DecodeError, match="one line of printable characters"):
        codec.decode(forged, GroupAdd)
