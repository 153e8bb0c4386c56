"""Nodes: add, list, modify, remove."""

import uuid

from master.api import goals
from master.core import operations
from master.core.cluster import Node, role_letter
from master.daemon import MasterDaemon
from protocol import operator_messages as op
from protocol.bus import Handler
from protocol.names import MASTER_CANDIDATES


class NodeVerbs:
    """`node …`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._daemon = daemon
        self._desired = daemon.desired

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {
            "node.add": (op.NodeAdd, self.add),
            "node.list": (op.NodeQuery, self.list_all),
            "node.modify": (op.NodeModify, self.modify),
            "node.remove": (op.NodeRemove, self.remove),
        }

    async def add(self, request: op.NodeAdd) -> op.Changed:
        node_uuid = str(uuid.uuid4())
        goal = await self._desired.change(
            lambda config, now: operations.add_node(config, request, uuid=node_uuid, now=now),
            why=f"node add {request.name}",
        )
        node = self._desired.config.nodes[node_uuid]
        role = "as a master candidate" if node.master_candidate else "as a regular node"
        return op.Changed(
            goal=goals.of_node(goal, self._desired.config, node), done=(f"Node {node.name} added {role}.",)
        )

    async def list_all(self, request: op.NodeQuery) -> op.NodeInfos:
        config = self._desired.config
        nodes = tuple(config.node(name) for name in request.names) if request.names else config.sorted_nodes()
        return op.NodeInfos(nodes=self._daemon.node_infos(nodes))

    async def modify(self, request: op.NodeModify) -> op.Changed:
        before = self._desired.config
        goal = await self._desired.change(
            lambda config, now: operations.modify_node(config, request, now=now), why=f"node modify {request.name}"
        )
        config = self._desired.config
        after = config.node(request.name)
        done = [f"Modified node {after.name}", *_flag_lines(before.node(request.name), after)]
        for node in config.sorted_nodes():
            if node.uuid != after.uuid and node.master_candidate and not before.nodes[node.uuid].master_candidate:
                done.append(f"Node {node.name} was promoted to master candidate to keep the pool full.")
        if role_letter(before, before.node(request.name)) == "C" and not after.master_candidate:
            done.append(f"It no longer gets {MASTER_CANDIDATES}; secrets it has held should be renewed.")
        return op.Changed(goal=goals.of_node(goal, config, after), done=tuple(done))

    async def remove(self, request: op.NodeRemove) -> op.Changed:
        goal = await self._desired.change(
            lambda config, now: operations.remove_node(config, request, now=now), why=f"node remove {request.name}"
        )
        done = f"Node {request.name} removed; the broker no longer knows its key. Its files stay where they are."
        return op.Changed(goal=goal, done=(done,))


def _flag_lines(before: Node, after: Node) -> list[str]:
    """One line per flag that is not what it was, in the words of `gnt-node modify`."""
    flags = ("master_candidate", "offline", "drained", "master_capable", "vm_capable", "group", "public_key")
    return [f" - {flag} -> {getattr(after, flag)}" for flag in flags if getattr(before, flag) != getattr(after, flag)]
