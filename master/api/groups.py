"""Node groups: add, list, remove. Each is a scope of its own."""

import uuid

from master.core import operations
from master.daemon import MasterDaemon
from protocol import operator_messages as op
from protocol.bus import Handler
from protocol.names import group_scope


class GroupVerbs:
    """`group …`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._desired = daemon.desired

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {
            "group.add": (op.GroupAdd, self.add),
            "group.list": (op.Nothing, self.list_all),
            "group.remove": (op.GroupRemove, self.remove),
        }

    async def add(self, request: op.GroupAdd) -> op.Changed:
        group_uuid = str(uuid.uuid4())
        outcome = await self._desired.change(
            lambda config, now: operations.add_group(config, request, uuid=group_uuid, now=now),
            request,
            why=f"group add {request.name}",
        )
        scope = group_scope(outcome.after.nodegroups[group_uuid].name)
        return outcome.answer([f"Node group {request.name} added; its scope is {scope}."])

    async def list_all(self, request: op.Nothing) -> op.GroupInfos:
        config = self._desired.config
        return op.GroupInfos(
            groups=tuple(
                op.GroupInfo(
                    name=group.name,
                    uuid=group.uuid,
                    nodes=tuple(node.name for node in config.sorted_nodes() if node.group == group.uuid),
                )
                for group in sorted(config.nodegroups.values(), key=lambda group: group.name)
            )
        )

    async def remove(self, request: op.GroupRemove) -> op.Changed:
        outcome = await self._desired.change(
            lambda config, now: operations.remove_group(config, request, now=now),
            request,
            why=f"group remove {request.name}",
        )
        return outcome.answer([f"Node group {request.name} removed."])
