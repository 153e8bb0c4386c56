"""The agent's state machine: events in, effects out. Pure: the loop around it owns the clock, the bus and the disk.

It is level-triggered: an event says "look again", so a lost, repeated or late message costs time and nothing else.
Here is how its two sides work together: `bus_side` keeps what should be true up to date, `disk_side` makes it true.
"""

from dataclasses import dataclass
from typing import assert_never

from node_agent.core import events as e
from node_agent.core.bus_side import BusSide
from node_agent.core.desired import Desired
from node_agent.core.disk_side import DiskSide
from node_agent.core.holdings import Holdings
from node_agent.core.reporter import Reporter
from node_agent.core.retries import Retries
from protocol.messages import NodeBell, ScopeBell
from protocol.names import ManagedPath, NodeName, ScopeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """All in seconds."""

    beat_interval_s: float = 4.0
    deaf_after_s: float = 4.0
    retry_first_s: float = 1.0
    retry_longest_s: float = 60.0


class Agent:
    """One node's part of the mesh. `handle` is the only method that changes it."""

    def __init__(
        self,
        node: NodeName,
        *,
        boot: str,
        version: str = "",
        memory: e.Memory | None = None,
        timing: Timing | None = None,
    ) -> None:
        timing = timing or Timing()
        self._beat_interval_s = timing.beat_interval_s
        self._now_s = 0.0
        self._look_wanted = ""
        self._remembered = memory or e.Memory()
        self._desired = Desired(self._remembered)
        self._holdings = Holdings(self._remembered.known)
        self._reporter = Reporter(node, boot, version)
        pauses_s = (timing.retry_first_s, timing.retry_longest_s)
        files, fetches = Retries[ManagedPath](*pauses_s), Retries[ScopeName | None](*pauses_s)
        self._disk = DiskSide(self._desired, self._holdings, self._reporter, files)
        self._bus = BusSide(self._desired, self._reporter, fetches, deaf_after_s=timing.deaf_after_s)

    @property
    def is_caught_up(self) -> bool:
        """True if every manifest of the node's scopes is known, and all that could be done about it now is done.

        What cannot be done is an error in the status, and no reason to say that this node is not ready.
        """
        desired, disk = self._desired, self._disk
        is_told = desired.serial_acted_on > 0 and (desired.is_frozen or not any(map(desired.lacks, desired.scopes)))
        return is_told and not disk.is_unsettled and not disk.is_busy

    @property
    def is_busy(self) -> bool:
        """True while the disk is being looked at or changed."""
        return self._disk.is_busy

    def handle(self, event: e.Event) -> list[e.Effect]:
        """Take in one event and return what to do, in this order."""
        revision = self._desired.revision
        effects = self._take_in(event)
        if self._desired.revision != revision:
            self._disk.take_news()
        return effects + self._advance()

    def _take_in(self, event: e.Event) -> list[e.Effect]:
        match event:
            case e.BusUp():
                self._bus.is_connected = True
                self._disk.try_again()
                return self._bus.look()
            case e.BusDown():
                self._bus.is_connected = False
            case e.MessageRefused(reason):
                self._reporter.refuse(reason)
            case ScopeBell():
                return self._hear_scope(event)
            case NodeBell():
                return self._hear_node(event)
            case e.AssignmentFetched(assignment):
                return self._fetched(self._bus.take_assignment(assignment))
            case e.ManifestFetched(scope, manifest):
                return self._fetched(self._bus.take_manifest(scope, manifest))
            case e.FetchFailed(scope, reason):
                return self._fetched(self._bus.fail(scope, reason))
            case e.DiskObserved(found):
                self._disk.take_found(found)
            case e.PlanFinished(plan, outcome):
                self._disk.take_outcome(plan, outcome)
            case e.FilesTouched(paths):
                self._disk.touch(paths)
            case e.OsDefinitionsRead(digest):
                self._reporter.tell_os_report(digest)
            case e.Tick(now_s):
                return self._pass_time(now_s)
            case _:
                assert_never(event)
        return []

    def _hear_scope(self, bell: ScopeBell) -> list[e.Effect]:
        """After a bell that is no beat what failed may work now. If it brings nothing new, say how things are."""
        effects = self._bus.hear(bell)
        if not bell.is_beat and bell.scope in self._desired.scopes:
            self._reporter.is_due = self._reporter.is_due or not effects
            self._disk.try_again()
        return effects

    def _hear_node(self, bell: NodeBell) -> list[e.Effect]:
        """A look that is under way, or was the last one finished, is not begun again."""
        self._reporter.is_due = True
        if bell.look in ("", self._look_wanted, self._reporter.look):
            return self._bus.fetch(None)
        self._look_wanted = bell.look
        self._disk.touch(None, afresh=True)
        return self._bus.look()

    def _fetched(self, effects: list[e.Effect]) -> list[e.Effect]:
        """A fetch has ended; a look or a removal may have waited for it."""
        if self._look_wanted or self._disk.awaits_word_since is not None:
            self._disk.is_unsettled = True
        return effects

    def _pass_time(self, now_s: float) -> list[e.Effect]:
        self._now_s = now_s
        self._disk.pass_time(now_s)
        effects = self._bus.pass_time(now_s)
        if now_s - self._reporter.reported_s >= self._beat_interval_s:
            self._reporter.is_due = True
            if self._holdings.is_changed and not self._disk.is_busy:
                effects += self._remember()
        return effects

    def _advance(self) -> list[e.Effect]:
        """Start the next piece of work if none is under way; report, if there is something to say.

        What the agent takes up is remembered before it acts on it or says so. That it has done what it intended is
        remembered with the next beat: until then the intent says enough for an agent that dies in between, and a
        generation costs one write of the ledger, in one go with its files. Costs nothing that grows with the number of
        files unless something happened to them.
        """
        effects: list[e.Effect] = []
        if self._disk.is_unsettled and not self._disk.is_busy:
            effects += self._work()
        if self._reporter.is_due and self._bus.is_connected:
            effects += self._remember() if self._has_taken_up_more() else []
            effects.append(self._report())
        return effects

    def _work(self) -> list[e.Effect]:
        effects = self._disk.work(self._bus)
        if self._disk.awaits_word_since is not None:
            effects += self._bus.ask_since(self._disk.awaits_word_since)
        if self._look_wanted and self._bus.is_idle and not self._disk.is_busy:
            self._reporter.finish_look(self._look_wanted)
            self._look_wanted = ""
        is_acting = any(isinstance(effect, e.Perform) for effect in effects)
        return [*self._remember(), *effects] if is_acting else effects

    def _has_taken_up_more(self) -> bool:
        taken_up = (self._desired.serial, self._desired.versions_had)
        return taken_up != (self._remembered.serial, self._remembered.versions)

    def _remember(self) -> list[e.Effect]:
        memory = e.Memory(self._desired.serial, dict(self._desired.versions_had), dict(self._holdings.known))
        self._holdings.is_changed = False
        if memory == self._remembered:
            return []
        self._remembered = memory
        return [e.Remember(memory)]

    def _report(self) -> e.Report:
        return self._reporter.report(
            self._now_s,
            serial=self._desired.serial_acted_on,
            receipts=self._disk.receipts,
            holding=self._holdings.scopes,
            errors=(*self._bus.errors(), *self._disk.errors()),
        )
