"""Makes another node the master of a mesh that runs, as soon as the marker says so.

The marker is the decision (`cluster master-failover` writes it), so an `up` that is killed on the way is completed by
the next one. The candidate's agent is stopped meanwhile: it would repair the config.data that its node takes over with.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from master.up import bootstrap
from master.up.home import LocalHome
from master.up.layout import MASTER, read_marker, write_marker
from master.up.programs import Mesh, master_program
from master.up.supervisor import Supervisor
from protocol.errors import Refused
from protocol.file_hints import FileHints

STEP_MS: Final = 20
DEBOUNCE_MS: Final = 100


class Handover:
    """`settle` is called before every look at the cluster's nodes, `watch` runs beside."""

    def __init__(self, mesh: Mesh, home: LocalHome, supervisor: Supervisor, say: Callable[[str], None]) -> None:
        self._mesh = mesh
        self._home = home
        self._supervisor = supervisor
        self._say = say

    async def watch(self, look: Callable[[], None]) -> None:
        """Call `look` whenever the marker may say something else, until cancelled."""
        hints = FileHints(step_ms=STEP_MS, debounce_ms=DEBOUNCE_MS)
        marker = self._mesh.layout.marker
        hints.watch([marker.parent])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hints.run())
            while True:
                hint = await hints.next()
                if hint is None or marker in hint:
                    look()

    async def settle(self) -> None:
        """Bring the master to where the marker has it; if that cannot be, the marker is put back."""
        layout = self._mesh.layout
        try:
            marker = await asyncio.to_thread(read_marker, layout)
        except Refused as error:
            self._say(str(error))
            return
        if marker is None or marker.master == self._mesh.marker.master:
            return
        former, name = self._mesh.marker.master, marker.master
        self._say(f"{name} becomes the master in the place of {former}")
        await self._supervisor.stop(MASTER)
        if name in self._home.running():
            await self._home.stop(name)
        try:
            config = await asyncio.to_thread(bootstrap.complete, layout, marker, self._mesh.server.version)
        except Refused as error:
            self._say(f"{name} cannot become the master: {error}; {former} stays it")
            await asyncio.to_thread(write_marker, layout, self._mesh.marker)
            self._supervisor.start(master_program(self._mesh))
            return
        self._mesh = replace(self._mesh, marker=marker, config=config)
        master = self._supervisor.start(master_program(self._mesh))
        try:
            await master.until_ready()
        except Refused as error:
            self._say(str(error))
            return
        self._say(f"{name} is the master, epoch {config.cluster.epoch}; sources are below {layout.node_root(name)}")
