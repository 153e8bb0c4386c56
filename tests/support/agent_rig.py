"""An agent's state machine with a disk and a bus around it that do what it asks, at once or when told to."""

from typing import TypeVar, assert_never

from node_agent.core import events as e
from node_agent.core.agent import Agent, Timing
from protocol.messages import Assignment, FileEntry, Manifest, NodeBell, ScopeBell, Status
from protocol.names import ALL, ManagedPath, NodeName, ScopeName
from tests.support.fake_disk import FakeDisk
from tests.support.values import a_manifest, an_assignment

EffectType = TypeVar("EffectType", bound=e.Effect)

NODE = NodeName("node2")
EVENTS_MAX = 1000


class Rig:
    """`tell` gives one event and leaves the effects waiting; `run` carries out what waits until nothing does.

    What the bus holds is set by `publish` and `assign`; neither rings by itself.
    """

    def __init__(
        self, *scopes: ScopeName, memory: e.Memory | None = None, boot: str = "boot1", timing: Timing | None = None
    ) -> None:
        self.disk = FakeDisk()
        self.memory = memory or e.Memory()
        self.assignment: Assignment | None = an_assignment(*scopes) if scopes else None
        self.manifests: dict[ScopeName, Manifest] = {}
        self.unreachable: dict[ScopeName | None, str] = {}
        self.unavailable: dict[ManagedPath, str] = {}
        self.listening: tuple[ScopeName, ...] | None = None
        self.watching: frozenset[ManagedPath] = frozenset()
        self.statuses: list[Status] = []
        self.history: list[e.Effect] = []
        self.waiting: list[e.Effect] = []
        self.now_s = 0.0
        self._timing = timing
        self.agent = self._new_agent(boot)

    @property
    def status(self) -> Status:
        """The last thing that the agent said."""
        return self.statuses[-1]

    @property
    def receipts(self) -> dict[str, int]:
        return {receipt.scope: receipt.generation for receipt in self.status.receipts}

    @property
    def errors(self) -> dict[str, str]:
        return {error.path or f"scope {error.scope}": error.reason for error in self.status.errors}

    def publish(self, *files: FileEntry, scope: ScopeName = ALL, generation: int = 1, **more: object) -> Manifest:
        manifest = a_manifest(*files, scope=scope, generation=generation, **more)  # type: ignore[arg-type]
        self.manifests[scope] = manifest
        return manifest

    def assign(self, *scopes: ScopeName, serial: int, is_master: bool = False, is_offline: bool = False) -> None:
        self.assignment = an_assignment(*scopes, serial=serial, is_master=is_master, is_offline=is_offline)

    def start(self) -> None:
        """Connect and come to rest."""
        self.tell(e.Tick(self.now_s))
        self.tell(e.BusUp())
        self.run()

    def restart(self, boot: str = "boot2") -> None:
        """Kill the agent and start another one on the same disk; what was not remembered is lost."""
        self.waiting.clear()
        self.agent = self._new_agent(boot)
        self.start()

    def ring(self, scope: ScopeName = ALL, *, is_beat: bool = False) -> None:
        """Ring with what is published, and come to rest."""
        manifest = self.manifests[scope]
        self.tell(ScopeBell(scope=scope, epoch=manifest.epoch, generation=manifest.generation, is_beat=is_beat))
        self.run()

    def ring_node(self, look: str = "") -> None:
        self.tell(NodeBell(node=NODE, epoch=1, serial=1, look=look))
        self.run()

    def beat(self) -> None:
        """Let so much time pass that the agent has said that it is there, and noted what it has done."""
        self.tick(Timing().beat_interval_s)

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass, a second at a time, and come to rest after each."""
        while seconds > 0:
            step_s = min(seconds, 1.0)
            self.now_s += step_s
            seconds -= step_s
            self.tell(e.Tick(self.now_s))
            self.run()

    def tell(self, event: e.Event) -> list[e.Effect]:
        """Give one event; return its effects, which are also waiting."""
        effects = self.agent.handle(event)
        self.history += effects
        self.waiting += effects
        return effects

    def run(self) -> None:
        """Carry out what waits, in order, with all that comes of it."""
        for _ in range(EVENTS_MAX):
            if not self.waiting:
                return
            self.step()
        raise AssertionError("the agent does not come to rest")

    def step(self) -> None:
        """Carry out the first that waits."""
        event = self._carry_out(self.waiting.pop(0))
        if event:
            self.tell(event)

    def run_until(self, kind: type[EffectType]) -> EffectType:
        """Carry out what waits until an effect of a kind is next; return it as `take` does."""
        while not isinstance(self.waiting[0], kind):
            self.step()
        return self.take(kind)

    def end(self, effect: e.Effect) -> None:
        """Carry out one effect that was taken, and give the event in which it ends."""
        event = self._carry_out(effect)
        assert event, f"{effect} ends in no event"
        self.tell(event)

    def take(self, kind: type[EffectType]) -> EffectType:
        """Return the first waiting effect of a kind, and wait for it no more: the test ends it, or nobody."""
        effect = next(effect for effect in self.waiting if isinstance(effect, kind))
        self.waiting.remove(effect)
        return effect

    def asked(self, kind: type[EffectType]) -> list[EffectType]:
        """Return every effect of a kind so far."""
        return [effect for effect in self.history if isinstance(effect, kind)]

    def forget_history(self) -> None:
        self.history.clear()

    def _new_agent(self, boot: str) -> Agent:
        return Agent(NODE, boot=boot, memory=self.memory, timing=self._timing)

    def _carry_out(self, effect: e.Effect) -> e.Event | None:
        match effect:
            case e.Listen(scopes):
                self.listening = scopes
            case e.FetchAssignment():
                return self._fetched(None, e.AssignmentFetched(self.assignment))
            case e.FetchManifest(scope):
                return self._fetched(scope, e.ManifestFetched(scope, self.manifests.get(scope)))
            case e.Observe(paths, afresh):
                return e.DiskObserved(self.disk.observe(paths, afresh=afresh))
            case e.Perform(plan):
                return e.PlanFinished(plan, self.disk.perform(plan, unavailable=self.unavailable))
            case e.Remember(memory):
                self.memory = memory
            case e.Watch(paths):
                self.watching = paths
            case e.Report(status):
                self.statuses.append(status)
            case _:
                assert_never(effect)
        return None

    def _fetched(self, scope: ScopeName | None, event: e.Event) -> e.Event:
        return e.FetchFailed(scope, self.unreachable[scope]) if scope in self.unreachable else event
