"""Every verb that operators can ask, its request type and who answers it. Requests come decoded.

A noun is a class with the handlers of one Ganeti noun, each a few lines between the wire and the daemon. A Refused
goes back as the sentence that it is.
"""

from collections.abc import Mapping
from typing import Protocol

from master.api.cluster import ClusterVerbs
from master.api.files import FileVerbs
from master.api.groups import GroupVerbs
from master.api.jobs import JobVerbs
from master.api.nodes import NodeVerbs
from master.api.os import OsVerbs
from master.api.owner import guarded
from master.api.verify import VerifyVerbs
from master.daemon import MasterDaemon
from protocol.bus import Handler

Handlers = Mapping[str, tuple[type, Handler]]
"""Request type and handler per verb."""


class Noun(Protocol):
    def handlers(self) -> Handlers: ...


def handlers(daemon: MasterDaemon, *, version: str) -> Handlers:
    """Return all verbs of this master."""
    nouns: tuple[Noun, ...] = (
        ClusterVerbs(daemon, version=version),
        VerifyVerbs(daemon),
        NodeVerbs(daemon),
        GroupVerbs(daemon),
        FileVerbs(daemon),
        OsVerbs(daemon),
        JobVerbs(daemon),
    )
    return {
        verb: (request, guarded(daemon, verb, handler))
        for noun in nouns
        for verb, (request, handler) in noun.handlers().items()
    }
