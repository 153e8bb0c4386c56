"""nkeys: who a process is on the bus. The only importer of nkeys.

A seed is made on the machine that uses it and stays there, in a file only its owner can read; what travels is the
public key.
"""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import nkeys

from protocol import durable
from protocol.errors import Refused
from protocol.names import public_key

__all__ = ["ensure_seed", "public_key", "public_keys_text", "read_public_key", "read_public_keys", "read_seed"]


def ensure_seed(path: Path) -> str:
    """Return the public key of the seed at `path`, made there first if there is none."""
    if not path.exists():
        durable.make_directory(path.parent)
        seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
        durable.write_file(path, bytes(seed) + b"\n", mode=0o600)
    return read_public_key(path)


def read_public_key(path: Path) -> str:
    """Return the public key of the seed at `path`; Refused if it cannot be read, is no seed, or others can read it."""
    return str(_key_pair(path).public_key.decode())


def read_seed(path: Path) -> str:
    """Return the seed at `path` as text; Refused as `read_public_key`."""
    return str(_key_pair(path).seed.decode())


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


def _key_pair(path: Path) -> nkeys.KeyPair:
    try:
        if path.stat().st_mode & 0o077:
            raise Refused(f"{path}: a seed that others can read is no secret; chmod 600 it, or make a new key")
        raw = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: cannot read the key: {os.strerror(error.errno or 0)}") from error
    try:
        seed = raw.strip()
        _, secret = nkeys.decode_seed(bytearray(seed))
        if nkeys.encode_seed(secret, nkeys.PREFIX_BYTE_USER) != seed:
            raise ValueError("not a user's, or a wrong checksum, which nkeys does not look at")
        return nkeys.from_seed(bytearray(seed))
    except (nkeys.NkeysError, ValueError, TypeError) as error:
        raise Refused(f"{path}: not the nkey seed of a user") from error
