"""One node: the real state machine, a disk in memory, and a loop around them that can be killed at any step."""

from collections.abc import Callable
from typing import assert_never

from node_agent.core import events as e
from node_agent.core.agent import Agent, Timing
from node_agent.core.reconcile import Found, Outcome, Plan, Remove, Write
from protocol.errors import Unavailable
from protocol.messages import NodeBell, ScopeBell
from protocol.names import ManagedPath, NodeName, ScopeName
from tests.support.fake_disk import FakeDisk
from tests.support.sim.bus import SimBus
from tests.support.sim.scheduler import Job, Scheduler
from tests.support.sim.watcher import Watcher

TIMING = Timing(beat_interval_s=4.0, deaf_after_s=4.0, retry_first_s=1.0, retry_longest_s=8.0)
RESCAN_S = 15.0


class SimNode:
    """`doom` counts the steps until the agent is killed; below zero it is not. What survives is disk and memory."""

    def __init__(self, name: NodeName, scheduler: Scheduler, bus: SimBus, watcher: Watcher) -> None:
        self.name = name
        self.disk = FakeDisk()
        self.memory = e.Memory()
        self.doom = -1
        self.boots = 0
        self.on_change: Callable[[], None] = lambda: None
        self._agent: Agent | None = None
        self._scheduler = scheduler
        self._bus = bus
        self._watcher = watcher
        self._is_connected = False
        self._listening: frozenset[ScopeName] | None = None
        self._watching: frozenset[ManagedPath] = frozenset()
        self._fetches: list[ScopeName | None] = []
        bus.attach(name, self._hear)
        scheduler.every(1.0, self._tick)
        scheduler.every(RESCAN_S, lambda: self._give(e.FilesTouched(None)))

    @property
    def is_alive(self) -> bool:
        return self._agent is not None

    def start(self) -> None:
        if self._agent:
            return
        self.boots += 1
        self._scheduler.tell(f"{self.name} starts")
        self._watcher.note_start(self.memory)
        self._agent = Agent(self.name, boot=f"{self.name}-{self.boots}", memory=self.memory, timing=TIMING)
        self._is_connected = False
        self._listening, self._watching = None, frozenset()
        self._fetches = []
        self._tick()

    def kill(self) -> None:
        if self._agent:
            self._scheduler.tell(f"{self.name} is killed")
            self._agent = None
            self.doom = -1

    def deafen(self) -> None:
        """Its subscriptions die, and nobody tells it."""
        self._listening = None

    def tamper(self, path: ManagedPath, here: Found | None) -> None:
        """Somebody changes or removes a file by hand."""
        if here:
            self.disk.files[path] = here
        else:
            self.disk.files.pop(path, None)
        self._watcher.note_tampering(path)
        self.on_change()
        self._hint(path)

    def _tick(self) -> None:
        """Time passes, and the client of the bus notices whether it is connected."""
        self._give(e.Tick(self._scheduler.now_s))
        is_connected = self._bus.is_reached(self.name)
        if self._agent and is_connected != self._is_connected:
            self._is_connected = is_connected
            self._give(e.BusUp() if is_connected else e.BusDown("gone"))

    def _hear(self, bell: ScopeBell | NodeBell) -> None:
        if self._listening is not None and (isinstance(bell, NodeBell) or bell.scope in self._listening):
            self._give(bell)

    def _give(self, event: e.Event) -> None:
        if self._agent is None:
            return
        boot = self.boots
        self._watcher.note_event(event)
        effects = self._agent.handle(event)
        self._watcher.check_effects(effects, self.disk)
        for effect in effects:
            if self._lives_on(boot):
                self._begin(effect)

    def _lives_on(self, boot: int) -> bool:
        """One step more; False if the agent that takes it has been killed."""
        if self._agent is None or self.boots != boot:
            return False
        if self.doom == 0:
            self.kill()
            return False
        self.doom -= self.doom > 0
        return True

    def _begin(self, effect: e.Effect) -> None:
        match effect:
            case e.Listen(scopes):
                if self._bus.is_reached(self.name):
                    self._listening = frozenset(scopes)
            case e.FetchAssignment():
                self._queue(None)
            case e.FetchManifest(scope):
                self._queue(scope)
            case e.Observe(paths):
                self._work(self._observe(paths))
            case e.Perform(plan):
                self._work(self._perform(plan))
            case e.Remember(memory):
                self.memory = memory
            case e.Watch(paths):
                self._watching = paths
            case e.Report(status):
                try:
                    self._bus.say(status)
                except Unavailable:
                    self._scheduler.tell(f"{self.name} cannot report")
            case _:
                assert_never(effect)

    def _work(self, job: Job) -> None:
        """Run a job of this agent; it ends with it."""
        boot = self.boots

        def steps() -> Job:
            for pause_s in job:
                yield pause_s
                if not self._lives_on(boot):
                    return

        self._scheduler.run(steps())

    def _queue(self, scope: ScopeName | None) -> None:
        """One fetch after another, as in the daemon."""
        self._fetches.append(scope)
        if len(self._fetches) == 1:
            self._work(self._fetch_in_order())

    def _fetch_in_order(self) -> Job:
        while self._fetches:
            scope = self._fetches[0]
            yield self._scheduler.delay_s()
            event = self._fetch(scope)
            is_lost = self._scheduler.happens(self._scheduler.trouble.fetch_lost)
            if is_lost:
                event = e.FetchFailed(scope, "timeout")
            yield 2.0 if is_lost else self._scheduler.delay_s()
            self._give(event)
            self._fetches.pop(0)

    def _fetch(self, scope: ScopeName | None) -> e.Event:
        try:
            if scope is None:
                return e.AssignmentFetched(self._bus.assignment(self.name))
            return e.ManifestFetched(scope, self._bus.manifest(self.name, scope))
        except Unavailable as error:
            return e.FetchFailed(scope, str(error))

    def _observe(self, paths: frozenset[ManagedPath]) -> Job:
        yield self._scheduler.delay_s()
        found = self.disk.observe(paths)
        seen_s = self._scheduler.now_s
        yield self._scheduler.delay_s()
        self._watcher.note_seen(found, seen_s)
        self._give(e.DiskObserved(found))

    def _perform(self, plan: Plan) -> Job:
        """As NodeFiles does it: all contents first, then every write and removal, each visible in its own moment."""
        errors: dict[ManagedPath, str] = {}
        found: dict[ManagedPath, Found] = {}
        steps: tuple[Write | Remove, ...] = (*plan.writes, *plan.removals)
        for write in plan.writes:
            yield self._scheduler.delay_s()
            reason = self.disk.full or self._why_no_content(write)
            if reason:
                paths = [_path_of(step) for step in steps]
                held_back = dict.fromkeys(paths, f"held back: {reason}")
                self._give(e.PlanFinished(plan, Outcome({}, {**held_back, write.entry.path: reason})))
                return
        for step in steps:
            yield self._scheduler.delay_s() / 10
            path = _path_of(step)
            if path in self.disk.barred:
                errors[path] = self.disk.barred[path]
                continue
            self._watcher.check_step(step)
            found[path] = self.disk.write(step) if isinstance(step, Write) else self.disk.remove(step)
            self.on_change()
            self._hint(path)
        yield self._scheduler.delay_s()
        self._give(e.PlanFinished(plan, Outcome(found, errors)))

    def _why_no_content(self, write: Write) -> str:
        if write.copy_of and self.disk.here(write.copy_of).digest == write.entry.digest:
            return ""
        try:
            self._bus.check_blob(self.name, write.scope, write.entry)
        except Unavailable as error:
            return str(error)
        return ""

    def _hint(self, path: ManagedPath) -> None:
        if path in self._watching and not self._scheduler.happens(self._scheduler.trouble.hint_lost):
            self._scheduler.soon(lambda: self._give(e.FilesTouched(frozenset({path}))))


def _path_of(step: Write | Remove) -> ManagedPath:
    return step.entry.path if isinstance(step, Write) else step.path
