"""The master: the real decisions, carried to the bus step by step, one change at a time, as the daemon does it."""

from collections import deque
from collections.abc import Callable

from master.core.ancillary import managed_files
from master.core.cluster import ClusterConfig, Node, to_text
from master.core.fleet import Fleet
from master.core.plan import Publication, Source, plan
from master.publisher import assignment_of
from node_agent.core.reconcile import Found
from protocol.errors import Refused, Unavailable
from protocol.messages import Manifest, NodeBell, ScopeBell, Status
from protocol.names import MASTER_CANDIDATES, ManagedPath, NodeName, ScopeName
from protocol.operator_messages import Goal
from tests.support.fake_disk import FakeDisk
from tests.support.sim.bus import SimBus
from tests.support.sim.scheduler import Job, Scheduler
from tests.support.sim.watcher import History
from tests.support.values import CONFIG_DATA, SURROUNDINGS, found_file

BEAT_S = 2.0
PATROL_S = 10.0
SILENT_AFTER_S = 12.0

Change = Callable[[ClusterConfig, float], ClusterConfig]


class SimMaster:
    """Config, manifests and sources survive everything; `disk` is the one of its own node."""

    def __init__(
        self, config: ClusterConfig, disk: FakeDisk, scheduler: Scheduler, bus: SimBus, history: History
    ) -> None:
        self.config = config
        self.disk = disk
        self.manifests: dict[ScopeName, Manifest] = {}
        self.unsettled: set[ManagedPath] = set()
        self.fleet = Fleet(silent_after_s=SILENT_AFTER_S)
        self.on_walls: Callable[[ClusterConfig], None] = lambda config: None
        self.on_status: Callable[[NodeName], None] = lambda name: None
        self._scheduler = scheduler
        self._bus = bus
        self._history = history
        self._generation = 0
        self._looks = 0
        self._jobs: deque[Job] = deque()
        self._is_working = False
        self._is_restore_due = True
        bus.hear_status = self._hear
        self._write_config()
        scheduler.every(BEAT_S, self._beat)
        scheduler.every(PATROL_S, lambda: self._do(self._patrol()))

    @property
    def is_idle(self) -> bool:
        return not self._is_working and not self._is_restore_due

    def change(self, make: Change) -> str:
        """Change the config, or return why not."""
        try:
            after = make(self.config, self._scheduler.now_s)
        except Refused as refusal:
            return str(refusal)
        before, self.config = self.config, after
        self._write_config()
        self._do(self._carry(before, after))
        return ""

    def edit(self, path: ManagedPath, here: Found | None) -> None:
        """The administrator changes a source; a hint or the next look finds it."""
        if here:
            self.disk.files[path] = here
        else:
            self.disk.files.pop(path, None)
        self._scheduler.soon(self.refresh)

    def refresh(self) -> None:
        self._do(self._refresh())

    def look_everywhere(self) -> Goal:
        self._looks += 1
        token = f"look{self._looks}"
        self.fleet.note_look(token)
        self._do(self._ring_for_looks())
        return self.goal_now(looks=token)

    def restore(self) -> None:
        """The bus is there again, or has lost something."""
        self._is_restore_due = True
        self._do(self._restore())

    def goal_now(self, *, looks: str = "") -> Goal:
        generations = {str(scope): manifest.generation for scope, manifest in self.manifests.items()}
        serials = {node.name: node.serial_no for node in self.config.nodes.values() if not node.offline}
        return Goal(epoch=1, generations=generations, serials=serials, looks=looks)

    def _hear(self, status: Status) -> None:
        if any(node.name == status.node for node in self.config.nodes.values()):
            self.fleet.hear(status, self._scheduler.now_s)
            self.on_status(status.node)

    def _do(self, job: Job) -> None:
        """One job at a time: the daemon holds a lock. A bus that fails in the middle is restored later."""
        self._jobs.append(job)
        if not self._is_working:
            self._is_working = True
            self._next()

    def _next(self) -> None:
        if not self._jobs:
            self._is_working = False
            return
        self._scheduler.run(self._guarded(self._jobs.popleft()), then=self._next)

    def _guarded(self, job: Job) -> Job:
        try:
            yield from job
        except Unavailable as error:
            self._scheduler.tell(f"master: {error}")
            self._is_restore_due = True

    def _write_config(self) -> None:
        self.disk.files[CONFIG_DATA] = found_file(to_text(self.config), mode=0o640)
        for path, file in managed_files(self.config, SURROUNDINGS).generated.items():
            self.disk.files[path] = found_file(file.content.decode(), mode=file.mode)

    def _carry(self, before: ClusterConfig, after: ClusterConfig) -> Job:
        for scope in set(before.scopes()) - set(after.scopes()):
            self.manifests.pop(scope, None)
        yield self._pause_s()
        self._let_in()
        yield from self._refresh()
        for uuid, node in after.nodes.items():
            if uuid not in before.nodes or before.nodes[uuid] != node:
                yield self._pause_s()
                self._assign(node)
        for uuid in before.nodes.keys() - after.nodes.keys():
            self.fleet.forget(before.nodes[uuid].name)
            self._bus.unassign(before.nodes[uuid].name)

    def _let_in(self) -> None:
        self._bus.check_up()
        self._bus.walls = {node.name: frozenset(self.config.scopes_of(node)) for node in self.config.nodes.values()}
        self.on_walls(self.config)

    def _refresh(self) -> Job:
        yield self._pause_s()
        publication = self._plan()
        for manifest in publication.manifests:
            self.manifests[manifest.scope] = manifest
            self._history.add(manifest)
        if publication.manifests:
            self._generation = publication.generation
            scopes = ", ".join(manifest.scope for manifest in publication.manifests)
            self._scheduler.tell(f"master publishes generation {publication.generation}: {scopes}")
        for manifest in publication.manifests:
            yield self._pause_s()
            self._bus.put_blobs(manifest)
        for manifest in publication.manifests:
            yield self._pause_s()
            self._bus.store(manifest)
            self._ring(manifest)

    def _plan(self) -> Publication:
        files = managed_files(self.config, SURROUNDINGS).files
        sources = {file.path: self._read(file.path) for file in files}
        return plan(self.config, files, sources, self.manifests, generation=self._generation + 1)

    def _read(self, path: ManagedPath) -> Source:
        here = self.disk.here(path)
        if path in self.unsettled:
            return Source("unsettled", reason="is being written on the master")
        if here.kind == "absent":
            return Source("absent")
        return Source("ready", here.digest, here.size_bytes, here.mode, here.owner, here.group)

    def _assign(self, node: Node) -> None:
        self._bus.assign(assignment_of(self.config, self.config.nodes.get(node.uuid, node)))
        self._ring_node(node)

    def _restore(self) -> Job:
        yield self._pause_s()
        self._let_in()
        for manifest in list(self.manifests.values()):
            yield self._pause_s()
            self._bus.put_blobs(manifest)
            if self._bus.current(manifest.scope) != manifest:
                self._bus.store(manifest)
        for node in list(self.config.nodes.values()):
            yield self._pause_s()
            if self._bus.assigned(node.name) != assignment_of(self.config, node):
                self._assign(node)
        for manifest in list(self.manifests.values()):
            self._ring(manifest)
        self._is_restore_due = False
        yield from self._refresh()

    def _patrol(self) -> Job:
        if self._is_restore_due or any(self._bus.current(scope) != m for scope, m in self.manifests.items()):
            yield from self._restore()
        for node in list(self.config.nodes.values()):
            status = self.fleet.status(node.name)
            if status and self.fleet.is_online(node.name, self._scheduler.now_s) and status.serial < node.serial_no:
                self._assign(node)
        yield from self._ring_for_looks()

    def _ring_for_looks(self) -> Job:
        yield self._pause_s()
        for node in self.config.sorted_nodes():
            look = self.fleet.look_owed(node.name)
            if look and not node.offline:
                self._ring_node(node, look=look)

    def _beat(self) -> None:
        if self._bus.is_up:
            for manifest in self.manifests.values():
                self._ring(manifest, is_beat=True)

    def _ring(self, manifest: Manifest, *, is_beat: bool = False) -> None:
        self._bus.ring(
            ScopeBell(scope=manifest.scope, epoch=manifest.epoch, generation=manifest.generation, is_beat=is_beat)
        )

    def _ring_node(self, node: Node, *, look: str = "") -> None:
        self._bus.ring(NodeBell(node=node.name, epoch=1, serial=node.serial_no, look=look))

    def _pause_s(self) -> float:
        return self._scheduler.delay_s() / 3


def has_given_back(master: SimMaster, node: Node, walls: frozenset[ScopeName]) -> bool:
    """True if the master has been told that a node holds no candidates' files any more, and it can get none."""
    status = master.fleet.status(NodeName(node.name))
    return (
        not node.master_candidate
        and MASTER_CANDIDATES not in walls
        and status is not None
        and status.serial >= node.serial_no
        and MASTER_CANDIDATES not in status.holding
    )
