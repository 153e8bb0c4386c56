"""What should be true on this node, as far as it has been told: the assignment and the manifests of its scopes."""

from node_agent.core.events import Memory
from node_agent.core.reconcile import Wanted
from protocol.messages import Assignment, Manifest, Withdrawal
from protocol.names import ManagedPath, ScopeName, is_secret


class Desired:
    """Takes in assignments and manifests that are not older than what it has had; never goes back."""

    def __init__(self, memory: Memory) -> None:
        self._serial = memory.serial
        self._versions = dict(memory.versions)
        self._assignment: Assignment | None = None
        self._manifests: dict[ScopeName, Manifest] = {}
        self.wanted: dict[ManagedPath, Wanted] = {}
        self.withdrawn: dict[ManagedPath, Withdrawal] = {}

    @property
    def serial(self) -> tuple[int, int]:
        """Epoch and serial of the newest assignment ever taken in."""
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
    def versions(self) -> dict[ScopeName, tuple[int, int]]:
        """Epoch and generation of every manifest in force."""
        return {scope: manifest.version for scope, manifest in self._manifests.items()}

    def is_news(self, scope: ScopeName, version: tuple[int, int]) -> bool:
        """True if a bell with this version means that there is something to fetch."""
        return scope in self.scopes and not self._is_frozen() and version > self._version(scope)

    def lacks(self, scope: ScopeName) -> bool:
        """True if the scope's manifest has not been fetched in this session."""
        return scope not in self._manifests

    def may_withdraw(self, scope: ScopeName) -> bool:
        """True if a file of this scope that no manifest lists may be removed.

        Not while a manifest is missing that might list it now; but a secret of a scope that the node has lost goes at
        once, and a node that is offline gives back what it must without asking for more.
        """
        if self._assignment is None:
            return False
        if scope not in self.scopes and (is_secret(scope) or self._is_frozen()):
            return True
        return all(other in self._manifests for other in self.scopes)

    def assign(self, assignment: Assignment) -> str:
        """Take in an assignment; return why not, empty if it was taken."""
        if assignment.version < self._serial:
            return (
                f"the bus offers assignment {assignment.serial}, older than {self._serial[1]}, which this node has had"
            )
        self._serial = assignment.version
        self._assignment = assignment
        self._manifests = {s: m for s, m in self._manifests.items() if s in assignment.scopes}
        self._merge()
        return ""

    def adopt(self, scope: ScopeName, manifest: Manifest) -> str:
        """Take in a scope's manifest; return why not, empty if it was taken or is not for this node now."""
        if scope not in self.scopes:
            return ""
        have = self._version(scope)
        if self._is_frozen() and manifest.version > have:
            return ""
        if manifest.version < have:
            offer = f"generation {manifest.generation} of {scope}"
            return f"the bus offers {offer}, older than {have[1]}, which this node has had"
        self._versions[scope] = manifest.version
        self._manifests[scope] = manifest
        self._merge()
        return ""

    def _is_frozen(self) -> bool:
        return self._assignment is not None and self._assignment.is_offline

    def _version(self, scope: ScopeName) -> tuple[int, int]:
        return self._versions.get(scope, (1, -1))

    def _merge(self) -> None:
        """Of two scopes that list a path (it is moving between them) the newer entry counts."""
        self.wanted = {}
        self.withdrawn = {}
        for scope in self.scopes:
            manifest = self._manifests.get(scope)
            if manifest is None:
                continue
            self.withdrawn |= {item.path: item for item in manifest.withdrawn}
            for entry in manifest.files:
                other = self.wanted.get(entry.path)
                if other is None or other.entry.generation < entry.generation:
                    self.wanted[entry.path] = Wanted(scope, entry)
