"""One session on the bus per command: where the mesh is, who we are, and what to say when nobody answers."""

import asyncio
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from master.cli.asker import asker
from master.cli.lazy import chosen_directory
from protocol.bus import OperatorBus
from protocol.errors import NoAnswer, Refused, Unreachable

if TYPE_CHECKING:
    from master.settings import OperatorSettings

T = TypeVar("T")


@asynccontextmanager
async def open_bus(directory: Path | None) -> AsyncIterator[OperatorBus]:
    """Connect to the mesh in `directory`, or to the configured one; Refused or Unreachable say why it cannot be."""
    # Imported here: the bus over NATS is most of what this command costs to start.
    from protocol.identity import read_seed
    from protocol.nats_bus import Endpoint, NatsOperatorBus
    from protocol.permissions import access_inbox

    settings = settings_of(directory)
    bus = NatsOperatorBus(
        Endpoint(settings.server, settings.ca_file),
        read_seed(settings.seed_file),
        inbox_prefix=access_inbox(settings.name),
    )
    try:
        await bus.open()
        yield bus
    finally:
        await bus.close()


def settings_of(directory: Path | None) -> "OperatorSettings":
    """Return where the mesh in `directory`, or the configured one, is to be reached."""
    from master.settings import OPERATOR_SETTINGS, OPERATOR_SETTINGS_FILE, operator_settings

    path = directory / OPERATOR_SETTINGS_FILE if directory else OPERATOR_SETTINGS
    _check_there(path, directory)
    return operator_settings(path)


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a command reaches the world; a test hands in its own as click's `ctx.obj`."""

    connect: Callable[[Path | None], AbstractAsyncContextManager[OperatorBus]] = open_bus
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    asker: Callable[[], str] = asker


@dataclass(frozen=True, slots=True)
class Session:
    """An open bus, the time by which it is used, and who uses it."""

    bus: OperatorBus
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    asker: Callable[[], str] = asker


def with_bus(work: Callable[[Session], Awaitable[T]]) -> T:
    """Return what `work` returns, given a session on the bus that the command line names."""
    ctx = click.get_current_context()
    return asyncio.run(_session(ctx.find_object(Wiring) or Wiring(), chosen_directory(ctx), work))


def ask(verb: str, request: object, reply: type[T]) -> T:
    """Return the master's reply to one request."""

    async def once(session: Session) -> T:
        return await session.bus.ask(verb, request, reply)

    return with_bus(once)


async def _session(wiring: Wiring, directory: Path | None, work: Callable[[Session], Awaitable[T]]) -> T:
    try:
        async with wiring.connect(directory) as bus:
            return await work(Session(bus, wiring.clock, wiring.sleep, wiring.asker))
    except Unreachable as error:
        raise Unreachable(f"{error}; {_next_step(directory)}") from error
    except NoAnswer as error:
        raise NoAnswer(f"the master does not answer: {error}; its log: {_log_of_the_master(directory)}") from error


def _check_there(path: Path, directory: Path | None) -> None:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if directory:
            where = shlex.quote(str(directory))
            raise Refused(f"no mesh in {where}; start one with: gnt-mesh up --dir {where}") from None
        ways = "gnt-mesh cluster init NAME, or one on this machine alone with: gnt-mesh up --dir DIR"
        raise Refused(f"no {path} and no --dir; found a cluster with: {ways}") from None
    except OSError:
        pass  # who reads the file says what is wrong with it


def _next_step(directory: Path | None) -> str:
    if directory:
        return f"if the mesh is not up, start it with: gnt-mesh up --dir {shlex.quote(str(directory))}"
    return "is the mesh running? see: systemctl status 'gnt-mesh*'"


def _log_of_the_master(directory: Path | None) -> str:
    if directory and (log := directory / "log/master.log").exists():
        return shlex.quote(str(log))
    return "journalctl -u gnt-mesh-master"
