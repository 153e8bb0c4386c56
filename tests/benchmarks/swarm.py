"""Many agents in one process: real loops, real connections, real files below their own roots.

What they share is one interpreter and one pool of threads, so a fleet of as many machines is faster than this.
`python -m tests.benchmarks.swarm SETTINGS...`
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio.to_thread

from node_agent import logs
from node_agent.__main__ import run
from node_agent.settings import AgentSettings, agent_settings
from protocol.orders import Orders

THREADS_MAX = 32
"""For all agents together: as many of their disk operations are under way at once."""
WATCHERS_MAX = 10_000
"""watchfiles keeps one thread per agent, of a pool that has 40 unless told otherwise."""


def main() -> None:
    logs.set_up("json")
    asyncio.run(_serve([agent_settings(Path(name)) for name in sys.argv[1:]]))


async def _serve(fleet: list[AgentSettings]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS_MAX))
    anyio.to_thread.current_default_thread_limiter().total_tokens = WATCHERS_MAX
    orders = Orders()
    await asyncio.gather(*(run(orders, settings) for settings in fleet))


if __name__ == "__main__":
    main()
