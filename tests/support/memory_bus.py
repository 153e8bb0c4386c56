"""The bus without a server: the same promises, the same walls, and faults that a test can switch on.

Nothing here reads a clock or draws a number. Events are handed over one by one by the event loop, in the order in which
they happened; `travel` is awaited before every operation, so a simulation can delay, interleave and refuse as it likes.
What is stored is what would lie on the server: subjects and encoded messages.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import cache

import nkeys

from protocol import subjects
from protocol.bus import AgentEvent, MasterEvent
from protocol.errors import Unreachable
from protocol.names import Digest, NodeName, ScopeName
from protocol.sealing import envelopes
from protocol.sealing.signatures import Signer
from tests.support.memory_sides import MemoryAgentBus, MemoryMasterBus, MemoryOperatorBus

Grants = Mapping[NodeName, Collection[ScopeName]]

_BELLS = "mesh.bell."
_STATUS = "mesh.status."
_ASK = "mesh.ask."


@cache
def seed_of(name: str) -> str:
    """Return an nkey seed, always the same one for a name."""
    return str(nkeys.encode_seed(hashlib.sha256(name.encode()).digest(), nkeys.PREFIX_BYTE_USER).decode())


@cache
def public_key_of(node: NodeName) -> str:
    """Return a node's public key, always the same one."""
    return Signer(seed_of(node)).public_key


async def _at_once(subject: str) -> None:
    """The default journey: others may run in between, nothing is lost."""
    await asyncio.sleep(0)


class MemoryBroker:
    """The server. `grants` tells which node may read which scopes; it is asked at each `reload_broker`."""

    def __init__(
        self, grants: Callable[[], Grants] | None = None, *, travel: Callable[[str], Awaitable[None]] = _at_once
    ) -> None:
        self.streams: dict[str, dict[str, bytes]] = {}
        self.output: dict[str, list[bytes]] = {}
        """What was said aloud of each job."""
        self.is_up = True
        self.loses: Callable[[str], bool] = lambda subject: False
        """A fault: whether a message that nobody acknowledges (a bell, a status, a question) is lost on its way."""
        self.travel = travel
        self.signer = Signer(seed_of("the master's signing key"))
        self.trusted = frozenset({self.signer.public_key})
        self._granted: dict[NodeName, frozenset[ScopeName]] = {}
        self._written: dict[NodeName, frozenset[ScopeName]] = {}
        self._grants = grants or (lambda: self._written)
        self.agents: list[MemoryAgentBus] = []
        self.masters: list[MemoryMasterBus] = []
        self.operators: list[MemoryOperatorBus] = []
        self.reload()

    def agent(self, node: NodeName, hear: Callable[[AgentEvent], None], public_key: str = "") -> MemoryAgentBus:
        """Return a node's side. It connects at once if the server knows the node, else when it does."""
        self.agents.append(agent := MemoryAgentBus(self, node, hear, public_key or public_key_of(node)))
        agent.follow()
        return agent

    def master(self, hear: Callable[[MasterEvent], None]) -> MemoryMasterBus:
        self.masters.append(master := MemoryMasterBus(self, hear))
        master.follow()
        return master

    def operator(self) -> MemoryOperatorBus:
        self.operators.append(operator := MemoryOperatorBus(self))
        operator.follow()
        return operator

    def seed_of(self, node: NodeName) -> str:
        return seed_of(node)

    def grant(self, node: NodeName, scopes: Collection[ScopeName]) -> None:
        """Write what a node may read; in force with the next reload. Only without a `grants` function."""
        self._written[node] = frozenset(scopes)

    def grant_only(self, nodes: Grants) -> None:
        """Write the whole list: who is not in it is shut out with the next reload."""
        self._written = {node: frozenset(scopes) for node, scopes in nodes.items()}

    def reload(self) -> None:
        """Have the grants as they are now enforced: reads at once, subscriptions that were granted end."""
        self._granted = {node: frozenset(scopes) for node, scopes in self._grants().items()}
        for agent in self.agents:
            agent.heard &= self.granted(agent.node)
            agent.follow()

    def granted(self, node: NodeName) -> frozenset[ScopeName]:
        return self._granted.get(node, frozenset())

    def admits(self, node: NodeName) -> bool:
        return node in self._granted

    def disconnect(self, node: NodeName | None = None) -> None:
        """A fault: the server goes, or one node's way to it. What is stored stays."""
        self._cut(node, True)

    def reconnect(self, node: NodeName | None = None) -> None:
        self._cut(node, False)

    def _cut(self, node: NodeName | None, cut: bool) -> None:
        if node is None:
            self.is_up = not cut
        for agent in self.agents:
            if agent.node == node:
                agent.is_cut = cut
        for side in (*self.masters, *self.agents, *self.operators):
            side.follow()

    def forget(self, side: MemoryAgentBus | MemoryMasterBus | MemoryOperatorBus) -> None:
        """A side has closed, for good."""
        for sides in (self.agents, self.masters, self.operators):
            if side in sides:
                sides.remove(side)  # type: ignore[arg-type]

    def wipe(self) -> None:
        """A fault: everything stored is gone, the streams with it."""
        self.streams.clear()

    def lose_blob(self, scope: ScopeName, content: Digest, chunk: int = 0) -> None:
        """A fault: one chunk is gone."""
        del self.streams[subjects.blobs_stream(scope)][subjects.blob(scope, content, chunk)]

    def corrupt_blob(self, scope: ScopeName, content: Digest, chunk: int = 0) -> None:
        """A fault: one chunk has its size and another content."""
        stream, subject = subjects.blobs_stream(scope), subjects.blob(scope, content, chunk)
        self.streams[stream][subject] = bytes(byte ^ 0xFF for byte in self.streams[stream][subject])

    def say(self, subject: str, payload: bytes) -> None:
        """Carry a message to whoever listens, unless it is lost. With bytes of a test's own, a fault."""
        if not self.is_up or self.loses(subject):
            return
        if subject.startswith(_STATUS) and subjects.STATUS_STREAM in self.streams:
            self.streams[subjects.STATUS_STREAM][subject] = payload
        for master in self.masters:
            if subject.startswith(_STATUS):
                master.tell(envelopes.open_status(subject, payload))
            elif subject.startswith(_ASK):
                master.tell(envelopes.open_question(subject, payload))
        for agent in self.agents:
            if subject == subjects.node_bell(agent.node):
                agent.tell(envelopes.open_node_bell(subject, payload, self.trusted))
            elif subject in map(subjects.scope_bell, agent.heard):
                agent.tell(envelopes.open_scope_bell(subject, payload))
        for operator in self.operators if subject == subjects.CLUSTER_BELL else ():
            operator.rung.set()

    def stream(self, name: str) -> dict[str, bytes]:
        """Return a stream's messages, the last per subject."""
        if name not in self.streams:
            raise Unreachable(f"{name}: nobody answers")
        return self.streams[name]
