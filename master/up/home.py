"""The nodes that live in this directory: their roots, and their agents as children of the supervisor."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from master.core.cluster import natural_key
from master.up import bootstrap
from master.up.child import Child
from master.up.programs import Mesh, agent_program
from master.up.supervisor import Supervisor
from protocol.errors import Refused

SLOW_AFTER_S: Final = 15.0


class LocalHome:
    """Implements membership's `Home`."""

    def __init__(self, mesh: Mesh, supervisor: Supervisor) -> None:
        self._mesh = mesh
        self._supervisor = supervisor
        self._keys: dict[str, str] = {}
        self._agents: dict[str, Child] = {}

    def running(self) -> Mapping[str, str]:
        return dict(self._keys)

    def key_of(self, node: str) -> str:
        return bootstrap.node_key(self._mesh.layout, node)

    async def make(self, node: str, *, anew: bool = False) -> str:
        if anew:
            self._mesh.layout.agent_seed(node).unlink(missing_ok=True)
        return await asyncio.to_thread(bootstrap.make_node, self._mesh.layout, node, self._mesh.marker.url)

    def start(self, node: str, key: str) -> None:
        self._keys[node] = key
        self._agents[node] = self._supervisor.start(agent_program(self._mesh, node))

    def adopt(self, node: str, key: str) -> None:
        self._keys[node] = key

    async def stop(self, node: str) -> None:
        await self._supervisor.stop(node)
        del self._keys[node], self._agents[node]

    async def until_ready(self, say: Callable[[str], None]) -> tuple[str, ...]:
        """Return when every agent is ready or was given up, with the names of the ready ones."""
        waiting = {asyncio.create_task(child.until_ready()): node for node, child in self._agents.items()}
        try:
            _, slow = await asyncio.wait(waiting, timeout=SLOW_AFTER_S) if waiting else (set(), set())
            if slow:
                say(self._still_waiting([waiting[task] for task in slow]))
            results = await asyncio.gather(*waiting, return_exceptions=True)
        finally:
            for task in waiting:
                task.cancel()
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Refused):
                raise result
        return tuple(node for node, result in zip(waiting.values(), results, strict=True) if result is None)

    def _still_waiting(self, nodes: list[str]) -> str:
        first = min(nodes, key=natural_key)
        others = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        return f"still waiting for the agent of {first}{others}; see {self._mesh.layout.log(first)}"
