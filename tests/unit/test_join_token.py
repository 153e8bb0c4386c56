"""A join token is one word; whatever is done to it on its way is found, and its secrets show nowhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import join_token
from protocol.errors import Refused
from protocol.join_token import JoinToken
from protocol.names import Digest, NodeName

TOKEN = JoinToken(
    node=NodeName("node4.example.com"),
    server="tls://broker.example.com:4222",
    authority=Digest("ab" * 32),
    door=bytes(range(32)),
    secret=bytes(range(100, 132)),
    master=bytes(range(200, 232)),
)
WORD = join_token.to_text(TOKEN)


def test_it_is_read_as_it_was_made() -> None:
    assert join_token.from_text(WORD) == TOKEN
    assert join_token.from_text(f"  {WORD}\n") == TOKEN


def test_it_shows_neither_seed() -> None:
    assert repr(TOKEN) == "JoinToken('node4.example.com', 'tls://broker.example.com:4222')"


@pytest.mark.parametrize("position", range(len(join_token.PREFIX), len(WORD)))
def test_one_other_letter_is_found(position: int) -> None:
    for letter in "Aa7-":
        altered = WORD[:position] + letter + WORD[position + 1 :]
        if altered != WORD:
            with pytest.raises(Refused, match="altered or cut off"):
                join_token.from_text(altered)


@pytest.mark.parametrize("length", [len(join_token.PREFIX), 60, len(WORD) - 1, len(WORD) - 4])
def test_a_part_is_found(length: int) -> None:
    with pytest.raises(Refused, match="altered or cut off"):
        join_token.from_text(WORD[:length])


@given(st.text())
def test_anything_else_is_refused(text: str) -> None:
    for word in (text, join_token.PREFIX + text):
        with pytest.raises(Refused, match=r"no join token|altered"):
            join_token.from_text(word)


def test_a_proof_is_for_one_node_and_one_key() -> None:
    proofs = {join_token.proof_of(NodeName(node), key) for node in ("a", "ab") for key in ("U1", "U2")}
    assert len(proofs) == 4
