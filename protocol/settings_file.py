"""Reads a daemon's own knobs from one TOML file into a frozen dataclass that holds every default."""

import os
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from protocol.errors import Refused

T = TypeVar("T")


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
