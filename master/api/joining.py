"""Nodes that come in: the one verb that those may ask who are not in yet."""

from master.core import access_operations
from master.daemon import MasterDaemon
from master.door import Door
from protocol import access_messages as am
from protocol import identity, join_token
from protocol.bus import Handler
from protocol.change_messages import ChangeRequest
from protocol.errors import Refused, Unavailable
from protocol.permissions import JOIN_VERB


class JoinVerbs:
    """What `gnt-mesh-agent join` asks."""

    def __init__(self, daemon: MasterDaemon, door: Door) -> None:
        self._desired = daemon.desired
        self._door = door

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {JOIN_VERB: (am.JoinRequest, self.join)}

    async def join(self, request: am.JoinRequest) -> am.JoinReply:
        """The reply is given when the broker lets the node in."""
        proof = join_token.proof_of(request.node, request.public_key)
        if not identity.is_signed(request.token_key, proof, request.signature):
            raise Refused("the proof that you hold the join token is wrong")
        reply = am.JoinReply(cluster=self._desired.config.cluster.cluster_name, authorities=self._door.authorities())
        await self._desired.change(
            lambda config, now: access_operations.join(config, request, now=now),
            ChangeRequest(by=request.node),
            why=f"node {request.node} joined",
        )
        if not self._desired.publisher.is_enforced:
            raise Unavailable("the broker could not be told yet to let you in; ask again in a moment")
        return reply
