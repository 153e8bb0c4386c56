"""Reading by direct get: one request, one answer, no consumer. The only way a node reads."""

from nats.aio.msg import Msg

from protocol import subjects
from protocol.errors import Unavailable
from protocol.nats_bus.connection import Connection, header


async def last(connection: Connection, stream: str, subject: str) -> Msg | None:
    """Return the last message on one subject of one stream, None if there is none."""
    answer = await connection.request(subjects.direct_get(stream, subject))
    status = header(answer, "Status")
    if status == "404":
        return None
    if status:
        raise Unavailable(f"{stream}: {status} {header(answer, 'Description')}")
    return answer
