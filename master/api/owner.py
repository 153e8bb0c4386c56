"""Who owns the cluster: if it follows a running Ganeti, what Ganeti owns is changed there and nowhere else."""

from typing import Final

from master.daemon import MasterDaemon
from protocol.bus import Handler
from protocol.errors import Refused
from protocol.operator_messages import NodeAdd, NodeModify

GANETIS_OWN: Final = {
    "cluster.modify": "gnt-cluster modify",
    "group.add": "gnt-group add",
    "group.remove": "gnt-group remove",
    "node.add": "gnt-node add",
    "node.modify": "gnt-node modify",
    "node.remove": "gnt-node remove",
    "os.modify": "gnt-os modify",
}
"""Verbs that change what Ganeti owns, and the command that does it there."""

_GANETIS_FIELDS: Final = ("master_candidate", "offline", "drained", "master_capable", "vm_capable", "group")
"""Of what `node.modify` changes; an agent's key is nothing that Ganeti knows."""


def guarded(daemon: MasterDaemon, verb: str, handler: Handler) -> Handler:
    """Return the handler of a verb, which refuses while the cluster is Ganeti's if it would change what is Ganeti's."""
    if verb not in GANETIS_OWN:
        return handler

    async def refuse_or_handle(request: object) -> object:
        path = daemon.desired.config.cluster.ganeti_config_data
        if path and not _is_ours(request):
            raise Refused(
                f"this cluster is Ganeti's, and the mesh follows its {path} without changing it; "
                f"use: {GANETIS_OWN[verb]}"
            )
        return await handler(request)

    return refuse_or_handle


def _is_ours(request: object) -> bool:
    if isinstance(request, NodeAdd):
        return request.readd
    return isinstance(request, NodeModify) and all(getattr(request, name) is None for name in _GANETIS_FIELDS)
