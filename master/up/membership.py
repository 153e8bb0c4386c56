"""Runs an agent for every node of the cluster that lives in this directory, whatever operators make of the cluster.

Level-triggered: a bell only says that the list of nodes may be another one. Whether a node lives here is said by its
key: the cluster's is the one in its root, or the cluster has none yet and gets the one that is made there.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from master.up.layout import BROKER, MASTER
from protocol.bus import OperatorBus
from protocol.errors import Refused, Unavailable
from protocol.names import NodeName
from protocol.operator_messages import Changed, NodeAdd, NodeInfo, NodeModify
from protocol.paging import ask_nodes

LOOK_PAUSE_S: Final = 0.2
"""Bells ring with every receipt; the list is asked for this often at most."""

RETRY_PAUSE_S: Final = 0.5
LOOK_INTERVAL_S: Final = 30.0
"""A look without a bell, for the bell that was lost."""


@dataclass(frozen=True, slots=True)
class Start:
    """The node lives here and its agent does not run."""

    node: str
    key: str


@dataclass(frozen=True, slots=True)
class Enrol:
    """The cluster does not know the node's key: make one, tell the master, start."""

    node: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The node is not in the cluster any more, or is another one now."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """The agent that runs has given itself this new key."""

    node: str
    key: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing to do but to tell the operator why, once."""

    node: str
    reason: str


Step = Start | Enrol | Stop | Adopt | Leave


class Home(Protocol):
    """What there is of nodes on this machine."""

    def running(self) -> Mapping[str, str]:
        """Return the nodes whose agents are kept running, with the public key that each has."""

    def key_of(self, node: str) -> str:
        """Return the public key in a node's root, empty if there is none; Refused if it cannot be read."""

    async def make(self, node: str, *, anew: bool = False) -> str:
        """Make a node's root, settings and key where they are missing, the key also `anew`; return the public key."""

    def start(self, node: str, key: str) -> None:
        """Keep the agent of a node running, in the root that was made."""

    def adopt(self, node: str, key: str) -> None:
        """Note that the agent that is kept running has another key now."""

    async def stop(self, node: str) -> None:
        """End the agent of a node. Its root stays."""


def decide(nodes: Iterable[NodeInfo], running: Mapping[str, str], key_of: Callable[[str], str]) -> list[Step]:
    """Return what to do so that exactly the nodes that live here have an agent; what is to stop comes first."""
    listed = {node.name: node.public_key for node in nodes}
    adopted: dict[str, str] = {
        node: listed[node]
        for node, key in running.items()
        if listed.get(node) and listed[node] != key and _has(node, listed[node], key_of)
    }
    running = {**running, **adopted}
    stops: list[Step] = [
        Stop(node, _why_stopped(node, gone=node not in listed))
        for node, key in running.items()
        if listed.get(node) != key
    ]
    adopts = [Adopt(node, key) for node, key in adopted.items()]
    return [*adopts, *stops] + [_step(node, key, key_of) for node, key in listed.items() if running.get(node) != key]


def _has(node: str, key: str, key_of: Callable[[str], str]) -> bool:
    try:
        return key_of(node) == key
    except Refused:
        return False


def _why_stopped(node: str, *, gone: bool) -> str:
    if gone:
        return f"{node} was removed from the cluster: its agent is stopped, its root stays"
    return f"{node} has another key in the cluster now: its agent is stopped"


def _step(node: str, key: str, key_of: Callable[[str], str]) -> Step:
    if node in (BROKER, MASTER):
        return Leave(node, f"node {node} has the name of a daemon of gnt-mesh up, so no agent is started for it here")
    if not key:
        return Enrol(node)
    try:
        own = key_of(node)
    except Refused as error:
        return Leave(node, f"the agent of node {node} is not started: {error}")
    if own == key:
        return Start(node, key)
    has = "another one" if own else "none"
    return Leave(
        node,
        f"node {node} is not started here: the cluster knows it by a key, and its root in this directory has {has}",
    )


async def _nothing() -> None:
    """What is to be seen to if there is nothing."""


class Membership:
    """Follows the cluster's list of nodes."""

    def __init__(
        self,
        bus: OperatorBus,
        home: Home,
        say: Callable[[str], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bus = bus
        self._home = home
        self._say = say
        self._sleep = sleep
        self._said: set[str] = set()
        self._look_due = asyncio.Event()
        self._is_following = False

    async def add(self, names: Iterable[NodeName]) -> None:
        """Add nodes that live here to the cluster."""
        for name in names:
            key = await self._home.make(name)
            await self._insist("node.add", NodeAdd(name=name, public_key=key))

    async def settle(self) -> None:
        """Look until the master has answered once; every agent there should be is kept running then."""
        while True:
            try:
                return await self._look()
            except Unavailable:
                await self._sleep(RETRY_PAUSE_S)

    def look_soon(self) -> None:
        """Have `follow` look, as after a bell."""
        self._look_due.set()

    async def follow(self, before: Callable[[], Awaitable[None]] = _nothing) -> None:
        """Look whenever something may have changed, for ever; `before` each look something else is seen to."""
        self._is_following = True
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear_bells())
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_INTERVAL_S):
                        await self._look_due.wait()
                self._look_due.clear()
                await before()
                await self.settle()
                await self._sleep(LOOK_PAUSE_S)

    async def _hear_bells(self) -> None:
        async for _ in self._bus.bells():
            self._look_due.set()

    async def _look(self) -> None:
        """Compare once, and act; Unavailable if the master does not answer."""
        nodes = await ask_nodes(self._bus)
        for step in decide(nodes, self._home.running(), self._home.key_of):
            await self._take(step)

    async def _take(self, step: Step) -> None:
        try:
            match step:
                case Stop(node, reason):
                    await self._home.stop(node)
                    self._say(reason)
                case Adopt(node, key):
                    self._home.adopt(node, key)
                case Start(node, key):
                    await self._home.make(node)
                    self._start(node, key)
                case Enrol(node):
                    key = await self._home.make(node, anew=True)  # what it had is void, or somebody else's
                    await self._insist("node.modify", NodeModify(name=node, public_key=key))
                    self._start(node, key)
                case Leave(_, reason):
                    self._say_once(reason)
        except Refused as error:
            self._say_once(f"the agent of {step.node} is not started: {error}")

    def _start(self, node: str, key: str) -> None:
        self._home.start(node, key)
        if self._is_following:
            self._say(f"{node} is in the cluster: its agent is started")

    async def _insist(self, verb: str, request: object) -> None:
        """Ask until the master answers. It may refuse because an earlier try was done after all: that is an answer."""
        is_first = True
        while True:
            try:
                await self._bus.ask(verb, request, Changed)
                return
            except Refused:
                if is_first:
                    raise
                return
            except Unavailable:
                is_first = False
            await self._sleep(RETRY_PAUSE_S)

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._say(sentence)
