"""Flags that several commands share, and the types of their values.

A type checks only what is wrong whatever the cluster looks like; everything else is the master's to decide.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, get_args

import click

from protocol import names
from protocol.change_messages import REASON_CHARS_MAX, Guard, check_remark

F = TypeVar("F", bound=Callable[..., Any])

COUNT: Final = click.IntRange(1, 2**53)
"""Every number that travels fits into a message, and into anybody's JSON."""

_REMARKS: Final = "gnt-mesh remarks"
_WORDS = {"yes": True, "true": True, "no": False, "false": False}


def yes_no(text: str) -> bool:
    """Return what yes, no, true or false in any case mean, as Ganeti takes them."""
    if text.lower() not in _WORDS:
        raise click.UsageError(f"{text!r} is neither yes nor no")
    return _WORDS[text.lower()]


def seconds(text: str) -> float:
    """Return a time span in seconds: finite and not negative."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise click.UsageError(f"{text!r} is not a number of seconds")
    return value


def name_list(text: str) -> tuple[str, ...]:
    """Return names that were given with commas between them."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise click.UsageError(f"{text!r} is not a list of names with commas between them")
    return names


def hypervisor_parameters(text: str) -> tuple[str, dict[str, str | None]]:
    r"""Return what `kvm:vnc_tls=yes,-keymap` means: a hypervisor, and values by name, None for one to forget.

    As Ganeti has it: `name` alone is yes, `no_name` is no, `-name` forgets it, and `\,` is a comma in a value.
    """
    hypervisor, colon, rest = text.partition(":")
    values: dict[str, str | None] = {}
    for part in re.split(r"(?<!\\),", rest):
        name, equals, value = part.replace("\\,", ",").partition("=")
        if not equals:
            is_no, is_default = name.startswith("no_"), name.startswith("-")
            name, value = name.removeprefix("no_").removeprefix("-"), "no" if is_no else "yes"
            values[name] = None if is_default else value
        elif name in values:
            raise click.UsageError(f"{text!r}: {name} is given twice")
        else:
            values[name] = None if value == "default" else value
    if not hypervisor or not colon or not all(values):
        raise click.UsageError(f"{text!r} is not HYPERVISOR:NAME=VALUE[,NAME=VALUE]...")
    return hypervisor, values


def node_name(text: str) -> str:
    return _checked(names.node_name, text)


def group_name(text: str) -> str:
    return _checked(names.group_name, text)


def scope_name(text: str) -> str:
    return _checked(names.scope_name, text)


def managed_path(text: str) -> str:
    return _checked(names.managed_path, text)


def _checked(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def yes_no_option(*declarations: str, help: str) -> Callable[[F], F]:
    """A flag that is yes, no, or not mentioned."""
    return click.option(*declarations, type=yes_no, metavar="yes|no", help=help)


def json_option(command: F) -> F:
    """`--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(command)


def timeout_option(command: F) -> F:
    return click.option(
        "--timeout",
        type=seconds,
        default="30",
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for the nodes' receipts; then exit code 2 and a list of what is missing.",
    )(command)


@dataclass(frozen=True, slots=True)
class Remarks:
    """What every changing command may be told beside what it is to do."""

    reason: str = ""
    dry_run: bool = False
    confirm: tuple[Guard, ...] = ()


def remarks(ctx: click.Context) -> Remarks:
    """Return what the command line said by `changing_options`."""
    given = {name: ctx.meta[f"{_REMARKS}.{name}"] for name in ("reason", "dry_run", "confirm")}
    return Remarks(**given)


def changing_options(command: F) -> F:
    """What every command takes that changes something: `--json`, and what `change` sends along with the request."""
    dry_run = click.option(
        "--dry-run",
        is_flag=True,
        expose_value=False,
        callback=_remember,
        help="Only show what would be done, node by node and file by file.",
    )
    reason = click.option(
        "--reason",
        type=_reason,
        default="",
        metavar="TEXT",
        expose_value=False,
        callback=_remember,
        help="Why you do this: kept in the history, see `gnt-mesh file log`.",
    )
    confirm = click.option(
        "--confirm",
        type=click.Choice(get_args(Guard)),
        multiple=True,
        expose_value=False,
        callback=_remember,
        help="Do it although it removes many files from nodes, or gives a secret to more of them.",
    )
    return dry_run(confirm(reason(json_option(command))))


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    ctx.meta[f"{_REMARKS}.{param.name}"] = value


def _reason(text: str) -> str:
    try:
        return check_remark("reason", text, REASON_CHARS_MAX)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def waiting_options(*, default: bool) -> Callable[[F], F]:
    """`changing_options`, `--wait/--no-wait` and `--timeout` for a command that changes something on nodes."""

    def decorate(command: F) -> F:
        wait = click.option(
            "--wait/--no-wait",
            default=default,
            show_default=True,
            help="Return when the change is on the nodes' disks, or as soon as the master has taken it.",
        )
        return wait(timeout_option(changing_options(command)))

    return decorate
