"""Answers the master's `cluster verify`: what is really on this disk, read for it and at that moment.

Beside everything else that the agent does: a plan that is under way does not keep it from answering, and what it
answers changes nothing that the agent believes or does.
"""

from collections.abc import Mapping

from node_agent.core.reconcile import Found
from node_agent.disk import Disk
from protocol.bus import Handler
from protocol.errors import Unavailable
from protocol.messages import REASON_CHARS_MAX
from protocol.names import ManagedPath, NodeName
from protocol.verify_messages import FileSeen, FilesSeen, LookAtFiles


class Verifying:
    """Reads for one request at a time; however many come, the disk and the memory are asked for one."""

    def __init__(self, node: NodeName, disk: Disk) -> None:
        self._node = node
        self._disk = disk
        self._is_busy = False

    def handlers(self) -> Mapping[str, tuple[type, Handler]]:
        """Return what the bus is to serve."""
        return {"verify": (LookAtFiles, self.look)}

    async def look(self, request: LookAtFiles) -> FilesSeen:
        """Return what is at each path. Unavailable while another request is being answered."""
        if self._is_busy:
            raise Unavailable("is busy with another verify; ask again when that is over")
        self._is_busy = True
        try:
            found = await self._disk.observe(request.paths, afresh=True)
        finally:
            self._is_busy = False
        return FilesSeen(node=self._node, files=tuple(_seen(path, found[path]) for path in request.paths))


def _seen(path: ManagedPath, found: Found) -> FileSeen:
    return FileSeen(
        path=path,
        what=found.kind,
        digest=found.digest,
        size_bytes=found.size_bytes,
        mode=found.mode,
        owner=found.owner,
        group=found.group,
        uid=found.uid,
        gid=found.gid,
        reason=found.reason[:REASON_CHARS_MAX],
    )
