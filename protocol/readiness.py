"""Tells whoever started this process how it is: systemd, or `gnt-mesh up`, by the same datagrams (sd_notify).

The watchdog is fed from the event loop itself, and only while every part that has a `Pulse` is seen to be alive.
"""

import asyncio
import math
import os
import socket
import time
from collections.abc import Collection
from typing import Final, NoReturn

START_PATIENCE_S: Final = 30.0
"""Who starts us is asked to wait this much longer, again and again, for as long as the event loop goes round."""
EXTEND_INTERVAL_S: Final = 10.0
PULSE_PATIENCE_S: Final = 20.0


class Pulse:
    """Beaten by one part of a daemon each time that it goes round; the part counts as dead when it has not for long.

    One that has not begun yet counts as alive.
    """

    def __init__(self, name: str, *, patience_s: float = PULSE_PATIENCE_S) -> None:
        self.name = name
        self._patience_s = patience_s
        self._beaten_s = math.inf

    def beat(self) -> None:
        self._beaten_s = time.monotonic()

    @property
    def is_alive(self) -> bool:
        return time.monotonic() - self._beaten_s <= self._patience_s


class Readiness:
    """What one daemon says of itself: each thing once, however often it is told."""

    def __init__(self) -> None:
        self._is_ready = self._is_stopping = False
        self._status = ""

    def say(self, status: str) -> None:
        """Tell how it is, in one line."""
        if status != self._status:
            self._status = status
            notify(f"STATUS={status}")

    def ready(self) -> None:
        """Tell that it is really ready; ends a reload too."""
        if not self._is_ready:
            self._is_ready = True
            notify("READY=1")

    def stopping(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            notify("STOPPING=1")

    def reloading(self) -> None:
        """Tell that settings are read again: not ready until said so."""
        self._is_ready = False
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    async def feed_watchdog(self, pulses: Collection[Pulse]) -> NoReturn:
        """Feed the watchdog for as long as all pulses beat, and ask for patience while the daemon is starting."""
        interval_s = _watchdog_s() / 2 or EXTEND_INTERVAL_S
        while True:
            dead = [pulse.name for pulse in pulses if not pulse.is_alive]
            if dead:
                self.say(f"no sign of life of {', '.join(dead)}")
            else:
                patience = () if self._is_ready else (f"EXTEND_TIMEOUT_USEC={int(START_PATIENCE_S * 1e6)}",)
                notify("WATCHDOG=1", *patience)
            await asyncio.sleep(interval_s)


def notify(*states: str) -> None:
    """Send states such as `READY=1` or `STATUS=text`; nothing happens if nobody asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as datagrams:
        try:
            datagrams.sendto("\n".join(states).encode(), address)
        except OSError:
            return  # the asker is gone, or does not listen; a daemon lives on without it


def _watchdog_s() -> float:
    """Return how often the watchdog wants to be fed at least, 0 if there is none for this process."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    is_for_us = pid in ("", str(os.getpid()))
    return int(usec) / 1e6 if is_for_us and usec.isascii() and usec.isdecimal() else 0.0
