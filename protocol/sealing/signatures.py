"""Who says so: the master signs what its nodes act on, with a key that they know since they joined.

The signature covers the subject too, so that what was said to one node, or of one scope, is nothing said of another.
Old words stay well signed for ever: epoch, generation and serial are what a replay fails at.
"""

from collections.abc import Collection

from nacl.exceptions import CryptoError

from protocol.errors import DecodeError
from protocol.messages import Signed
from protocol.sealing import keys

_CONTEXT = b"gnt-mesh signed\0"


class Signer:
    """The master's signing key, from its nkey seed."""

    def __init__(self, seed: str) -> None:
        self._key = keys.signing_key(seed)
        self.public_key = keys.public_text(self._key.verify_key)

    def sign(self, subject: str, body: bytes) -> Signed:
        signature = self._key.sign(_covered(subject, body)).signature
        return Signed(signer=self.public_key, signature=signature, body=body)


def verified(signed: Signed, subject: str, trusted: Collection[str]) -> bytes:
    """Return what was signed; DecodeError unless one of `trusted` has signed it for this subject."""
    if signed.signer not in trusted:
        raise DecodeError(f"{subject}: signed by {signed.signer[:10]}…, which is not this cluster's master")
    try:
        keys.verify_key(signed.signer).verify(_covered(subject, signed.body), signed.signature)
    except (CryptoError, ValueError) as error:
        raise DecodeError(f"{subject}: the master's signature is wrong: somebody has altered it") from error
    return signed.body


def _covered(subject: str, body: bytes) -> bytes:
    return _CONTEXT + subject.encode() + b"\0" + body
