"""`gnt-mesh-agent`: settings, logs, signals, adapters. Composition only; also the one place that chooses NATS."""

import argparse
import asyncio
import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import structlog

from node_agent import logs
from node_agent.compose import job_keeper, local_disk, unsealing
from node_agent.core.agent import Agent, Timing
from node_agent.core.events import Memory
from node_agent.daemon import AgentDaemon
from node_agent.disk import Disk
from node_agent.job_keeper import Jobs
from node_agent.ledger import Ledger
from node_agent.os_service import OsService
from node_agent.privileged.client import Client
from node_agent.privileged.remote_disk import RemoteDisk
from node_agent.privileged.remote_jobs import RemoteJobs
from node_agent.privileged.word import SignedWord
from node_agent.renewing import Keeping
from node_agent.settings import AGENT_SETTINGS, AgentSettings, agent_settings
from protocol import durable, identity, settings_file
from protocol.access_messages import JoinReply, JoinRequest
from protocol.errors import Refused, Unavailable
from protocol.nats_bus.agent import NatsAgentBus
from protocol.nats_bus.clients import Endpoint
from protocol.orders import CONFIGURATION_ERROR, Orders
from protocol.readiness import Pulse

RECALL_PAUSE_S = 0.5
OWN_KEY = "agent.nk"
SERVICE, HELPER = "gnt-mesh-agent.service", "gnt-mesh-helper.service"


def main() -> None:
    """Run the agent until SIGTERM or SIGINT; SIGHUP has it read its settings again.

    `gnt-mesh-agent join TOKEN` makes this machine a node first. Exit 78 with one sentence if the settings are at fault.
    """
    if sys.argv[1:2] == ["join"]:
        return join_main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="gnt-mesh-agent", description=main.__doc__)
    parser.add_argument("--settings", type=Path, default=AGENT_SETTINGS, help="the settings file (%(default)s)")
    parser.add_argument("--log-format", choices=logs.FORMATS, default="auto")
    parser.add_argument("--helper", type=Path, metavar="SOCKET", help="where gnt-mesh-helper does what needs rights")
    parser.add_argument("--check", action="store_true", help="look at the settings, and do nothing else")
    arguments = parser.parse_args()
    logs.set_up(arguments.log_format)
    try:
        read = partial(read_settings, arguments.settings, arguments.helper)
        settings = read()
        return None if arguments.check else asyncio.run(serve(read, settings))
    except Refused as error:
        sys.stderr.write(f"gnt-mesh-agent: {error}\n")
        sys.exit(CONFIGURATION_ERROR)


def join_main(words: list[str]) -> None:
    """Make this machine a node of the cluster that has made TOKEN; where the package is, also start its agent."""
    from node_agent import join  # an agent that runs needs none of it
    from protocol import services
    from protocol.nats_bus.joiner import ask_to_join

    parser = argparse.ArgumentParser(prog="gnt-mesh-agent join", description=join_main.__doc__)
    parser.add_argument("token", metavar="TOKEN", help="what gnt-mesh node add has printed; - reads it from stdin")
    parser.add_argument("--settings", type=Path, default=AGENT_SETTINGS, help="the settings to be made (%(default)s)")
    parser.add_argument("--root", type=Path, default=join.ROOT_DEFAULT, help="where the node's files are (%(default)s)")
    parser.add_argument("--no-start", action="store_true", help="leave the agent to be started by hand")
    arguments = parser.parse_args(words)
    token = sys.stdin.readline() if arguments.token == "-" else arguments.token

    async def ask(server: str, ca_file: Path, seed: str, request: JoinRequest) -> JoinReply:
        return await ask_to_join(Endpoint(server, ca_file), seed, request)

    is_served = arguments.settings == AGENT_SETTINGS and arguments.root == join.ROOT_DEFAULT and services.are_here()
    try:
        joined = asyncio.run(join.join(token, arguments.settings, arguments.root, ask))
        sys.stdout.write(f"{joined.node} is in cluster {joined.cluster}; its agent's settings are {joined.settings}\n")
        if is_served and arguments.no_start:
            sys.stdout.write(f"Start it: systemctl enable --now {services.TARGET}\n")
        elif is_served:
            services.start(SERVICE, again=(HELPER, SERVICE))
            sys.stdout.write(f"Its agent runs, now and after every boot ({services.TARGET})\n")
    except (Refused, Unavailable) as error:
        sys.stderr.write(f"gnt-mesh-agent: {error}\n")
        sys.exit(1)
    except OSError as error:
        sys.stderr.write(f"gnt-mesh-agent: {error.filename or arguments.settings}: {error.strerror}\n")
        sys.exit(1)


