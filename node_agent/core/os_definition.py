"""What was found in an OS directory -> an OS definition, or what is wrong with it and where. Pure.

Files and meaning are Ganeti's (ganeti-behaviour, c.2 and c.3) without its known bugs: which files are needed follows
the highest version that both sides know, not the highest that is declared; comments and blank lines declare nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from node_agent.core.os_schema import with_schema
from protocol.messages import REASON_CHARS_MAX
from protocol.os_messages import (
    API_VERSIONS,
    HELP_CHARS_MAX,
    PARAMETERS_MAX,
    PROBLEMS_MAX,
    VARIANTS_MAX,
    OsDefinition,
    OsParameter,
)
from protocol.os_names import OsVariant, os_name, os_parameter_name, os_variant, variable_part

VERSIONS_FILE: Final = "ganeti_api_version"
VARIANTS_FILE: Final = "variants.list"
PARAMETERS_FILE: Final = "parameters"
PARAMETERS_LIST: Final = "parameters.list"
SCHEMA_FILE: Final = "parameters.toml"
TEXTS: Final = (VERSIONS_FILE, VARIANTS_FILE, PARAMETERS_FILE, PARAMETERS_LIST, SCHEMA_FILE)

SCRIPTS: Final = ("create", "import", "export", "rename")
VERIFY: Final = "verify"

VERSIONS_DECLARED_MAX: Final = 20

Complain = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class OsDirectory:
    """One entry of the search path. A file is in `texts` or `scripts` if it is usable, in `faults` if it is not."""

    name: str
    directory: str
    texts: Mapping[str, str] = field(default_factory=dict)
    scripts: frozenset[str] = frozenset()
    faults: Mapping[str, str] = field(default_factory=dict)
    """File name to what is wrong with it; the empty name stands for the directory itself."""


def judge(found: OsDirectory) -> OsDefinition:
    """Return the OS definition, usable if it has no problem. Whatever a file holds is a problem at most."""
    problems: list[str] = []
    if "" in found.faults:
        return OsDefinition(name=found.name, directory=found.directory, problems=(_clipped(found.faults[""]),))
    try:
        os_name(found.name)
    except ValueError as error:
        problems.append(str(error))
    declared = _api_versions(found, problems.append)
    version = max((number for number in declared if number in API_VERSIONS), default=0)
    _check_scripts(found, version, problems.append)
    variants = _variants(found, problems.append) if version >= 15 else ()
    parameters = _parameters(found, version, problems.append) if version >= 15 else ()
    return OsDefinition(
        name=found.name,
        directory=found.directory,
        api_versions=declared,
        variants=variants,
        parameters=parameters,
        problems=_told(problems),
    )


def _api_versions(found: OsDirectory, complain: Complain) -> tuple[int, ...]:
    if not _is_there(found, VERSIONS_FILE, complain, needed_since=10):
        return ()
    declared = []
    for place, line in _lines(found, VERSIONS_FILE):
        if line.isascii() and line.isdecimal() and len(line) <= 6:
            declared.append(int(line))
        else:
            complain(f"{place}: {line!r} is not an API version, which is a number")
    if len(declared) > VERSIONS_DECLARED_MAX:
        complain(f"{VERSIONS_FILE} declares {len(declared)} API versions, limit {VERSIONS_DECLARED_MAX}")
    if not declared:
        complain(f"{VERSIONS_FILE} declares no API version")
    elif not set(declared) & set(API_VERSIONS):
        known = ", ".join(map(str, API_VERSIONS))
        complain(f"it declares no API version that the mesh knows: {_listed(declared)}; the mesh knows {known}")
    return tuple(dict.fromkeys(declared))[:VERSIONS_DECLARED_MAX]


def _check_scripts(found: OsDirectory, version: int, complain: Complain) -> None:
    for script in (*SCRIPTS, *((VERIFY,) if version >= 20 else ())):
        if script in found.faults:
            complain(f"{script} {found.faults[script]}")
        elif script not in found.scripts:
            since = ", which API 20 needs" if script == VERIFY else ""
            complain(f"{script} is missing{since}")


def _variants(found: OsDirectory, complain: Complain) -> tuple[OsVariant, ...]:
    if not _is_there(found, VARIANTS_FILE, complain):
        return ()
    variants: dict[OsVariant, None] = {}
    for place, line in _lines(found, VARIANTS_FILE):
        try:
            variants[os_variant(line)] = None
        except ValueError as error:
            complain(f"{place}: {error}")
    if len(variants) > VARIANTS_MAX:
        complain(f"{VARIANTS_FILE} has {len(variants)} variants, limit {VARIANTS_MAX}")
    return tuple(variants)[:VARIANTS_MAX]


def _parameters(found: OsDirectory, version: int, complain: Complain) -> tuple[OsParameter, ...]:
    """Both files together: `parameters` of the founding text, and from API 20 on Ganeti's `parameters.list`."""
    merged: dict[str, OsParameter] = {}
    if _is_there(found, PARAMETERS_FILE, complain):
        _declare(found, PARAMETERS_FILE, 15, merged, complain)
    if version >= 20 and _is_there(found, PARAMETERS_LIST, complain, needed_since=20):
        _declare(found, PARAMETERS_LIST, 20, merged, complain)
    if len(merged) > PARAMETERS_MAX:
        complain(f"it declares {len(merged)} parameters, limit {PARAMETERS_MAX}")
    parameters = tuple(merged.values())[:PARAMETERS_MAX]
    if _is_there(found, SCHEMA_FILE, complain):
        return with_schema(parameters, found.texts[SCHEMA_FILE], lambda problem: complain(f"{SCHEMA_FILE}: {problem}"))
    return parameters


