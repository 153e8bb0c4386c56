"""The agent's state machine: events in, effects out. Pure: the loop around it owns the clock, the bus and the disk.

It is level-triggered: an event says "look again", so a lost, repeated or late message costs time and nothing else.
One observation or one plan is under way at any time; when neither is and nothing is left to do, it is *settled*, and
only then are receipts given.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from node_agent.core import events as e
from node_agent.core.desired import Desired
from node_agent.core.reconcile import Found, Known, Outcome, Plan, is_as_wanted, is_ours, reconcile
from node_agent.core.retries import Retries
from protocol.messages import (
    ERRORS_MAX,
    REASON_CHARS_MAX,
    Assignment,
    FileError,
    Manifest,
    NodeBell,
    ScopeBell,
    ScopeReceipt,
    Status,
)
from protocol.names import ManagedPath, NodeName, ScopeName

DEAFNESS_DOUBLINGS_MAX = 3


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
        memory = memory or e.Memory()
        self._timing = timing or Timing()
        self._now_s = 0.0
        self._desired = Desired(memory)
        self._remembered = memory
        self._known: dict[ManagedPath, Known] = dict(memory.known)
        self._found: dict[ManagedPath, Found] = {}
        self._receipts: dict[ScopeName, tuple[int, int]] = {}
        self._dirty: set[ManagedPath] = set()
        self._afresh = True
        self._busy = False
        self._connected = False
        self._unsettled = True
        self._fetching: set[ScopeName | None] = set()
        self._rung_meanwhile: set[ScopeName | None] = set()
        self._file_retries = Retries[ManagedPath](self._timing.retry_first_s, self._timing.retry_longest_s)
        self._fetch_retries = Retries[ScopeName | None](self._timing.retry_first_s, self._timing.retry_longest_s)
        self._heard_s: dict[ScopeName, float] = {}
        self._deaf_looks = 0
        self._look_wanted = ""
        self._watched: frozenset[ManagedPath] = frozenset()
        self._reported_s = 0.0
        self._report_wanted = False
        self._status = Status(node=node, boot=boot, sequence=0, serial=0, agent_version=version)

    def handle(self, event: e.Event) -> list[e.Effect]:
        """Take in one event and return what to do, in this order."""
        return [*self._take_in(event), *self._advance()]

    def _take_in(self, event: e.Event) -> list[e.Effect]:
        match event:
            case e.BusUp():
                self._connected = True
                self._try_files_again()
                return self._look_at_bus()
            case e.BusDown():
                self._connected = False
                self._fetching.clear()
            case e.MessageRefused(reason):
                self._refuse(reason)
            case ScopeBell():
                return self._hear_scope(event)
            case NodeBell():
                return self._hear_node(event)
            case e.AssignmentFetched(assignment):
                return [*self._assign(assignment), *self._fetched(None)]
            case e.ManifestFetched(scope, manifest):
                self._adopt(scope, manifest)
                return self._fetched(scope)
            case e.FetchFailed(scope, reason):
                self._fetch_retries.fail(scope, reason, self._now_s)
                self._report_wanted = True
                return self._fetched(scope)
            case e.DiskObserved(found):
                self._busy = False
                self._unsettled = True
                self._found.update(found)
            case e.PlanFinished(plan, outcome):
                self._busy = False
                self._unsettled = True
                self._take_outcome(plan, outcome)
            case e.FilesTouched(paths):
                self._touch(paths)
            case e.Tick(now_s):
                self._now_s = now_s
                return self._look_again()
            case _:
                assert_never(event)
        return []

    def _hear_scope(self, bell: ScopeBell) -> list[e.Effect]:
        self._heard_s[bell.scope] = self._now_s
        self._deaf_looks = 0
        if not bell.is_beat:
            self._report_wanted = True
            self._try_files_again()
        if self._desired.is_news(bell.scope, bell.version) and not self._fetch_retries.is_held(bell.scope, self._now_s):
            return self._fetch(bell.scope)
        return []

    def _hear_node(self, bell: NodeBell) -> list[e.Effect]:
        self._report_wanted = True
        if not bell.look:
            return self._fetch(None)
        self._look_wanted = bell.look
        self._afresh = True
        self._touch(None)
        return self._look_at_bus()

    def _look_at_bus(self) -> list[e.Effect]:
        """Fetch the assignment and, if there is one, every manifest again; subscribe anew."""
        self._report_wanted = True
        self._heard_s = dict.fromkeys(self._desired.scopes, self._now_s)
        listen: list[e.Effect] = [e.Listen(self._desired.scopes)]
        return [*listen, *self._fetch(None), *(effect for s in self._desired.scopes for effect in self._fetch(s))]

    def _look_again(self) -> list[e.Effect]:
        """What time alone brings: retries, the beat, and the suspicion that a subscription is dead."""
        effects: list[e.Effect] = []
        for path in self._file_retries.due(self._now_s):
            self._dirty.add(path)
            self._unsettled = True
        if not self._connected:
            return effects
        for scope in self._fetch_retries.due(self._now_s):
            effects += self._fetch(scope)
        patience_s = self._timing.deaf_after_s * 2**self._deaf_looks
        if any(self._now_s - heard_s > patience_s for heard_s in self._heard_s.values()):
            self._deaf_looks = min(self._deaf_looks + 1, DEAFNESS_DOUBLINGS_MAX)
            effects += self._look_at_bus()
        if self._now_s - self._reported_s >= self._timing.beat_interval_s:
            self._report_wanted = True
        return effects

    def _fetch(self, scope: ScopeName | None) -> list[e.Effect]:
        """Ask for a manifest, or for the assignment (None); what is asked already is asked again afterwards."""
        if not self._connected:
            return []
        if scope in self._fetching:
            self._rung_meanwhile.add(scope)
            return []
        self._fetching.add(scope)
        return [e.FetchAssignment() if scope is None else e.FetchManifest(scope)]

    def _fetched(self, scope: ScopeName | None) -> list[e.Effect]:
        self._unsettled = True
        self._fetching.discard(scope)
        if scope not in self._rung_meanwhile:
            return []
        self._rung_meanwhile.discard(scope)
        return self._fetch(scope)

    def _assign(self, assignment: Assignment | None) -> list[e.Effect]:
        if assignment is None:
            self._fetch_retries.fail(None, "the bus has no assignment for this node", self._now_s)
            return []
        if assignment.node != self._status.node:
            self._refuse(f"assignment for {assignment.node}, this is {self._status.node}")
            return []
        reason = self._desired.assign(assignment)
        if reason:
            self._fetch_retries.fail(None, reason, self._now_s)
            return []
        self._fetch_retries.clear(None)
        gone = [scope for scope in self._heard_s if scope not in assignment.scopes]
        new = [scope for scope in assignment.scopes if scope not in self._heard_s]
        for scope in gone:
            del self._heard_s[scope]
            self._receipts.pop(scope, None)
            self._fetch_retries.clear(scope)
        for scope in new:
            self._heard_s[scope] = self._now_s
        effects: list[e.Effect] = [e.Listen(assignment.scopes)] if gone or new else []
        for scope in assignment.scopes:
            if self._desired.lacks(scope):
                effects += self._fetch(scope)
        return effects

    def _adopt(self, scope: ScopeName, manifest: Manifest | None) -> None:
        if manifest is None:
            self._fetch_retries.fail(scope, f"the bus has no manifest of scope {scope}", self._now_s)
            return
        before = self._desired.versions.get(scope)
        reason = self._desired.adopt(scope, manifest)
        if reason:
            self._fetch_retries.fail(scope, reason, self._now_s)
            return
        self._fetch_retries.clear(scope)
        if manifest.version != before:
            self._try_files_again()

    def _try_files_again(self) -> None:
        """There is news: what failed may work now."""
        self._touch(frozenset(self._file_retries.reasons))

    def _touch(self, paths: frozenset[ManagedPath] | None) -> None:
        mine = self._desired.wanted.keys() | self._known.keys()
        for path in mine if paths is None else mine & paths:
            self._dirty.add(path)
            self._file_retries.clear(path)
            self._unsettled = True

    def _refuse(self, reason: str) -> None:
        self._status = replace(self._status, refusals=self._status.refusals.and_one_more(reason))
        self._report_wanted = True

    def _take_outcome(self, plan: Plan, outcome: Outcome) -> None:
        self._found.update(outcome.found)
        self._report_wanted = self._report_wanted or bool(outcome.errors)
        for path, reason in outcome.errors.items():
            self._file_retries.fail(path, reason, self._now_s)
            self._found.pop(path, None)
        for write in plan.writes:
            path = write.entry.path
            if path in outcome.found:
                self._known[path] = Known(write.scope, write.entry.digest)
        for path in outcome.found:
            self._file_retries.clear(path)

    def _advance(self) -> list[e.Effect]:
        """Start the next piece of work if none is under way; otherwise give receipts, remember, report.

        Costs nothing that grows with the number of files unless something happened to them.
        """
        effects: list[e.Effect] = []
        if self._unsettled and not self._busy:
            effects += self._work()
        if self._report_wanted and self._connected:
            effects.append(self._report())
        return effects

    def _work(self) -> list[e.Effect]:
        mine = frozenset(self._desired.wanted.keys() | self._known.keys())
        watch: list[e.Effect] = [e.Watch(mine)] if mine != self._watched else []
        self._watched = mine
        unseen = (self._dirty & mine) | {path for path in mine if path not in self._found and not self._held(path)}
        self._dirty.clear()
        if unseen:
            self._busy = True
            afresh, self._afresh = self._afresh, False
            return [*watch, e.Observe(frozenset(unseen), afresh)]
        plan = self._plan()
        for path, reason in plan.errors:
            self._file_retries.fail(path, reason, self._now_s)
            self._report_wanted = True
        if plan.is_empty:
            self._unsettled = False
            return [*watch, *self._settle()]
        self._busy = True
        self._note_intents(plan)
        return [*watch, *self._remember(), e.Perform(plan)]

    def _plan(self) -> Plan:
        wanted = {path: want for path, want in self._desired.wanted.items() if not self._held(path)}
        return reconcile(
            wanted,
            self._found,
            {path: known for path, known in self._removable().items() if not self._held(path)},
            self._desired.withdrawn,
            holds_sources=self._desired.holds_sources,
        )

    def _held(self, path: ManagedPath) -> bool:
        return self._file_retries.is_held(path, self._now_s)

    def _removable(self) -> dict[ManagedPath, Known]:
        """Return what is known here, less what a manifest that is still missing might want."""
        return {
            path: known
            for path, known in self._known.items()
            if path in self._desired.wanted or self._desired.may_withdraw(known.scope)
        }

    def _note_intents(self, plan: Plan) -> None:
        for write in plan.writes:
            path = write.entry.path
            if path not in self._known:
                self._known[path] = Known(write.scope, write.entry.digest, is_intent=True)

    def _settle(self) -> list[e.Effect]:
        """Nothing is under way and nothing is left that could be done now: say what is here."""
        self._forget_what_is_gone()
        for path, want in self._desired.wanted.items():
            if self._is_right(path):
                self._file_retries.clear(path)
                if not self._desired.holds_sources:
                    self._known[path] = Known(want.scope, want.entry.digest)
        receipts = {scope: version for scope, version in self._desired.versions.items() if self._is_complete(scope)}
        self._receipts = receipts
        if self._look_wanted and not self._fetching:
            self._status = replace(self._status, look=self._look_wanted)
            self._look_wanted = ""
            self._report_wanted = True
        self._report_wanted = self._report_wanted or self._status_now() != self._status
        return self._remember()

    def _forget_what_is_gone(self) -> None:
        for path in [path for path in self._removable() if path not in self._desired.wanted and path in self._found]:
            if not is_ours(self._found[path], self._known[path]):
                del self._known[path]
                del self._found[path]
        for path in self._file_retries.reasons:
            if path not in self._desired.wanted and path not in self._known:
                self._file_retries.clear(path)

    def _is_right(self, path: ManagedPath) -> bool:
        here = self._found.get(path)
        return here is not None and is_as_wanted(self._desired.wanted[path].entry, here)

    def _is_complete(self, scope: ScopeName) -> bool:
        """The node that holds the sources is where generations come from: it shows a difference, and owes nothing."""
        if self._desired.holds_sources:
            return True
        mine = [path for path, want in self._desired.wanted.items() if want.scope == scope]
        surplus = any(known.scope == scope and path not in self._desired.wanted for path, known in self._known.items())
        return not surplus and all(self._is_right(path) for path in mine)

    def _remember(self) -> list[e.Effect]:
        versions = {**self._remembered.versions, **self._receipts}
        memory = e.Memory(self._desired.serial, versions, dict(self._known))
        if memory == self._remembered:
            return []
        self._remembered = memory
        return [e.Remember(memory)]

    def _report(self) -> e.Report:
        self._report_wanted = False
        self._reported_s = self._now_s
        self._status = replace(self._status_now(), sequence=self._status.sequence + 1)
        return e.Report(self._status)

    def _status_now(self) -> Status:
        """Return what is to be said now, under the sequence of what was said last."""
        errors = self._errors()
        return replace(
            self._status,
            serial=self._desired.serial_acted_on,
            receipts=tuple(
                ScopeReceipt(scope=scope, epoch=epoch, generation=generation)
                for scope, (epoch, generation) in sorted(self._receipts.items())
            ),
            holding=tuple(sorted({known.scope for known in self._known.values()})),
            errors=tuple(errors[:ERRORS_MAX]),
            errors_count=len(errors),
        )

    def _errors(self) -> list[FileError]:
        of_scopes = [
            FileError(path="", scope=scope or "", reason=reason[:REASON_CHARS_MAX])
            for scope, reason in self._fetch_retries.reasons.items()
        ]
        of_files = [
            FileError(path=path, scope=self._scope_of(path), reason=reason[:REASON_CHARS_MAX])
            for path, reason in sorted(self._file_retries.reasons.items())
        ]
        return of_scopes + of_files

    def _scope_of(self, path: ManagedPath) -> str:
        if path in self._desired.wanted:
            return self._desired.wanted[path].scope
        return self._known[path].scope if path in self._known else ""
