"""`gnt-mesh-agent`: settings, logs, signals, adapters. Composition only; also the one place that chooses NATS."""

import argparse
import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import structlog

from node_agent import logs
from node_agent.core.agent import Agent, Timing
from node_agent.core.job_plan import Limits
from node_agent.daemon import AgentDaemon
from node_agent.files import NodeFiles
from node_agent.job_keeper import JobKeeper
from node_agent.job_planner import JobPlanner
from node_agent.journal import Journal
from node_agent.ledger import Ledger
from node_agent.os_search import OsSearch
from node_agent.os_service import OsService
from node_agent.runners import Runners
from node_agent.settings import AGENT_SETTINGS, NO_TETHER, PROTECTED_PATHS, AgentSettings, agent_settings
from protocol import durable, identity, sealing, settings_file
from protocol.access_messages import JoinReply, JoinRequest
from protocol.errors import Refused, Unavailable
from protocol.nats_bus.agent import NatsAgentBus
from protocol.nats_bus.clients import Endpoint
from protocol.os_messages import Confidential
from protocol.readiness import Readiness

CONFIGURATION_ERROR = 78
"""sysexits' EX_CONFIG: to start again does not help."""

OLD_JOBS_MAX = 20
"""How many jobs that the master has taken note of keep their output on the node."""


def main() -> None:
    """Run the agent until SIGTERM or SIGINT; SIGHUP has it read its settings again.

    `gnt-mesh-agent join TOKEN` makes this machine a node first. Exit 78 with one sentence if the settings are at fault.
    """
    if sys.argv[1:2] == ["join"]:
        return join_main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="gnt-mesh-agent", description=main.__doc__)
    parser.add_argument("--settings", type=Path, default=AGENT_SETTINGS, help="the settings file (%(default)s)")
    parser.add_argument("--log-format", choices=logs.FORMATS, default="auto")
    parser.add_argument("--check", action="store_true", help="look at the settings, and do nothing else")
    arguments = parser.parse_args()
    logs.set_up(arguments.log_format)
    try:
        settings = read_settings(arguments.settings)
        return None if arguments.check else asyncio.run(serve(arguments.settings, settings))
    except Refused as error:
        sys.stderr.write(f"gnt-mesh-agent: {error}\n")
        sys.exit(CONFIGURATION_ERROR)


def join_main(words: list[str]) -> None:
    """Make this machine a node of the cluster that has made TOKEN: once, before the agent is started."""
    from node_agent import join  # an agent that runs needs none of it
    from protocol.nats_bus.joiner import ask_to_join

    parser = argparse.ArgumentParser(prog="gnt-mesh-agent join", description=join_main.__doc__)
    parser.add_argument("token", metavar="TOKEN", help="what gnt-mesh node add has printed; - reads it from stdin")
    parser.add_argument("--settings", type=Path, default=AGENT_SETTINGS, help="the settings to be made (%(default)s)")
    parser.add_argument("--root", type=Path, default=join.ROOT_DEFAULT, help="where the node's files are (%(default)s)")
    arguments = parser.parse_args(words)
    token = sys.stdin.readline() if arguments.token == "-" else arguments.token

    async def ask(server: str, ca_file: Path, seed: str, request: JoinRequest) -> JoinReply:
        return await ask_to_join(Endpoint(server, ca_file), seed, request)

    try:
        joined = asyncio.run(join.join(token, arguments.settings, arguments.root, ask))
    except (Refused, Unavailable) as error:
        sys.stderr.write(f"gnt-mesh-agent: {error}\n")
        sys.exit(1)
    except OSError as error:
        sys.stderr.write(f"gnt-mesh-agent: {error.filename or arguments.settings}: {error.strerror}\n")
        sys.exit(1)
    sys.stdout.write(f"{joined.node} is in cluster {joined.cluster}; its agent's settings are {joined.settings}\n")


def read_settings(path: Path) -> AgentSettings:
    """Return the settings, and have systemd's credentials take the place of keys; Refused says what is wrong."""
    settings = settings_file.with_credentials(agent_settings(path), os.environ.get("CREDENTIALS_DIRECTORY", ""))
    identity.read_seed(settings.seed_file)
    identity.read_public_keys(settings.master_keys_file)
    return settings


