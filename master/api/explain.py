"""Why a file is on a node, or is not."""

from master.core.explain import explain
from master.core.operations import checked_path
from master.daemon import MasterDaemon
from protocol.bus import Handler
from protocol.file_messages import FileExplain, FileExplanation


class ExplainVerbs:
    """`file explain`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._desired = daemon.desired

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {"file.explain": (FileExplain, self.explain)}

    async def explain(self, request: FileExplain) -> FileExplanation:
        desired = self._desired
        path, node = checked_path(request.path), desired.config.node(request.node)
        published = [entry for manifest in desired.manifests.values() for entry in manifest.files if entry.path == path]
        why = explain(
            desired.config,
            desired.surroundings,
            path,
            node,
            source=await desired.managed.glance(path),
            published=published[0] if published else None,
        )
        return FileExplanation(
            path=path,
            node=node.name,
            goes=why.goes,
            scope=why.scope,
            rule=why.rule,
            reason=why.reason,
            lines=why.lines,
        )
