"""`gnt-mesh-helper`: the privileged side of a node, started by its socket. Settings, logs, signals; composition only.

It reads the settings file of the agent by itself: what is allowed on this node is what the administrator wrote there,
not what the agent says.
"""

import argparse
import asyncio
import os
import pwd
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from node_agent import logs
from node_agent.compose import job_keeper, local_disk
from node_agent.job_keeper import Starter
from node_agent.ledger import Ledger
from node_agent.privileged.authority import Authority
from node_agent.privileged.job_line import JobLine
from node_agent.privileged.operations import Operations
from node_agent.privileged.server import Server, listen
from node_agent.settings import AGENT_SETTINGS, AgentSettings, agent_settings
from protocol import durable, identity
from protocol.errors import Refused
from protocol.orders import CONFIGURATION_ERROR, Orders
from protocol.sealing.keyring import Keyring

FIRST_FD: Final = 3
"""systemd's first socket."""


def main() -> None:
    """Do for the agent of this node what needs rights, until SIGTERM. Exit 78 with one sentence if it cannot start."""
    parser = argparse.ArgumentParser(prog="gnt-mesh-helper", description=main.__doc__)
    parser.add_argument("--settings", type=Path, default=AGENT_SETTINGS, help="the agent's settings (%(default)s)")
    parser.add_argument("--units", action="store_true", help="have systemd run OS jobs, as gnt-mesh-os@JOB.service")
    parser.add_argument("--log-format", choices=logs.FORMATS, default="auto")
    parser.add_argument("--check", action="store_true", help="look at the settings, and do nothing else")
    arguments = parser.parse_args()
    logs.set_up(arguments.log_format)
    try:
        settings = _read_settings(arguments.settings)
        if not arguments.check:
            asyncio.run(serve(partial(_read_settings, arguments.settings), settings, has_units=arguments.units))
    except Refused as error:
        sys.stderr.write(f"gnt-mesh-helper: {error}\n")
        sys.exit(CONFIGURATION_ERROR)


async def serve(read: Callable[[], AgentSettings], settings: AgentSettings, *, has_units: bool) -> None:
    """Answer until a signal asks to stop; whenever one asks to reload, go on with the settings as they are then."""
    asyncio.get_running_loop().set_exception_handler(logs.fault)
    orders = Orders()
    listening = _listening(settings)
    await orders.follow(read, settings, partial(run, orders, listening, has_units=has_units))


async def run(orders: Orders, listening: socket.socket, settings: AgentSettings, *, has_units: bool) -> None:
    """Take stock, and answer until asked to stop or to reload. Jobs go on."""
    state_dir = settings.helper_state_dir
    durable.make_directory(state_dir)
    ledger = Ledger(state_dir)
    disk = local_disk(settings, ledger, state_dir)
    memory, swept = await disk.recall()

    def keyring() -> Keyring:
        return Keyring(identity.read_seed(settings.seed_file), identity.read_public_keys(settings.master_keys_file))

    authority = Authority(settings.node, memory, keyring)
    jobs = job_keeper(settings, state_dir / "jobs", _unit_runners() if has_units else None)
    job_line = JobLine(settings.node, lambda: identity.read_public_keys(settings.master_keys_file), state_dir)
    operations = Operations(disk, ledger, authority, jobs, job_line, swept=swept, settings=settings)
    structlog.get_logger().info("helper_started", node=settings.node, managed=len(memory.known), swept=swept)
    server = Server(operations.answer, (_uid_of(settings.agent_user), os.geteuid()))
    telling = orders.telling
    telling.ready()
    telling.say(f"answering the agent of {settings.node}")
    watchdog = telling.feed_watchdog((jobs.pulse,))
    await orders.work(server.run(listening.dup()), jobs.run(job_line), disk.run(), watchdog)
    structlog.get_logger().info("helper_stopped", node=settings.node)


def _unit_runners() -> Starter:
    from node_agent.systemd_bus import Systemd  # nobody else needs D-Bus
    from node_agent.unit_runners import UnitRunners

    return UnitRunners(Systemd())


def _read_settings(path: Path) -> AgentSettings:
    """Return the settings; Refused says what is wrong, also with what they name."""
    settings = agent_settings(path)
    _uid_of(settings.agent_user)
    identity.read_seed(settings.seed_file)
    identity.read_public_keys(settings.master_keys_file)
    return settings


def _listening(settings: AgentSettings) -> socket.socket:
    """Return the socket that systemd has made, or one of our own where the settings say."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=FIRST_FD)
    if not settings.is_split:
        raise Refused("helper_socket is not in the settings: this node's agent does all of it itself")
    try:
        return listen(str(settings.helper_socket), uid=_uid_of(settings.agent_user))
    except OSError as error:
        raise Refused(f"{settings.helper_socket}: {error.strerror}") from error


def _uid_of(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise Refused(f"there is no user {user}; agent_user in the settings says who runs the agent") from error


if __name__ == "__main__":
    main()
