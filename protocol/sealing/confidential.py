"""Sealed for one reader: what was sealed for a public key can only be opened by the holder of its seed.

The nkey of every process is an Ed25519 key; libsodium turns it into the X25519 key of its sealed boxes, so there is no
second key to keep.
"""

import nacl.exceptions
import nacl.public

from protocol import codec
from protocol.errors import Refused
from protocol.os_messages import Confidential
from protocol.sealing import keys


def seal(confidential: Confidential, reader: str) -> bytes:
    """Return private and secret OS parameters sealed for the holder of a public nkey; empty if there are none."""
    if not confidential.private and not confidential.secret:
        return b""
    try:
        key = keys.verify_key(reader).to_curve25519_public_key()
    except nacl.exceptions.RuntimeError as error:
        raise Refused(f"public key {reader[:8]}… is no key that anything could be sealed for") from error
    return bytes(nacl.public.SealedBox(key).encrypt(codec.encode(confidential)))


def unseal(sealed: bytes, seed: str) -> Confidential:
    """Return what was sealed for the holder of this seed; Refused if it was for another one, or was changed."""
    if not sealed:
        return Confidential()
    key = keys.signing_key(seed).to_curve25519_private_key()
    try:
        opened = nacl.public.SealedBox(key).decrypt(sealed)
    except (nacl.exceptions.CryptoError, ValueError, TypeError) as error:
        raise Refused(
            "the private and secret OS parameters were sealed for another key than mine, or changed on their way; "
            "has the key been replaced? pass them again"
        ) from error
    return codec.decode(opened, Confidential)
