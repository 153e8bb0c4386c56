"""What the master has said, as it was signed: what the privileged process goes by, and never goes back behind.

The agent hands signed messages over and cannot make any. Here each is verified again, with the master's keys from a
file that the agent cannot write; it has to be for this node and not older than what was noted. What may be put or
taken away follows from them and from the note of what the mesh has written here, by the same pure code that the agent
uses.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from node_agent.core.desired import Desired
from node_agent.core.events import Memory
from node_agent.core.holdings import Holdings
from node_agent.core.reconcile import (
    Found,
    Known,
    Outcome,
    Plan,
    Wanted,
    has_backups_to_purge,
    is_as_wanted,
    is_ours,
    reconcile,
)
from node_agent.privileged.messages import ASSIGNMENT, Put
from protocol.errors import Refused
from protocol.key_messages import Trust
from protocol.names import ManagedPath, NodeName, ScopeName
from protocol.sealing import envelopes
from protocol.sealing.keyring import Keyring

NOT_SAID: Final = "the master's manifests, as far as they were shown to this node's privileged process, do not say so"


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to be done of what was asked; what needs nothing, and why not the rest."""

    plan: Plan = field(default_factory=Plan)
    found: Mapping[ManagedPath, Found] = field(default_factory=dict)
    errors: Mapping[ManagedPath, str] = field(default_factory=dict)


