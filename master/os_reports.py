"""Collects what the nodes have of OS definitions: a status names the digest, and what is not known yet is fetched.

Level-triggered: a fetch that fails is tried again with the node's next status. Nothing is kept on the disk; a master
that starts asks every node that is there.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Final

import structlog

from master.core.cluster import ClusterConfig, Node
from master.progress import Progress
from protocol import codec
from protocol.bus import MasterBus
from protocol.errors import DecodeError, Unavailable
from protocol.messages import Status
from protocol.names import NodeName
from protocol.os_messages import OsReport, OsReportWanted

FETCHES_MAX: Final = 16
TIMEOUT_S: Final = 10.0

log = structlog.get_logger()


class OsReports:
    """The last report of every node that has given one."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._reports: dict[NodeName, OsReport] = {}
        self._digests: dict[NodeName, str] = {}
        self._wanted: set[NodeName] = set()
        self._queue: asyncio.Queue[NodeName] = asyncio.Queue()

    def note(self, status: Status) -> None:
        """Take in what a status says of a node's OS definitions."""
        if status.os_report and status.os_report != self._digests.get(status.node) and status.node not in self._wanted:
            self._wanted.add(status.node)
            self._queue.put_nowait(status.node)

    async def run(self, bus: MasterBus) -> None:
        """Fetch what is new, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(FETCHES_MAX):
                tasks.create_task(self._fetch_in_turn(bus))

    def of(self, config: ClusterConfig) -> Mapping[NodeName, OsReport]:
        """Return the reports that count: of nodes that may run instances and are not marked offline."""
        return {node.name: self._reports[node.name] for node in _counted(config) if node.name in self._reports}

    def silent(self, config: ClusterConfig) -> tuple[NodeName, ...]:
        """Return the nodes that would count and have given none."""
        return tuple(node.name for node in _counted(config) if node.name not in self._reports)

    async def _fetch_in_turn(self, bus: MasterBus) -> None:
        while True:
            node = await self._queue.get()
            try:
                await self._fetch(bus, node)
            except (Unavailable, DecodeError) as error:
                log.warning("os_definitions_not_fetched", node=node, reason=str(error))
            finally:
                self._wanted.discard(node)

    async def _fetch(self, bus: MasterBus, node: NodeName) -> None:
        report = await bus.ask_node(node, "os-definitions", OsReportWanted(), OsReport, timeout_s=TIMEOUT_S)
        if report.node != node:
            raise DecodeError(f"the OS definitions of {node} claim to be those of {report.node}")
        self._reports[node] = report
        self._digests[node] = hashlib.sha256(codec.encode(report)).hexdigest()
        log.info("os_definitions_known", node=node, count=len(report.definitions))
        self._progress.note()


def _counted(config: ClusterConfig) -> list[Node]:
    return [node for node in config.sorted_nodes() if node.vm_capable and not node.offline]
