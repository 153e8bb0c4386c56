"""Who may say and hear what: one table, from which the server's configuration is generated and SPEC.md's written.

The NATS server enforces it; nothing in the daemons has to behave for it to hold (design, D6). CTL owns JetStream and
holds the master alone; NODES holds every agent, OPS operators and observers, JOIN those who are not in yet. These
three reach CTL by service imports alone, because a reply subject that its asker chooses then exists in the asker's own
account only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from protocol import subjects
from protocol.names import MASTER_CANDIDATES, NodeName, ScopeName, is_secret

CTL: Final = "CTL"
NODES: Final = "NODES"
OPS: Final = "OPS"
JOIN: Final = "JOIN"
SYS: Final = "SYS"

OPS_PREFIX: Final = "OPS.API"
"""What operators and observers put before a JetStream request, instead of `$JS.API`: in their account is no JetStream,
and the server would answer such a request itself."""

AccessRole = Literal["operator", "observer"]

READING_VERBS: Final = frozenset(
    {"status", "wait", "cluster.info", "node.list", "group.list", "file.list", "access.list", "audit.list"}
    | {
        "audit.verify",
        "cluster.verify",
        "keys.list",
        "keys.follow",
        "keys.authorities",
        "os.list",
        "os.diagnose",
        "job.list",
        "job.follow",
    }
    | {"keys.authorities", "file.log", "file.diff", "file.explain", "instance.list"}
)
"""What an observer may ask of the master. Every other verb changes something or gives contents away, and is
written into the audit log."""

JOIN_VERB: Final = "join"


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
    """The exporter learns from the server itself which account and user asked, and from where."""
    to: str = ""
    """The subject under which the importing account knows it, if it is another one."""


_LOOKING_VERBS: Final = (
    *("INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.*", "STREAM.MSG.GET.*"),
    *("CONSUMER.NAMES.*", "CONSUMER.LIST.*", "CONSUMER.INFO.*.*"),
)
"""Requests to JetStream that change nothing. Those that create a consumer can push to anybody, so they are none."""

_OPS_VERBS: Final = (*_LOOKING_VERBS, "DIRECT.GET.*", "DIRECT.GET.*.>")
_WATCHED: Final = ("mesh.files.>", "mesh.status.*", "mesh.os.log.*.>")

EXPORTS: Final = {
    CTL: (
        Export("service", "$JS.API.DIRECT.GET.*", answers_many=True),
        Export("service", "$JS.API.DIRECT.GET.*.>"),
        Export("service", "mesh.status.*"),
        Export("service", "mesh.os.log.*.>"),
        Export("service", "mesh.ask.*.>"),
        Export("stream", "mesh.bell.>"),
        Export("service", "mesh.api.>"),
        Export("service", "$SRV.>", answers_many=True),
        *(Export("service", f"$JS.API.{verb}") for verb in _LOOKING_VERBS),
        *(Export("stream", subject) for subject in _WATCHED),
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
    OPS: (
        Import("service", "mesh.api.>", CTL, share=True),
        *(Import("service", f"$JS.API.{verb}", CTL, to=f"{OPS_PREFIX}.{verb}") for verb in _OPS_VERBS),
        Import("service", "$SRV.>", CTL),
        Import("stream", "mesh.bell.>", CTL),
        *(Import("stream", subject, CTL) for subject in _WATCHED),
    ),
    JOIN: (Import("service", f"mesh.api.{JOIN_VERB}", CTL, share=True),),
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


def access_permissions(name: str, role: AccessRole, scopes: Iterable[ScopeName]) -> Permissions:
    """Return what an operator or an observer may do: look at everything but secrets, and ask what the role may."""
    open_scopes = sorted(scope for scope in scopes if not is_secret(scope))
    streams = [stream for s in open_scopes for stream in (subjects.files_stream(s), subjects.blobs_stream(s))]
    streams += [subjects.ROLES_STREAM, subjects.STATUS_STREAM, subjects.OSLOG_STREAM]
    asking = [subjects.api(">")] if role == "operator" else [subjects.api(verb) for verb in sorted(READING_VERBS)]
    looking = [f"{OPS_PREFIX}.{verb}" for verb in _LOOKING_VERBS if verb != "STREAM.MSG.GET.*"]
    for stream in streams:
        looking += [f"{OPS_PREFIX}.STREAM.MSG.GET.{stream}", f"{OPS_PREFIX}.DIRECT.GET.{stream}"]
        looking += [f"{OPS_PREFIX}.DIRECT.GET.{stream}.>"]
    services = [f"$SRV.{verb}{rest}" for verb in ("PING", "INFO", "STATS") for rest in ("", ".>")]
    watching = [f"mesh.files.{scope}.>" for scope in open_scopes]
    watching += [subjects.scope_bell(scope) for scope in (*open_scopes, MASTER_CANDIDATES)]
    watching += ["mesh.bell.node.*", subjects.CLUSTER_BELL, subjects.STATUS_ALL, "mesh.os.log.*.>"]
    inbox = f"{access_inbox(name)}.>"
    return Permissions((*asking, *looking, *services), (inbox, *watching))


def access_inbox(name: str) -> str:
    """Return the inbox prefix of an operator or observer; nobody else may hear what is sent there."""
    return f"_INBOX_{name}"


def join_permissions() -> Permissions:
    """Return what one may do who is not in yet: ask to be let in, and hear the answer."""
    return Permissions((subjects.api(JOIN_VERB),), (f"{access_inbox(JOIN_VERB)}.>",))