class Authority:
    """Used from the event loop alone. `keyring` makes a keyring with the node's key as it is now."""

    def __init__(self, node: NodeName, memory: Memory, keyring: Callable[[], Keyring]) -> None:
        self._node = node
        self._new_keyring = keyring
        self._keyring = keyring()
        self._desired = Desired(memory)
        self._holdings = Holdings(memory.known)
        self._noted = self._versions()
        self._shown: dict[str, str] = {}
        self._unheeded: set[str] = set()

    @property
    def memory(self) -> Memory:
        """What has to be durable before anything is acted on."""
        return Memory(*self._versions(), dict(self._holdings.known))

    @property
    def is_noted(self) -> bool:
        """True if nothing has changed in it since the last that was noted. Costs nothing that grows with the files."""
        return not self._holdings.is_changed and self._noted == self._versions()

    def note(self) -> Memory:
        """Return what is to be noted now; if it cannot be, `unnote`."""
        self._holdings.is_changed, self._noted = False, self._versions()
        return self.memory

    def unnote(self) -> None:
        self._holdings.is_changed = True

    def lacking(self, word: Mapping[str, str]) -> list[str]:
        """Return which of these parts were not shown yet, or otherwise; the assignment first."""
        return sorted(name for name, digest in word.items() if self._shown.get(name) != digest)

    def take(self, name: str, data: bytes, encoded: bytes) -> None:
        """Take in a part of the master's word. Refused or DecodeError say why not; it is not asked for again."""
        self._shown[name] = hashlib.sha256(data).hexdigest()
        if name == ASSIGNMENT:
            return self._take_assignment(data)
        self._unheeded.add(name)
        if self._take_manifest(ScopeName(name), data, encoded):
            self._unheeded.discard(name)
        return None

    def open_trust(self, word: bytes) -> Trust:
        """Return whom the master names; DecodeError if it is not the master who does."""
        return envelopes.open_trust(word, self._node, self._keyring.trusted)

    def use_master_keys(self, public_keys: Collection[str]) -> None:
        """From now on believe who signs with one of these, and nobody else."""
        self._keyring.trusted = public_keys

    def decide(
        self, puts: Iterable[Put], removals: Iterable[ManagedPath], found: Mapping[ManagedPath, Found]
    ) -> Decided:
        """Return what to do. Every path must be in `found`."""
        errors: dict[ManagedPath, str] = {}
        wanted: dict[ManagedPath, Wanted] = {}
        copies: dict[ManagedPath, ManagedPath | None] = {}
        for put in puts:
            path, want = put.entry.path, Wanted(put.scope, put.entry)
            if self._desired.wanted.get(path) == want and not self._desired.holds_sources:
                wanted[path], copies[path] = want, put.copy_of
            else:
                errors[path] = NOT_SAID
        surplus = {path: self._holdings.known.get(path) for path in removals}
        going: dict[ManagedPath, Known] = {}
        for path, known in surplus.items():
            if known is not None and self._may_go(path, known, found[path]):
                going[path] = known
            elif found[path].kind != "absent":
                errors[path] = NOT_SAID
        leaving = ((path, self._desired.withdrawal(path, known.scope)) for path, known in going.items())
        plan = reconcile(
            wanted,
            found,
            going | {path: known for path, known in self._holdings.known.items() if path in wanted},
            {path: withdrawal for path, withdrawal in leaving if withdrawal},
        )
        errors |= dict(plan.errors)
        writes = tuple(replace(write, copy_of=write.copy_of or copies[write.entry.path]) for write in plan.writes)
        plan = Plan(writes, plan.removals)
        settled = {path: here for path, here in found.items() if path not in errors and path not in {*plan.paths}}
        return Decided(plan, settled, errors)

    def intend(self, plan: Plan, found: Mapping[ManagedPath, Found]) -> None:
        """Note what is about to be written."""
        self._holdings.intend(plan.writes, found)

    def note_outcome(self, plan: Plan, outcome: Outcome) -> None:
        """Note what came of it."""
        for write in plan.writes:
            if write.entry.path in outcome.found:
                self._holdings.note_written(write)
        for removal in plan.removals:
            if removal.purge and removal.path in outcome.found and removal.path in self._holdings.known:
                self._holdings.forget(removal.path)
        self.take_stock(outcome.found)

    def take_stock(self, found: Mapping[ManagedPath, Found]) -> None:
        """Note what is here as it should be, whoever wrote it, and forget what is gone; of sources all of it."""
        if self._desired.holds_sources:
            return self._holdings.forget_all()
        for path, here in found.items():
            want, known = self._desired.wanted.get(path), self._holdings.known.get(path)
            if want is not None and is_as_wanted(want.entry, here):
                self._holdings.note_right(path, want)
            elif known is not None and not is_ours(here, known) and self._may_forget(path, known, here):
                self._holdings.forget(path)
        return None

    def _versions(self) -> tuple[tuple[int, int], dict[ScopeName, tuple[int, int]]]:
        return self._desired.serial, dict(self._desired.versions_had)

    def _take_assignment(self, data: bytes) -> None:
        """What was not heeded may be now, and what was forgotten with a scope is wanted again."""
        keyring = self._new_keyring()
        assignment = keyring.take(envelopes.read_assignment(data, self._node, keyring.trusted))
        if refusal := self._desired.assign(assignment):
            raise Refused(refusal)
        self._keyring = keyring
        held = {name for name in self._desired.versions if name not in self._unheeded}
        self._shown = {name: digest for name, digest in self._shown.items() if name == ASSIGNMENT or name in held}

    def _take_manifest(self, scope: ScopeName, data: bytes, encoded: bytes) -> bool:
        """False if it must not be taken in now: a node that is offline takes nothing newer."""
        head = envelopes.open_head(data, scope, self._keyring.trusted)
        manifest = envelopes.open_manifest(head, head.inline or encoded)
        if scope not in self._desired.scopes:
            raise Refused(f"manifest of {scope}: this node is not in that scope")
        if refusal := self._desired.adopt(self._keyring.opened(manifest)):
            raise Refused(refusal)
        return self._desired.versions.get(scope) == manifest.version

    def _may_go(self, path: ManagedPath, known: Known, here: Found) -> bool:
        """True for what is here of the mesh's and should not be, as the agent's own state machine has it."""
        desired = self._desired
        if desired.holds_sources or not (is_ours(here, known) or self._has_backups_to_purge(path, known, here)):
            return False
        want = desired.wanted.get(path)
        if want is None:
            return desired.may_withdraw(known.scope, is_secret=known.is_secret)
        goes_at_once = desired.goes_at_once(known.scope, is_secret=known.is_secret)
        return goes_at_once and not is_as_wanted(want.entry, here)

    def _may_forget(self, path: ManagedPath, known: Known, here: Found) -> bool:
        if self._has_backups_to_purge(path, known, here):
            return False
        ask = self._desired.goes_at_once if path in self._desired.wanted else self._desired.may_withdraw
        return ask(known.scope, is_secret=known.is_secret)

    def _has_backups_to_purge(self, path: ManagedPath, known: Known, here: Found) -> bool:
        if path in self._desired.wanted:
            return False
        return has_backups_to_purge(here, self._desired.withdrawal(path, known.scope))
