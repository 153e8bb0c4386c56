"""A bus in memory that loses, repeats, delays and reorders, shows old things, is cut off, and forgets everything."""

from collections.abc import Callable

from protocol.errors import Unavailable
from protocol.messages import Assignment, FileEntry, Manifest, NodeBell, ScopeBell, Status
from protocol.names import Digest, NodeName, ScopeName
from tests.support.sim.scheduler import Scheduler

HearBell = Callable[[ScopeBell | NodeBell], None]


class SimBus:
    """What is stored, who may read it, and who hears what. `walls` are the scopes each node may read."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.is_up = True
        self.walls: dict[NodeName, frozenset[ScopeName]] = {}
        self.cut_off: set[NodeName] = set()
        self.hear_status: Callable[[Status], None] = lambda status: None
        self._ears: dict[NodeName, HearBell] = {}
        self._scheduler = scheduler
        self._manifests: dict[ScopeName, list[Manifest]] = {}
        self._assignments: dict[NodeName, list[Assignment]] = {}
        self._blobs: set[tuple[ScopeName, Digest]] = set()

    def wipe(self) -> None:
        """Lose everything that is stored, as when the data directory is deleted."""
        self._manifests.clear()
        self._assignments.clear()
        self._blobs.clear()

    def check_up(self) -> None:
        if not self.is_up:
            raise Unavailable("the broker is down")

    # The master's side.

    def store(self, manifest: Manifest) -> None:
        self.check_up()
        self._manifests.setdefault(manifest.scope, []).append(manifest)

    def put_blobs(self, manifest: Manifest) -> None:
        self.check_up()
        self._blobs |= {(manifest.scope, entry.digest) for entry in manifest.files}

    def assign(self, assignment: Assignment) -> None:
        self.check_up()
        self._assignments.setdefault(assignment.node, []).append(assignment)

    def unassign(self, node: NodeName) -> None:
        self.check_up()
        self._assignments.pop(node, None)

    def current(self, scope: ScopeName) -> Manifest | None:
        return self._manifests[scope][-1] if scope in self._manifests else None

    def assigned(self, node: NodeName) -> Assignment | None:
        return self._assignments[node][-1] if node in self._assignments else None

    def ring(self, bell: ScopeBell | NodeBell) -> None:
        self.check_up()
        nodes = [bell.node] if isinstance(bell, NodeBell) else list(self._ears)
        for node in nodes:
            if isinstance(bell, ScopeBell) and bell.scope not in self.walls.get(node, ()):
                continue
            if self.is_reached(node) and not self._scheduler.happens(self._scheduler.trouble.bell_lost):
                for _ in range(1 + self._scheduler.happens(self._scheduler.trouble.bell_twice)):
                    self._deliver(node, bell)

    # A node's side.

    def attach(self, node: NodeName, hear: HearBell) -> None:
        self._ears[node] = hear

    def is_reached(self, node: NodeName) -> bool:
        return self.is_up and node in self.walls and node in self._ears and node not in self.cut_off

    def manifest(self, node: NodeName, scope: ScopeName) -> Manifest | None:
        self._check_walls(node, scope)
        return self._read(self._manifests.get(scope, []))

    def assignment(self, node: NodeName) -> Assignment | None:
        self._check_reached(node)
        return self._read(self._assignments.get(node, []))

    def check_blob(self, node: NodeName, scope: ScopeName, entry: FileEntry) -> None:
        self._check_walls(node, scope)
        if (scope, entry.digest) not in self._blobs or self._scheduler.happens(self._scheduler.trouble.blob_lost):
            raise Unavailable("the bus lacks the content")

    def say(self, status: Status) -> None:
        self._check_reached(status.node)
        if not self._scheduler.happens(self._scheduler.trouble.status_lost):
            self._scheduler.soon(lambda: self.hear_status(status))

    def _read(self, versions: list[Manifest] | list[Assignment]):  # type: ignore[no-untyped-def]
        """Return the newest, or what a replica that lags behind still has."""
        if not versions:
            return None
        if self._scheduler.happens(self._scheduler.trouble.read_stale):
            return self._scheduler.chance.choice(versions[-3:])
        return versions[-1]

    def _check_reached(self, node: NodeName) -> None:
        if not self.is_reached(node):
            raise Unavailable("no connection")

    def _check_walls(self, node: NodeName, scope: ScopeName) -> None:
        self._check_reached(node)
        if scope not in self.walls[node]:
            raise Unavailable("permissions violation")

    def _deliver(self, node: NodeName, bell: ScopeBell | NodeBell) -> None:
        self._scheduler.soon(lambda: self._ears[node](bell))
