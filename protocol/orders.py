"""How a daemon runs: until a signal asks it to stop; when one asks to reload, anew, with its settings of then."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import structlog

from protocol.errors import Refused
from protocol.readiness import Readiness

CONFIGURATION_ERROR: Final = 78
"""sysexits' EX_CONFIG: to start again does not help."""

Settings = TypeVar("Settings")
Part = Coroutine[Any, Any, object]


class Orders:
    """What signals want of this daemon, and what it says of itself meanwhile. Made in the running event loop."""

    def __init__(self) -> None:
        self.telling = Readiness()
        self._stop, self._reload = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)

    @property
    def are_given(self) -> bool:
        """True once the daemon is to stop or to reload."""
        return self._stop.is_set() or self._reload.is_set()

    def reload(self) -> None:
        """Have the daemon begin anew, as a SIGHUP does."""
        self._reload.set()

    async def follow(
        self, read: Callable[[], Settings], settings: Settings, run: Callable[[Settings], Awaitable[None]]
    ) -> None:
        """Call `run` until it is to stop, each time with the settings as they are then.

        Settings that are at fault are logged, and the former ones stay in force.
        """
        while True:
            await run(settings)
            if self._stop.is_set():
                return
            self._reload.clear()
            try:
                settings = read()
                structlog.get_logger().info("settings_read")
            except Refused as error:
                structlog.get_logger().error("settings_refused", reason=str(error))

    async def work(self, *parts: Part, drain: Callable[[], Awaitable[None]] | None = None) -> None:
        """Run the parts of a daemon until orders are given, then `drain`. What a part ends with before is raised."""
        tasks = [asyncio.create_task(each) for each in (*parts, self._stop.wait(), self._reload.wait())]
        try:
            await self._until_given(tasks)
            if self._reload.is_set():
                self.telling.reloading()
            else:
                self.telling.stopping()
            if drain:
                await drain()
        finally:
            if not self._reload.is_set():
                self.telling.stopping()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_given(self, tasks: list["asyncio.Task[Any]"]) -> None:
        waiting = set(tasks)
        while not self.are_given:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
