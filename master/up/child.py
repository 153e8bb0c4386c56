"""One program that is kept running: started, known to be ready or not, started again when it ends, stopped."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from master.up import tethered
from master.up.notices import NotifySocket
from protocol.errors import Refused

CONFIGURATION_ERROR: Final = 78
"""sysexits' EX_CONFIG, by which our daemons say that to start them again does not help."""

PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
FORGIVEN_AFTER_S: Final = 30.0
"""Who lived this long has not died repeatedly."""

LOG_BYTES_MAX: Final = 4 * 1024 * 1024
LAST_LINE_BYTES: Final = 4096

INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""What a child gets to know of the environment of `up`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, and how it is known to be ready."""

    name: str
    argv: tuple[str, ...]
    log: Path
    pid_file: Path
    probe: Callable[[], Awaitable[None]] | None = None
    """Returns when the program answers. None: it says so itself, with READY=1."""
    gives_up_early: bool = False
    """An exit before it was ever ready is final, for a program that has no exit code for configuration errors."""
    is_vital: bool = False
    """Nothing goes on before it is ready, so that whoever waits for that tells why it was given up."""


def pause_after(deaths: int) -> float:
    """Return how long to wait before the next start, after this many deaths in a row."""
    assert deaths >= 1
    return PAUSES_S[min(deaths, len(PAUSES_S)) - 1]


def how_it_ended(code: int) -> str:
    """Return an exit status, as Popen gives it, in words."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


class Child:
    """A program and the task that keeps it running. Used from the event loop of the main thread alone (tethered)."""

    def __init__(self, program: Program, *, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.program = program
        self.failure = ""
        """Why it is not started any more, empty while it is."""
        self._environment = environment
        self._say = say
        self._settled = asyncio.Event()
        self._was_ready = False
        self._is_stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: asyncio.Future[int] | None = None
        self._log_start = 0
        self.keeping = asyncio.create_task(self._keep(), name=program.name)

    async def until_ready(self) -> None:
        """Return when it is ready; Refused if it was given up."""
        await self._settled.wait()
        if self.failure:
            raise Refused(self.failure)

    def reap(self) -> None:
        """Take notice if the process has ended: to be called after every SIGCHLD."""
        if self._process is None or self._ended is None or self._ended.done():
            return
        code = self._process.poll()
        if code is not None:
            self._ended.set_result(code)

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, make it end after `grace_s`; when this returns it has ended and stays so."""
        self._is_stopping = True
        if self._ended is not None and not self._ended.done():
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # one that was stopped would never get to read the other
            await asyncio.wait((self._ended,), timeout=grace_s)
            self.kill()
            await asyncio.wait((self._ended, self.keeping))
        self.keeping.cancel()
        await asyncio.wait((self.keeping,))

    def kill(self) -> None:
        """Kill it and what it started, unless it has ended already."""
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _keep(self) -> None:
        deaths = 0
        while True:
            started_s = time.monotonic()
            try:
                code = await self._run()
            except OSError as error:
                how = f"cannot be started: {os.strerror(error.errno or 0)}"
            else:
                if self._is_stopping:
                    return
                if self._is_final(code):
                    self._give_up(code)
                    return
                how = how_it_ended(code)
            deaths = 1 if time.monotonic() - started_s >= FORGIVEN_AFTER_S else deaths + 1
            pause_s = pause_after(deaths)
            self._say(f"{self.program.name} {how}; it is started again {f'in {pause_s:g} s' if pause_s else 'now'}")
            await asyncio.sleep(pause_s)

    async def _run(self) -> int:
        """Run it once; return how it ended, as Popen does."""
        with NotifySocket() as notices:
            process = self._process = self._spawn(notices.address)
            ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._ended = ended
            _write_pid(self.program.pid_file, process.pid)
            probe = self.program.probe() if self.program.probe else notices.until_ready(process.pid)
            probing = asyncio.create_task(self._until_ready(probe))
            try:
                await asyncio.wait((ended,))
            finally:
                probing.cancel()
                await asyncio.wait((probing,))
                with contextlib.suppress(OSError):
                    self.program.pid_file.unlink()
            return ended.result()

    async def _until_ready(self, probe: Awaitable[None]) -> None:
        await probe
        self._was_ready = True
        self._settled.set()

    def _spawn(self, notify_address: str) -> "subprocess.Popen[bytes]":
        _rotate(self.program.log)
        environment = {name: self._environment[name] for name in INHERITED if name in self._environment}
        with self.program.log.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(
                [sys.executable, "-I", "-S", tethered.__file__, str(os.getpid()), *self.program.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment, "PYTHONUNBUFFERED": "1", "NOTIFY_SOCKET": notify_address},
                start_new_session=True,  # Ctrl-C on the terminal is for the supervisor: it stops its children in order
            )

    def _is_final(self, code: int) -> bool:
        return code == CONFIGURATION_ERROR or (self.program.gives_up_early and not self._was_ready and code >= 0)

    def _give_up(self, code: int) -> None:
        last = _last_line(self.program.log, self._log_start) or "it said nothing"
        self.failure = f"{self.program.name} {how_it_ended(code)}: {last}; see {self.program.log}"
        if self._settled.is_set() or not self.program.is_vital:
            self._say(f"{self.failure}; it is not started again before the next gnt-mesh up")
        self._settled.set()

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


def _rotate(log: Path) -> None:
    """Move a log that has grown too long out of the way; one older log is kept."""
    try:
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_name(f"{log.name}.1"))
    except FileNotFoundError:
        return


def _last_line(log: Path, start: int) -> str:
    """Return the last line that is not empty of what was written to a log after `start`."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - LAST_LINE_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _write_pid(path: Path, pid: int) -> None:
    """For whoever looks. Not durable: after a power cut there is nothing that it could name."""
    new = path.with_name(f".{path.name}.new")
    with contextlib.suppress(OSError):  # a full disk is no reason to run without, or to run twice
        new.write_text(f"{pid}\n", encoding="ascii")
        new.replace(path)
