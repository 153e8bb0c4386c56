"""Gives this node a new key when the master asks for it. It is made here, and stays here, as the first one was.

Both keys are valid until the node has come back with the new one; killed anywhere, the agent goes on with a key that
the broker knows.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from protocol import identity
from protocol.bus import AgentBus, Handler
from protocol.errors import Refused, Unavailable
from protocol.key_messages import KeyTold, MakeKey, UseKey

ANSWER_FIRST_S: Final = 0.05
"""The answer has to leave on the connection that is given up then."""

log = structlog.get_logger()


class Renewing:
    """Answers the master. `bus` is the one that connects with the key in `seed_file`.

    `keep` is asked first to keep the new key where the agent finds it at its next start, if that is another place.
    """

    def __init__(self, seed_file: Path, bus: AgentBus, keep: Callable[[str], Awaitable[None]] | None = None) -> None:
        self._seed_file = seed_file
        self._pending = identity.next_of(seed_file)
        self._bus = bus
        self._keep = keep
        self._switching: asyncio.Task[None] | None = None

    def handlers(self) -> Mapping[str, tuple[type, Handler]]:
        """Return what the bus is to serve."""
        return {
            "make-key": (MakeKey, self.make),
            "use-key": (UseKey, self.use),
            "tell-key": (KeyTold, self.tell),
        }

    async def make(self, request: MakeKey) -> KeyTold:
        """Return the public key of the one to come; asked again it is the same."""
        try:
            return KeyTold(public_key=await asyncio.to_thread(identity.ensure_seed, self._pending))
        except OSError as error:
            raise Unavailable(f"{self._pending}: {error.strerror}") from error

    async def use(self, request: UseKey) -> KeyTold:
        """Connect with the new key from now on."""
        if self._in_use() != request.public_key:
            if not self._pending.exists() or identity.read_public_key(self._pending) != request.public_key:
                raise Refused("this is not the key that I have made")
            if self._keep:
                await self._keep(identity.read_seed(self._pending))
            identity.take_next(self._seed_file)
            log.info("key_renewed", public_key=request.public_key)
            self._switching = asyncio.create_task(self._switch())
        return KeyTold(public_key=request.public_key)

    async def tell(self, request: KeyTold) -> KeyTold:
        return KeyTold(public_key=self._in_use())

    def _in_use(self) -> str:
        return identity.read_public_key(self._seed_file)

    async def _switch(self) -> None:
        await asyncio.sleep(ANSWER_FIRST_S)
        await self._bus.use_seed(identity.read_seed(self._seed_file))
