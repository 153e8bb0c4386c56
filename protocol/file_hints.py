"""Tells that files may have changed, by watching their directories. A hint is never more than a reason to look.

Both daemons use it. watchfiles does not report overflow and loses a directory that is replaced, so whoever listens
also looks by itself from time to time.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Collection
from pathlib import Path
from typing import Final

from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError
from watchfiles.main import FileChange

RESTART_PAUSE_S: Final = (1.0, 30.0)
"""The first and the longest pause before watching is tried again; after each, everything is looked at."""


class FileHints:
    """Watches a changing set of directories, not their subdirectories."""

    def __init__(self, *, step_ms: int, debounce_ms: int) -> None:
        self._step_ms = step_ms
        self._debounce_ms = debounce_ms
        self._directories: frozenset[Path] = frozenset()
        self._changed = asyncio.Event()
        self._hints: asyncio.Queue[frozenset[Path] | None] = asyncio.Queue(maxsize=1000)

    def watch(self, directories: Collection[Path]) -> None:
        """Watch these directories and no others. A new set also means: look everywhere once.

        watchfiles can only watch what has a name in UTF-8.
        """
        wanted = frozenset(directory for directory in directories if _is_text(directory))
        if wanted != self._directories:
            self._directories = wanted
            self._changed.set()

    def watches(self, directories: Collection[Path]) -> bool:
        """True if all of these are being watched."""
        return self._directories.issuperset(directories)

    async def next(self) -> frozenset[Path] | None:
        """Return the next paths that may have changed; None: anything may have."""
        return await self._hints.get()

    async def run(self) -> None:
        """Watch until cancelled. A directory that cannot be watched is tried again."""
        clock = asyncio.get_running_loop().time
        pause_s = RESTART_PAUSE_S[0]
        while True:
            self._changed.clear()
            if not self._directories:
                await self._changed.wait()
                continue
            began_s = clock()
            if await self._watch_until_it_fails():
                self._say(None)  # hints stop, looking goes on
                if clock() - began_s > RESTART_PAUSE_S[1]:
                    pause_s = RESTART_PAUSE_S[0]
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RESTART_PAUSE_S[1])
            else:
                pause_s = RESTART_PAUSE_S[0]

    async def _watch_until_it_fails(self) -> bool:
        """Return True if it has failed: a directory is gone, the kernel allows no more watches, or somebody has made a
        name that is not UTF-8, which watchfiles cannot say. False: the directories are others now."""
        failed = False
        try:
            await self._watch()
        except* (OSError, WatchfilesRustInternalError):
            failed = True  # no more than this: what is raised here, a cancellation too, would become a group
        return failed

    async def _watch(self) -> None:
        directories = sorted(directory for directory in self._directories if directory.is_dir())
        if len(directories) < len(self._directories):
            raise FileNotFoundError("a watched directory does not exist")
        changes = awatch(
            *directories,
            recursive=False,
            watch_filter=None,
            step=self._step_ms,
            debounce=self._debounce_ms,
            stop_event=self._changed,
            rust_timeout=60_000,
        )
        first = asyncio.ensure_future(_next(changes))
        try:
            await asyncio.sleep(0)  # the watch is in place before the first suspension, and so before this look
            self._say(None)
            paths = await first
            while paths is not None and not paths & self._directories:
                self._say(paths)
                paths = await _next(changes)
        finally:
            first.cancel()
            await changes.aclose()

    def _say(self, paths: frozenset[Path] | None) -> None:
        if self._hints.full():
            while not self._hints.empty():
                self._hints.get_nowait()
            paths = None
        self._hints.put_nowait(paths)


async def _next(changes: AsyncGenerator[set[FileChange], None]) -> frozenset[Path] | None:
    """Return the next paths, None when the watching has been stopped."""
    found = await anext(changes, None)
    return None if found is None else frozenset(Path(path) for _, path in found)


def _is_text(path: Path) -> bool:
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True
