"""`cluster verify`: starts a run, and hands out its findings page by page."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from master.daemon import MasterDaemon
from protocol import codec
from protocol.bus import Handler
from protocol.errors import Refused
from protocol.verify_messages import ClusterVerified, ClusterVerify, Finding

PATIENCE_S_MAX: Final = 5.0
NODE_TIMEOUT_S_MAX: Final = 60.0
"""The server lets a node answer no later than that (permissions)."""
PAGE_BYTES_MAX: Final = 512 * 1024
"""The largest finding has less than 400 KiB, and a message may have 1 MiB."""
PAGE_FINDINGS_MAX: Final = 1000


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
            await asyncio.wait_for(run.over.wait(), min(max(request.patience_s, 0.0), PATIENCE_S_MAX))
        return ClusterVerified(
            run=run.token,
            is_over=run.over.is_set(),
            nodes=run.nodes,
            nodes_done=run.nodes_done,
            files=run.files,
            offline=run.offline,
            findings=page_of(run.findings, request.offset),
            findings_total=len(run.findings),
        )


def page_of(findings: Sequence[Finding], offset: int) -> tuple[Finding, ...]:
    """Return findings from `offset` on, as many as go into one message; at least one if there is one."""
    page: list[Finding] = []
    size_bytes = 0
    for finding in findings[max(offset, 0) :][:PAGE_FINDINGS_MAX]:
        size_bytes += len(codec.encode(finding))
        if page and size_bytes > PAGE_BYTES_MAX:
            break
        page.append(finding)
    return tuple(page)