def read_settings(path: Path, helper: Path | None) -> AgentSettings:
    """Return the settings, and have systemd's credentials take the place of keys; Refused says what is wrong."""
    settings = settings_file.with_credentials(agent_settings(path), os.environ.get("CREDENTIALS_DIRECTORY", ""))
    if helper:
        settings = replace(settings, helper_socket=helper)
    identity.read_seed(settings.seed_file)
    identity.read_public_keys(settings.master_keys_file)
    return settings


def with_own_key(settings: AgentSettings) -> AgentSettings:
    """Return settings with a copy of the key that the agent may replace: where it lies is not for it to write."""
    if not settings.is_split:
        return settings
    own = settings.state_dir / OWN_KEY
    durable.make_directory(settings.state_dir)
    durable.write_file(own, f"{identity.read_seed(settings.seed_file)}\n".encode())
    return replace(settings, seed_file=own)


async def serve(read: Callable[[], AgentSettings], settings: AgentSettings) -> None:
    """Run until a signal asks to stop; whenever one asks to reload, go on with the settings as they are then."""
    asyncio.get_running_loop().set_exception_handler(logs.fault)
    orders = Orders()
    await orders.follow(read, settings, partial(run, orders))


async def run(orders: Orders, settings: AgentSettings) -> None:
    """Take stock, connect, and run until asked to stop or to reload."""
    settings = with_own_key(settings)
    hands = _hands(settings)
    recalled = await _recall(hands.disk, orders)
    if recalled is None:
        return
    memory, swept = recalled
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
    os_service = OsService(hands.disk, unsealing(settings))
    daemon = AgentDaemon(settings, agent, hands.disk, os_service, hands.jobs, orders.telling, hands.keeping)
    bus = NatsAgentBus(
        Endpoint(settings.server, settings.ca_file),
        identity.read_seed(settings.seed_file),
        settings.node,
        daemon.hear,
        trusted=identity.read_public_keys(settings.master_keys_file),
        witness=hands.word.take,
    )
    working = (daemon.run(bus), bus.open(), orders.telling.feed_watchdog((daemon.pulse, *hands.pulses)))
    try:
        await orders.work(*working, drain=daemon.drain)
        structlog.get_logger().info("agent_stopped", node=settings.node)
    finally:
        await bus.close()


@dataclass(frozen=True, slots=True)
class _Hands:
    """Who does what needs rights: this process, or the one beside it."""

    disk: Disk
    jobs: Jobs
    word: SignedWord
    pulses: tuple[Pulse, ...] = ()
    keeping: Keeping | None = None


def _hands(settings: AgentSettings) -> _Hands:
    word = SignedWord()
    if settings.is_split:
        client = Client(settings.helper_socket, word)
        disk = RemoteDisk(client)
        return _Hands(disk, RemoteJobs(client, word), word, keeping=Keeping(disk.keep_seed, disk.keep_trust))
    keeper = job_keeper(settings, settings.state_dir / "jobs")
    return _Hands(local_disk(settings, Ledger(settings.state_dir), settings.state_dir), keeper, word, (keeper.pulse,))


async def _recall(disk: Disk, orders: Orders) -> tuple[Memory, int] | None:
    """Return what is remembered of this node, however long it takes to get it; None if orders come meanwhile."""
    while not orders.are_given:
        try:
            return await disk.recall()
        except Unavailable as error:
            orders.telling.say(str(error))
            structlog.get_logger().warning("not_recalled", reason=str(error))
        await asyncio.sleep(RECALL_PAUSE_S)
    return None


if __name__ == "__main__":
    main()
