"""Knows what every source holds, and when to look again: hints from the file system, a timer, a writer who lingers."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Final

from master.core.globs import directory_of, selects
from master.core.plan import Source
from master.settings import MasterSettings
from master.sources import Sources
from protocol.file_hints import FileHints
from protocol.names import Digest, ManagedPath

UNSETTLED_PAUSE_S: Final = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)

Look = Callable[[frozenset[ManagedPath] | None, str], Awaitable[None]]
"""Has these paths (None: all) read again and what changed published; the text says why."""


class SourceWatch:
    """The last known state of every managed file on the master. `read` is called by one task at a time."""

    def __init__(self, settings: MasterSettings, sources: Sources) -> None:
        self.seen: dict[ManagedPath, Source] = {}
        self.hooks_due = asyncio.Event()
        """Set when something happened where the file hooks are."""
        self._hook = ManagedPath(f"{settings.file_hooks_dir}/name")
        self._hooks_dir = sources.real(self._hook).parent
        self._patterns: Collection[ManagedPath] = ()
        self._awaited: frozenset[Path] = frozenset()
        self._rescan_interval_s = settings.rescan_interval_s
        self._sources = sources
        self._hints = FileHints(step_ms=settings.watch_step_ms, debounce_ms=settings.watch_debounce_ms)
        self._unsettled = asyncio.Event()

    async def read(
        self,
        mine: Collection[ManagedPath],
        paths: frozenset[ManagedPath] | None,
        *,
        patterns: Collection[ManagedPath] = (),
    ) -> None:
        """Bring `seen` up to date: `mine` are all managed files, of which these (None: all) may have changed.

        What `patterns` select is looked for as well, from now on.
        """
        known = frozenset(mine)
        wanted = known if paths is None else (paths & known) | (known - self.seen.keys())
        self.seen |= await asyncio.to_thread(self._sources.read, sorted(wanted))
        self.seen = {path: source for path, source in self.seen.items() if path in known}
        self._watch({*known, *patterns, self._hook}, patterns)
        if self._unsettled_paths():
            self._unsettled.set()

    async def peek(self, paths: Collection[ManagedPath]) -> dict[ManagedPath, Source]:
        """Return what is at these paths, managed or not; `seen` stays as it is."""
        return await asyncio.to_thread(self._sources.read, sorted(paths))

    async def glance(self, path: ManagedPath) -> Source:
        """Return what is at a path without reading it."""
        return await asyncio.to_thread(self._sources.glance, path)

    def forget(self, digest: Digest | None = None) -> frozenset[ManagedPath]:
        """Have contents (None: all of them) read afresh next time; return their paths."""
        paths = frozenset(path for path, source in self.seen.items() if digest in (None, source.digest))
        for path in paths:
            self._sources.forget(path)
        return paths

    async def run(self, look: Look) -> None:
        """Call `look` whenever a source may have changed, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hints.run())
            tasks.create_task(self._follow_hints(look))
            tasks.create_task(self._look_until_settled(look))
            tasks.create_task(self._rescan(look))

    async def _follow_hints(self, look: Look) -> None:
        while True:
            hint = await self._hints.next()
            if hint is None:
                self.hooks_due.set()
                await look(None, "sources looked at")
                continue
            if any(self._hooks_dir in (real, real.parent) for real in hint):
                self.hooks_due.set()
            if not hint.isdisjoint(self._awaited):
                await look(None, "a directory for sources came into being")
                continue
            managed = (self._sources.managed(real) for real in hint)
            touched = frozenset(path for path in managed if path and self._is_mine(path))
            if touched:
                await look(touched, "a source changed")

    async def _look_until_settled(self, look: Look) -> None:
        """Nothing tells when a writer closes a file: look again, at growing pauses, while one is being written."""
        looks = 0
        while True:
            await self._unsettled.wait()
            self._unsettled.clear()
            await asyncio.sleep(UNSETTLED_PAUSE_S[min(looks, len(UNSETTLED_PAUSE_S) - 1)])
            looks += 1
            await look(self._unsettled_paths(), "a source changed")
            if not self._unsettled.is_set():
                looks = 0

    async def _rescan(self, look: Look) -> None:
        while True:
            await asyncio.sleep(self._rescan_interval_s * random.uniform(1.0, 1.2))
            await look(None, "sources looked at")

    def _watch(self, paths: Collection[ManagedPath], patterns: Collection[ManagedPath]) -> None:
        one_of_each = {directory_of(path): path for path in paths}.values()  # thousands of files, few directories
        existing, awaited = self._sources.directories(one_of_each), set()
        for directory in {self._sources.real(path).parent for path in one_of_each}:
            while directory not in existing:
                awaited.add(directory)
                directory = directory.parent  # up to the nearest one that exists
        self._patterns, self._awaited = patterns, frozenset(awaited)
        self._hints.watch(existing)

    def _is_mine(self, path: ManagedPath) -> bool:
        return path in self.seen or any(selects(pattern, path) for pattern in self._patterns)

    def _unsettled_paths(self) -> frozenset[ManagedPath]:
        return frozenset(path for path, source in self.seen.items() if source.kind == "unsettled")
