"""The agent's hands: what has been seen on the disk, what to look at or to do next, and what may be said of it. Pure.

One observation or one plan is under way at any time; when neither is and nothing is left that could be done now, the
disk is *settled*, and only then are receipts given.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Protocol

from node_agent.core.desired import Desired, Version
from node_agent.core.events import Effect, Observe, Perform, Watch
from node_agent.core.holdings import Holdings
from node_agent.core.reconcile import (
    Found,
    Known,
    Outcome,
    Plan,
    Remove,
    Wanted,
    has_backups_to_purge,
    is_as_wanted,
    is_ours,
    reconcile,
)
from node_agent.core.reporter import Reporter, an_error
from node_agent.core.retries import Retries
from node_agent.core.settled import Settled
from protocol.messages import FileError
from protocol.names import ManagedPath, ScopeName


class Word(Protocol):
    """How recent the word of the bus is."""

    @property
    def moment(self) -> int: ...

    def is_told_since(self, moment: int) -> bool: ...


class DiskSide:
    """`is_unsettled`: there may be something to do. `is_busy`: an observation or a plan is under way."""

    def __init__(self, desired: Desired, holdings: Holdings, reporter: Reporter, retries: Retries[ManagedPath]) -> None:
        self.is_unsettled = True
        self.is_busy = False
        self.receipts: dict[ScopeName, Version] = {}
        self._desired = desired
        self._holdings = holdings
        self._reporter = reporter
        self._retries = retries
        self._now_s = 0.0
        self._found: dict[ManagedPath, Found] = {}
        self._dirty: set[ManagedPath] = set()
        self._is_afresh = True
        self._watched: frozenset[ManagedPath] = frozenset()
        self._generations: dict[ManagedPath, int] = {}
        self._doubted_since: dict[ManagedPath, int] = {}
        self._settled = Settled()

    @property
    def awaits_word_since(self) -> int | None:
        """What was found to be surplus or outdated then is done when the bus has said again, since, what is wanted."""
        return max(self._doubted_since.values(), default=None)

    def pass_time(self, now_s: float) -> None:
        """Look again at what failed, when its pause is over."""
        self._now_s = now_s
        for path in self._retries.due(now_s):
            self._dirty.add(path)
            self.is_unsettled = True

    def take_news(self) -> None:
        """Something else is desired than before."""
        self.is_unsettled = True
        self.receipts = {s: version for s, version in self.receipts.items() if s in self._desired.scopes}
        self.try_again()
        differing = self._differing()
        if self._desired.holds_sources:
            self.touch(differing)  # a source has changed, or there would be no news
        self._doubt(differing)

    def try_again(self) -> None:
        """What failed may work now."""
        self.touch(frozenset(self._retries.reasons))

    def touch(self, paths: frozenset[ManagedPath] | None, *, afresh: bool = False) -> None:
        """Look at these paths (None: all) again."""
        self._is_afresh = self._is_afresh or afresh
        wanted, known = self._desired.wanted, self._holdings.known
        for path in wanted.keys() | known.keys() if paths is None else paths:
            if path in wanted or path in known:
                self._dirty.add(path)
                self._retries.hurry(path)
                self.is_unsettled = True

    def take_found(self, found: Mapping[ManagedPath, Found]) -> None:
        """An observation has ended."""
        self.is_busy = False
        self.is_unsettled = True
        self._found.update(found)
        wanted = self._desired.wanted
        self._doubt({p for p, here in found.items() if p in wanted and not is_as_wanted(wanted[p].entry, here)})

    def take_outcome(self, plan: Plan, outcome: Outcome) -> None:
        """A plan has ended. What was not done as it should be has failed, unless nobody wants it any more."""
        self.is_busy = False
        self.is_unsettled = True
        self._found.update(outcome.found)
        for write in plan.writes:
            path, here = write.entry.path, outcome.found.get(write.entry.path)
            if here is not None:
                self._holdings.note_written(write)
                self._generations[path] = write.entry.generation
            is_done = here is not None and is_as_wanted(write.entry, here)
            is_wanted = self._desired.wanted.get(path) == Wanted(write.scope, write.entry)
            self._settle_attempt(path, outcome, is_done=is_done, is_wanted=is_wanted)
        for removal in plan.removals:
            is_done = removal.path in outcome.found and outcome.found[removal.path].kind == "absent"
            is_wanted = removal.path not in self._desired.wanted or self._goes_at_once(removal)
            self._settle_attempt(removal.path, outcome, is_done=is_done, is_wanted=is_wanted)
            if is_done and removal.purge and removal.path in self._holdings.known:
                self._holdings.forget(removal.path)

    def work(self, word: Word) -> list[Effect]:
        """Return the next observation or plan. If there is none the disk is settled; but it may wait for word."""
        effects = self._watch()
        unfound = (path for path in self._watched - self._found.keys() if not self._is_held(path))
        unseen = (self._dirty & self._watched) | {*unfound}
        self._dirty.clear()
        if unseen:
            self.is_busy = True
            is_afresh, self._is_afresh = self._is_afresh, False
            return [*effects, Observe(frozenset(unseen), is_afresh)]
        plan = self._plan(word)
        for path, reason in plan.errors:
            self._fail(path, reason)
        self._doubt({*plan.paths, *(path for path, _ in plan.errors)})
        if plan.is_empty:
            self.is_unsettled = False
            self._settle()
            return effects
        self.is_busy = True
        plan = self._most_urgent(plan)
        self._holdings.intend(plan.writes, self._found)
        return [*effects, Perform(plan)]

    def errors(self) -> Iterator[FileError]:
        for path, reason in sorted(self._retries.reasons.items()):
            owner = self._desired.wanted.get(path) or self._holdings.known.get(path)
            yield an_error(path, owner.scope if owner else "", reason)

    def _settle_attempt(self, path: ManagedPath, outcome: Outcome, *, is_done: bool, is_wanted: bool) -> None:
        if is_done:
            self._clear(path)
            return
        self._found.pop(path, None)
        if is_wanted:
            self._fail(path, outcome.errors.get(path, "is not as it was written"))

    def _watch(self) -> list[Effect]:
        """What is not watched any more may change unseen: forget what was found there."""
        mine = frozenset(self._desired.wanted.keys() | self._holdings.known.keys())
        if mine == self._watched:
            return []
        self._watched = mine
        self._found = {path: here for path, here in self._found.items() if path in mine}
        self._generations = {path: number for path, number in self._generations.items() if path in mine}
        return [Watch(mine)]

    def _plan(self, word: Word) -> Plan:
        """What would remove a file, or take it back to an older content, waits for word from every scope.

        A path that moves is published where it goes before it is withdrawn where it was; but the bell of the former
        may have been lost. What must not stay here waits for nothing.
        """
        unsettled = self._unsettled()
        surplus = dict(self._surplus(unsettled))
        wanted = {
            path: self._desired.wanted[path]
            for path in unsettled
            if path in self._desired.wanted and path not in surplus and not self._is_held(path)
        }
        outdated = {path for path, want in wanted.items() if self._is_outdated(path, want)}
        doubted = outdated | {path for path in surplus if not self._goes_at_once(surplus[path])}
        self._doubted_since = {path: self._doubted_since.get(path, word.moment) for path in doubted}
        for path, since in self._doubted_since.items():
            if not word.is_told_since(since) or (path in outdated and self._desired.is_frozen):
                surplus.pop(path, None)
                wanted.pop(path, None)
        leaving = ((path, self._desired.withdrawal(path, known.scope)) for path, known in surplus.items())
        return reconcile(
            wanted,
            self._found,
            surplus | {path: self._holdings.known[path] for path in wanted if path in self._holdings.known},
            {path: withdrawal for path, withdrawal in leaving if withdrawal},
            holds_sources=self._desired.holds_sources,
        )

    def _differing(self) -> frozenset[ManagedPath]:
        """Return what is not, or not known to be, as it should be."""
        wanted = self._desired.wanted
        return frozenset(p for p in self._unsettled() if p in wanted and not self._is_right(p, wanted[p]))

    def _unsettled(self) -> list[ManagedPath]:
        """Return what may need something to be done, or noted: nobody looks at the rest again and again."""
        desired = self._desired
        under = (desired.scopes, desired.holds_sources, desired.is_frozen)
        return self._settled.others(desired.wanted, self._found, self._holdings.known, under=under)

    def _is_right(self, path: ManagedPath, want: Wanted) -> bool:
        here = self._found.get(path)
        return here is not None and is_as_wanted(want.entry, here)

    def _most_urgent(self, plan: Plan) -> Plan:
        """What the node must not keep goes by itself and first: a write that cannot be done does not hold it back."""
        at_once = tuple(removal for removal in plan.removals if self._goes_at_once(removal))
        return Plan(removals=at_once) if at_once else plan

    def _surplus(self, unsettled: Iterable[ManagedPath]) -> Iterator[tuple[ManagedPath, Known]]:
        """Yield what is here of the mesh's and should not be, as far as that can be known."""
        for path in unsettled:
            known = self._holdings.known.get(path)
            if known is None or self._is_held(path) or self._desired.holds_sources:
                continue
            if not is_ours(self._found[path], known) and not self._has_backups_to_purge(path, known):
                continue
            want = self._desired.wanted.get(path)
            if want is None:
                is_surplus = self._may_withdraw(known)
            else:
                is_surplus = self._goes_at_once(known) and not self._is_right(path, want)
            if is_surplus:
                yield path, known

    def _has_backups_to_purge(self, path: ManagedPath, known: Known) -> bool:
        if path in self._desired.wanted or self._desired.holds_sources or path not in self._found:
            return False
        return has_backups_to_purge(self._found[path], self._desired.withdrawal(path, known.scope))

    def _goes_at_once(self, file: Known | Remove) -> bool:
        return self._desired.goes_at_once(file.scope, is_secret=file.is_secret)

    def _may_withdraw(self, known: Known) -> bool:
        return self._desired.may_withdraw(known.scope, is_secret=known.is_secret)

    def _is_outdated(self, path: ManagedPath, want: Wanted) -> bool:
        """True if a newer entry was here: a scope that the node has left, or that it moved to, listed it."""
        return want.entry.generation < self._generations.get(path, -1) and not self._is_right(path, want)

    def _doubt(self, differing: Set[ManagedPath]) -> None:
        """Take back the receipts that are not true any more; that a newer generation is on its way does no harm."""
        if self._desired.holds_sources or not differing:
            return
        damaged = {path for path in differing if self._is_damaged(path)}
        for scope, (_, generation) in list(self.receipts.items()):
            is_behind = self._desired.lists(scope, differing, generation_max=generation)
            if is_behind or self._desired.lists(scope, damaged):
                del self.receipts[scope]

    def _is_damaged(self, path: ManagedPath) -> bool:
        """True if the mesh has written this file, and something else is there now."""
        known, here = self._holdings.known.get(path), self._found.get(path)
        return known is not None and here is not None and not known.is_intent and not known.wrote(here.digest)

    def _settle(self) -> None:
        """Nothing is under way and nothing is left that could be done now: take stock."""
        unsettled = self._unsettled()
        self._forget_what_is_gone(unsettled)
        if self._desired.holds_sources:
            self._holdings.forget_all()
        wrong = set()
        for path, want in ((path, self._desired.wanted[path]) for path in unsettled if path in self._desired.wanted):
            if not self._is_right(path, want):
                wrong.add(path)
                continue
            self._generations[path] = want.entry.generation
            self._clear(path)
            if not self._desired.holds_sources:
                self._holdings.note_right(path, want)
            self._settled.note(path, want, self._found[path], self._holdings.known.get(path))
        receipts = self._complete(wrong)
        if (receipts, self._holdings.scopes) != (self.receipts, self._reporter.holding):
            self.receipts = receipts
            self._reporter.is_due = True

    def _forget_what_is_gone(self, unsettled: Iterable[ManagedPath]) -> None:
        for path in unsettled:
            known = self._holdings.known.get(path)
            if known is None:
                continue
            here = self._found.get(path)
            is_wanted = path in self._desired.wanted
            may_go = self._goes_at_once(known) if is_wanted else self._may_withdraw(known)
            if may_go and here is not None and not is_ours(here, known) and not self._has_backups_to_purge(path, known):
                self._holdings.forget(path)
        for path in self._retries.reasons:
            if path not in self._desired.wanted and path not in self._holdings.known:
                self._clear(path)

    def _complete(self, wrong: Set[ManagedPath]) -> dict[ScopeName, Version]:
        """Return the versions of which everything is here, and nothing that has been withdrawn.

        The node that holds the sources is where generations come from: it shows a difference, and owes nothing.
        """
        versions = self._desired.versions
        if self._desired.holds_sources:
            return versions
        surplus = {
            path: known.scope for path, known in self._holdings.known.items() if path not in self._desired.wanted
        }
        left = set(surplus.values())
        return {
            scope: version
            for scope, version in versions.items()
            if scope not in left
            and not self._desired.withdraws(scope, surplus.keys())
            and not self._desired.lists(scope, wrong)
        }

    def _clear(self, path: ManagedPath) -> None:
        if self._retries.clear(path):
            self._reporter.is_due = True

    def _fail(self, path: ManagedPath, reason: str) -> None:
        self._retries.fail(path, reason, self._now_s)
        self._reporter.is_due = True

    def _is_held(self, path: ManagedPath) -> bool:
        return self._retries.is_held(path, self._now_s)
