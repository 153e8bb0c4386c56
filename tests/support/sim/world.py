"""A whole mesh in memory: operators who change their minds, a nemesis, and witnesses who check every step."""

from dataclasses import dataclass

from master.core import operations
from master.core.cluster import ClusterConfig, Node
from node_agent.core.reconcile import Found
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, ManagedPath, NodeName, ScopeName
from protocol.operator_messages import FileAdd, FileModify, FileRemove, Goal, NodeAdd, NodeModify, NodeRemove
from tests.support.sim.bus import SimBus
from tests.support.sim.master import SimMaster, has_given_back
from tests.support.sim.node import SimNode
from tests.support.sim.scheduler import CALM, Scheduler, Trouble, Violation
from tests.support.sim.watcher import History, Watcher
from tests.support.values import CONFIG_DATA, SURROUNDINGS, a_config, a_file, a_node, found_as, found_file

PATHS = tuple(ManagedPath(f"/etc/{letter}") for letter in "abcde")
OWN = ManagedPath("/etc/own")
"""A file of each node's own: nobody may touch it."""
OWN_FILE = found_file("own")
SCOPES = (ALL, MASTER_CANDIDATES, VM_CAPABLE, ScopeName("group-default"), ScopeName("group-rack"))
SPARE = NodeName("node5")
CALM_S = 30.0
LOOK_S = 5.0

