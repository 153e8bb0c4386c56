"""Nodes: add, list, modify, remove."""

import time
import uuid
from dataclasses import replace

from master import farewell
from master.api import goals
from master.api.roles import tell
from master.core import access_operations, consequences, operations
from master.core.cluster import ClusterConfig, after
from master.daemon import MasterDaemon
from master.door import Door
from master.outcome import Outcome
from protocol import operator_messages as op
from protocol import paging
from protocol.bus import Handler
from protocol.errors import MeshError, Refused
from protocol.names import NodeName, node_name


class NodeVerbs:
    """`node …`."""

    def __init__(self, daemon: MasterDaemon, door: Door) -> None:
        self._daemon = daemon
        self._door = door
        self._desired = daemon.desired

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {
            "node.add": (op.NodeAdd, self.add),
            "node.list": (op.NodeQuery, self.list_all),
            "node.modify": (op.NodeModify, self.modify),
            "node.remove": (op.NodeRemove, self.remove),
        }

    async def add(self, request: op.NodeAdd) -> op.Changed:
        if request.readd:
            return await self._readd(request)
        node_uuid = str(uuid.uuid4())
        token, key = "", ""

        def make(config: ClusterConfig, now: float) -> ClusterConfig:
            added = operations.add_node(config, request, uuid=node_uuid, now=now)
            return self._grant(added, request.name, key, now) if key else added

        if not request.public_key:
            token, key = self._door.make_token(_checked_name(request.name))
        outcome = await self._desired.change(make, request, why=f"node add {request.name}")
        node = outcome.after.nodes[node_uuid]
        done = [f"Node {node.name} added.", consequences.own_role(outcome.before, outcome.after, node)]
        goal = goals.of_node(outcome.goal, outcome.after, node)
        changed = tell(self._daemon, outcome, goal, done=done, asked=node_uuid)
        return replace(changed, token="" if request.dry_run else token)

    async def _readd(self, request: op.NodeAdd) -> op.Changed:
        """A node that was installed anew has a new identity, and the old one is void."""
        name = self._desired.config.node(request.name).name
        token, key = self._door.make_token(name)
        outcome = await self._desired.change(
            lambda config, now: self._grant(config, name, key, now), request, why=f"node add --readd {name}"
        )
        done = [f"Node {name} can join anew."]
        if outcome.before.node(name).public_key:
            done.append("Its former key is void." if self._desired.publisher.is_enforced else f"B{_NOT_YET[1:]}.")
        changed = outcome.answer(done, goal=replace(outcome.goal, generations={}, serials={}))
        return replace(changed, token="" if request.dry_run else token)

    def _grant(self, config: ClusterConfig, name: str, token_key: str, now: float) -> ClusterConfig:
        expires = now + self._daemon.settings.join_token_valid_s
        return access_operations.grant_join(config, name, token_key=token_key, expires=expires, now=now)

    async def list_all(self, request: op.NodeQuery) -> op.NodeInfos:
        config = self._desired.config
        nodes = tuple(config.node(name) for name in request.names) if request.names else config.sorted_nodes()
        rest = after(nodes, request.after)
        infos = paging.fitting(self._daemon.node_infos(rest))
        return op.NodeInfos(nodes=infos, is_complete=len(infos) == len(rest))

    async def modify(self, request: op.NodeModify) -> op.Changed:
        outcome = await self._desired.change(
            lambda config, now: operations.modify_node(config, request, now=now),
            request,
            why=f"node modify {request.name}",
        )
        after = outcome.after.node(request.name)
        flags = _flag_lines(outcome, after.uuid)
        role = consequences.own_role(outcome.before, outcome.after, after)
        done = [f"Modified node {after.name}" if flags else f"Node {after.name} is like that already.", *flags]
        done += [role] if role else []
        return tell(
            self._daemon, outcome, goals.of_node(outcome.goal, outcome.after, after), done=done, asked=after.uuid
        )

    async def remove(self, request: op.NodeRemove) -> op.Changed:
        """The node is asked to give everything back while it can still be asked, and then shut out."""
        operations.remove_node(self._desired.config, request, now=time.time())  # refused before it is asked anything
        name = self._desired.config.node(request.name).name
        is_asked = not (request.keep_files or request.dry_run)
        gave_back = is_asked and await farewell.bid(self._daemon, name)
        try:
            outcome = await self._desired.change(
                lambda config, now: operations.remove_node(config, request, now=now),
                request,
                why=f"node remove {request.name}",
            )
        except MeshError:
            self._desired.restore_due.set()  # it is a member still, and has been told otherwise
            raise
        voided = "nats-server no longer knows its key" if self._desired.publisher.is_enforced else _NOT_YET
        done = [f"Node {name} removed; {voided}."]
        keeps = not (gave_back or request.dry_run)
        return tell(self._daemon, outcome, outcome.goal, done=done, keeps_its_files=keeps)


_NOT_YET = "but the broker could not be told yet, and still lets it in; it is being tried again"


def _checked_name(name: str) -> NodeName:
    try:
        return node_name(name)
    except ValueError as error:
        raise Refused(str(error)) from error


def _flag_lines(outcome: Outcome, node: str) -> list[str]:
    """One line per flag that is not what it was, in the words of `gnt-node modify`."""
    before, after = outcome.before.nodes[node], outcome.after.nodes[node]
    flags = ("master_candidate", "offline", "drained", "master_capable", "vm_capable", "public_key")
    lines = [f" - {flag} -> {getattr(after, flag)}" for flag in flags if getattr(before, flag) != getattr(after, flag)]
    if before.group != after.group:
        lines.append(f" - group -> {outcome.after.nodegroups[after.group].name}")
    return lines
