"""Knows by itself what one node was told and what lies on its disk, and says when that goes wrong.

Written against the promises, not against the agent: of its inside nothing is looked at.
"""

from collections.abc import Collection, Iterable, Mapping

from node_agent.core import events as e
from node_agent.core.reconcile import Found, Plan, Remove, Write
from protocol.messages import Assignment, FileEntry, Manifest, ScopeReceipt, Status
from protocol.names import MASTER_CANDIDATES, ManagedPath, NodeName, ScopeName
from tests.support.fake_disk import FakeDisk
from tests.support.sim.scheduler import Scheduler, Violation
from tests.support.values import found_as

Version = tuple[int, int]


class History:
    """Everything that was ever published; what a secret is."""

    def __init__(self) -> None:
        self.manifests: dict[tuple[ScopeName, Version], Manifest] = {}
        self._public: set[str] = set()
        self._for_candidates: set[str] = set()

    def add(self, manifest: Manifest) -> None:
        self.manifests[manifest.scope, manifest.version] = manifest
        audience = self._for_candidates if manifest.scope == MASTER_CANDIDATES else self._public
        audience |= {entry.digest for entry in manifest.files}

    def is_secret(self, digest: str) -> bool:
        """True for a content that was published to master candidates and never to others."""
        return digest in self._for_candidates and digest not in self._public


