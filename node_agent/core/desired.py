"""What should be true on this node, as far as it has been told: the assignment and the manifests of its scopes."""

from collections.abc import Collection, Mapping

from node_agent.core.events import Memory
from node_agent.core.reconcile import Wanted
from protocol.messages import Assignment, Manifest, Withdrawal
from protocol.names import ManagedPath, ScopeName

Version = tuple[int, int]
"""Epoch and generation of a manifest, epoch and serial of an assignment."""


class Desired:
    """Takes in assignments and manifests that are not older than what it has had; never goes back."""

    def __init__(self, memory: Memory) -> None:
        self._serial = memory.serial
        self._had = dict(memory.versions)
        self._assignment: Assignment | None = None
        self._manifests: dict[ScopeName, Manifest] = {}
        self.revision = 0
        """Grows whenever something else should be true than before."""
        self.wanted: dict[ManagedPath, Wanted] = {}
        self._withdrawn: dict[ManagedPath, Withdrawal] = {}

    @property
    def serial(self) -> Version:
        """The newest assignment ever taken in."""
        return self._serial

    @property
    def serial_acted_on(self) -> int:
        """The serial of the assignment in force, 0 before the first of this session."""
        return self._assignment.serial if self._assignment else 0

    @property
    def scopes(self) -> tuple[ScopeName, ...]:
        return self._assignment.scopes if self._assignment else ()

    @property
    def holds_sources(self) -> bool:
        return self._assignment is not None and self._assignment.is_master

    @property
    def is_frozen(self) -> bool:
        """True while the node is marked offline: it gives back, and takes nothing new."""
        return self._assignment is not None and self._assignment.is_offline

    @property
    def versions(self) -> dict[ScopeName, Version]:
        """The manifests in force."""
        return {scope: manifest.version for scope, manifest in self._manifests.items()}

    @property
    def versions_had(self) -> Mapping[ScopeName, Version]:
        """The newest manifest ever taken in, per scope."""
        return self._had

    def is_news(self, scope: ScopeName, version: Version) -> bool:
        """True if a bell with this version means that there is something to fetch."""
        return scope in self.scopes and not self.is_frozen and version > self._newest(scope)

    def lacks(self, scope: ScopeName) -> bool:
        """True if the scope's manifest has not been fetched in this session."""
        return scope not in self._manifests

    def goes_at_once(self, scope: ScopeName, *, is_secret: bool) -> bool:
        """True for a file of a scope that the node has lost, if it must not keep it until it knows more."""
        return self._assignment is not None and scope not in self.scopes and (is_secret or self.is_frozen)

    def may_withdraw(self, scope: ScopeName, *, is_secret: bool) -> bool:
        """True if a file of this scope that no manifest lists may be removed.

        Not while a manifest is missing that might list it now; but a secret of a scope that the node has lost goes at
        once, and a node that is offline gives back what it must without asking for more.
        """
        if self._assignment is None:
            return False
        return self.goes_at_once(scope, is_secret=is_secret) or not any(self.lacks(other) for other in self.scopes)

    def withdrawal(self, path: ManagedPath, scope: ScopeName) -> Withdrawal | None:
        """Return how a file that came with this scope left the list last; None if it is the node that left."""
        return self._withdrawn.get(path) if scope in self.scopes else None

    def lists(self, scope: ScopeName, paths: Collection[ManagedPath], *, generation_max: int | None = None) -> bool:
        """True if the scope's manifest has one of these paths, in an entry of at most this generation."""
        manifest = self._manifests.get(scope)
        if manifest is None or not paths:
            return False
        return any(
            entry.path in paths and (generation_max is None or entry.generation <= generation_max)
            for entry in manifest.files
        )

    def withdraws(self, scope: ScopeName, paths: Collection[ManagedPath]) -> bool:
        """True if the scope's manifest has one of these paths among those that left it."""
        manifest = self._manifests.get(scope)
        return manifest is not None and bool(paths) and any(item.path in paths for item in manifest.withdrawn)

    def assign(self, assignment: Assignment) -> str:
        """Take in an assignment; return why not, empty if it was taken."""
        if assignment.version < self._serial:
            return (
                f"the bus offers assignment {assignment.serial}, older than {self._serial[1]}, which this node has had"
            )
        self._serial = assignment.version
        if assignment != self._assignment:
            self._assignment = assignment
            self._manifests = {s: m for s, m in self._manifests.items() if s in assignment.scopes}
            self._merge()
        return ""

    def adopt(self, manifest: Manifest) -> str:
        """Take in the manifest of a scope the node is in; return why not, empty if it was taken or must not be now."""
        scope, have = manifest.scope, self._newest(manifest.scope)
        if self.is_frozen and manifest.version > have:
            return ""
        if manifest.version < have:
            offer = f"generation {manifest.generation} of {scope}"
            return f"the bus offers {offer}, older than {have[1]}, which this node has had"
        self._had[scope] = manifest.version
        if manifest != self._manifests.get(scope):
            self._manifests[scope] = manifest
            self._merge()
        return ""

    def _newest(self, scope: ScopeName) -> Version:
        return self._had.get(scope, (1, -1))

    def _merge(self) -> None:
        """Of two scopes that list a path (it is moving between them) the newer entry counts, or the newer list.

        A path is in one scope at a time: a list that is older than its withdrawal from another scope is outdated.
        """
        self.revision += 1
        before, self.wanted = self.wanted, {}
        self._withdrawn = {}
        manifests = [self._manifests[scope] for scope in self.scopes if scope in self._manifests]
        left: dict[ManagedPath, Version] = {}
        for manifest in manifests:
            for item in manifest.withdrawn:
                if (manifest.epoch, item.generation) >= left.get(item.path, (0, 0)):
                    left[item.path] = (manifest.epoch, item.generation)
                    self._withdrawn[item.path] = item
        for manifest in sorted(manifests, key=lambda manifest: manifest.version):
            for entry in manifest.files:
                other = self.wanted.get(entry.path)
                is_newer = other is None or other.entry.generation <= entry.generation
                if is_newer and left.get(entry.path, (0, 0)) <= manifest.version:
                    want, then = Wanted(manifest.scope, entry), before.get(entry.path)
                    self.wanted[entry.path] = then if then is not None and then == want else want
