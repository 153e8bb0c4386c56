"""What the daemon needs of the node's disk, and this process's own hands for it.

`Disk` is the whole of it: `LocalDisk` does it here, `RemoteDisk` asks the privileged process for it, whose own hands
are a `LocalDisk` again.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from node_agent.core.events import Memory
from node_agent.core.reconcile import Found, Outcome, Plan
from node_agent.files import Fetch, NodeFiles
from node_agent.ledger import Ledger
from node_agent.os_search import OsSearch
from protocol.errors import Unavailable
from protocol.file_hints import FileHints
from protocol.messages import REASON_CHARS_MAX
from protocol.names import ManagedPath
from protocol.os_messages import OsDefinition, OsReport


@dataclass(frozen=True, slots=True)
class Touched:
    """Something may have changed: at these managed paths (None: anywhere), and among OS definitions or not."""

    paths: frozenset[ManagedPath] | None
    has_os_definitions: bool = False


class OsCatalog(Protocol):
    """The OS definitions of one node, as they are on its disk now."""

    async def os_report(self) -> OsReport:
        """Return all that there are; from then on their directories are watched too."""

    async def os_definition(self, name: str) -> OsDefinition | None:
        """Return the one that is used for a base name, None if there is none."""


class Disk(OsCatalog, Protocol):
    """One node's disk. What it cannot do now raises Unavailable, but for `perform`, which says it per path."""

    async def recall(self) -> tuple[Memory, int]:
        """Return what is remembered, before anything else, and how much was swept of what interrupted writes left."""

    def owe(self, memory: Memory) -> None:
        """Take a memory that is to be durable before the next plan is performed. It says all that the last one says."""

    async def settle(self) -> None:
        """Make durable what is owed."""

    async def observe(self, paths: Collection[ManagedPath], *, afresh: bool) -> Mapping[ManagedPath, Found]: ...

    async def perform(self, plan: Plan, fetch: Fetch) -> Outcome: ...

    def watch(self, paths: Collection[ManagedPath]) -> None:
        """Tell of every change of these paths, as they are reached now, and of OS definitions."""

    async def touched(self) -> Touched:
        """Return the next that is told."""

    async def run(self) -> None:
        """Watch until cancelled."""


class LocalDisk:
    """The disk of this machine, as far as this process may touch it."""

    def __init__(self, files: NodeFiles, ledger: Ledger, search: OsSearch, *, watch_step_ms: int) -> None:
        self.files = files
        self._ledger = ledger
        self._search = search
        self._hints = FileHints(step_ms=watch_step_ms, debounce_ms=4 * watch_step_ms)
        self._paths: frozenset[ManagedPath] = frozenset()
        self._os_directories: frozenset[Path] = frozenset()

    async def recall(self) -> tuple[Memory, int]:
        memory = self._ledger.open()
        return memory, self.files.sweep(memory.known)

    def owe(self, memory: Memory) -> None:
        self._ledger.owe(memory)

    async def settle(self) -> None:
        if self._ledger.owes:
            await asyncio.to_thread(self._ledger.settle)

    async def observe(self, paths: Collection[ManagedPath], *, afresh: bool) -> Mapping[ManagedPath, Found]:
        return await asyncio.to_thread(self.files.observe, paths, afresh=afresh)

    async def perform(self, plan: Plan, fetch: Fetch) -> Outcome:
        try:
            return await self.files.perform(plan, fetch, first=self._ledger.settle)
        except Unavailable as error:
            return Outcome({}, dict.fromkeys(plan.paths, f"held back: {error}"[:REASON_CHARS_MAX]))
        finally:
            if not self._hints.watches(self.files.watch_directories(plan.paths)):
                self.watch_again()  # a directory has been made

    def watch(self, paths: Collection[ManagedPath]) -> None:
        self._paths = frozenset(paths)
        self._hints.watch(self.files.watch_directories(self._paths) | self._os_directories)

    def watch_again(self) -> None:
        """Watch the same paths, whose directories may be others now."""
        self.watch(self._paths)

    async def touched(self) -> Touched:
        while True:
            hint = await self._hints.next()
            if hint is None:
                self.watch_again()
                return Touched(None, has_os_definitions=True)
            has_os = any(real.parent in self._os_directories for real in hint)
            touched = frozenset(path for real in hint if (path := self.files.managed_path_of(real))) & self._paths
            if touched or has_os:
                return Touched(touched, has_os_definitions=has_os)

    async def run(self) -> None:
        await self._hints.run()

    async def os_report(self) -> OsReport:
        report, self._os_directories = await asyncio.to_thread(self._read_os_definitions)
        self.watch_again()
        return report

    async def os_definition(self, name: str) -> OsDefinition | None:
        return await asyncio.to_thread(self._search.definition, name)

    def _read_os_definitions(self) -> tuple[OsReport, frozenset[Path]]:
        directories = frozenset(self._search.watch_directories())
        return self._search.report(), directories
