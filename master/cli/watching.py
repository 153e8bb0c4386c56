"""The fleet live: look at every bell, and now and then without one, and show what is new."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Final, Protocol

from rich.live import Live
from rich.text import Text

from master.cli.connect import Session
from master.cli.differences import differ, differences, troubles
from master.cli.failures import complain
from master.cli.formats import one_line
from master.cli.output import emit_json, emit_lines, terminal_console
from master.cli.shapes import status_shape
from master.cli.status_view import status_view, summary
from protocol.errors import Unavailable
from protocol.operator_messages import ClusterStatus
from protocol.paging import ask_status

LOOK_INTERVAL_S: Final = 1.0
"""Look at least this often: a bell may be lost, and silence rings none."""
LOOK_PAUSE_S: Final = 0.1
"""Look at most this often, however many bells ring."""


class Display(Protocol):
    """Shows the fleet; `show` returns whether there was anything new to show."""

    def show(self, before: ClusterStatus | None, after: ClusterStatus) -> bool: ...

    def trouble(self, reason: str) -> None:
        """Say that the master does not answer now."""


async def watch_fleet(
    session: Session, display: Display, *, updates_max: int | None, interval_s: float = LOOK_INTERVAL_S
) -> None:
    """Show the fleet until `updates_max` updates were shown, or for ever. An outage is shown once and waited out."""
    before: ClusterStatus | None = None
    updates = 0
    answering = True
    async with aclosing(_bells_or_time(session.bus.bells(), interval_s)) as looks:
        async for _ in looks:
            try:
                status = await ask_status(session.bus)
            except Unavailable as error:
                if before is None:
                    raise
                if answering:
                    display.trouble(str(error))
                answering = False
            else:
                answering = True
                updates += display.show(before, status)
                before = status
            if updates == updates_max:
                return
            await session.sleep(LOOK_PAUSE_S)


@contextmanager
def display_for(*, as_json: bool) -> Iterator[Display]:
    """Return what fits where stdout goes: a table that is redrawn on a terminal, one line per change elsewhere."""
    console = None if as_json else terminal_console()
    if console is None:
        yield JsonDisplay() if as_json else LineDisplay()
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        yield TableDisplay(live)


class LineDisplay:
    """One line per change."""

    def show(self, before: ClusterStatus | None, after: ClusterStatus) -> bool:
        lines = (summary(after), *troubles(after)) if before is None else tuple(differences(before, after))
        emit_lines(lines)
        return bool(lines)

    def trouble(self, reason: str) -> None:
        complain(f"the master does not answer: {reason}; still trying")


class JsonDisplay:
    """One compact status object per line, at the start and whenever something changed."""

    def show(self, before: ClusterStatus | None, after: ClusterStatus) -> bool:
        is_new = before is None or differ(before, after)
        if is_new:
            emit_json(status_shape(after), compact=True)
        return is_new

    def trouble(self, reason: str) -> None:
        complain(f"the master does not answer: {reason}; still trying")


class TableDisplay:
    """A table on a terminal. It is redrawn also when nothing changed: how long a node has been silent did."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, before: ClusterStatus | None, after: ClusterStatus) -> bool:
        rows = max(self._live.console.height - len(after.scopes) - 12, 5)
        self._live.update(status_view(after, nodes_max=rows), refresh=True)
        return before is None or differ(before, after)

    def trouble(self, reason: str) -> None:
        text = Text(one_line(f"the master does not answer: {reason}; still trying"), style="bold red")
        self._live.update(text, refresh=True)


async def _bells_or_time(bells: AsyncIterator[None], interval_s: float) -> AsyncGenerator[None, None]:
    """Yield at every bell, and at the latest after `interval_s` without one; end when the bells end."""
    bell: asyncio.Task[bool] | None = None
    try:
        while True:
            bell = bell or asyncio.create_task(_rings(bells))
            done, _ = await asyncio.wait({bell}, timeout=interval_s)
            if done:
                if not bell.result():
                    return
                bell = None
            yield
    finally:
        if bell is not None:
            bell.cancel()


async def _rings(bells: AsyncIterator[None]) -> bool:
    async for _ in bells:
        return True
    return False
