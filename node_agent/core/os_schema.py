"""`parameters.toml`: what an OS definition says of its parameters beyond their names. Pure.

    [size]
    type = "integer"
    choices = [1, 2, 4]
    default = 2
    help = "how large"

It is ours, and optional: without it every parameter is a string that need not be given, as in the founding text.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import msgspec

from protocol.os_messages import CHOICES_MAX, HELP_CHARS_MAX, OsParameter
from protocol.os_names import os_parameter_value

Value = str | int | bool


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of the file. A misspelt key is refused: it would be a check that nobody makes."""

    type: Literal["string", "integer", "boolean"] = "string"
    choices: list[Value] = []
    default: Value | None = None
    required: bool = False
    secret: bool = False
    help: str = ""


def with_schema(
    parameters: Sequence[OsParameter], text: str, complain: Callable[[str], None]
) -> tuple[OsParameter, ...]:
    """Return the parameters with what the file says of them; what it says wrongly is told and left out."""
    try:
        tables = msgspec.toml.decode(text, type=dict[str, Entry])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        complain(str(error))
        return tuple(parameters)
    names = {parameter.name for parameter in parameters}
    for name in tables:
        if name not in names:
            complain(f"{name!r} is declared neither in parameters nor in parameters.list")
    return tuple(_refined(parameter, tables.get(parameter.name), complain) for parameter in parameters)


def _refined(parameter: OsParameter, entry: Entry | None, complain: Callable[[str], None]) -> OsParameter:
    if entry is None:
        return parameter
    problem = _contradiction(entry)
    if problem:
        complain(f"{parameter.name}: {problem}")
        return parameter
    default = None if entry.default is None else _text(entry.default)
    try:
        refined = replace(
            parameter,
            type=entry.type,
            choices=tuple(map(_text, entry.choices)),
            default=default,
            required=entry.required,
            secret=entry.secret,
            help=_printable(entry.help) or parameter.help,
        )
        for value in (*refined.choices, *(() if default is None else (default,))):
            os_parameter_value(parameter.name, value)
            if wrong := refined.objection(value):
                raise ValueError(f"{value[:40]!r} {wrong}")
    except ValueError as error:
        complain(f"{parameter.name}: {error}")
        return parameter
    return refined


def _contradiction(entry: Entry) -> str:
    if entry.required and entry.default is not None:
        return "required and default exclude each other"
    if entry.secret and (entry.default is not None or entry.choices):
        return "a secret has neither default nor choices: everybody can read this file"
    if len(entry.choices) > CHOICES_MAX:
        return f"{len(entry.choices)} choices, limit {CHOICES_MAX}"
    return ""


def _text(value: Value) -> str:
    """Return a value as a script gets it: OS parameters are strings."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text).strip()[:HELP_CHARS_MAX]
