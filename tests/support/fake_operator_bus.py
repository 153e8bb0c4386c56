"""An operator's bus that answers from a script, and a clock that only moves when somebody waits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from click.testing import CliRunner, Result

from master.cli.app import root
from master.cli.connect import Wiring
from protocol import codec
from protocol.bus import Reply
from protocol.names import NodeName
from protocol.operator_messages import ClusterStatus, Goal, Missing, NodeInfo, ScopeInfo, WaitReply, WaitRequest

ASKER = "tester@here"


@dataclass
class FakeOperatorBus:
    """Gives each verb's scripted answers in turn, the last one for ever; an exception among them is raised.

    Requests and answers go through the codec, so that what the fake takes the real bus takes too. A wait that is
    answered with something missing has used up its patience, as the real master's has.
    """

    answers: dict[str, list[object]] = field(default_factory=dict)
    asked: list[tuple[str, object]] = field(default_factory=list)
    bells_rung: int = 1
    now: float = 1000.0
    slept: list[float] = field(default_factory=list)
    directories: list[Path | None] = field(default_factory=list)
    connect_error: Exception | None = None
    closed: bool = False

    async def ask(self, verb: str, request: object, reply: type[Reply], *, timeout_s: float = 10.0) -> Reply:
        assert timeout_s > 0
        self.asked.append((verb, codec.decode(codec.encode(request), type(request))))
        script = self.answers[verb]
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(request, WaitRequest) and isinstance(answer, WaitReply) and answer.missing:
            self.now += request.patience_s
        return codec.decode(codec.encode(answer), reply)

    async def bells(self) -> AsyncIterator[None]:
        for _ in range(self.bells_rung):
            yield

    async def close(self) -> None:
        self.closed = True

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @asynccontextmanager
    async def connect(self, directory: Path | None) -> AsyncIterator["FakeOperatorBus"]:
        self.directories.append(directory)
        if self.connect_error:
            raise self.connect_error
        try:
            yield self
        finally:
            await self.close()

    def run(self, *args: str) -> Result:
        """Run `gnt-mesh ARGS` on this bus."""
        wiring = Wiring(connect=self.connect, clock=lambda: self.now, sleep=self.sleep, asker=lambda: ASKER)
        return CliRunner().invoke(root, args, obj=wiring, env={"GNT_MESH_DIR": None, "GNT_MESH_DEBUG": None})

    def requests(self, verb: str) -> list[object]:
        """Return what was asked with one verb."""
        return [request for asked, request in self.asked if asked == verb]


def a_node(name: str = "node2", **changed: object) -> NodeInfo:
    """A healthy regular node; what a test names is what matters to it."""
    node = NodeInfo(
        name=name,
        uuid=f"uuid-of-{name}",
        role="R",
        group="default",
        master_capable=True,
        vm_capable=True,
        public_key="U" + "A" * 55,
        scopes=("all", "vm-capable"),
        serial=1,
        online=True,
        in_sync=True,
        generations={"all": 12, "vm-capable": 3},
        holding=("all", "vm-capable"),
        last_seen_s=0.4,
        agent_version="0.1.0",
    )
    return replace(node, **changed)  # type: ignore[arg-type]


def a_master(**changed: object) -> NodeInfo:
    """The node called node1."""
    held = {"all": 12, "vm-capable": 3, "master-candidates": 7}
    return replace(a_node("node1", role="M", scopes=tuple(held), generations=held, holding=tuple(held)), **changed)  # type: ignore[arg-type]


def a_status(*nodes: NodeInfo, **changed: object) -> ClusterStatus:
    """A fleet of one master and two regular nodes, all well, unless told otherwise."""
    status = ClusterStatus(
        cluster="demo",
        master=NodeName("node1"),
        epoch=1,
        scopes={
            "all": ScopeInfo(generation=12, files=9, nodes=3, size_bytes=43008),
            "master-candidates": ScopeInfo(generation=7, files=4, nodes=1, size_bytes=512),
            "vm-capable": ScopeInfo(generation=3, files=0, nodes=3, size_bytes=0),
        },
        nodes=nodes or (a_master(), a_node("node2"), a_node("node3")),
    )
    return replace(status, **changed)  # type: ignore[arg-type]


def a_goal(**changed: object) -> Goal:
    """Generation 12 of the scope `all`, everywhere."""
    return replace(Goal(epoch=1, generations={"all": 12}), **changed)  # type: ignore[arg-type]


def a_wait_reply(*missing: Missing, goal: Goal | None = None, nodes_total: int = 3) -> WaitReply:
    """Nothing is missing unless told otherwise."""
    return WaitReply(goal=goal or a_goal(), missing=missing, nodes_total=nodes_total)
