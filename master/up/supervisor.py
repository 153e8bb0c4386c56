"""All children of one `up`: started by name, reaped, and stopped in the order in which they need each other."""

import asyncio
import signal
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Final, Self

from master.up.child import Child, Program
from master.up.layout import BROKER, MASTER

GRACE_S: Final = 5.0
"""How long a child may take to end before it is killed."""

LAST_TO_STOP: Final = (MASTER, BROKER)
"""Before them everything else, all at once."""


class Supervisor:
    """Used as an asynchronous context; when that is left, however it is left, no child runs any more."""

    def __init__(self, *, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._environment = environment
        self._say = say
        self._children: dict[str, Child] = {}
        self._grace_s = GRACE_S
        self._fault: asyncio.Future[None]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._fault = loop.create_future()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(*(name for name in self._children if name not in LAST_TO_STOP))
        for name in LAST_TO_STOP:
            await self.stop(name)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        self._fault.cancel()

    @property
    def names(self) -> Iterable[str]:
        return self._children.keys()

    def start(self, program: Program) -> Child:
        """Start a program and keep it running until it is stopped."""
        assert program.name not in self._children
        child = Child(program, environment=self._environment, say=self._say)
        child.keeping.add_done_callback(self._note_fault)
        self._children[program.name] = child
        return child

    async def stop(self, *names: str) -> None:
        """Stop some children, all at once; when this returns they have ended."""
        children = [self._children[name] for name in names if name in self._children]
        await asyncio.gather(*(child.stop(self._grace_s) for child in children))
        for name in names:
            self._children.pop(name, None)

    def kill(self) -> None:
        """Have no more patience: kill every child, now and when it is stopped later."""
        self._grace_s = 0.0
        for child in self._children.values():
            child.kill()

    async def until_fault(self) -> None:
        """Raise what went wrong in the keeping of a child, if ever something does: a mistake of ours."""
        await asyncio.shield(self._fault)

    def _reap(self) -> None:
        for child in self._children.values():
            child.reap()

    def _note_fault(self, keeping: "asyncio.Task[None]") -> None:
        error = None if keeping.cancelled() else keeping.exception()
        if error and not self._fault.done():
            self._fault.set_exception(error)
