"""Who says so: the master signs what its nodes act on, with a key that they know since they joined.

The signature covers the subject too, so that what was said to one node, or of one scope, is nothing said of another.
Old words stay well signed for ever: epoch, generation and serial are what a replay fails at. When the key is renewed
the former one vouches for its successor, so that a node that was not there believes the successor as well.
"""

from collections.abc import Collection, Iterable

from nacl.exceptions import CryptoError

from protocol.errors import DecodeError
from protocol.messages import Signed, Succession
from protocol.sealing import keys

_CONTEXT = b"gnt-mesh signed\0"
_SUCCESSION = "gnt-mesh succession"


class Signer:
    """The master's signing key, from its nkey seed, and how it came to be the master's."""

    def __init__(self, seed: str, succession: Iterable[Succession] = ()) -> None:
        self._key = keys.signing_key(seed)
        self.public_key = keys.public_text(self._key.verify_key)
        self.succession = tuple(succession)

    @property
    def trusted(self) -> frozenset[str]:
        """Whose signatures may still lie on the bus: this one's, and those of the keys before."""
        return frozenset((self.public_key, *(one.former for one in self.succession)))

    def sign(self, subject: str, body: bytes) -> Signed:
        signature = self._key.sign(_covered(subject, body)).signature
        return Signed(signer=self.public_key, signature=signature, body=body, succession=self.succession)

    def vouch_for(self, signer: str) -> Succession:
        """Return our word that another key is our successor."""
        signature = self._key.sign(_covered(_SUCCESSION, signer.encode())).signature
        return Succession(signer=signer, former=self.public_key, signature=signature)


def verified(signed: Signed, subject: str, trusted: Collection[str]) -> bytes:
    """Return what was signed; DecodeError unless one of `trusted`, or a successor of it, signed it for this subject."""
    if signed.signer not in trusted and signed.signer not in _successors(signed.succession, trusted):
        raise DecodeError(f"{subject}: signed by {signed.signer[:10]}…, which is not this cluster's master")
    if not _is_signed(signed.signer, _covered(subject, signed.body), signed.signature):
        raise DecodeError(f"{subject}: the master's signature is wrong: somebody has altered it")
    return signed.body


def _successors(succession: Iterable[Succession], trusted: Collection[str]) -> set[str]:
    """Return who speaks for the master because one of `trusted` says so, or one of these."""
    found: set[str] = set()
    for one in succession:
        is_known = one.former in trusted or one.former in found
        if is_known and _is_signed(one.former, _covered(_SUCCESSION, one.signer.encode()), one.signature):
            found.add(one.signer)
    return found


def _is_signed(signer: str, covered: bytes, signature: bytes) -> bool:
    try:
        keys.verify_key(signer).verify(covered, signature)
    except (CryptoError, ValueError):
        return False
    return True


def _covered(subject: str, body: bytes) -> bytes:
    return _CONTEXT + subject.encode() + b"\0" + body
