"""An agent for every node that lives here: decided by keys, driven by bells."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import pytest

from master.up.membership import Adopt, Enrol, Leave, Membership, Start, Stop, decide
from protocol.bus import Reply
from protocol.errors import Refused, Unavailable
from protocol.messages import Refusals
from protocol.names import NodeName
from protocol.operator_messages import Changed, Goal, NodeAdd, NodeInfo, NodeInfos, NodeModify


def a_node(name: str, key: str = "") -> NodeInfo:
    return NodeInfo(
        name=name,
        uuid=f"uuid-{name}",
        role="R",
        group="default",
        master_capable=True,
        vm_capable=True,
        public_key=key,
        scopes=(),
        serial=1,
        online=True,
        in_sync=True,
        refusals=Refusals(),
    )


def keys(**known: str) -> Callable[[str], str]:
    return lambda node: known.get(node, "")


@pytest.mark.parametrize("running", [None, "K", "OTHER"])
@pytest.mark.parametrize("in_root", ["", "K", "OTHER"])
@pytest.mark.parametrize("in_cluster", [None, "", "K"])
def test_every_combination_of_keys(in_cluster: str | None, in_root: str, running: str | None) -> None:
    """in_cluster None: no such node there; running None: no agent kept running."""
    nodes = [] if in_cluster is None else [a_node("n", in_cluster)]
    steps = decide(nodes, {"n": running} if running else {}, keys(n=in_root))

    kinds = [type(step) for step in steps]
    if running == in_cluster:  # including: neither there nor running
        assert kinds == []
        return
    if running and in_cluster and in_root == in_cluster:  # the agent that runs has given itself a new key
        assert kinds == [Adopt]
        return
    assert (Stop in kinds) == (running is not None)
    last = [kind for kind in kinds if kind is not Stop]
    if in_cluster is None:
        assert last == []
    elif in_cluster == "":
        assert last == [Enrol]
    else:
        assert last == [Start if in_root == in_cluster else Leave]


def test_a_node_with_the_name_of_a_daemon_is_left_alone() -> None:
    (step,) = decide([a_node("master", "K")], {}, keys(master="K"))
    assert isinstance(step, Leave)


def test_a_key_that_cannot_be_read_is_a_reason() -> None:
    def unreadable(node: str) -> str:
        raise Refused("agent.nk: others can read it")

    (step,) = decide([a_node("n", "K")], {}, unreadable)
    assert isinstance(step, Leave)
    assert "others can read it" in step.reason


@dataclass
class FakeHome:
    roots: dict[str, str] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)

    def running(self) -> Mapping[str, str]:
        return self.agents

    def key_of(self, node: str) -> str:
        return self.roots.get(node, "")

    async def make(self, node: str, *, anew: bool = False) -> str:
        if anew:
            self.roots.pop(node, None)
        return self.roots.setdefault(node, f"KEY-{node}")

    def start(self, node: str, key: str) -> None:
        assert node not in self.agents
        self.agents[node] = key

    def adopt(self, node: str, key: str) -> None:
        assert node in self.agents
        self.agents[node] = key

    async def stop(self, node: str) -> None:
        del self.agents[node]


@dataclass
class FakeMaster:
    """The operator's bus to a master that knows some nodes; what `troubles` holds is raised first."""

    nodes: dict[str, str] = field(default_factory=dict)
    troubles: list[Exception] = field(default_factory=list)
    late_troubles: list[Exception] = field(default_factory=list)
    rung: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Queue[object] = field(default_factory=asyncio.Queue)

    async def ask(self, verb: str, request: object, reply: type[Reply], *, timeout_s: float = 10.0) -> Reply:
        self.asked.put_nowait(request)
        if self.troubles:
            raise self.troubles.pop(0)
        answer: object = Changed(goal=Goal(epoch=1))
        match request:
            case NodeAdd():
                if request.name in self.nodes:
                    raise Refused(f"node {request.name} is in the cluster already")
                self.nodes[request.name] = request.public_key
            case NodeModify():
                self.nodes[request.name] = request.public_key or ""
            case _:
                answer = NodeInfos(nodes=tuple(a_node(name, key) for name, key in self.nodes.items()))
        if self.late_troubles:
            raise self.late_troubles.pop(0)
        assert isinstance(answer, reply)
        return answer

    async def bells(self) -> AsyncIterator[None]:
        yield
        while True:
            await self.rung.wait()
            self.rung.clear()
            yield

    async def close(self) -> None: ...


def a_membership(master: FakeMaster, home: FakeHome, say: Callable[[str], None] = lambda sentence: None) -> Membership:
    """One for which pauses are over at once."""
    return Membership(master, home, say, sleep=lambda pause_s: asyncio.sleep(0))


async def test_the_first_look_starts_what_lives_here() -> None:
    home, said = FakeHome(roots={"node1": "K1", "node2": "K2"}), list[str]()
    master = FakeMaster(nodes={"node1": "K1", "node2": "ANOTHER", "far": "K9"})
    await a_membership(master, home, said.append).settle()
    assert home.agents == {"node1": "K1"}
    assert [sentence.split()[:2] for sentence in said] == [["node", "node2"], ["node", "far"]]


async def test_it_looks_until_the_master_answers() -> None:
    home = FakeHome(roots={"node1": "K1"})
    master = FakeMaster(nodes={"node1": "K1"}, troubles=[Unavailable("no master yet")] * 3)
    await a_membership(master, home).settle()
    assert home.agents == {"node1": "K1"}


async def test_nodes_are_added_with_the_key_made_for_them() -> None:
    home, master = FakeHome(), FakeMaster()
    await a_membership(master, home).add([NodeName("node4")])
    assert master.nodes == {"node4": "KEY-node4"} == home.roots


async def test_an_addition_whose_answer_was_lost_is_no_error() -> None:
    """Asked again, the master says that the node is there already."""
    home, master = FakeHome(), FakeMaster(late_troubles=[Unavailable("the answer was lost")])
    await a_membership(master, home).add([NodeName("node4")])
    assert master.nodes == {"node4": "KEY-node4"}


async def test_an_addition_that_is_refused_is_told() -> None:
    home, master = FakeHome(), FakeMaster(troubles=[Refused("no")])
    with pytest.raises(Refused, match="no"):
        await a_membership(master, home).add([NodeName("node4")])


async def test_it_follows_what_operators_do() -> None:
    home, said = FakeHome(), asyncio.Queue[str]()
    master = FakeMaster()
    following = asyncio.create_task(a_membership(master, home, said.put_nowait).follow())

    master.nodes["web"] = ""
    master.rung.set()
    assert await said.get() == "web is in the cluster: its agent is started"
    assert home.agents == {"web": "KEY-web"} == master.nodes

    del master.nodes["web"]
    master.rung.set()
    assert await said.get() == "web was removed from the cluster: its agent is stopped, its root stays"
    assert home.agents == {}
    assert home.roots == {"web": "KEY-web"}

    master.nodes["web"] = "ANOTHER"
    for _ in range(3):
        while not master.asked.empty():
            master.asked.get_nowait()
        master.rung.set()
        await master.asked.get()
    assert "is not started here" in await said.get()
    assert said.empty(), "said once"

    following.cancel()
    await asyncio.wait((following,))
