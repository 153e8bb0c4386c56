"""Many agents in one process: real loops, real connections, real files below their own roots.

What they share is one interpreter and one pool of threads, so a fleet of as many machines is faster than this.
`python -m tests.benchmarks.swarm SETTINGS...`
"""

import asyncio
import importlib.metadata
import secrets
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio.to_thread

from node_agent import logs
from node_agent.__main__ import job_keeper, node_files, os_service
from node_agent.core.agent import Agent, Timing
from node_agent.daemon import AgentDaemon
from node_agent.ledger import Ledger
from node_agent.settings import AgentSettings, agent_settings
from protocol import identity
from protocol.nats_bus.agent import NatsAgentBus
from protocol.nats_bus.clients import Endpoint

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
    running = asyncio.gather(*(_agent(settings) for settings in fleet))
    loop.add_signal_handler(signal.SIGTERM, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        return


async def _agent(settings: AgentSettings) -> None:
    """As `node_agent.__main__.serve`, without signals."""
    ledger = Ledger(settings.state_dir)
    memory = ledger.open()
    files = node_files(settings)
    files.sweep(memory.known)
    timing = Timing(
        beat_interval_s=settings.beat_interval_s,
        deaf_after_s=settings.deaf_after_s,
        retry_first_s=settings.retry_first_s,
        retry_longest_s=settings.retry_longest_s,
    )
    version = importlib.metadata.version("gnt-mesh")
    agent = Agent(settings.node, boot=secrets.token_hex(8), version=version, memory=memory, timing=timing)
    daemon = AgentDaemon(settings, agent, files, ledger, os_service(settings), job_keeper(settings))
    bus = NatsAgentBus(
        Endpoint(settings.server, settings.ca_file),
        identity.read_seed(settings.seed_file),
        settings.node,
        daemon.hear,
        trusted=identity.read_public_keys(settings.master_keys_file),
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(daemon.run(bus))
            tasks.create_task(bus.open())
    finally:
        await bus.close()


if __name__ == "__main__":
    main()
