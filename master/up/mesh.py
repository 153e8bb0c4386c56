"""One mesh from nothing to ready, and to its end: nats-server, then the master, then the agents; stopped in reverse."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from master.up import bootstrap, broker, claim
from master.up.bootstrap import Wanted
from master.up.handover import Handover
from master.up.home import LocalHome
from master.up.layout import BROKER, Layout, Marker
from master.up.membership import Membership
from master.up.programs import Mesh, broker_program, master_program
from master.up.supervisor import Supervisor
from protocol import identity, readiness
from protocol.errors import Unavailable
from protocol.names import NodeName
from protocol.nats_bus import Endpoint, NatsOperatorBus

ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

UNCLEAN_PATIENCE_S: Final = 3.0
"""How long the kernel may take to end what an `up` that was killed has left."""

CONNECT_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a person wants to know of a mesh that is ready."""

    directory: Path
    cluster_name: str
    master: NodeName
    url: str
    nodes: int
    ready: tuple[str, ...]
    """The nodes whose agents are."""
    nats_context: Path


class Terminal(Protocol):
    """Who tells the person."""

    def say(self, sentence: str) -> None:
        """Tell what happened, in one line."""

    def ready(self, summary: Summary) -> None:
        """Tell that everything runs, and what can be done now."""


def up(directory: Path, wanted: Wanted, *, log_format: str, environment: Mapping[str, str], terminal: Terminal) -> None:
    """Run the mesh in `directory` until a signal ends it; Refused says why it cannot be."""
    layout = Layout(directory.resolve())
    try:
        found = claim.look(layout)
        server = broker.find_server(Path(sys.executable).parent, environment.get("PATH", os.defpath))
        fresh = bootstrap.first_marker(wanted) if found is None else found
        with claim.claimed(layout):
            marker = claim.look(layout) or fresh
            config = bootstrap.read_config(layout, marker)
            bootstrap.check_fits(layout, marker, config, wanted)
            _check_port(layout, marker)
            layout.forget_pids()
            config = bootstrap.complete(layout, marker, server.version)
            to_add = bootstrap.missing_nodes(marker, config, wanted)
            mesh = Mesh(
                layout=layout,
                marker=marker,
                config=config,
                server=server,
                log_format=log_format,
                environment=environment,
            )
            asyncio.run(_run(mesh, to_add, terminal))
            terminal.say(f"All of it has ended; go on with: gnt-mesh up --dir {shlex.quote(str(layout.directory))}")
    except OSError as error:
        raise claim.unusable(layout, error) from error


def _check_port(layout: Layout, marker: Marker) -> None:
    """A pid file says that an `up` was killed here: then the port may be free in a moment."""
    unclean = layout.pid_file(BROKER).exists()
    next_step = f"end what listens there, or choose another port in {layout.marker}"
    broker.check_port(marker.port, patience_s=UNCLEAN_PATIENCE_S if unclean else 0.0, next_step=next_step)


async def _run(mesh: Mesh, to_add: tuple[NodeName, ...], terminal: Terminal) -> None:
    """Bring everything up and keep it until a signal comes; no child is left when this returns or raises."""
    async with Supervisor(environment=mesh.environment, say=terminal.say) as supervisor:
        stop = _on_signals(supervisor.kill)
        tasks = {
            asyncio.create_task(stop.wait()),
            asyncio.create_task(supervisor.until_fault()),
            asyncio.create_task(_bring_up(mesh, to_add, supervisor, terminal)),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            readiness.notify("STOPPING=1")
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def _on_signals(insist: Callable[[], None]) -> asyncio.Event:
    """Return what is set by the first signal that asks to end; the second one has no more patience."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            insist()
        stop.set()

    for number in ENDING_SIGNALS:
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


async def _bring_up(mesh: Mesh, to_add: tuple[NodeName, ...], supervisor: Supervisor, terminal: Terminal) -> None:
    """Start everything in order, tell when it is ready, then follow the cluster's list of nodes for ever."""
    await supervisor.start(broker_program(mesh)).until_ready()
    await supervisor.start(master_program(mesh)).until_ready()
    endpoint = Endpoint(mesh.marker.url, mesh.layout.authority)
    admin = mesh.layout.seed("admin")
    bus = NatsOperatorBus(endpoint, lambda: identity.read_seed(admin), name="gnt-mesh-up")  # it may be renewed
    try:
        await _connect(bus)
        home = LocalHome(mesh, supervisor)
        membership = Membership(bus, home, terminal.say)
        await membership.add(to_add)
        await membership.settle()
        ready = await home.until_ready(terminal.say)
        terminal.ready(_summary(mesh, ready, len(home.running())))
        readiness.notify("READY=1")
        handover = Handover(mesh, home, supervisor, terminal.say)
        watching = asyncio.create_task(handover.watch(membership.look_soon))
        try:
            await membership.follow(before=handover.settle)
        finally:
            watching.cancel()
    finally:
        await bus.close()


async def _connect(bus: NatsOperatorBus) -> None:
    """Return once connected: the broker is being kept running, so it is only a matter of time."""
    while True:
        try:
            return await bus.open()
        except Unavailable:
            await asyncio.sleep(CONNECT_PAUSE_S)


def _summary(mesh: Mesh, ready: tuple[str, ...], nodes: int) -> Summary:
    return Summary(
        directory=mesh.layout.directory,
        cluster_name=mesh.config.cluster.cluster_name,
        master=mesh.marker.master,
        url=mesh.marker.url,
        nodes=nodes,
        ready=ready,
        nats_context=mesh.layout.nats_context,
    )
