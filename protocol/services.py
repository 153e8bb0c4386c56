"""Starts this machine's part of the mesh where systemd runs and the package's units are there: `systemctl`, no more."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from protocol.errors import Unavailable

TARGET: Final = "gnt-mesh.target"
SYSTEMD_RUNS: Final = Path("/run/systemd/system")
"""There if and only if systemd is what started this machine: sd_booted(3)."""

START_TIMEOUT_S: Final = 90.0


def are_here() -> bool:
    """True if systemd runs here and knows the mesh's units."""
    return SYSTEMD_RUNS.is_dir() and _systemctl("cat", TARGET).returncode == 0


def start(*needed: str, again: Sequence[str] = ()) -> None:
    """Return once everything of the mesh that belongs on this machine runs, now and after every boot.

    `again` are services that have to read what is new, `needed` those without which this was in vain. Unavailable
    says what did not start, and where to read why.
    """
    for command in (("enable", TARGET), *((("restart", *again),) if again else ()), ("start", TARGET)):
        done = _systemctl(*command)
        if done.returncode != 0:
            _check(needed)
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            raise Unavailable(f"systemctl {' '.join(command)}: {reason}; see: journalctl -u 'gnt-mesh*'")
    _check(needed)


def _check(needed: Sequence[str]) -> None:
    for service in needed:
        state = _systemctl("is-active", service).stdout.strip()
        if state != "active":
            raise Unavailable(f"{service} is {state or 'unknown'}; see: journalctl -u {service}")


def _systemctl(*words: str) -> "subprocess.CompletedProcess[str]":
    command = ["systemctl", "--no-ask-password", *words]
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"not done within {START_TIMEOUT_S:g} s")
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", f"{error.filename}: {error.strerror}")
