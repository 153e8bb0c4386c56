"""Who may come in: operators' access, joining nodes, and what the audit log tells. A part of the operators' API."""

from dataclasses import dataclass

from protocol.change_messages import ChangeRequest
from protocol.names import NodeName, node_name


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessAdd(ChangeRequest):
    """Let somebody in, by a key whose seed stays where it was made."""

    name: str
    role: str
    """`operator` or `observer`."""
    public_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRenew(ChangeRequest):
    """Let somebody in with this key as well; asked again with `is_taken_up`, with this key alone."""

    name: str
    public_key: str
    is_taken_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRemove(ChangeRequest):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessInfo:
    name: str
    role: str
    public_key: str
    ctime: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessInfos:
    access: tuple[AccessInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    last: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntries:
    entries: tuple[str, ...]
    """The lines of the audit log, as they are there: JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """Whether the chain holds: up to which entry, and what is wrong after it, empty if nothing is."""

    entries: int
    digest: str
    """The hash of the last sound entry; noted elsewhere, it proves later that nothing before it was altered."""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    """A node's word that it holds its token, for the key that it has made; `join_token.proof_of` is what is signed."""

    node: NodeName
    public_key: str
    token_key: str
    signature: bytes

    def __post_init__(self) -> None:
        node_name(self.node)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinReply:
    cluster: str
    authorities: str
    """The certificates of the authorities that may vouch for the cluster's servers, as PEM."""
