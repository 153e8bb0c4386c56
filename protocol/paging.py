"""Answers that are too large for one message: how they are cut, and how they are put together again.

Used on both sides of the operators' API. Between two pages the world goes on: what is put together is as old as its
first page says and, node by node, a little newer.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, TypeVar

from protocol import codec
from protocol.bus import OperatorBus
from protocol.operator_messages import (
    ClusterStatus,
    FileInfo,
    FileInfos,
    FileQuery,
    NodeInfo,
    NodeInfos,
    NodeQuery,
    StatusQuery,
)

T = TypeVar("T")

PAGE_BYTES_MAX: Final = 384 * 1024
"""Two such parts, each with an item that did not quite fit any more, are less than a message may be."""
PAGE_ITEMS_MAX: Final = 1000


def fitting(items: Iterable[T], *, bytes_max: int = PAGE_BYTES_MAX) -> tuple[T, ...]:
    """Return the first items, as many as go into one page: at least one, if there is one. No more are looked at."""
    page: list[T] = []
    size_bytes = 0
    for item in items:
        size_bytes += len(codec.encode(item))
        if page and (size_bytes > bytes_max or len(page) == PAGE_ITEMS_MAX):
            break
        page.append(item)
    return tuple(page)


async def ask_status(bus: OperatorBus) -> ClusterStatus:
    """Return the status of the whole fleet, however many nodes it has."""
    whole = page = await bus.ask("status", StatusQuery(), ClusterStatus)
    while not page.is_complete:
        query = StatusQuery(after=whole.nodes[-1].name if whole.nodes else "", errors_from=len(whole.errors))
        page = await bus.ask("status", query, ClusterStatus)
        whole = replace(
            whole, nodes=(*whole.nodes, *page.nodes), errors=(*whole.errors, *page.errors), is_complete=page.is_complete
        )
    return whole


async def ask_nodes(bus: OperatorBus, names: tuple[str, ...] = ()) -> tuple[NodeInfo, ...]:
    """Return how these nodes are, or all of them."""
    nodes: tuple[NodeInfo, ...] = ()
    while True:
        query = NodeQuery(names=names, after=nodes[-1].name if nodes else "")
        page = await bus.ask("node.list", query, NodeInfos)
        nodes = (*nodes, *page.nodes)
        if page.is_complete:
            return nodes


async def ask_files(bus: OperatorBus, paths: tuple[str, ...] = ()) -> tuple[FileInfo, ...]:
    """Return what is known of these files, or of all of them."""
    files: tuple[FileInfo, ...] = ()
    while True:
        query = FileQuery(paths=paths, after=files[-1].path if files else "")
        page = await bus.ask("file.list", query, FileInfos)
        files = (*files, *page.files)
        if page.is_complete:
            return files
