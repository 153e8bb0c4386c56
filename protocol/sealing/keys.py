"""nkeys as the raw Ed25519 keys that they are. An nkey's text is base32 of a prefix, the key, and a checksum."""

import base64
import binascii
import functools

from nacl.signing import SigningKey, VerifyKey

from protocol.names import KEYS_REMEMBERED_MAX, public_key

_USER_PREFIX = bytes([20 << 3])


def signing_key(seed: str) -> SigningKey:
    """Return the key in an nkey seed, whose text `protocol.identity` has checked; its prefix has two bytes."""
    return SigningKey(base64.b32decode(_padded(seed))[2:34])


@functools.lru_cache(KEYS_REMEMBERED_MAX)
def verify_key(text: str) -> VerifyKey:
    """Return the key in a public nkey; ValueError if the text is none."""
    return VerifyKey(base64.b32decode(public_key(text))[1:33])


def public_text(key: VerifyKey) -> str:
    """Return a public key as the nkey of a user."""
    raw = _USER_PREFIX + bytes(key)
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode()


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 8)
