"""What the nodes have said, held against what they should have: presence, receipts, what a goal still misses. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from master.core.cluster import ClusterConfig, Node, role_letter
from protocol.messages import Manifest, Refusals, Status
from protocol.names import NodeName, ScopeName
from protocol.operator_messages import Goal, Missing, NodeInfo

BOOTS_MAX = 8
LOOKS_MAX = 100


@dataclass(frozen=True, slots=True)
class Presence:
    """One node's last status, when it came, and whether its connection has ended since."""

    status: Status
    heard_s: float
    has_left: bool = False


class Fleet:
    """All presences. Times are the caller's, in seconds of one clock that never runs backwards."""

    def __init__(self, *, silent_after_s: float) -> None:
        self._silent_after_s = silent_after_s
        self._presences: dict[NodeName, Presence] = {}
        self._sequences: dict[NodeName, dict[str, int]] = {}
        self._looks: list[str] = []

    def hear(self, status: Status, now_s: float) -> bool:
        """Take in a status; return whether it says anything but that the node is still there."""
        if not self._is_new(status):
            return False
        before = self._presences.get(status.node)
        was_online = before is not None and self._is_fresh(before, now_s)
        self._presences[status.node] = Presence(status, now_s)
        same = before is not None and replace(before.status, sequence=status.sequence) == status
        return not (same and was_online)

    def recall(self, status: Status) -> None:
        """Take in what a node said before this master started: known, but not present. It may be heard only now."""
        if status.node not in self._presences:
            self._presences[status.node] = Presence(status, float("-inf"), has_left=True)
            self._sequences[status.node] = {status.boot: status.sequence - 1}

    def is_expecting(self, now_s: float) -> bool:
        """True if some node has been recalled and has not said anything since."""
        return any(not self.is_online(node, now_s) for node in self._presences)

    def leave(self, node: NodeName) -> None:
        """The node's connection has ended."""
        if node in self._presences:
            self._presences[node] = replace(self._presences[node], has_left=True)

    def forget(self, node: NodeName) -> None:
        self._presences.pop(node, None)
        self._sequences.pop(node, None)

    def note_look(self, token: str) -> None:
        """Every node is about to be asked to read its files again: whoever finishes this look has done those before."""
        self._looks = [*self._looks, token][-LOOKS_MAX:]

    def look_owed(self, node: NodeName) -> str:
        """Return the token of the newest look if this node has not finished it, so that a lost bell is rung again."""
        status = self.status(node)
        newest = self._looks[-1] if self._looks else ""
        return newest if status and status.look != newest else ""

    def status(self, node: NodeName) -> Status | None:
        """Return the last status of a node, None if it has never given one."""
        presence = self._presences.get(node)
        return presence.status if presence else None

    def is_online(self, node: NodeName, now_s: float) -> bool:
        presence = self._presences.get(node)
        return presence is not None and self._is_fresh(presence, now_s)

    def turned_silent(self, then_s: float, now_s: float) -> bool:
        """True if some node counted as online at `then_s` and does not any more."""
        return any(self.is_online(node, then_s) and not self.is_online(node, now_s) for node in self._presences)

    def info(
        self, config: ClusterConfig, node: Node, manifests: Mapping[ScopeName, Manifest], now_s: float
    ) -> NodeInfo:
        """Return all that operators may want to know of one node."""
        presence = self._presences.get(node.name)
        status = presence.status if presence else None
        scopes = config.scopes_of(node)
        everything = Goal(
            epoch=config.cluster.epoch,
            generations={scope: manifests[scope].generation for scope in scopes if scope in manifests},
            serials={node.name: node.serial_no},
        )
        missing = list(self._missing_of(config, node, everything, now_s))
        errors = status.errors if status else ()
        return NodeInfo(
            name=node.name,
            uuid=node.uuid,
            role=role_letter(config, node),
            group=config.nodegroups[node.group].name,
            master_capable=node.master_capable,
            vm_capable=node.vm_capable,
            public_key=node.public_key,
            scopes=scopes,
            serial=node.serial_no,
            online=self.is_online(node.name, now_s),
            in_sync=not missing and not errors,
            generations={receipt.scope: receipt.generation for receipt in status.receipts} if status else {},
            holding=status.holding if status else (),
            errors=errors,
            errors_count=status.errors_count if status else 0,
            refusals=status.refusals if status else Refusals(),
            last_seen_s=self._silence_s(presence, now_s),
            agent_version=status.agent_version if status else "",
        )

    def missing(self, config: ClusterConfig, goal: Goal, now_s: float) -> tuple[Missing, ...]:
        """Return every reason why a goal is not reached; nothing if it is. Never yes while a node is behind.

        Nodes that are marked offline count only if the goal names them. Of one whose role is what changed, only what
        it must give back counts, and that only while it is there to be asked.
        """
        members = {node.name for node in config.nodes.values()}
        gone = [
            Missing(node=name, reason="is not in the cluster any more") for name in goal.nodes if name not in members
        ]
        here = [reason for node in nodes_of(config, goal) for reason in self._missing_for(config, node, goal, now_s)]
        return (*gone, *here)

    def is_catching_up(self, config: ClusterConfig, goal: Goal, now_s: float) -> bool:
        """True if some node that is there has not said yet that it has all of a goal, nor what is in its way."""
        return any(
            self._is_on_its_way(config, node, goal)
            for node in nodes_of(config, goal)
            if not node.offline and self.is_online(node.name, now_s)
        )

    def _is_on_its_way(self, config: ClusterConfig, node: Node, goal: Goal) -> bool:
        status, scopes = self._presences[node.name].status, config.scopes_of(node)
        receipts = {receipt.scope: receipt.version for receipt in status.receipts}
        behind = {
            scope
            for scope in scopes
            if scope in goal.generations and receipts.get(scope, (0, 0)) < (goal.epoch, goal.generations[scope])
        }
        hindered = {error.scope for error in status.errors}
        unsettled = behind | (set(status.holding) - set(scopes))
        return bool(self._unacted(node, goal, status) or ("" not in hindered and unsettled - hindered))

    def _missing_for(self, config: ClusterConfig, node: Node, goal: Goal, now_s: float) -> Iterable[Missing]:
        if not (node.offline and node.name in goal.serials):
            yield from self._missing_of(config, node, goal, now_s)
        elif self.is_online(node.name, now_s):
            status = self._presences[node.name].status
            yield from self._unacted(node, goal, status) or self._surplus(config, node, status)

    def _missing_of(self, config: ClusterConfig, node: Node, goal: Goal, now_s: float) -> Iterable[Missing]:
        presence = self._presences.get(node.name)
        if node.offline:
            yield Missing(node=node.name, reason="is marked offline: it gets what it misses once it is online again")
            return
        if presence is None or not self._is_fresh(presence, now_s):
            yield Missing(node=node.name, reason=self._why_silent(node, presence, now_s))
            return
        status = presence.status
        if unacted := self._unacted(node, goal, status):
            yield from unacted
            return
        if goal.looks and not self._has_looked(status, goal.looks):
            yield Missing(node=node.name, reason="is still reading its files again")
            return
        yield from self._behind(config, node, goal, status)
        if node.name in goal.serials:
            yield from self._surplus(config, node, status)

    def _unacted(self, node: Node, goal: Goal, status: Status) -> list[Missing]:
        if status.serial >= goal.serials.get(node.name, 0):
            return []
        return [Missing(node=node.name, reason="does not act on its new role yet")]

    def _has_looked(self, status: Status, token: str) -> bool:
        """True if the last look that a node has finished is this one, or one that began later."""
        if status.look == token:
            return True
        return status.look in self._looks and token in self._looks[: self._looks.index(status.look)]

    def _behind(self, config: ClusterConfig, node: Node, goal: Goal, status: Status) -> Iterable[Missing]:
        for scope in config.scopes_of(node):
            wanted = goal.generations.get(scope)
            receipt = status.receipt(scope)
            if wanted is None or (receipt and receipt.version >= (goal.epoch, wanted)):
                continue
            errors = [error for error in status.errors if error.scope in (scope, "")]
            for error in errors:
                yield Missing(node=node.name, scope=scope, path=error.path, reason=error.reason)
            if not errors:
                have = f"has generation {receipt.generation}" if receipt else "has no complete generation"
                yield Missing(node=node.name, scope=scope, reason=f"{have}, not {wanted} yet")

    def _surplus(self, config: ClusterConfig, node: Node, status: Status) -> Iterable[Missing]:
        for scope in status.holding:
            if scope not in config.scopes_of(node):
                yield from self._still_holding(node, scope, status)

    def _still_holding(self, node: Node, scope: ScopeName, status: Status) -> Iterable[Missing]:
        errors = [error for error in status.errors if error.scope == scope]
        for error in errors:
            yield Missing(node=node.name, scope=scope, path=error.path, reason=error.reason)
        if not errors:
            yield Missing(node=node.name, scope=scope, reason="still holds files of a scope it has left")

    def _is_fresh(self, presence: Presence, now_s: float) -> bool:
        return not presence.has_left and now_s - presence.heard_s <= self._silent_after_s

    def _is_new(self, status: Status) -> bool:
        """True unless this process of the node has said as much or more before.

        Nothing tells which of two processes is the later one: the one that goes on speaking will be.
        """
        heard = self._sequences.setdefault(status.node, {})
        if status.sequence <= heard.get(status.boot, 0):
            return False
        heard.pop(status.boot, None)
        heard[status.boot] = status.sequence
        for boot in list(heard)[:-BOOTS_MAX]:
            del heard[boot]
        return True

    def _silence_s(self, presence: Presence | None, now_s: float) -> float | None:
        if presence is None or presence.heard_s == float("-inf"):
            return None
        return max(now_s - presence.heard_s, 0.0)

    def _why_silent(self, node: Node, presence: Presence | None, now_s: float) -> str:
        if not node.public_key:
            return "has not joined yet: its agent has no key in the cluster"
        silence_s = self._silence_s(presence, now_s)
        if presence is None or silence_s is None:
            return "has not reported since the master started"
        end = "its connection ended" if presence.has_left else "it says nothing"
        return f"is not online: {end}, last heard {silence_s:.0f} s ago"


def nodes_of(config: ClusterConfig, goal: Goal) -> tuple[Node, ...]:
    """Return the nodes that count for a goal: those it names, else all of its scopes that are not offline."""
    if goal.nodes:
        named = [node for node in config.sorted_nodes() if node.name in goal.nodes]
    else:
        named = [node for node in config.sorted_nodes() if not node.offline]
    return tuple(
        node
        for node in named
        if node.name in goal.serials or goal.looks or set(config.scopes_of(node)) & goal.generations.keys()
    )
