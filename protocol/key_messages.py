"""Keys and certificates: how old they are, and how they are renewed. Parts of the operators' API and of `mesh.rpc`."""

from dataclasses import dataclass

from protocol.change_messages import ChangeRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """One key or certificate. `expires` is 0 for what does not by itself."""

    what: str
    """`certificate`, `cluster`, `access` or `node`."""
    name: str
    fingerprint: str
    """A public key, or the SHA-256 of a certificate."""
    made: float
    expires: float = 0.0
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfos:
    keys: tuple[KeyInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewCrypto(ChangeRequest):
    """Give these nodes a new key each, or all nodes, and the server a new key and certificate."""

    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRenewed:
    """A node that keeps the key that it has."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """What was renewed, and what could not be."""

    done: tuple[str, ...]
    failed: tuple[NotRenewed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeKey:
    """Asked of a node: make a new key, go on with the one you have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UseKey:
    """Asked of a node: the broker knows your new key; use it from now on."""

    public_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTold:
    """Asked of a node: which key do you connect with? Also the answer to the other two: the new one."""

    public_key: str = ""
