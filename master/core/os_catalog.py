"""What the nodes have said of their OS definitions, merged as Ganeti merges it (ganeti-behaviour, c.5). Pure.

A node that has not said anything is left out, and named; one that has, and does not have an OS, makes it partial.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal, TypeVar

from protocol.errors import Refused
from protocol.names import NodeName
from protocol.operator_os_messages import OsDiagnosis, OsFinding, OsInfo
from protocol.os_messages import OsDefinition, OsReport

T = TypeVar("T")
Reports = Mapping[NodeName, OsReport]
Status = Literal["valid", "partial", "invalid", "unknown"]


def names(reports: Reports) -> tuple[str, ...]:
    """Return the base name of every OS that some node has, usable or not."""
    return tuple(sorted({definition.name for report in reports.values() for definition in report.definitions}))


def info(name: str, reports: Reports, osparams: Mapping[str, Mapping[str, str]]) -> OsInfo:
    """Return one OS as all nodes that can use it agree on it."""
    merged = agreed(name, reports)
    defaults = {
        full: dict(values) for full, values in sorted(osparams.items()) if full == name or full.startswith(f"{name}+")
    }
    return OsInfo(
        name=name,
        status=status(name, reports),
        api_versions=merged.api_versions,
        variants=merged.variants,
        parameters=merged.parameters,
        defaults=defaults,
        nodes=tuple(node for node, definition in _used(name, reports).items() if definition and definition.is_valid),
    )


def agreed(name: str, reports: Reports) -> OsDefinition:
    """Return what every node that can use an OS has of it: versions, variants and parameters that all of them know."""
    usable = [definition for definition in _used(name, reports).values() if definition and definition.is_valid]
    return OsDefinition(
        name=name,
        directory="",
        api_versions=tuple(sorted(_in_all([one.api_versions for one in usable]))),
        variants=_in_all([one.variants for one in usable]),
        parameters=_in_all([one.parameters for one in usable]),
    )


def status(name: str, reports: Reports) -> Status:
    """Return whether an OS is usable on every node, on some, on none, or is nowhere."""
    used = _used(name, reports).values()
    if not any(used):
        return "unknown"
    usable = [definition is not None and definition.is_valid for definition in used]
    return "valid" if all(usable) else "partial" if any(usable) else "invalid"


def diagnosis(name: str, reports: Reports) -> OsDiagnosis:
    """Return what each node has of an OS; nodes on which it is the same are one finding, the usable ones first."""
    findings: dict[OsFinding, OsFinding] = {}
    for node, report in reports.items():
        places = tuple(one.directory for one in report.definitions if one.name == name)
        same = _without_places(report.definition(name), is_shadowing=len(places) > 1)
        so_far = findings.get(same, OsFinding())
        findings[same] = replace(
            same,
            nodes=(*so_far.nodes, node),
            directories=_joined(so_far.directories, places[:1]),
            shadowed=_joined(so_far.shadowed, places[1:]),
        )
    ordered = sorted(findings.values(), key=lambda one: (not one.directories, bool(one.problems), one.nodes))
    return OsDiagnosis(name=name, status=status(name, reports), findings=tuple(ordered))


def definition_on(node: NodeName, name: str, reports: Reports) -> OsDefinition:
    """Return the OS that a job on a node will use; Refused if the node has said that it does not have it.

    Of a node that has not said anything, what all others agree on is taken: it may be off, and the job waits for it.
    """
    report = reports.get(node)
    if report is None:
        if not info(name, reports, {}).nodes:
            raise Refused(f"node {node} has not said yet which OS definitions it has, and no other node has OS {name}")
        return agreed(name, reports)
    definition = report.definition(name)
    if definition is None:
        where = info(name, reports, {}).nodes
        others = f"it is on {', '.join(where[:10])}" if where else "no node has it; see: gnt-mesh os list"
        raise Refused(f"node {node} has no OS {name}; {others}")
    if not definition.is_valid:
        raise Refused(
            f"OS {name} on node {node} is not usable: {definition.problems[0]}; see: gnt-mesh os diagnose {name}"
        )
    return definition


def _without_places(used: OsDefinition | None, *, is_shadowing: bool) -> OsFinding:
    """Return what is to be equal on the nodes of one finding."""
    if used is None:
        return OsFinding()
    return OsFinding(
        directories=("",),
        api_versions=used.api_versions,
        variants=used.variants,
        parameters=tuple(parameter.name for parameter in used.parameters),
        problems=used.problems,
        shadowed=("",) if is_shadowing else (),
    )


def _joined(so_far: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*so_far, *more)))


def _used(name: str, reports: Reports) -> dict[NodeName, OsDefinition | None]:
    return {node: report.definition(name) for node, report in reports.items()}


def _in_all(lists: Collection[tuple[T, ...]]) -> tuple[T, ...]:
    """Return what is in each list, in the order of the first."""
    first, *others = lists or [()]
    return tuple(item for item in first if all(item in other for other in others))
