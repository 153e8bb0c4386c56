"""Who may say and hear what: one table, from which the server's configuration is generated and SPEC.md's written.

The NATS server enforces it; nothing in the daemons has to behave for it to hold (design, D6). Two accounts: CTL
owns JetStream and holds the master and administrators, NODES holds every agent and reaches CTL by service
imports alone, because a reply subject that a node chooses then exists in NODES only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from protocol import subjects
from protocol.names import NodeName, ScopeName

CTL: Final = "CTL"
NODES: Final = "NODES"
SYS: Final = "SYS"


@dataclass(frozen=True, slots=True)
class Permissions:
    """Allow lists of one user; what is not listed is denied, wider wildcards included."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Export:
    """A service or stream that one account offers to another."""

    kind: str
    subject: str
    answers_many: bool = False


@dataclass(frozen=True, slots=True)
class Import:
    kind: str
    subject: str
    account: str
    share: bool = False
    """The exporter learns from the server itself which account and user asked."""


EXPORTS: Final = {
    CTL: (
        Export("service", "$JS.API.DIRECT.GET.*", answers_many=True),
        Export("service", "$JS.API.DIRECT.GET.*.>"),
        Export("service", "mesh.status.*"),
        Export("service", "mesh.os.log.*.>"),
        Export("service", "mesh.ask.*.>"),
        Export("stream", "mesh.bell.>"),
    ),
    NODES: (
        Export("service", "mesh.rpc.*.>"),
        Export("service", "$SRV.>", answers_many=True),
    ),
}

IMPORTS: Final = {
    CTL: (
        Import("service", "mesh.rpc.*.>", NODES, share=True),
        Import("service", "$SRV.>", NODES),
    ),
    NODES: (
        Import("service", "$JS.API.DIRECT.GET.*", CTL),
        Import("service", "$JS.API.DIRECT.GET.*.>", CTL),
        Import("service", "mesh.status.*", CTL),
        Import("service", "mesh.os.log.*.>", CTL),
        Import("service", "mesh.ask.*.>", CTL, share=True),
        Import("stream", "mesh.bell.>", CTL),
    ),
}


def node_permissions(node: NodeName, scopes: Iterable[ScopeName]) -> Permissions:
    """Return what one agent may do: its own status, logs, questions and inbox, and direct gets of its scopes."""
    name = subjects.token(node)
    own = sorted(scopes)
    publish = [f"mesh.status.{name}", f"mesh.os.log.{name}.>", f"mesh.ask.{name}.>"]
    for scope in own:
        files, blobs = subjects.files_stream(scope), subjects.blobs_stream(scope)
        publish += [f"{subjects.DIRECT_GET}.{files}", f"{subjects.DIRECT_GET}.{files}.>"]
        publish += [f"{subjects.DIRECT_GET}.{blobs}.>"]
    publish += [
        subjects.direct_get(subjects.ROLES_STREAM, subjects.role(node)),
        subjects.direct_get(subjects.OSREQ_STREAM, subjects.os_request(node)),
    ]
    subscribe = [f"{subjects.inbox_prefix(node)}.>", subjects.node_bell(node), f"mesh.rpc.{name}.>"]
    subscribe += [subjects.scope_bell(scope) for scope in own]
    for verb in ("PING", "INFO", "STATS"):
        subscribe += [f"$SRV.{verb}", f"$SRV.{verb}.>"]
    return Permissions(tuple(publish), tuple(subscribe))
