"""Knows what every source holds, and when to look again: hints from the file system, a timer, a writer who lingers."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Final

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
        self._rescan_interval_s = settings.rescan_interval_s
        self._sources = sources
        self._hints = FileHints(step_ms=settings.watch_step_ms, debounce_ms=settings.watch_debounce_ms)
        self._unsettled = asyncio.Event()

    async def read(self, mine: Collection[ManagedPath], paths: frozenset[ManagedPath] | None) -> None:
        """Bring `seen` up to date: `mine` are all managed files, of which these (None: all) may have changed."""
        known = frozenset(mine)
        wanted = known if paths is None else (paths & known) | (known - self.seen.keys())
        self.seen |= await asyncio.to_thread(self._sources.read, sorted(wanted))
        self.seen = {path: source for path, source in self.seen.items() if path in known}
        self._hints.watch(self._sources.directories(known))
        if self._unsettled_paths():
            self._unsettled.set()

    async def peek(self, paths: Collection[ManagedPath]) -> dict[ManagedPath, Source]:
        """Return what is at these paths, managed or not; `seen` stays as it is."""
        return await asyncio.to_thread(self._sources.read, sorted(paths))

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
                await look(None, "sources looked at")
                continue
            managed = (self._sources.managed(real) for real in hint)
            touched = frozenset(path for path in managed if path in self.seen)
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

    def _unsettled_paths(self) -> frozenset[ManagedPath]:
        return frozenset(path for path, source in self.seen.items() if source.kind == "unsettled")
