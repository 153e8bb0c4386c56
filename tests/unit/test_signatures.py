"""Signatures and the keys behind them: what NATS' own library makes of the same keys, and every way to be wrong."""

import dataclasses

import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import DecodeError
from protocol.messages import Signed, Succession
from protocol.sealing import keys, signatures
from protocol.sealing.signatures import Signer
from tests.support.memory_bus import seed_of

SIGNER, OTHER = Signer(seed_of("master")), Signer(seed_of("another"))
SUBJECT = "mesh.manifest.all"
SIGNED = SIGNER.sign(SUBJECT, b"body")
TRUSTED = frozenset({SIGNER.public_key})


def test_what_was_signed_comes_back() -> None:
    assert signatures.verified(SIGNED, SUBJECT, TRUSTED) == b"body"
    assert signatures.verified(SIGNED, SUBJECT, {OTHER.public_key, SIGNER.public_key}) == b"body"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"body": b"bodY"}, "altered"),
        ({"body": b""}, "altered"),
        ({"signature": bytes(64)}, "altered"),
        ({"signer": OTHER.public_key}, "not this cluster's master"),
    ],
)
def test_what_was_altered_is_refused(change: dict[str, object], reason: str) -> None:
    altered = dataclasses.replace(SIGNED, **change)  # type: ignore[arg-type]

    with pytest.raises(DecodeError, match=reason):
        signatures.verified(altered, SUBJECT, TRUSTED)


def test_another_subject_or_another_trust_is_refused() -> None:
    with pytest.raises(DecodeError, match=r"mesh\.manifest\.vm-capable.*altered"):
        signatures.verified(SIGNED, "mesh.manifest.vm-capable", TRUSTED)
    for trusted in ((), {OTHER.public_key}):
        with pytest.raises(DecodeError, match="not this cluster's master"):
            signatures.verified(SIGNED, SUBJECT, trusted)


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_subject_and_body_do_not_run_into_each_other(head: bytes, tail: bytes) -> None:
    subject = head.hex()
    signed = SIGNER.sign(subject, tail)

    assert signatures.verified(signed, subject, TRUSTED) == tail
    if subject:
        moved = Signed(signer=signed.signer, signature=signed.signature, body=subject[-1:].encode() + b"\0" + tail)
        with pytest.raises(DecodeError):
            signatures.verified(moved, subject[:-1], TRUSTED)


@given(st.binary(min_size=32, max_size=32))
def test_keys_are_what_nkeys_makes_of_them(raw: bytes) -> None:
    seed = nkeys.encode_seed(raw, nkeys.PREFIX_BYTE_USER).decode()
    pair = nkeys.from_seed(bytearray(seed.encode()))
    public = pair.public_key.decode()

    assert Signer(seed).public_key == public
    assert bytes(keys.signing_key(seed)) == raw
    assert keys.public_text(keys.verify_key(public)) == public
    assert pair.sign(b"x") == keys.signing_key(seed).sign(b"x").signature


def test_a_text_that_is_no_public_key_is_refused() -> None:
    with pytest.raises(ValueError, match="public key"):
        keys.verify_key("U" * 56)


NEXT, THIRD = Signer(seed_of("the next one")), Signer(seed_of("the third"))
SUCCESSION = (SIGNER.vouch_for(NEXT.public_key), NEXT.vouch_for(THIRD.public_key))


def test_a_successor_is_believed_by_who_knows_a_key_before_it() -> None:
    renewed = Signer(seed_of("the third"), SUCCESSION).sign(SUBJECT, b"body")

    for known in (SIGNER, NEXT, THIRD):
        assert signatures.verified(renewed, SUBJECT, {known.public_key}) == b"body"
    with pytest.raises(DecodeError, match="not this cluster's master"):
        signatures.verified(renewed, SUBJECT, {OTHER.public_key})
    assert Signer(seed_of("the third"), SUCCESSION).trusted == {s.public_key for s in (SIGNER, NEXT, THIRD)}


@pytest.mark.parametrize(
    "succession",
    [
        (),
        SUCCESSION[1:],
        (dataclasses.replace(SUCCESSION[0], signature=bytes(64)), SUCCESSION[1]),
        (dataclasses.replace(SUCCESSION[0], signer=THIRD.public_key),),
        (dataclasses.replace(SUCCESSION[1], former=SIGNER.public_key),),
        (OTHER.vouch_for(THIRD.public_key),),
        SUCCESSION[::-1],
    ],
)
def test_whom_nobody_vouches_for_is_not(succession: tuple[Succession, ...]) -> None:
    renewed = Signer(seed_of("the third"), succession).sign(SUBJECT, b"body")

    with pytest.raises(DecodeError, match="not this cluster's master"):
        signatures.verified(renewed, SUBJECT, TRUSTED)


def test_a_former_key_is_not_believed_by_who_knows_its_successor() -> None:
    with pytest.raises(DecodeError, match="not this cluster's master"):
        signatures.verified(SIGNED, SUBJECT, {NEXT.public_key})


def test_a_word_for_a_successor_is_no_message_and_no_message_is_one() -> None:
    body = NEXT.public_key.encode()
    stolen = dataclasses.replace(SUCCESSION[0], signature=SIGNER.sign("mesh.role.node2", body).signature)
    renewed = Signer(seed_of("the next one"), [stolen]).sign(SUBJECT, b"body")

    with pytest.raises(DecodeError):
        signatures.verified(renewed, SUBJECT, TRUSTED)
