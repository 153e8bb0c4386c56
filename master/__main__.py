"""`gnt-mesh-master`: settings, logs, signals, adapters. Composition only; the one place that chooses NATS."""

import argparse
import asyncio
import signal
import sys
from importlib.metadata import version
from pathlib import Path

import structlog

from master import audit, logs
from master.api import verbs
from master.core.ancillary import Surroundings
from master.daemon import MasterDaemon
from master.hypervisor_plugins import all_hypervisors
from master.managed_files import ManagedFiles
from master.settings import MASTER_SETTINGS, MasterSettings, master_settings
from master.source_watch import SourceWatch
from master.sources import Sources
from master.store import Store
from protocol import identity, readiness
from protocol.errors import Refused
from protocol.names import ManagedPath
from protocol.nats_bus.clients import Endpoint
from protocol.nats_bus.master import NatsMasterBus
from protocol.sealing.signatures import Signer

CONFIGURATION_ERROR = 78
"""sysexits' EX_CONFIG: to start again does not help."""


def main() -> None:
    """Run the master until SIGTERM or SIGINT. Exit 78 with one sentence if its configuration is at fault."""
    parser = argparse.ArgumentParser(prog="gnt-mesh-master", description=main.__doc__)
    parser.add_argument("--settings", type=Path, default=MASTER_SETTINGS, help="the settings file (%(default)s)")
    parser.add_argument("--log-format", choices=logs.FORMATS, default="auto")
    arguments = parser.parse_args()
    logs.set_up(arguments.log_format)
    try:
        asyncio.run(serve(master_settings(arguments.settings)))
    except Refused as error:
        sys.stderr.write(f"gnt-mesh-master: {error}\n")
        sys.exit(CONFIGURATION_ERROR)


async def serve(settings: MasterSettings) -> None:
    """Read the disk, connect, and run until a signal asks to stop."""
    # A read lease (sources) is broken with this signal, whose default is to end the process.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    asyncio.get_running_loop().set_exception_handler(logs.fault)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store = Store(settings.state_dir, settings.root / str(settings.config_data).lstrip("/"))
    config = store.open()
    sources = Sources(settings.root, store.blobs_dir, size_bytes_max=settings.file_size_bytes_max)
    surroundings = Surroundings(
        config_data=ManagedPath(str(settings.config_data)),
        hypervisors=all_hypervisors(),
        release=version("gnt-mesh"),
    )
    managed = ManagedFiles(surroundings, sources, SourceWatch(settings, sources))
    daemon = MasterDaemon(settings, config, store, managed)
    bus = NatsMasterBus(
        Endpoint(settings.server, settings.ca_file),
        identity.read_seed(settings.seed_file),
        identity.read_seed(settings.system_seed_file),
        daemon.hear,
        signer=Signer(identity.read_seed(settings.signing_seed_file)),
        version=version("gnt-mesh"),
    )
    serving = asyncio.create_task(_connect_and_run(daemon, bus))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        structlog.get_logger().info("master_stopped")
    finally:
        readiness.notify("STOPPING=1")
        for task in (serving, stopping):
            task.cancel()
        await asyncio.gather(serving, stopping, return_exceptions=True)
        await bus.close()


async def _connect_and_run(daemon: MasterDaemon, bus: NatsMasterBus) -> None:
    audit_log = audit.AuditLog(daemon.settings.state_dir, lambda asker: audit.name_of(asker, daemon.desired.config))
    audit_log.open()

    async def serve_operators() -> None:
        await bus.serve(verbs.handlers(daemon, audit_log, version=version("gnt-mesh")), audit_log.guard)
        readiness.notify("READY=1")

    await bus.open()
    await daemon.run(bus, serve_operators)


if __name__ == "__main__":
    main()
