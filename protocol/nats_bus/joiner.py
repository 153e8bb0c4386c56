"""The side of a node that is not in yet: one question, with the key that is in its join token."""

from nats.aio.client import Client

from protocol import codec, subjects
from protocol.access_messages import JoinReply, JoinRequest
from protocol.errors import Refused, Unavailable
from protocol.nats_bus.clients import Address, Endpoint
from protocol.nats_bus.connection import Connection
from protocol.nats_bus.operator import open_answer
from protocol.permissions import JOIN_VERB, access_inbox

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0


async def ask_to_join(endpoint: Endpoint, seed: str, request: JoinRequest) -> JoinReply:
    """Return the master's reply; Refused with its reason, Unavailable if it cannot be reached."""

    async def prepare(client: Client) -> None:
        return None

    connection = Connection(
        Address(endpoint, seed, f"gnt-mesh-agent join {request.node}", access_inbox(JOIN_VERB)),
        prepare=prepare,
        changed=lambda connected, reason: None,
        complained=lambda reason: None,
    )
    try:
        await _open(connection, request)
        answer = await connection.request(subjects.api(JOIN_VERB), codec.encode(request), timeout_s=ANSWER_TIMEOUT_S)
        return open_answer(JOIN_VERB, answer, JoinReply)
    finally:
        await connection.close()


async def _open(connection: Connection, request: JoinRequest) -> None:
    """A server gives no reason for not knowing a key; of the one that is in every token there is only one."""
    try:
        await connection.open(timeout_s=CONNECT_TIMEOUT_S)
    except Unavailable as error:
        if "authorization violation" not in str(error).lower():
            raise
        raise Refused(
            f"the join token for {request.node} is void: the cluster's keys were renewed after it was made; "
            f"make a new one with: gnt-mesh node add --readd {request.node}"
        ) from error