class Watcher:
    """One node's witness. `is_trusted_with_secrets`: the master has not been told that they are gone."""

    def __init__(self, node: NodeName, scheduler: Scheduler, history: History) -> None:
        self.is_trusted_with_secrets = False
        self.tampered_s: dict[ManagedPath, float] = {}
        """Changes by hand that the agent cannot have seen yet."""
        self._last_changed_s: dict[ManagedPath, float] = {}
        self._said: dict[tuple[str, int], tuple[float, frozenset[ManagedPath]]] = {}
        self.written: dict[ManagedPath, str] = {}
        self.told: dict[ScopeName, Manifest] = {}
        self.assignment: Assignment | None = None
        self._node = node
        self._scheduler = scheduler
        self._history = history
        self._floor = e.Memory()
        self._generations: dict[ManagedPath, int] = {}
        self._ours: set[ManagedPath] = set()
        self._ever_told: dict[ManagedPath, set[FileEntry]] = {}
        self._last_listed: dict[ManagedPath, int] = {}
        """The newest generation of any scope in which the node was told of the path: that scope answers for it."""
        self._sequence: dict[str, int] = {}

    def note_start(self, memory: e.Memory) -> None:
        self.told.clear()
        self.assignment = None
        self._floor = memory

    def note_event(self, event: e.Event) -> None:
        """Learn what the agent is told; something older than before is not believed."""
        match event:
            case e.AssignmentFetched(Assignment() as assignment):
                have = max(self._floor.serial, self.assignment.version if self.assignment else (1, 0))
                if assignment.version >= have:
                    self.assignment = assignment
                    self.told = {scope: told for scope, told in self.told.items() if scope in assignment.scopes}
            case e.ManifestFetched(scope, Manifest() as manifest):
                if self.assignment and scope in self.assignment.scopes and self._is_believed(manifest):
                    self.told[scope] = manifest
                    for entry in manifest.files:
                        self._ever_told.setdefault(entry.path, set()).add(entry)
                        self._last_listed[entry.path] = max(self._last_listed.get(entry.path, 0), manifest.generation)
                    self._floor = e.Memory(
                        self._floor.serial, {**self._floor.versions, scope: manifest.version}, self._floor.known
                    )

    def note_tampering(self, path: ManagedPath) -> None:
        self.tampered_s[path] = self._last_changed_s[path] = self._scheduler.now_s

    def note_seen(self, found: Mapping[ManagedPath, Found], seen_s: float) -> None:
        """What the agent has seen it must answer for; what it has seen to be right is the mesh's."""
        for path, here in found.items():
            if self.tampered_s.get(path, seen_s) <= seen_s:
                self.tampered_s.pop(path, None)
            if any(here == found_as(entry) for entry in self._told_entries(path)):
                self._ours.add(path)

    def check_effects(self, effects: Iterable[e.Effect], disk: FakeDisk) -> None:
        for effect in effects:
            match effect:
                case e.Perform(plan):
                    self._check_plan(plan)
                case e.Report(status):
                    self._check_status(status, disk)

    def check_step(self, step: Write | Remove) -> None:
        """A file becomes visible, or goes."""
        path = step.entry.path if isinstance(step, Write) else step.path
        self.tampered_s.pop(path, None)
        if isinstance(step, Remove):
            self._last_changed_s[path] = self._scheduler.now_s
            return
        self._fail_if(
            step.entry.generation < self._generations.get(path, -1),
            f"{path} goes back from generation {self._generations.get(path)} to {step.entry.generation}",
        )
        self._fail_if(
            step.scope == MASTER_CANDIDATES and not self.is_trusted_with_secrets,
            f"{path} of {step.scope} is written on a node that has given them all back",
        )
        self._generations[path] = step.entry.generation
        self._ours.add(path)
        self.written[path] = step.entry.digest

    def check_disk(self, disk: FakeDisk) -> None:
        """What may never be there, at any moment."""
        for path, digest in disk.backups:
            self._fail_if(self._history.is_secret(digest), f"a backup of {path} holds a secret")
        if not self.is_trusted_with_secrets:
            for path, here in disk.files.items():
                self._fail_if(
                    self._history.is_secret(here.digest) and path not in self.tampered_s,
                    f"{path} still holds a secret, though the master was told otherwise",
                )

    def check_word(self, status: Status, disk: FakeDisk) -> None:
        """What the master has heard is true now, but for what was changed by hand or rightly removed since."""
        said_s, unseen = self._said[status.boot, status.sequence]
        later = {path for path, changed_s in self._last_changed_s.items() if changed_s >= said_s}
        for receipt in status.receipts:
            if self.assignment and receipt.scope in self.assignment.scopes:
                lacking = self._lacking(receipt, disk, unseen | later)
                what = f"{receipt.scope} {receipt.generation}"
                self._fail_if(bool(lacking), f"the master believes in {what}, but the disk lacks {lacking}")

    def _lacking(self, receipt: ScopeReceipt, disk: FakeDisk, excused: Collection[ManagedPath]) -> list[str]:
        """Return what is not on the disk of a generation, and not replaced by something newer either."""
        manifest = self._history.manifests[receipt.scope, receipt.version]
        return [
            entry.path
            for entry in manifest.files
            if entry.path not in excused and not self._is_there(entry, manifest, disk)
        ] + [
            item.path
            for item in manifest.withdrawn
            if item.path not in excused
            and disk.here(item.path).digest == self.written.get(item.path)
            and not self._told_entries(item.path)
            and self._last_listed.get(item.path, 0) < item.generation
        ]

    def _is_there(self, entry: FileEntry, manifest: Manifest, disk: FakeDisk) -> bool:
        here = disk.here(entry.path)
        if here == found_as(entry):
            return True
        newer = [other for other in self._ever_told[entry.path] if other.generation >= entry.generation]
        if any(here == found_as(other) for other in newer):
            return True
        is_listed = manifest.scope in {told.scope for told in self._wanting(entry.path)}
        return not is_listed or self._left(entry.path) > manifest.generation

    def _check_plan(self, plan: Plan) -> None:
        assert self.assignment
        self._fail_if(self.assignment.is_master, "a plan for the node that holds the sources")
        for write in plan.writes:
            self._fail_if(
                write.scope not in self.assignment.scopes, f"{write.entry.path} of {write.scope}, which it is not in"
            )
        for removal in plan.removals:
            self._check_removal(removal, self.assignment)

    def _check_removal(self, removal: Remove, assignment: Assignment) -> None:
        path = removal.path
        if removal.is_gone:
            self._fail_if(not removal.purge, f"{path} is gone, and something is to be done about it")
            return
        self._fail_if(path not in self._ours, f"{path} is removed, which the mesh never wrote")
        is_left = removal.scope not in assignment.scopes
        is_urgent = is_left and (removal.scope == MASTER_CANDIDATES or assignment.is_offline)
        wanted = [told.scope for told in self._wanting(path)]
        self._fail_if(bool(wanted) and not is_urgent, f"{path} is removed though wanted in {wanted}")
        unheard = [scope for scope in assignment.scopes if scope not in self.told]
        self._fail_if(bool(unheard) and not is_urgent, f"{path} is removed while {unheard} might list it")

    def _check_status(self, status: Status, disk: FakeDisk) -> None:
        self._fail_if(status.sequence <= self._sequence.get(status.boot, 0), "a status with an old number")
        self._sequence[status.boot] = status.sequence
        self._said[status.boot, status.sequence] = (self._scheduler.now_s, frozenset(self.tampered_s))
        for receipt in status.receipts:
            assert self.assignment
            self._fail_if(
                receipt.scope not in self.assignment.scopes, f"a receipt for {receipt.scope}, which it has left"
            )
            lacking = [] if self.assignment.is_master else self._lacking(receipt, disk, self.tampered_s)
            self._fail_if(
                bool(lacking), f"a receipt for {receipt.scope} {receipt.generation}, but its disk lacks {lacking}"
            )

    def _is_believed(self, manifest: Manifest) -> bool:
        have = self._floor.versions.get(manifest.scope, (1, -1))
        if self.assignment and self.assignment.is_offline and manifest.version > have:
            return False
        return manifest.version >= have

    def _told_entries(self, path: ManagedPath) -> list[FileEntry]:
        return [entry for told in self._wanting(path) for entry in told.files if entry.path == path]

    def _wanting(self, path: ManagedPath) -> list[Manifest]:
        """Return the lists with a path, but for those older than its withdrawal from another one."""
        left = self._left(path)
        return [
            told
            for told in self.told.values()
            if told.generation >= left and path in {entry.path for entry in told.files}
        ]

    def _left(self, path: ManagedPath) -> int:
        """Return the generation in which the path was withdrawn last, from any scope that the node is in."""
        left = [item.generation for told in self.told.values() for item in told.withdrawn if item.path == path]
        return max(left, default=0)

    def _fail_if(self, is_wrong: bool, what: str) -> None:
        if is_wrong:
            raise Violation(f"{self._node}: {what}")
