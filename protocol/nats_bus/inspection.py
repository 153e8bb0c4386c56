"""What `nats micro ls/info/stats` and `nats req` see of an agent.

The one endpoint answers only requests that the server says come from the CTL account: another node could otherwise
have the master's answers delivered here as questions (SPEC.md, section 3).
"""

import json

from nats.aio.client import Client
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, Service

from protocol import codec, permissions, subjects
from protocol.headers import status_headers
from protocol.messages import Status
from protocol.names import NodeName

SERVICE = "gnt-mesh-agent"
VERSION = f"{codec.VERSION}.0.0"


class NodeService:
    """The agent as a NATS micro service. `status` is what it answers with."""

    def __init__(self, node: NodeName) -> None:
        self._node = node
        self._service: Service | None = None
        self.status: Status | None = None
        self.complaint = ""
        """What the server last complained of: a bell that was not granted, for one. Shown in the service's stats."""

    async def start(self, client: Client) -> None:
        """Announce the service on a new client; the one on the client before went with it."""
        self._service = await add_service(
            client,
            name=SERVICE,
            version=VERSION,
            description=f"gnt-mesh agent of {self._node}",
            metadata={"node": self._node},
            stats_handler=lambda _: {"complaint": self.complaint},
        )
        endpoint = EndpointConfig(name="status", subject=subjects.rpc(self._node, "status"), handler=self._answer)
        await self._service.add_endpoint(endpoint)

    async def _answer(self, request: Request) -> None:
        if _asking_account(request) != permissions.CTL:
            return
        if self.status is None:
            await request.respond_error("503", f"{self._node} has not looked at its files yet")
        else:
            await request.respond(codec.encode(self.status), headers=status_headers(self.status))


def _asking_account(request: Request) -> str:
    raw = (request.headers or {}).get("Nats-Request-Info", "")
    try:
        account = json.loads(raw).get("acc", "")
    except (ValueError, AttributeError):
        return ""
    return str(account)
