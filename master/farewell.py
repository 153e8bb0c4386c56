"""A node's leaving: before it is shut out it is asked to give back every file that the mesh has written.

What it cannot be asked for any more stays on its disk for ever, secrets included.
"""

import time
from typing import Final

import structlog

from master.core.cluster import next_serial
from master.daemon import MasterDaemon
from protocol.names import NodeName

PATIENCE_S: Final = 0.8
"""A node that is removed is shut out within a second (design, D6), whether it answers or not."""

log = structlog.get_logger()


async def bid(daemon: MasterDaemon, name: NodeName) -> bool:
    """Have a node hold nothing any more; return whether its word for that has come in time.

    Nothing is published meanwhile. If the node is not removed after all the next `restore` finds an assignment that is
    ahead of the disk, and the node gets everything back.
    """
    desired = daemon.desired
    async with desired.lock:
        node = desired.config.node(name)
        if not daemon.fleet.is_online(name, time.monotonic()):
            return False
        serial = next_serial(desired.config)
        await desired.publisher.dismiss(desired.config, node, serial=serial)
        deadline_s = time.monotonic() + PATIENCE_S
        while not (is_done := _holds_nothing(daemon, name, serial)) and time.monotonic() < deadline_s:
            await daemon.progress.wait(deadline_s - time.monotonic())
        log.info("farewell_bidden", node=name, gave_back=is_done)
        return is_done


def _holds_nothing(daemon: MasterDaemon, name: NodeName, serial: int) -> bool:
    status = daemon.fleet.status(name)
    return status is not None and status.serial >= serial and not status.holding