async def serve(path: Path, settings: AgentSettings) -> None:
    """Run until a signal asks to stop; whenever one asks to reload, go on with the settings as they are then.

    Settings that are at fault are logged, and the former ones stay in force.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.fault)
    stop, reload = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    telling = Readiness()
    while True:
        await run(settings, telling, stop, reload)
        if stop.is_set():
            return
        reload.clear()
        try:
            settings = read_settings(path)
            structlog.get_logger().info("settings_read", path=str(path))
        except Refused as error:
            structlog.get_logger().error("settings_refused", reason=str(error))


async def run(settings: AgentSettings, telling: Readiness, stop: asyncio.Event, reload: asyncio.Event) -> None:
    """Take stock, connect, and run until asked to stop or to reload."""
    ledger = Ledger(settings.state_dir)
    memory = ledger.open()
    files = node_files(settings)
    swept = files.sweep(memory.known)
    structlog.get_logger().info("agent_started", node=settings.node, managed=len(memory.known), swept=swept)
    agent = Agent(
        settings.node,
        boot=secrets.token_hex(8),
        version=version("gnt-mesh"),
        memory=memory,
        timing=Timing(
            beat_interval_s=settings.beat_interval_s,
            deaf_after_s=settings.deaf_after_s,
            retry_first_s=settings.retry_first_s,
            retry_longest_s=settings.retry_longest_s,
        ),
    )
    jobs = job_keeper(settings)
    daemon = AgentDaemon(settings, agent, files, ledger, os_service(settings), jobs, telling)
    bus = NatsAgentBus(
        Endpoint(settings.server, settings.ca_file),
        identity.read_seed(settings.seed_file),
        settings.node,
        daemon.hear,
        trusted=identity.read_public_keys(settings.master_keys_file),
    )
    working = (daemon.run(bus), bus.open(), telling.feed_watchdog((daemon.pulse, jobs.pulse)))
    tasks = [asyncio.create_task(each) for each in (*working, stop.wait(), reload.wait())]
    try:
        await _until_told(tasks, stop, reload)
        telling.reloading() if reload.is_set() else telling.stopping()
        await daemon.drain()
        structlog.get_logger().info("agent_stopped", node=settings.node)
    finally:
        if not reload.is_set():
            telling.stopping()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await bus.close()


async def _until_told(tasks: Iterable["asyncio.Task[object]"], *told: asyncio.Event) -> None:
    """Return when one of the events is set; raise what one of the tasks ends with before."""
    waiting = set(tasks)
    while not any(event.is_set() for event in told):
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


def node_files(settings: AgentSettings) -> NodeFiles:
    """Return the node's files as the settings allow them."""
    backups = settings.state_dir / "backups"
    durable.make_directory(backups)
    return NodeFiles(settings.root, allowed=settings.allowed_paths, protected=PROTECTED_PATHS, backups=backups)


def os_service(settings: AgentSettings) -> OsService:
    """Return the node's OS definitions, with the key that opens what was sealed for it."""
    return OsService(os_search(settings), unsealing(settings))


def job_keeper(settings: AgentSettings) -> JobKeeper:
    """Return what keeps the node's jobs going."""
    directory = settings.state_dir / "jobs"
    tether = str(settings.tether.absolute()) if settings.tether != NO_TETHER else ""
    limits = Limits(transfer_paths=settings.transfer_paths, tether=tether)
    planner = JobPlanner(os_search(settings), unsealing(settings), limits, directory)
    return JobKeeper(
        Journal(directory, old_max=OLD_JOBS_MAX),
        Runners(keeps_spare=settings.spare_runner),
        planner.plan,
        limit=settings.jobs_at_once,
        report_again_s=settings.beat_interval_s,
        retry_first_s=settings.retry_first_s,
        retry_longest_s=settings.retry_longest_s,
    )


def os_search(settings: AgentSettings) -> OsSearch:
    return OsSearch(settings.node, settings.root, settings.os_search_path)


def unsealing(settings: AgentSettings) -> Callable[[bytes], Confidential]:
    """Return what opens what was sealed for this node, whose key may have been renewed since the agent started."""
    return lambda sealed: sealing.unseal(sealed, identity.read_seed(settings.seed_file))


if __name__ == "__main__":
    main()
