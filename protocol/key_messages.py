"""Keys and certificates: how old they are, and how they are renewed. Parts of the operators' API and of `mesh.rpc`."""

from dataclasses import dataclass
from typing import Final

from protocol.change_messages import ChangeRequest
from protocol.names import public_key

NODES_PART: Final = "nodes"
"""The part of a renewal that is the nodes' own keys."""
SCOPES_PART: Final = "scopes"
"""The part of a renewal that is what the secrets of each scope are sealed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """One key or certificate. `expires` is 0 for what does not by itself."""

    what: str
    """`certificate`, `cluster`, `access`, `scope` or `node`."""
    name: str
    fingerprint: str
    """A public key, the SHA-256 of a certificate, or what tells a scope's key from another and nothing of it."""
    made: float
    expires: float = 0.0
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfos:
    keys: tuple[KeyInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewCrypto(ChangeRequest):
    """Begin to give these nodes a new key each; or to renew these parts; or, with neither, everything."""

    nodes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    """`authority` (with it the server's certificate), `server`, `master`, `signing`, `scopes` (their keys), `nodes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalQuery:
    """Asks how far a renewal is. Answered when it is over, and at the latest after `patience_s` (at most 5 s)."""

    run: str
    patience_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """The certificates of those who vouch for the cluster's servers now, PEM."""

    authorities: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRenewed:
    """A node that keeps what it has; empty: what is wrong is the cluster's own."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """How far a renewal is: what was renewed, and what could not be. It goes on by itself, whatever is killed."""

    run: str
    is_over: bool
    done: tuple[str, ...] = ()
    failed: tuple[NotRenewed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeKey:
    """Asked of a node: make a new key, go on with the one you have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UseKey:
    """Asked of a node: the broker knows your new key; use it from now on."""

    public_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeTrust:
    """Asked of a node: believe whom this names, and nobody else, from now on."""

    word: bytes
    """An encoded Trust, signed for the subject of this question: it may be handed on to be checked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whom to believe."""

    authorities: str
    """The certificates of the authorities that may vouch for the server, as PEM."""
    master_keys: tuple[str, ...]
    """The public keys with which the master signs."""

    def __post_init__(self) -> None:
        if not self.master_keys:
            raise ValueError("no key of the master: nothing could be believed any more")
        for key in self.master_keys:
            public_key(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustTaken:
    """The node has seen that these authorities vouch for the server; what it believes is on its disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTold:
    """Asked of a node: which key do you connect with? Also the answer to the other two: the new one."""

    public_key: str = ""
