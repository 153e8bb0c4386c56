"""Every verb that operators can ask, its request type and who answers it. Requests come decoded.

A noun is a class with the handlers of one Ganeti noun, each a few lines between the wire and the daemon. A Refused
goes back as the sentence that it is.
"""

from collections.abc import Mapping
from typing import Protocol

from master.api.access import AccessVerbs, AuditVerbs
from master.api.cluster import ClusterVerbs
from master.api.explain import ExplainVerbs
from master.api.files import FileVerbs
from master.api.groups import GroupVerbs
from master.api.history import HistoryVerbs
from master.api.instances import InstanceVerbs
from master.api.jobs import JobVerbs
from master.api.joining import JoinVerbs
from master.api.keys import KeyVerbs
from master.api.nodes import NodeVerbs
from master.api.os import OsVerbs
from master.api.owner import guarded
from master.api.verify import VerifyVerbs
from master.audit import AuditLog
from master.daemon import MasterDaemon
from master.door import Door
from protocol.bus import Handler

Handlers = Mapping[str, tuple[type, Handler]]
"""Request type and handler per verb."""


class Noun(Protocol):
    def handlers(self) -> Handlers: ...


def handlers(daemon: MasterDaemon, audit_log: AuditLog, *, version: str) -> Handlers:
    """Return all verbs of this master."""
    door = Door(daemon.settings)
    nouns: tuple[Noun, ...] = (
        ClusterVerbs(daemon, version=version),
        VerifyVerbs(daemon),
        NodeVerbs(daemon, door),
        GroupVerbs(daemon),
        FileVerbs(daemon),
        HistoryVerbs(daemon),
        OsVerbs(daemon),
        InstanceVerbs(daemon),
        JobVerbs(daemon),
        AccessVerbs(daemon),
        AuditVerbs(audit_log),
        JoinVerbs(daemon, door),
        KeyVerbs(daemon),
        ExplainVerbs(daemon),
    )
    return {
        verb: (request, guarded(daemon, verb, handler))
        for noun in nouns
        for verb, (request, handler) in noun.handlers().items()
    }
