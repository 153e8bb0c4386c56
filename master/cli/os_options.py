"""Flags of `os`, and how their values are written: Ganeti's `-O a=1,b=2`."""

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from protocol.os_names import os_parameter_name, os_parameter_value

F = TypeVar("F", bound=Callable[..., Any])


def split_pairs(text: str) -> list[tuple[str, str]]:
    """Return `a=1,b=2` as pairs; a comma that belongs to a value is written `\\,`. A name needs a value."""
    parts = [part.replace("\\,", ",") for part in re.split(r"(?<!\\),", text)]
    pairs = []
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            raise click.UsageError(f"{part!r} has no value; write NAME=VALUE, values are strings")
        pairs.append((name, value))
    return pairs


def os_parameters(texts: Iterable[str]) -> dict[str, str]:
    """Return OS parameters from every `-O`; a name twice, or a name or value that is not allowed, is refused."""
    values: dict[str, str] = {}
    for name, value in (pair for text in texts for pair in split_pairs(text)):
        try:
            os_parameter_value(os_parameter_name(name), value)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        if name in values:
            raise click.UsageError(f"OS parameter {name} is given twice")
        values[name] = value
    return values


def os_parameters_option(command: F) -> F:
    return click.option(
        "-O",
        "--os-parameters",
        "parameters",
        multiple=True,
        metavar="NAME=VALUE,...",
        help="OS parameters; repeatable. A comma in a value is written \\,.",
    )(command)
