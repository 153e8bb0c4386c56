"""Gives this node a new key, and others to believe, when the master asks for it.

The key is made here, and stays here, as the first one was. Both keys are valid until the node has come back with the
new one; killed anywhere, the agent goes on with a key that the broker knows. Whom it believes is replaced once it has
seen that the server can be believed that way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from node_agent import trust_files
from node_agent.settings import AgentSettings
from protocol import identity, subjects
from protocol.bus import AgentBus, Handler
from protocol.errors import Refused, Unavailable
from protocol.key_messages import KeyTold, MakeKey, TakeTrust, TrustTaken, UseKey

ANSWER_FIRST_S: Final = 0.05
"""The answer has to leave on the connection that is given up then."""
KEY_MAY_FOLLOW_S: Final = 10.0
"""With whom to believe there often comes a new key, and one new connection serves for both."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Keeping:
    """Who keeps what the agent finds at its next start, where the agent may not write that itself."""

    seed: Callable[[str], Awaitable[None]] | None = None
    trust: Callable[[bytes], Awaitable[None]] | None = None
    """Is given the master's word as it was signed."""


class Renewing:
    """Answers the master. `bus` is the one that connects with the key that the settings name."""

    def __init__(self, settings: AgentSettings, bus: AgentBus, keeping: Keeping) -> None:
        self._settings = settings
        self._seed_file = settings.seed_file
        self._pending = identity.next_of(settings.seed_file)
        self._bus = bus
        self._keeping = keeping
        self._switching: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._is_stale = False

    def handlers(self) -> Mapping[str, tuple[type, Handler]]:
        """Return what the bus is to serve."""
        return {
            "make-key": (MakeKey, self.make),
            "use-key": (UseKey, self.use),
            "tell-key": (KeyTold, self.tell),
            subjects.TAKE_TRUST: (TakeTrust, self.take_trust),
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
            if self._keeping.seed:
                await self._keeping.seed(identity.read_seed(self._pending))
            identity.take_next(self._seed_file)
            log.info("key_renewed", public_key=request.public_key)
            self._switching = asyncio.create_task(self._switch())
        return KeyTold(public_key=request.public_key)

    async def tell(self, request: KeyTold) -> KeyTold:
        return KeyTold(public_key=self._in_use())

    async def take_trust(self, request: TakeTrust) -> TrustTaken:
        """Believe these; what was there stays if the server cannot be believed that way."""
        trust = self._bus.open_trust(request.word)
        is_other = await asyncio.to_thread(self._settings.ca_file.read_text) != trust.authorities
        if is_other:
            await self._bus.check_authorities(trust.authorities)
        if self._keeping.trust:
            await self._keeping.trust(request.word)
        else:
            await asyncio.to_thread(trust_files.keep, self._settings, trust)
        self._bus.use_master_keys(frozenset(trust.master_keys))
        log.info("trust_taken", master_keys=list(trust.master_keys), authorities_changed=is_other)
        if is_other:
            self._is_stale = True
            self._refreshing = asyncio.create_task(self._refresh())
        return TrustTaken()

    def _in_use(self) -> str:
        return identity.read_public_key(self._seed_file)

    async def _refresh(self) -> None:
        """The connection was made with the former authority in mind, and would go on with that when it is lost."""
        await asyncio.sleep(KEY_MAY_FOLLOW_S)
        if self._is_stale:
            await self._switch()

    async def _switch(self) -> None:
        self._is_stale = False
        await asyncio.sleep(ANSWER_FIRST_S)
        await self._bus.use_seed(identity.read_seed(self._seed_file))
