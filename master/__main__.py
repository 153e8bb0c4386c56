"""`gnt-mesh-master`: settings, logs, signals, adapters. Composition only; the one place that chooses NATS."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import structlog

from master import audit, logs, rollback_helper
from master.api import verbs
from master.core.ancillary import Surroundings
from master.daemon import MasterDaemon
from master.hypervisor_plugins import all_hypervisors
from master.managed_files import ManagedFiles
from master.own_keys import OwnKeys
from master.settings import MASTER_SETTINGS, MasterSettings, master_settings
from master.source_watch import SourceWatch
from master.sources import Sources
from master.store import Store
from protocol import identity, settings_file
from protocol.errors import Refused
from protocol.names import ManagedPath
from protocol.nats_bus.clients import Endpoint
from protocol.nats_bus.master import NatsMasterBus
from protocol.orders import CONFIGURATION_ERROR, Orders
from protocol.readiness import Readiness


def main() -> None:
    """Run the master until SIGTERM or SIGINT; SIGHUP has it read its settings again.

    Exit 78 with one sentence if its configuration is at fault.
    """
    parser = argparse.ArgumentParser(prog="gnt-mesh-master", description=main.__doc__)
    parser.add_argument("--settings", type=Path, default=MASTER_SETTINGS, help="the settings file (%(default)s)")
    parser.add_argument("--log-format", choices=logs.FORMATS, default="auto")
    parser.add_argument("--rollback-helper", type=Path, metavar="SOCKET", help="where root does rollbacks for us")
    parser.add_argument("--perform-rollback", action="store_true", help="be that root: do what is decided, and end")
    parser.add_argument("--check", action="store_true", help="look at the settings, and do nothing else")
    arguments = parser.parse_args()
    logs.set_up(arguments.log_format)
    try:
        if arguments.perform_rollback:
            sys.stdout.write(f"{rollback_helper.perform(master_settings(arguments.settings))}\n")
            return None
        read = partial(read_settings, arguments.settings, arguments.rollback_helper)
        settings = read()
        return None if arguments.check else asyncio.run(serve(read, settings))
    except Refused as error:
        sys.stderr.write(f"gnt-mesh-master: {error}\n")
        sys.exit(CONFIGURATION_ERROR)


def read_settings(path: Path, helper: Path | None) -> MasterSettings:
    """Return the settings, and have systemd's credentials take the place of keys; Refused says what is wrong."""
    settings = settings_file.with_credentials(master_settings(path), os.environ.get("CREDENTIALS_DIRECTORY", ""))
    if helper:
        settings = replace(settings, rollback_socket=helper)
    for seed_file in (settings.seed_file, settings.system_seed_file, settings.signing_seed_file):
        identity.read_seed(seed_file)
    return settings


async def serve(read: Callable[[], MasterSettings], settings: MasterSettings) -> None:
    """Run until a signal asks to stop; whenever one asks to reload, go on with the settings as they are then."""
    # A read lease (sources) is broken with this signal, whose default is to end the process.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    asyncio.get_running_loop().set_exception_handler(logs.fault)
    orders = Orders()
    await orders.follow(read, settings, partial(run, orders))


async def run(orders: Orders, settings: MasterSettings) -> None:
    """Read the disk, connect, and run until asked to stop or to reload."""
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
    daemon.crypto.restart = orders.reload
    bus = NatsMasterBus(
        Endpoint(settings.server, settings.ca_file),
        identity.read_seed(settings.seed_file),
        identity.read_seed(settings.system_seed_file),
        daemon.hear,
        signer=OwnKeys(settings).signer(),
        version=version("gnt-mesh"),
    )
    working = (_connect_and_run(daemon, bus, orders.telling), orders.telling.feed_watchdog((daemon.pulse,)))
    try:
        await orders.work(*working, drain=bus.drain)
        structlog.get_logger().info("master_stopped")
    finally:
        await bus.close()


async def _connect_and_run(daemon: MasterDaemon, bus: NatsMasterBus, telling: Readiness) -> None:
    """Ready is who has published what is on the disk, and answers operators."""
    audit_log = audit.AuditLog(daemon.settings.state_dir, lambda asker: audit.name_of(asker, daemon.desired.config))
    audit_log.open()

    async def serve_operators() -> None:
        await bus.serve(verbs.handlers(daemon, audit_log, version=version("gnt-mesh")), audit_log.guard)
        telling.ready()
        telling.say(f"serving {daemon.desired.config.cluster.cluster_name}")

    telling.say(f"connecting to {daemon.settings.server}")
    await bus.open()
    await daemon.run(bus, serve_operators)


if __name__ == "__main__":
    main()
