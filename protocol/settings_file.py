"""Reads a daemon's own knobs from one TOML file into a frozen dataclass that holds every default."""

import os
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from protocol.errors import Refused

T = TypeVar("T")

KEY_SUFFIX: Final = "seed_file"


def read(path: Path, kind: type[T]) -> T:
    """Return the settings in `path`; Refused names the file, the key and the reason.

    Relative paths are relative to the file's directory, so that a mesh can be moved as a whole.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{path}: {os.strerror(error.errno or 0)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: not valid TOML: {error}") from error
    unknown = sorted(set(raw) - set(kind.__annotations__))
    if unknown:
        raise Refused(f"{path}: unknown setting {unknown[0]!r}")
    try:
        return msgspec.convert(raw, kind, dec_hook=lambda wanted, value: path.parent / wanted(value))
    except (msgspec.ValidationError, ValueError) as error:
        raise Refused(f"{path}: {error}") from error


def with_credentials(settings: T, directory: str) -> T:
    """Return settings whose keys are read from `directory` instead, as far as systemd has put them there.

    A key that is loaded as a credential need not be readable for the daemon where it lies: only its file's name counts.
    """
    if not directory:
        return settings
    keys: dict[str, Path] = {
        field.name: Path(directory, getattr(settings, field.name).name)
        for field in fields(settings)  # type: ignore[arg-type]
        if field.name.endswith(KEY_SUFFIX)
    }
    given = {name: path for name, path in keys.items() if path.exists()}
    return replace(settings, **given)  # type: ignore[type-var]
