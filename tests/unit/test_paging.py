"""protocol/paging.py: what is cut for the wire is whole again on the other side."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.core.cluster import after
from protocol import codec, paging
from protocol.messages import FileError
from protocol.operator_messages import ClusterStatus, NodeInfo, NodeInfos, NodeQuery, StatusQuery
from protocol.paging import PAGE_BYTES_MAX, PAGE_ITEMS_MAX, ask_nodes, ask_status, fitting
from tests.support.fake_operator_bus import FakeOperatorBus, a_node, a_status
from tests.support.values import a_config
from tests.support.values import a_node as a_config_node

FAULT = FileError(path="/etc/" + "x" * 1000, reason="y" * 400)


class Master(FakeOperatorBus):
    """Answers in pages, as the master does; counts them, and refuses to send what is no message."""

    def __init__(self, nodes: tuple[NodeInfo, ...], errors: tuple[FileError, ...] = ()) -> None:
        super().__init__()
        self.nodes, self.errors = nodes, errors
        self.meanwhile: Callable[[], None] = lambda: None

    async def ask(self, verb: str, request: object, reply: type, *, timeout_s: float = 10.0) -> object:  # type: ignore[override]
        self.asked.append((verb, request))
        answer = self._answer(request)
        assert len(codec.encode(answer)) <= codec.MESSAGE_BYTES_MAX
        self.meanwhile()
        return codec.decode(codec.encode(answer), reply)

    def _answer(self, request: object) -> object:
        assert isinstance(request, StatusQuery | NodeQuery)
        names = getattr(request, "names", ()) or [node.name for node in self.nodes]
        known = {node.name: node for node in self.nodes}
        rest = after([known[name] for name in names], request.after)  # type: ignore[type-var]
        nodes = fitting(rest)
        if isinstance(request, NodeQuery):
            return NodeInfos(nodes=nodes, is_complete=len(nodes) == len(rest))
        errors = fitting(self.errors[request.errors_from :])
        is_complete = len(nodes) == len(rest) and request.errors_from + len(errors) == len(self.errors)
        return replace(a_status(), nodes=nodes, errors=errors, is_complete=is_complete)


def a_fleet(count: int, **more: object) -> tuple[NodeInfo, ...]:
    return tuple(a_node(f"node{number}", **more) for number in range(1, count + 1))


async def test_a_small_fleet_is_one_answer() -> None:
    master = Master(a_fleet(3))

    assert (await ask_status(master)).nodes == master.nodes
    assert await ask_nodes(master) == master.nodes
    assert master.asked == [("status", StatusQuery()), ("node.list", NodeQuery())]


async def test_a_fleet_of_any_size_is_told_whole() -> None:
    master = Master(a_fleet(5000))

    status = await ask_status(master)

    assert status.nodes == master.nodes
    assert status.is_complete
    assert await ask_nodes(master) == master.nodes
    assert len(master.asked) >= 10


async def test_nodes_full_of_errors_and_a_master_full_of_errors_fit_too() -> None:
    """The largest that there is: fifty errors on each node, and thousands of sources that cannot be read."""
    master = Master(a_fleet(30, errors=(FAULT,) * 50, errors_count=50), (FAULT,) * 3000)

    status = await ask_status(master)

    assert (status.nodes, status.errors) == (master.nodes, master.errors)


async def test_named_nodes_come_in_the_order_in_which_they_were_named() -> None:
    master = Master(a_fleet(3000))
    names = tuple(f"node{number}" for number in range(3000, 0, -1))

    assert tuple(node.name for node in await ask_nodes(master, names)) == names


async def test_a_node_that_is_removed_between_two_pages_costs_no_other() -> None:
    master = Master(a_fleet(3000))

    def remove_the_last_told() -> None:
        master.meanwhile = lambda: None
        told = len(fitting(master.nodes))
        master.nodes = (*master.nodes[: told - 1], *master.nodes[told:])

    master.meanwhile = remove_the_last_told
    nodes = await ask_nodes(master)

    assert len(nodes) == 3000
    assert len({node.name for node in nodes}) == 3000


@given(st.lists(st.integers(0, 2 * PAGE_BYTES_MAX), max_size=12))
def test_pages_are_as_large_as_they_may_be_and_never_empty(sizes: list[int]) -> None:
    items = [FileError(path="", reason="", scope="x" * size) for size in sizes]
    read: list[FileError] = []
    while len(read) < len(items):
        page = fitting(items[len(read) :])
        size_bytes = sum(len(codec.encode(item)) for item in page)
        assert page and (len(page) == 1 or size_bytes <= PAGE_BYTES_MAX)
        read += page
    assert read == items


def test_a_page_has_a_number_of_items_that_any_list_may_have() -> None:
    looked_at = []

    def items() -> object:
        for number in range(10_000):
            looked_at.append(number)
            yield FileError(path="/x", reason=str(number))

    assert len(fitting(items())) == PAGE_ITEMS_MAX  # type: ignore[call-overload]
    assert len(looked_at) == PAGE_ITEMS_MAX + 1, "what comes after the page is not even made"
    assert fitting([]) == ()


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("", ["node1", "node2", "node10"]),
        ("node1", ["node2", "node10"]),
        ("node3", ["node10"]),
        ("node10", []),
        ("node11", []),
    ],
)
def test_after_a_node_come_those_behind_it_in_natural_order(name: str, left: list[str]) -> None:
    nodes = a_config(a_config_node("node10"), a_config_node("node2")).sorted_nodes()

    assert [node.name for node in after(nodes, name)] == left


def test_an_answer_of_one_page_is_complete_by_itself() -> None:
    """As an administrator's plain `nats req mesh.api.status ''` asks for it."""
    assert a_status().is_complete
    assert codec.decode(codec.encode(StatusQuery()), StatusQuery) == StatusQuery()
    assert isinstance(a_status(), ClusterStatus) and paging.PAGE_BYTES_MAX * 2 < codec.MESSAGE_BYTES_MAX
