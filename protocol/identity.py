"""nkeys: who a process is on the bus. The only importer of nkeys.

A seed is made on the machine that uses it and stays there, in a file only its owner can read; what travels is the
public key.
"""

import base64
import binascii
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import nkeys
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from protocol import durable
from protocol.errors import Refused
from protocol.names import public_key

__all__ = [
    "checked_seed",
    "ensure_seed",
    "is_signed",
    "next_of",
    "public_key",
    "public_key_of",
    "public_keys_text",
    "public_text",
    "raw_of",
    "raw_public",
    "read_public_key",
    "read_public_keys",
    "read_seed",
    "seed_of",
    "sign",
    "take_next",
]


def ensure_seed(path: Path) -> str:
    """Return the public key of the seed at `path`, made there first if there is none."""
    if not path.exists():
        durable.make_directory(path.parent)
        seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
        durable.write_file(path, bytes(seed) + b"\n", mode=0o600)
    return read_public_key(path)


def next_of(path: Path) -> Path:
    """Return where the seed lies that is to replace the one at `path`, while both are valid."""
    return path.with_name(path.name + ".next")


def take_next(path: Path) -> None:
    """Replace a seed by its next one, durably and at once; done already if there is none."""
    if next_of(path).exists():
        next_of(path).replace(path)
        durable.sync_directory(path.parent)


def read_public_key(path: Path) -> str:
    """Return the public key of the seed at `path`; Refused if it cannot be read, is no seed, or others can read it."""
    return str(_key_pair(path).public_key.decode())


def read_seed(path: Path) -> str:
    """Return the seed at `path` as text; Refused as `read_public_key`."""
    return str(_key_pair(path).seed.decode())


def checked_seed(text: str) -> str:
    """Return the public key of a seed; Refused if it is not that of a user."""
    return str(_pair_of(text.encode(), "what was given").public_key.decode())


def read_public_keys(path: Path) -> frozenset[str]:
    """Return the public keys in a file, one per line; Refused if it holds none, or something else."""
    try:
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: cannot read the master's public keys: {error}") from error
    try:
        found = frozenset(public_key(line) for line in lines)
    except ValueError as error:
        raise Refused(f"{path}: {error}") from error
    if not found:
        raise Refused(f"{path}: no public key of the master; without one no message can be believed")
    return found


def public_keys_text(public_keys: Iterable[str]) -> bytes:
    """Return what `read_public_keys` reads."""
    return "".join(f"{key}\n" for key in sorted(public_keys)).encode("ascii")


def seed_of(raw: bytes) -> str:
    """Return 32 random bytes as the seed of a user."""
    return bytes(nkeys.encode_seed(raw, nkeys.PREFIX_BYTE_USER)).decode()


def raw_of(seed: str) -> bytes:
    """Return the 32 bytes in a seed."""
    return bytes(nkeys.decode_seed(bytearray(seed.encode()))[1])


def public_key_of(seed: str) -> str:
    return str(nkeys.from_seed(bytearray(seed.encode())).public_key.decode())


def raw_public(key: str) -> bytes:
    """Return the 32 bytes in a public key."""
    return base64.b32decode(public_key(key))[1:33]


def public_text(raw: bytes) -> str:
    """Return 32 bytes as the public key of a user."""
    body = bytes((nkeys.PREFIX_BYTE_USER,)) + raw
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode().rstrip("=")


def sign(seed: str, data: bytes) -> bytes:
    """Return the signature of `data` by the holder of a seed."""
    return bytes(nkeys.from_seed(bytearray(seed.encode())).sign(data))


def is_signed(by: str, data: bytes, signature: bytes) -> bool:
    """True if the holder of a public key has signed `data`."""
    try:
        VerifyKey(raw_public(by)).verify(data, signature)
    except (CryptoError, ValueError, TypeError):
        return False
    return True


def _key_pair(path: Path) -> nkeys.KeyPair:
    try:
        status = path.stat()
        if status.st_mode & 0o077 and not _is_credential(status):
            raise Refused(f"{path}: a seed that others can read is no secret; chmod 600 it, or make a new key")
        raw = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: cannot read the key: {os.strerror(error.errno or 0)}") from error
    return _pair_of(raw.strip(), str(path))


def _pair_of(seed: bytes, where: str) -> nkeys.KeyPair:
    try:
        _, secret = nkeys.decode_seed(bytearray(seed))
        if nkeys.encode_seed(secret, nkeys.PREFIX_BYTE_USER) != seed:
            raise ValueError("not a user's, or a wrong checksum, which nkeys does not look at")
        return nkeys.from_seed(bytearray(seed))
    except (nkeys.NkeysError, ValueError, TypeError) as error:
        raise Refused(f"{where}: not the nkey seed of a user") from error


def _is_credential(status: os.stat_result) -> bool:
    """True for what systemd makes for one service: root's, with an ACL whose mask shows as the group's bits."""
    return status.st_uid == status.st_gid == 0 and status.st_mode & 0o777 == 0o440
