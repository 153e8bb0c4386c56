"""The agent's ear and mouth: when to fetch what, and what to believe of it. Keeps `desired` up to date. Pure.

A bell, a beat and a timer are never more than a reason to fetch; what was fetched decides.
"""

from collections.abc import Iterable, Iterator

from node_agent.core.desired import Desired
from node_agent.core.events import Effect, FetchAssignment, FetchManifest, Listen
from node_agent.core.fetches import Fetches
from node_agent.core.reporter import Reporter, an_error
from node_agent.core.retries import Retries
from protocol.messages import Assignment, FileError, Manifest, ScopeBell
from protocol.names import ScopeName

DEAFNESS_DOUBLINGS_MAX = 3


class BusSide:
    """Methods return what to ask of the bus."""

    def __init__(
        self, desired: Desired, reporter: Reporter, retries: Retries[ScopeName | None], *, deaf_after_s: float
    ) -> None:
        self.is_connected = False
        self._desired = desired
        self._reporter = reporter
        self._retries = retries
        self._deaf_after_s = deaf_after_s
        self._now_s = 0.0
        self._fetches = Fetches()
        self._heard_s: dict[ScopeName, float] = {}
        self._deaf_looks = 0

    @property
    def moment(self) -> int:
        """What has been fetched since is told by `is_told_since`."""
        return self._fetches.moment

    @property
    def is_idle(self) -> bool:
        """True if no fetch is under way."""
        return self._fetches.is_idle

    def look(self) -> list[Effect]:
        """Subscribe anew; fetch the assignment and, if there is one, every manifest again."""
        self._reporter.is_due = True
        scopes = self._desired.scopes
        self._heard_s = dict.fromkeys(scopes, self._now_s)
        return [Listen(scopes), *self.fetch(None), *self._fetch_all(scopes)]

    def pass_time(self, now_s: float) -> list[Effect]:
        """Try failed fetches again; suspect a subscription without beats of being dead."""
        self._now_s = now_s
        if not self.is_connected:
            return []
        effects = [effect for scope in self._retries.due(now_s) for effect in self.fetch(scope, again=False)]
        patience_s = self._deaf_after_s * 2**self._deaf_looks
        if any(now_s - heard_s > patience_s for heard_s in self._heard_s.values()):
            self._deaf_looks = min(self._deaf_looks + 1, DEAFNESS_DOUBLINGS_MAX)
            effects += self.look()
        return effects

    def hear(self, bell: ScopeBell) -> list[Effect]:
        """A beat waits until a failed fetch may be tried again, a ring does not."""
        if bell.scope not in self._heard_s:
            return []
        self._heard_s[bell.scope] = self._now_s
        self._deaf_looks = 0
        if not self._desired.is_news(bell.scope, bell.version):
            return []
        if not bell.is_beat:
            return self.fetch(bell.scope)
        return [] if self._retries.is_held(bell.scope, self._now_s) else self.fetch(bell.scope, again=False)

    def fetch(self, scope: ScopeName | None, *, again: bool = True) -> list[Effect]:
        """Ask for a manifest, or for the assignment (None); what is under way is asked `again` when it has ended."""
        if not self.is_connected or not self._fetches.begin(scope, again=again):
            return []
        return [FetchAssignment() if scope is None else FetchManifest(scope)]

    def take_assignment(self, assignment: Assignment | None) -> list[Effect]:
        reason = self._why_not_assigned(assignment)
        was_frozen, revision = self._desired.is_frozen, self._desired.revision
        if assignment is not None and not reason:
            reason = self._desired.assign(assignment)
        if reason:
            return self.fail(None, reason)
        self._clear(None)
        effects = self._end(None, is_answered=True)
        if self._desired.revision == revision:
            return effects
        self._reporter.is_due = True
        scopes = self._desired.scopes
        for scope in self._retries.reasons.keys() - {*scopes}:
            self._clear(scope)
        if self._heard_s.keys() != {*scopes}:
            self._heard_s = {scope: self._heard_s.get(scope, self._now_s) for scope in scopes}
            effects.append(Listen(scopes))
        is_thawed = was_frozen and not self._desired.is_frozen
        return effects + self._fetch_all(scope for scope in scopes if is_thawed or self._desired.lacks(scope))

    def take_manifest(self, scope: ScopeName, manifest: Manifest | None) -> list[Effect]:
        if scope not in self._desired.scopes:
            return self._end(scope, is_answered=False)
        if manifest is None or manifest.scope != scope:
            return self.fail(scope, f"the bus has no manifest of scope {scope}")
        reason = self._desired.adopt(manifest)
        if reason:
            return self.fail(scope, reason)
        self._clear(scope)
        return self._end(scope, is_answered=True)

    def fail(self, scope: ScopeName | None, reason: str) -> list[Effect]:
        """A fetch has ended without an answer. A scope that was left meanwhile may well be barred: no failure."""
        if scope is None or scope in self._desired.scopes:
            self._retries.fail(scope, reason, self._now_s)
            self._reporter.is_due = True
        return self._end(scope, is_answered=False)

    def is_told_since(self, moment: int) -> bool:
        """True if the manifests of all scopes have been asked for, and answered, after that moment."""
        return all(self._fetches.is_answered_since(scope, moment) for scope in self._desired.scopes)

    def ask_since(self, moment: int) -> list[Effect]:
        """Bring about that `is_told_since` becomes true."""
        return self._fetch_all(
            scope
            for scope in self._desired.scopes
            if not self._fetches.is_answered_since(scope, moment)
            and not self._fetches.is_coming_since(scope, moment)
            and not self._retries.is_held(scope, self._now_s)
        )

    def errors(self) -> Iterator[FileError]:
        for scope, reason in self._retries.reasons.items():
            yield an_error("", scope or "", reason)

    def _fetch_all(self, scopes: Iterable[ScopeName]) -> list[Effect]:
        return [effect for scope in scopes for effect in self.fetch(scope)]

    def _end(self, scope: ScopeName | None, *, is_answered: bool) -> list[Effect]:
        return self.fetch(scope) if self._fetches.end(scope, is_answered=is_answered) else []

    def _clear(self, scope: ScopeName | None) -> None:
        if self._retries.clear(scope):
            self._reporter.is_due = True

    def _why_not_assigned(self, assignment: Assignment | None) -> str:
        if assignment is None:
            return "the bus has no assignment for this node"
        if assignment.node != self._reporter.node:
            reason = f"assignment for {assignment.node}, this is {self._reporter.node}"
            self._reporter.refuse(reason)
            return reason
        return ""
