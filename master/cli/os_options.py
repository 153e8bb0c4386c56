"""Flags of `os` and `instance`, and how their values are written: Ganeti's `-O a=1,b=2`, `-H`, `--disk`, `--net`."""

import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from master.cli.connect import Session
from protocol.instance_messages import DiskWanted, NicWanted, SealingKey
from protocol.operator_messages import Nothing
from protocol.os_messages import Confidential, Scalar
from protocol.os_names import os_parameter_name, os_parameter_value

F = TypeVar("F", bound=Callable[..., Any])

_SIZE = re.compile(r"([0-9]{1,9})([mMgGtT]?)(?:i?[bB])?")
_UNITS_MIB = {"": 1, "m": 1, "g": 1024, "t": 1024 * 1024}
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "none": None}


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


def scalars(texts: Iterable[str]) -> dict[str, Scalar]:
    """Return hypervisor or backend parameters: true, false and none are what they say, digits are a number."""
    values: dict[str, Scalar] = {}
    for name, value in (pair for text in texts for pair in split_pairs(text)):
        if name in values:
            raise click.UsageError(f"parameter {name} is given twice")
        values[name] = _scalar(value)
    return values


def hypervisor(text: str) -> tuple[str, dict[str, Scalar]]:
    """Return name and parameters of `kvm` or `kvm:a=1,b=2`."""
    name, colon, pairs = text.partition(":")
    return name, scalars([pairs]) if colon and pairs else {}


def disk(text: str) -> DiskWanted:
    """Return the disk of `PATH` or `PATH:SIZE`; sizes are MiB, or end with m, g or t."""
    path, colon, size = text.rpartition(":")
    found = _SIZE.fullmatch(size) if colon else None
    if found is None:
        return DiskWanted(path=text)
    return DiskWanted(path=path, size_mib=int(found[1]) * _UNITS_MIB[found[2].lower()])


def nic(text: str) -> NicWanted:
    """Return the network interface of `[N:]mac=...,mode=...,link=...,ip=...,name=...`; nothing has to be said."""
    numbered = re.fullmatch(r"[0-9]+:(.*)", text)
    pairs = numbered[1] if numbered else text
    values = dict(split_pairs(pairs)) if pairs else {}
    unknown = sorted(values.keys() - {"mac", "mode", "link", "ip", "name"})
    if unknown:
        raise click.UsageError(f"network interface: {unknown[0]!r} is none of mac, mode, link, ip, name")
    mode = values.pop("mode", "bridged")
    if mode not in ("bridged", "routed", "openvswitch"):
        raise click.UsageError(f"network interface: mode {mode!r} is none of bridged, routed, openvswitch")
    return NicWanted(mode=mode, **values)  # type: ignore[arg-type]


def confidential_parameters(texts: Iterable[str]) -> dict[str, str]:
    """Return private or secret OS parameters. A name alone is asked for, so that its value is on no command line."""
    return os_parameters(text if "=" in text else f"{text}={_asked_for(text)}" for text in texts)


async def sealed(session: Session, private: dict[str, str], secret: dict[str, str]) -> bytes:
    """Return confidential OS parameters sealed for the master: whoever watches the bus sees only that."""
    if not private and not secret:
        return b""
    from protocol import sealing  # most commands need no cryptography

    key = await session.bus.ask("os.key", Nothing(), SealingKey)
    return sealing.seal(Confidential(private=private, secret=secret), key.public_key)


def os_parameters_option(command: F) -> F:
    return click.option(
        "-O",
        "--os-parameters",
        "parameters",
        multiple=True,
        metavar="NAME=VALUE,...",
        help="OS parameters; repeatable. A comma in a value is written \\,.",
    )(command)


def confidential_options(command: F) -> F:
    """`--os-parameters-private` and `--os-parameters-secret`, as `private` and `secret`."""
    private = click.option(
        "--os-parameters-private",
        "private",
        multiple=True,
        metavar="NAME[=VALUE],...",
        help="Stored with the instance and never shown; a NAME alone is asked for.",
    )
    secret = click.option(
        "--os-parameters-secret",
        "secret",
        multiple=True,
        metavar="NAME[=VALUE],...",
        help="Passed to this one run and stored nowhere; a NAME alone is asked for.",
    )
    return private(secret(command))


def _asked_for(name: str) -> str:
    if sys.stdin.isatty():
        value: str = click.prompt(name, hide_input=True, default="", show_default=False, err=True)
    else:
        value = sys.stdin.readline().removesuffix("\n")
    return value.replace(",", "\\,")


def _scalar(text: str) -> Scalar:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return int(text) if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", text, re.ASCII) else text
