"""The one-time join token: what a node must know to find its cluster, to recognise it, and to be recognised.

It is shown once, to the administrator who asked for it, and typed on the node. Neither it nor a secret in it is ever
sent: the seeds sign. The master knows the token by its public key alone.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

from protocol.errors import Refused
from protocol.names import Digest, NodeName, digest, node_name

PREFIX: Final = "gnt-mesh-join-1-"
CHECK_BYTES: Final = 6
KEY_BYTES: Final = 32
SERVER_BYTES_MAX: Final = 512

_CONTEXT: Final = b"gnt-mesh join\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    node: NodeName
    server: str
    authority: Digest
    """The fingerprint of the cluster's certificate authority."""
    door: bytes
    """The raw seed with which everybody comes as far as asking."""
    secret: bytes
    """The raw seed that is this token's own."""
    master: bytes
    """The raw public key with which the master signs: what it says is believed from the first message on."""

    def __post_init__(self) -> None:
        node_name(self.node)
        digest(self.authority)
        if {len(self.door), len(self.secret), len(self.master)} != {KEY_BYTES}:
            raise ValueError("a key has 32 bytes")
        if not self.server or len(self.server.encode()) > SERVER_BYTES_MAX:
            raise ValueError(f"the server's address has 1 to {SERVER_BYTES_MAX} bytes")

    def __repr__(self) -> str:
        return f"JoinToken({self.node!r}, {self.server!r})"


def to_text(token: JoinToken) -> str:
    """Return the token as one word."""
    names = f"{token.node}\0{token.server}".encode()
    body = bytes.fromhex(token.authority) + token.door + token.secret + token.master + names
    return PREFIX + _letters(body + _check(body))


def from_text(text: str) -> JoinToken:
    """Return the token in a word; Refused if it was altered, cut off, or is none."""
    word = text.strip()
    if not word.startswith(PREFIX):
        raise Refused(f"this is no join token: one begins with {PREFIX}; see: gnt-mesh node add --help")
    try:
        letters = word.removeprefix(PREFIX)
        raw = base64.b64decode(letters + "=" * (-len(letters) % 4), altchars=b"-_", validate=True)
        if _letters(raw) != letters:
            raise ValueError("its last letter is another one")
        body, check = raw[:-CHECK_BYTES], raw[-CHECK_BYTES:]
        if check != _check(body):
            raise ValueError("its check sum is wrong")
        node, _, server = body[4 * KEY_BYTES :].decode().partition("\0")
        return JoinToken(
            node=NodeName(node),
            server=server,
            authority=Digest(body[:KEY_BYTES].hex()),
            door=body[KEY_BYTES : 2 * KEY_BYTES],
            secret=body[2 * KEY_BYTES : 3 * KEY_BYTES],
            master=body[3 * KEY_BYTES : 4 * KEY_BYTES],
        )
    except (ValueError, binascii.Error) as error:
        raise Refused(f"this join token was altered or cut off: {error}; copy it again, as one word") from error


def proof_of(node: NodeName, public_key: str) -> bytes:
    """Return what a joining node signs with its token: a proof for another node or another key is none."""
    return _CONTEXT + f"{node}\0{public_key}".encode()


def _letters(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _check(body: bytes) -> bytes:
    return hashlib.sha256(PREFIX.encode() + body).digest()[:CHECK_BYTES]
