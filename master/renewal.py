"""Renews the nodes' keys under traffic, in four steps for all of them at once.

Each node makes a key; the broker lets both in; each node comes back with the new one; the broker forgets the old ones.
A node that cannot be reached, or does not come back, keeps both until the next time. Interrupted anywhere, it is begun
again and finds out first what was finished.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from master.core import key_operations
from master.desired import Desired
from protocol.bus import MasterBus
from protocol.change_messages import ChangeRequest
from protocol.errors import DecodeError, NoAnswer, Unavailable
from protocol.key_messages import KeyTold, MakeKey, UseKey
from protocol.names import NodeName

ANSWERS_S: Final = (1.5, 3.0, 4.5)
"""A node that changes its connection may lose a question, and may be asked each of these again."""
COME_BACK_S: Final = 10.0
ASK_AGAIN_S: Final = 0.1

log = structlog.get_logger()


class Renewal:
    """One at a time."""

    def __init__(self, desired: Desired, bus: Callable[[], MasterBus]) -> None:
        self._desired = desired
        self._bus = bus
        self._lock = asyncio.Lock()

    async def renew(
        self, names: Iterable[NodeName], request: ChangeRequest
    ) -> tuple[list[NodeName], dict[NodeName, str]]:
        """Return the nodes that have a new key, and those that have not, with the reason."""
        async with self._lock:
            failed: dict[NodeName, str] = {}
            made = await self._each(names, self._make, failed)
            await self._desired.change(
                lambda config, now: key_operations.add_keys(config, made, now=now),
                request,
                why="new keys of nodes",
            )
            if not self._desired.publisher.is_enforced:
                raise Unavailable("the broker could not be told of the new keys yet; the nodes keep theirs, ask again")
            used = await self._each(made, lambda node: self._use(node, made[node]), failed)
            await self._settle(used, request)
            log.info("keys_renewed", nodes=len(used), failed=len(failed))
            return list(used), failed

    async def finish_former(self, nodes: Iterable[NodeName], request: ChangeRequest) -> None:
        """A node that has come back with its new key after we had given up must not lose it."""
        waiting = [node for node in nodes if self._desired.config.node(node).next_public_key]
        if waiting:
            await self._settle(await self._each(waiting, self._tell, {}), request)

    async def _settle(self, used: dict[NodeName, str], request: ChangeRequest) -> None:
        await self._desired.change(
            lambda config, now: key_operations.settle_keys(config, used, now=now),
            request,
            why="old keys of nodes are void",
        )

    async def _each(
        self, nodes: Iterable[NodeName], ask: Callable[[NodeName], Awaitable[str]], failed: dict[NodeName, str]
    ) -> dict[NodeName, str]:
        """Ask all at once; return each one's key, and note in `failed` who gave none, and why."""
        asked = list(nodes)
        answers = await asyncio.gather(*(ask(node) for node in asked), return_exceptions=True)
        keys: dict[NodeName, str] = {}
        for node, answer in zip(asked, answers, strict=True):
            match answer:
                case Unavailable() | DecodeError():
                    failed[node] = str(answer)
                case BaseException():
                    raise answer
                case _:
                    keys[node] = answer
        return keys

    async def _make(self, node: NodeName) -> str:
        return await self._ask(node, "make-key", MakeKey())

    async def _tell(self, node: NodeName) -> str:
        return await self._ask(node, "tell-key", KeyTold())

    async def _ask(self, node: NodeName, verb: str, question: object) -> str:
        for timeout_s in ANSWERS_S[:-1]:
            try:
                return (await self._bus().ask_node(node, verb, question, KeyTold, timeout_s=timeout_s)).public_key
            except NoAnswer:
                continue
        return (await self._bus().ask_node(node, verb, question, KeyTold, timeout_s=ANSWERS_S[-1])).public_key

    async def _use(self, node: NodeName, key: str) -> str:
        """Return when the broker has seen the node come back with its new key."""
        await self._ask(node, "use-key", UseKey(public_key=key))
        deadline_s = time.monotonic() + COME_BACK_S
        while not await self._bus().is_connected(key):
            if time.monotonic() > deadline_s:
                raise Unavailable(f"has not come back with its new key within {COME_BACK_S:g} s")
            await asyncio.sleep(ASK_AGAIN_S)
        return key
