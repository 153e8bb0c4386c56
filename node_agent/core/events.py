"""What the agent's state machine is told, and what it asks for. Positional, so that `match` can take them apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from node_agent.core.reconcile import Found, Known, Outcome, Plan
from protocol.messages import Assignment, Manifest, NodeBell, ScopeBell, Status
from protocol.names import ManagedPath, ScopeName


@dataclass(frozen=True, slots=True)
class Memory:
    """What must survive the agent: versions it never goes back behind, and the files it wrote."""

    serial: tuple[int, int] = (1, 0)
    """Epoch and serial of the last assignment."""
    versions: Mapping[ScopeName, tuple[int, int]] = field(default_factory=dict)
    """Epoch and generation of the last manifest of each scope that the agent has begun to act on."""
    known: Mapping[ManagedPath, Known] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BusUp:
    pass


@dataclass(frozen=True, slots=True)
class BusDown:
    reason: str


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """A peer's message was dropped; the reason names the subject."""

    reason: str


@dataclass(frozen=True, slots=True)
class AssignmentFetched:
    assignment: Assignment | None


@dataclass(frozen=True, slots=True)
class ManifestFetched:
    scope: ScopeName
    manifest: Manifest | None


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """`scope` is None for the assignment."""

    scope: ScopeName | None
    reason: str


@dataclass(frozen=True, slots=True)
class DiskObserved:
    found: Mapping[ManagedPath, Found]


@dataclass(frozen=True, slots=True)
class PlanFinished:
    plan: Plan
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class FilesTouched:
    """Something may have changed at these paths; None: anywhere."""

    paths: frozenset[ManagedPath] | None


@dataclass(frozen=True, slots=True)
class OsDefinitionsRead:
    """The digest of the node's OsReport, after every look at its OS definitions."""

    digest: str


@dataclass(frozen=True, slots=True)
class Tick:
    """About once a second; `now_s` never runs backwards."""

    now_s: float


Event = (
    BusUp
    | BusDown
    | MessageRefused
    | ScopeBell
    | NodeBell
    | AssignmentFetched
    | ManifestFetched
    | FetchFailed
    | DiskObserved
    | PlanFinished
    | FilesTouched
    | OsDefinitionsRead
    | Tick
)


@dataclass(frozen=True, slots=True)
class Listen:
    scopes: tuple[ScopeName, ...]


@dataclass(frozen=True, slots=True)
class FetchAssignment:
    pass


@dataclass(frozen=True, slots=True)
class FetchManifest:
    scope: ScopeName


@dataclass(frozen=True, slots=True)
class Observe:
    paths: frozenset[ManagedPath]
    afresh: bool


@dataclass(frozen=True, slots=True)
class Perform:
    plan: Plan


@dataclass(frozen=True, slots=True)
class Remember:
    """Make this durable before anything that comes after it."""

    memory: Memory


@dataclass(frozen=True, slots=True)
class Watch:
    paths: frozenset[ManagedPath]


@dataclass(frozen=True, slots=True)
class Report:
    status: Status


Effect = Listen | FetchAssignment | FetchManifest | Observe | Perform | Remember | Watch | Report