BAD = Trouble(
    bell_lost=0.2,
    bell_twice=0.2,
    status_lost=0.1,
    fetch_lost=0.1,
    read_stale=0.1,
    blob_lost=0.1,
    hint_lost=0.3,
    longest_s=1.5,
)


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that may happen to the mesh, and how often compared with others."""

    name: str
    weight: int


VERBS = (
    Verb("edit", 10),
    Verb("vanish", 2),
    Verb("empty", 1),
    Verb("unsettle", 1),
    Verb("add_file", 5),
    Verb("remove_file", 3),
    Verb("move_file", 6),
    Verb("role", 10),
    Verb("group", 2),
    Verb("vm_capable", 2),
    Verb("come_and_go", 2),
    Verb("look", 2),
    Verb("kill", 5),
    Verb("doom", 10),
    Verb("start", 8),
    Verb("cut", 3),
    Verb("heal", 4),
    Verb("deafen", 3),
    Verb("broker_down", 1),
    Verb("broker_up", 3),
    Verb("wipe", 1),
    Verb("fill", 2),
    Verb("bar", 2),
    Verb("free", 4),
    Verb("tamper", 6),
)


class World:
    """One seed, one story. `live` makes trouble, `check_calm` ends it and expects agreement."""

    def __init__(self, seed: int) -> None:
        self.scheduler = Scheduler(seed)
        self.chance = self.scheduler.chance
        self.bus = SimBus(self.scheduler)
        self.history = History()
        self.watchers: dict[NodeName, Watcher] = {}
        self.nodes: dict[NodeName, SimNode] = {}
        self._contents = 0
        config = a_config(
            a_node("node2", "C"),
            a_node("node3"),
            a_node("node4", group="rack", vm_capable=False),
            files=[a_file(PATHS[0]), a_file(PATHS[1], MASTER_CANDIDATES), a_file(PATHS[2], VM_CAPABLE)],
            groups=("default", "rack"),
            pool_size=1,
        )
        for node in config.sorted_nodes():
            self._add_node(node.name)
        self._add_node(SPARE)
        self.watchers[NodeName("node1")].is_trusted_with_secrets = True
        master_disk = self.nodes[NodeName("node1")].disk
        for path in PATHS:
            master_disk.files[path] = self._new_file()
        self.master = SimMaster(config, master_disk, self.scheduler, self.bus, self.history)
        self.master.on_walls = self._note_walls
        self.master.on_status = self._check_now
        self.master.restore()
        for node in self.nodes.values():
            node.start()

    def live(self, steps: int) -> None:
        """Let that many things happen to the mesh."""
        self.scheduler.trouble = BAD
        for _ in range(steps):
            verb = self.chance.choices(VERBS, [verb.weight for verb in VERBS])[0]
            getattr(self, f"_{verb.name}")()
            self._run_for(self.chance.choice((0.003, 0.02, 0.1, 0.5, 1.5)))

    def check_calm(self) -> None:
        """End all trouble; then everybody agrees, and has said so."""
        self.scheduler.trouble = CALM
        self.scheduler.tell("calm")
        self.bus.is_up = True
        self.bus.cut_off.clear()
        self.master.unsettled.clear()
        for node in self.nodes.values():
            node.disk.barred.clear()
            node.disk.full = ""
            node.doom = -1
            node.start()
        self.master.refresh()
        self._run_for(CALM_S)
        self._check_agreement(self.master.goal_now())
        goal = self.master.look_everywhere()
        self._run_for(LOOK_S)
        self._check_agreement(goal)

    def _check_agreement(self, goal: Goal) -> None:
        missing = self.master.fleet.missing(self.master.config, goal, self.scheduler.now_s)
        if missing:
            raise Violation(f"after calm: {missing}")
        for node in self.master.config.nodes.values():
            self._check_node(node)

    def _run_for(self, seconds: float) -> None:
        self.scheduler.run_until(self.scheduler.now_s + seconds)

    def _check_now(self, name: NodeName) -> None:
        """A file of this node has changed, or the master has heard of it: what may never be?"""
        node, watcher, status = self.nodes[name], self.watchers[name], self.master.fleet.status(name)
        for member in self.master.config.nodes.values():
            if member.name == name and has_given_back(self.master, member, self.bus.walls.get(name, frozenset())):
                watcher.is_trusted_with_secrets = False
        watcher.check_disk(node.disk)
        if node.disk.here(OWN) != OWN_FILE:
            raise Violation(f"{name}: {OWN} was touched, which is not managed")
        if status and node.is_alive and name != "node1" and status.boot == f"{name}-{node.boots}":
            watcher.check_word(status, node.disk)

    def _check_node(self, member: Node) -> None:
        node, watcher = self.nodes[member.name], self.watchers[member.name]
        wanted = {
            entry.path: entry
            for scope in self.master.config.scopes_of(member)
            for entry in self.master.manifests[scope].files
        }
        if member.uuid == self.master.config.cluster.master_node:
            return
        if watcher.is_trusted_with_secrets != member.master_candidate:
            raise Violation(f"after calm: {member.name} may still hold secrets")
        if member.offline:
            return
        for path, entry in wanted.items():
            if node.disk.here(path) != found_as(entry):
                raise Violation(f"after calm: {member.name} does not hold {path} as generation {entry.generation}")
        for path, digest in watcher.written.items():
            if path not in wanted and node.disk.here(path).digest == digest:
                raise Violation(f"after calm: {member.name} still holds {path}, which it should not")
        status = self.master.fleet.status(member.name)
        if status is None or status.errors:
            raise Violation(f"after calm: {member.name} has errors: {status and status.errors}")

    def _add_node(self, name: NodeName) -> None:
        self.watchers[name] = Watcher(name, self.scheduler, self.history)
        self.nodes[name] = SimNode(name, self.scheduler, self.bus, self.watchers[name])
        self.nodes[name].disk.files[OWN] = OWN_FILE
        self.nodes[name].on_change = lambda: self._check_now(name)

    def _note_walls(self, config: ClusterConfig) -> None:
        for node in config.nodes.values():
            if node.master_candidate:
                self.watchers[node.name].is_trusted_with_secrets = True

    def _new_file(self) -> Found:
        self._contents += 1
        return found_file(f"content {self._contents}", mode=self.chance.choice((0o644, 0o600)))

    def _some_node(self) -> SimNode:
        return self.nodes[self.chance.choice([name for name in self.nodes if name != "node1"])]

    def _ask(self, what: str, make: object) -> None:
        reason = self.master.change(make)  # type: ignore[arg-type]
        self.scheduler.tell(f"operator: {what}{': refused, ' + reason if reason else ''}")

    # What operators do.

    def _edit(self) -> None:
        path = self.chance.choice(PATHS)
        self.scheduler.tell(f"admin: edits {path}")
        self.master.edit(path, self._new_file())

    def _vanish(self) -> None:
        path = self.chance.choice(PATHS)
        self.scheduler.tell(f"admin: removes the source {path}")
        self.master.edit(path, None)

    def _empty(self) -> None:
        path = self.chance.choice(PATHS)
        self.scheduler.tell(f"admin: empties {path}")
        self.master.edit(path, found_file(""))

    def _unsettle(self) -> None:
        path = self.chance.choice(PATHS)
        self.scheduler.tell(f"admin: is writing {path}")
        self.master.unsettled ^= {path}
        self.master.edit(path, self._new_file())

    def _add_file(self) -> None:
        request = FileAdd(path=self.chance.choice(PATHS), scope=self.chance.choice(SCOPES))
        self._ask(
            f"file add {request.path} --scope {request.scope}",
            lambda config, now: operations.add_file(config, request, surroundings=SURROUNDINGS, now=now),
        )

    def _remove_file(self) -> None:
        request = FileRemove(path=self.chance.choice(PATHS), purge=self.chance.random() < 0.3)
        self._ask(f"file remove {request.path}", lambda config, now: operations.remove_file(config, request, now=now))

    def _move_file(self) -> None:
        request = FileModify(path=self.chance.choice(PATHS), scope=self.chance.choice(SCOPES))
        self._ask(
            f"file modify {request.path} --scope {request.scope}",
            lambda config, now: operations.modify_file(config, request, now=now),
        )

    def _role(self) -> None:
        flag = self.chance.choice(("master_candidate", "master_candidate", "offline", "drained"))
        self._modify(flag, self.chance.random() < 0.5)

    def _vm_capable(self) -> None:
        self._modify("vm_capable", self.chance.random() < 0.5)

    def _group(self) -> None:
        self._modify("group", self.chance.choice(("default", "rack")))

    def _modify(self, setting: str, value: object) -> None:
        request = NodeModify(name=self._some_node().name, auto_promote=True, **{setting: value})  # type: ignore[arg-type]
        self._ask(
            f"node modify {request.name} {setting}={value}",
            lambda config, now: operations.modify_node(config, request, now=now),
        )

    def _come_and_go(self) -> None:
        name = self.chance.choice((SPARE, NodeName("node4")))
        if any(node.name == name for node in self.master.config.nodes.values()):
            self._ask(f"node remove {name}", lambda c, now: operations.remove_node(c, NodeRemove(name=name), now=now))
        else:
            uuid = f"uuid-{name}-{self.scheduler.now_s}"
            self._ask(f"node add {name}", lambda c, now: operations.add_node(c, NodeAdd(name=name), uuid=uuid, now=now))

    def _look(self) -> None:
        self.scheduler.tell("operator: cluster redist-conf")
        self.master.look_everywhere()

    # What the nemesis does.

    def _kill(self) -> None:
        self._some_node().kill()

    def _doom(self) -> None:
        """Kill an agent in the middle of what it does next."""
        node = self._some_node()
        node.doom = self.chance.randrange(40)
        self.scheduler.at(self.chance.uniform(0.5, 8.0), node.start)

    def _start(self) -> None:
        self._some_node().start()

    def _cut(self) -> None:
        node = self._some_node()
        self.scheduler.tell(f"{node.name} is cut off")
        self.bus.cut_off.add(node.name)
        self.scheduler.soon(lambda: self.master.fleet.leave(node.name))

    def _heal(self) -> None:
        self.scheduler.tell("the network is whole")
        self.bus.cut_off.clear()

    def _deafen(self) -> None:
        node = self._some_node()
        self.scheduler.tell(f"{node.name} goes deaf")
        node.deafen()

    def _broker_down(self) -> None:
        self.scheduler.tell("the broker is down")
        self.bus.is_up = False

    def _broker_up(self) -> None:
        if not self.bus.is_up:
            self.scheduler.tell("the broker is up")
            self.bus.is_up = True
            self.master.restore()

    def _wipe(self) -> None:
        self.scheduler.tell("the broker loses everything")
        self.bus.wipe()
        self.scheduler.soon(self.master.restore)

    def _fill(self) -> None:
        node = self._some_node()
        self.scheduler.tell(f"{node.name}: disk full")
        node.disk.full = "No space left on device"

    def _bar(self) -> None:
        node, path = self._some_node(), self.chance.choice((*PATHS, CONFIG_DATA))
        self.scheduler.tell(f"{node.name}: {path} is immutable")
        node.disk.barred[path] = "Operation not permitted"

    def _free(self) -> None:
        node = self._some_node()
        node.disk.full = ""
        node.disk.barred.clear()

    def _tamper(self) -> None:
        node, path = self._some_node(), self.chance.choice((*PATHS, CONFIG_DATA))
        here = self._new_file() if self.chance.random() < 0.6 else None
        self.scheduler.tell(f"{node.name}: {path} is {'changed' if here else 'removed'} by hand")
        node.tamper(path, here)


def run(seed: int, steps: int) -> World:
    """Live through one seed. A Violation is raised with the story as its note."""
    world = World(seed)
    try:
        world.live(steps)
        world.check_calm()
    except AssertionError as error:
        error.add_note("\n".join(world.scheduler.story))
        raise
    return world
