"""`cluster verify`: starts a run, and hands out its findings page by page."""

import asyncio
import contextlib
from typing import Final

from master.daemon import MasterDaemon
from protocol import paging
from protocol.bus import Handler
from protocol.errors import Refused
from protocol.verify_messages import ClusterVerified, ClusterVerify

PATIENCE_S_MAX: Final = 5.0
NODE_TIMEOUT_S_MAX: Final = 60.0
"""The server lets a node answer no later than that (permissions)."""


class VerifyVerbs:
    """`cluster verify`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._desired = daemon.desired
        self._verifier = daemon.verifier

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {"cluster.verify": (ClusterVerify, self.verify)}

    async def verify(self, request: ClusterVerify) -> ClusterVerified:
        """Answer when the run is over, or when patience ends."""
        if request.run:
            run = self._verifier.find(request.run)
        else:
            if request.group:
                self._desired.config.group(request.group)
            if not 0 < request.node_timeout_s <= NODE_TIMEOUT_S_MAX:
                raise Refused(f"a node gets more than 0 and at most {NODE_TIMEOUT_S_MAX:g} s to answer")
            run = self._verifier.start(group=request.group, node_timeout_s=request.node_timeout_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(request.patience_s, 0.0), PATIENCE_S_MAX)):
                await run.over.wait()
        return ClusterVerified(
            run=run.token,
            is_over=run.over.is_set(),
            nodes=run.nodes,
            nodes_done=run.nodes_done,
            files=run.files,
            offline=run.offline,
            findings=paging.fitting(run.findings[max(request.offset, 0) :]),
            findings_total=len(run.findings),
        )