def _declare(
    found: OsDirectory, file: str, since: Literal[15, 20], merged: dict[str, OsParameter], complain: Complain
) -> None:
    """Add what one file declares. Two names that would be one variable are refused: which value would it have?"""
    seen: set[str] = set()
    for place, line in _lines(found, file):
        text, help_text = line, ""
        if file == PARAMETERS_LIST:
            text, _, help_text = line.partition(" ")
        try:
            name = os_parameter_name(text)
        except ValueError as error:
            complain(f"{place}: {error}")
            continue
        help_text = "".join(char if char.isprintable() else " " for char in help_text.strip())[:HELP_CHARS_MAX]
        other = merged.get(variable_part(name))
        if other is None:
            merged[variable_part(name)] = OsParameter(name=name, since=since, help=help_text)
        elif other.name == name and name not in seen:
            merged[variable_part(name)] = replace(other, help=help_text)  # named in both files
        elif other.name == name:
            complain(f"{place}: parameter {name} is declared twice")
        else:
            complain(f"{place}: parameters {other.name} and {name} would be the same variable")
        seen.add(name)


def _is_there(found: OsDirectory, file: str, complain: Complain, *, needed_since: int = 0) -> bool:
    """True if the file can be read. Says what is wrong if it cannot be, or if it has to be there and is not."""
    if file in found.faults:
        complain(f"{file} {found.faults[file]}")
    elif file in found.texts:
        return True
    elif needed_since:
        purpose = " (it may be empty)" if file == PARAMETERS_LIST else ""
        complain(f"{file} is missing, which API {needed_since} needs{purpose}")
    return False


def _lines(found: OsDirectory, file: str) -> Iterator[tuple[str, str]]:
    """Yield place and content of each line that says something: tabs count as blanks, `#` begins a comment line."""
    for number, raw in enumerate(found.texts[file].split("\n"), 1):
        line = raw.replace("\t", " ").strip()
        if line and not line.startswith("#"):
            yield f"{file}, line {number}", line


def _told(problems: list[str]) -> tuple[str, ...]:
    if len(problems) <= PROBLEMS_MAX:
        return tuple(map(_clipped, problems))
    kept = problems[: PROBLEMS_MAX - 1]
    return (*map(_clipped, kept), f"and {len(problems) - len(kept)} more problems")


def _clipped(sentence: str) -> str:
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in sentence
    )
    return shown[:REASON_CHARS_MAX]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, dict.fromkeys(numbers)))
