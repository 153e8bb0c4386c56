"""What operators ask of the master about OS definitions, and what it answers."""

from dataclasses import dataclass, field
from typing import Literal

from protocol.change_messages import ChangeRequest
from protocol.os_messages import OsAction, OsParameter


@dataclass(frozen=True, slots=True, kw_only=True)
class OsQuery:
    """Base names; none: every OS that a node has."""

    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OsInfo:
    """One OS, merged over the nodes that have said what they have: what all of them agree on."""

    name: str
    status: Literal["valid", "partial", "invalid", "unknown"]
    """`valid`: usable on every node; `partial`: on some; `invalid`: on none; `unknown`: no node has it."""
    api_versions: tuple[int, ...] = ()
    variants: tuple[str, ...] = ()
    parameters: tuple[OsParameter, ...] = ()
    defaults: dict[str, dict[str, str]] = field(default_factory=dict)
    """The cluster's defaults, by base name and by name and variant."""
    nodes: tuple[str, ...] = ()
    """Where it is usable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OsInfos:
    infos: tuple[OsInfo, ...]
    silent: tuple[str, ...] = ()
    """Nodes that may run instances and have not said what they have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OsFinding:
    """Nodes on which an OS is the same, wherever it lies."""

    nodes: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    """Where it lies, each place once; none: these nodes do not have it."""
    api_versions: tuple[int, ...] = ()
    variants: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    shadowed: tuple[str, ...] = ()
    """Further places of that name, which are not used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OsDiagnosis:
    name: str
    status: Literal["valid", "partial", "invalid", "unknown"]
    findings: tuple[OsFinding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OsDiagnoses:
    diagnoses: tuple[OsDiagnosis, ...]
    silent: tuple[str, ...] = ()
    problems: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By node: what is wrong with its search path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OsModify(ChangeRequest):
    """Change the cluster's defaults for an OS, or for OS+variant. The value `default` removes one."""

    name: str
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OsEnvQuery:
    """What a script would get for an instance, as its node says it."""

    instance: str
    action: OsAction = "create"
    api_version: int | None = None
