"""Names of the OS interface that travel: instances, OS definitions, variants, parameters, jobs.

As in `names`: what passes here may become a subject token, a file name or an environment variable without surprises.
"""

import re
from typing import Final, NewType

InstanceName = NewType("InstanceName", str)
"""A host name, at most 253 characters."""

OsName = NewType("OsName", str)
"""The base name of an OS definition, which is also the name of its directory."""

OsVariant = NewType("OsVariant", str)
"""A line of `variants.list`. OS definitions use it as a file name, so it cannot climb."""

OsParameterName = NewType("OsParameterName", str)
"""The name of an OS parameter, as declared and as typed; `variable_part` is what it becomes in the environment."""

JobId = NewType("JobId", str)
"""Chosen by whoever asks for the job; the same id twice is one job (design, D7)."""

PARAMETER_CHARS_MAX: Final = 4096

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_INSTANCE = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_OS = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_PARAMETER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", re.ASCII)
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


def instance_name(text: str) -> InstanceName:
    """Return `text` as the name of an instance; ValueError names the rule it breaks."""
    if len(text) > 253 or not _INSTANCE.fullmatch(text):
        raise ValueError(
            f"instance name {text[:100]!r}: letters, digits, '-' and single dots, as in a host name, "
            "at most 253 characters"
        )
    return InstanceName(text)


def os_name(text: str) -> OsName:
    """Return `text` as the base name of an OS definition; ValueError names the rule it breaks."""
    if not _OS.fullmatch(text):
        raise ValueError(f"OS name {text[:100]!r}: letters, digits, '_' and '-', at most 100 characters")
    return OsName(text)


def os_variant(text: str) -> OsVariant:
    """Return `text` as an OS variant; ValueError names the rule it breaks. A variant may contain a plus."""
    if not 1 <= len(text) <= 100 or not text.isprintable() or set(text) & set(" /") or text in (".", ".."):
        raise ValueError(
            f"OS variant {text[:100]!r}: 1 to 100 printable characters without blanks and '/', and not '.' or '..'"
        )
    return OsVariant(text)


def split_os(text: str) -> tuple[OsName, OsVariant | None]:
    """Return base name and variant of `base` or `base+variant`; it is split at the first plus, as Ganeti does."""
    base, plus, variant = text.partition("+")
    return os_name(base), os_variant(variant) if plus else None


def full_os(name: OsName, variant: OsVariant | None) -> str:
    """Return the full name of an OS, as Ganeti writes it."""
    return f"{name}+{variant}" if variant else name


def os_parameter_name(text: str) -> OsParameterName:
    """Return `text` as the name of an OS parameter; ValueError names the rule it breaks."""
    if not _PARAMETER.fullmatch(text):
        raise ValueError(
            f"OS parameter {text[:100]!r}: a name has letters, digits, '_' and '-', as it becomes a part of an "
            "environment variable, and at most 64 characters"
        )
    return OsParameterName(text)


def variable_part(name: str) -> str:
    """Return what a parameter's name is in the environment: upper case, '-' written as '_'."""
    return name.upper().replace("-", "_")


def os_parameter_value(name: str, text: str) -> str:
    """Return `text` as the value of an OS parameter; ValueError names the parameter, and never shows the value.

    Founding text, OS Parameters: "a string, with only 'normal' characters in it".
    """
    if len(text) > PARAMETER_CHARS_MAX:
        raise ValueError(f"OS parameter {name}: its value has {len(text)} characters, limit {PARAMETER_CHARS_MAX}")
    if not text.isprintable():
        place = next(index for index, character in enumerate(text, 1) if not character.isprintable())
        raise ValueError(
            f"OS parameter {name}: character {place} of its value is not a printable one; only normal characters "
            "(no line breaks, tabs or other control characters) can be passed to an OS"
        )
    return text


def job_id(text: str) -> JobId:
    """Return `text` as the id of a job; ValueError names the rule it breaks."""
    if not _JOB.fullmatch(text):
        raise ValueError(f"job id {text[:100]!r}: letters, digits, '_' and '-', at most 64 characters")
    return JobId(text)
