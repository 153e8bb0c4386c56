"""Follows a running Ganeti's config.data, read-only: whatever changes there is carried like any other change.

Level-triggered, as everything: a hint only says "look". What cannot be followed changes nothing, and is shown in
`status` for as long as it is so.
"""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

import structlog

from master.core import from_ganeti
from master.core.cluster import ClusterConfig
from master.core.from_ganeti import GanetiConfig
from master.desired import Desired
from master.settings import MasterSettings
from protocol.change_messages import ChangeRequest
from protocol.errors import Refused, Unavailable
from protocol.file_hints import FileHints
from protocol.messages import REASON_CHARS_MAX, FileError
from protocol.names import MASTER_CANDIDATES

LOOK_INTERVAL_S: Final = 15.0
"""A look without a hint."""

log = structlog.get_logger()


class GanetiWatch:
    """Does nothing for a cluster that is its own."""

    def __init__(self, settings: MasterSettings, desired: Desired) -> None:
        self._path = desired.config.cluster.ganeti_config_data
        self._file = settings.root / self._path.lstrip("/")
        self._desired = desired
        self._hints = FileHints(step_ms=settings.watch_step_ms, debounce_ms=settings.watch_debounce_ms)

    async def run(self) -> None:
        """Look now, at every hint and from time to time, until cancelled."""
        if not self._path:
            return
        self._hints.watch([self._file.parent])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hints.run())
            while True:
                await self.look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_INTERVAL_S):
                        await self._until_hint()

    async def look(self) -> None:
        """Bring the cluster config to what Ganeti's says."""
        try:
            ganeti = await asyncio.to_thread(read, self._file)
            problems = list(from_ganeti.oddities(ganeti))
            await self._follow(ganeti)
        except (Refused, Unavailable) as error:
            problems = [f"{error}; nothing of it was taken over"]
        self._desired.note_foreign(
            tuple(
                FileError(path=self._path, scope=MASTER_CANDIDATES, reason=reason[:REASON_CHARS_MAX])
                for reason in problems
            )
        )

    async def _follow(self, ganeti: GanetiConfig) -> None:
        if from_ganeti.follow(self._desired.config, ganeti, now=0.0) is self._desired.config:
            return

        def decide(config: ClusterConfig, now: float) -> ClusterConfig:
            return from_ganeti.follow(config, ganeti, now=now)

        await self._desired.change(
            decide, ChangeRequest(by="Ganeti", confirm=("removals", "wider-scope")), why="Ganeti changed its cluster"
        )

    async def _until_hint(self) -> None:
        """Return when a change of this very file, or anything, has been hinted at."""
        while True:
            hint = await self._hints.next()
            if hint is None or self._file in hint:
                return


def read(file: Path) -> GanetiConfig:
    """Return what Ganeti's config.data says; Refused says what is wrong with it."""
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise Refused(f"{file}: there is no config.data of a Ganeti cluster") from None
    except OSError as error:
        raise Refused(f"{file}: {os.strerror(error.errno or 0)}") from error
    try:
        return from_ganeti.read(raw)
    except Refused as error:
        raise Refused(f"{file}: {error}") from error
