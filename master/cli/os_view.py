"""OS definitions as text."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from master.cli import tables
from master.cli.os_shapes import full_names
from master.cli.tables import Cell
from protocol.operator_os_messages import OsDiagnosis, OsFinding, OsInfo
from protocol.os_messages import OsEnv, OsParameter

STYLES = {"valid": "green", "partial": "yellow", "invalid": "bold red", "unknown": "bold red"}
NODES_SHOWN_MAX = 12

NO_OS = "No node has an OS definition. They are directories below os_search_path of each node, such as /srv/ganeti/os."


def os_table(infos: Sequence[OsInfo], *, headers: bool) -> RenderableType:
    """Return one line per name that can be asked for."""
    rows: list[tuple[Cell, ...]] = [
        (name, _numbers(info.api_versions), ", ".join(one.name for one in info.parameters) or "-", str(len(info.nodes)))
        for info in infos
        for name in full_names(info)
    ]
    drawn = tables.table(("Name", "API", "Parameters", "Nodes"), rows, right=("Nodes",))
    drawn.show_header = headers
    return drawn


def os_details(infos: Sequence[OsInfo]) -> RenderableType:
    parts: list[RenderableType] = []
    for info in infos:
        parts += [Text(), tables.facts(_facts(info))] if parts else [tables.facts(_facts(info))]
    return Group(*parts)


def left_out(infos: Sequence[OsInfo]) -> list[str]:
    """Return what a list of OSes that can be installed does not show, as one sentence; nothing if it shows all."""
    others = [info.name for info in infos if info.status != "valid"]
    if others:
        return [
            f"Not usable on every node: {', '.join(others[:5])}{', ...' * (len(others) > 5)}; see: gnt-mesh os diagnose"
        ]
    return [] if infos else [NO_OS]


def diagnoses_view(
    diagnoses: Sequence[OsDiagnosis], problems: Mapping[str, Sequence[str]], silent: Sequence[str]
) -> RenderableType:
    """Return what each OS is on which nodes, what is wrong and where."""
    parts: list[RenderableType] = []
    for diagnosis in diagnoses:
        title = Text.assemble(diagnosis.name, ": ", (diagnosis.status, STYLES[diagnosis.status]))
        rows = [row for finding in diagnosis.findings for row in _finding(finding)]
        parts += [*([Text()] if parts else []), title, tables.facts(rows)]
    notes: list[tuple[str, Cell]] = [
        (f"Search path of {node}", tables.text(problem, "red")) for node, found in problems.items() for problem in found
    ]
    if silent:
        notes.append(("No answer from", _nodes(silent)))
    if notes:
        parts += [*([Text()] if parts else []), tables.facts(notes)]
    return Group(*parts)


def env_lines(env: OsEnv) -> Iterator[str]:
    """Yield the environment as a shell writes it, and as comments what is not in it."""
    lines = {name: f"{name}={value}" for name, value in env.variables.items()}
    lines |= {name: f"{name}=<redacted>" for name in env.redacted}
    yield from (lines[name] for name in sorted(lines))
    yield from (f"# withheld: {name}: {reason}" for name, reason in sorted(env.withheld.items()))


def _finding(finding: OsFinding) -> Iterator[tuple[str, Cell]]:
    who = f"  {_nodes(finding.nodes)}"
    if not finding.directories:
        yield who, tables.text("does not have it", "red")
        return
    where = ", ".join(finding.directories[:3]) + (", ..." if len(finding.directories) > 3 else "")
    if finding.problems:
        for problem in finding.problems:
            yield who, Text.assemble(tables.text(problem, "red"), f"  ({where})")
            who = ""
    else:
        names = ", ".join(finding.variants) or "none"
        parameters = ", ".join(finding.parameters) or "none"
        yield (
            who,
            f"valid, API {_numbers(finding.api_versions)}, variants: {names}, parameters: {parameters}  ({where})",
        )
    for place in finding.shadowed[:3]:
        yield "", tables.text(f"not used, because it comes later in the search path: {place}", "yellow")


def _facts(info: OsInfo) -> list[tuple[str, Cell]]:
    facts: list[tuple[str, Cell]] = [
        ("OS", info.name),
        ("Status", Text(info.status, style=STYLES[info.status])),
        ("API versions", _numbers(info.api_versions) or "-"),
        ("Variants", ", ".join(info.variants) or "-"),
        ("Usable on", _nodes(info.nodes) or "-"),
    ]
    facts += [(f"Parameter {parameter.name}", _parameter(parameter)) for parameter in info.parameters]
    for name, values in info.defaults.items():
        facts += [(f"Default of {name}", f"{key}={value}") for key, value in values.items()]
    return facts


def _parameter(parameter: OsParameter) -> str:
    parts = [parameter.help.removesuffix(".") or "(no help)"]
    if parameter.type != "string":
        parts.append(parameter.type)
    if parameter.choices:
        parts.append(f"one of {', '.join(parameter.choices)}")
    if parameter.default is not None:
        parts.append(f"default {parameter.default!r}")
    parts += [word for word, holds in (("required", parameter.required), ("secret", parameter.secret)) if holds]
    return "; ".join(parts)


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _nodes(nodes: Sequence[str]) -> str:
    more = len(nodes) - NODES_SHOWN_MAX
    return ", ".join(nodes[:NODES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
