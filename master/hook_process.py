"""Runs one file hook: a stranger's program, within a time, an amount of output and an environment of our choosing.

It has a session of its own, and whatever it leaves behind there is killed with it. Blocking; one thread at a time.
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

READ_BYTES: Final = 64 * 1024
PIPE_BYTES_MAX: Final = 1024 * 1024
"""The most that a pipe can hold."""
COMPLAINT_BYTES: Final = 300
"""How much of what a failing hook says is repeated: its last line, up to this."""


class HookFailed(Exception):
    """The hook gave no answer; the text says why, as the end of a sentence."""


class HookProcess:
    """The limits of every run, and the means to end the one that is under way."""

    def __init__(self, *, timeout_s: float, output_bytes_max: int) -> None:
        self._timeout_s = timeout_s
        self._output_bytes_max = output_bytes_max
        self._wake_up = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def abandon(self) -> None:
        """End the run that is under way, if one is, and every later one at once."""
        os.eventfd_write(self._wake_up, 1)

    def run(self, program: Path, told: bytes, environment: Mapping[str, str]) -> bytes:
        """Return what the program prints; HookFailed if it fails, takes too long or prints too much."""
        try:
            process = subprocess.Popen(
                [str(program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=dict(environment),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise HookFailed(f"cannot be started: {error.strerror}") from error
        talk = _Talk(process, told, self._output_bytes_max)
        try:
            talk.until_it_ends(time.monotonic() + self._timeout_s, self._wake_up)
        except TimeoutError:
            raise HookFailed(f"did not finish within {self._timeout_s:g} s") from None
        finally:
            # Not yet waited for, so the number is still its own: nobody else's group can have it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            talk.close()
        if process.returncode:
            raise HookFailed(_ending(process.returncode) + talk.complaint())
        return bytes(talk.output)


class _Talk:
    """The three pipes of one process, until it ends. A program it has left behind is not waited for."""

    def __init__(self, process: "subprocess.Popen[bytes]", told: bytes, output_bytes_max: int) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._told = memoryview(told)
        self._output_bytes_max = output_bytes_max
        self._errors = b""
        self.output = bytearray()
        for pipe in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(pipe.fileno(), False)

    def until_it_ends(self, deadline_s: float, wake_up: int) -> None:
        ended = os.pidfd_open(self._process.pid)
        stdin, stdout, stderr = (pipe.fileno() for pipe in (self._stdin, self._stdout, self._stderr))
        serve: dict[int, Callable[[], bool]] = {
            stdin: self._write,
            stdout: partial(self._read, stdout),
            stderr: partial(self._read, stderr),
        }
        try:
            poll = select.poll()
            for fd in (ended, wake_up, stdout, stderr):
                poll.register(fd, select.POLLIN)
            poll.register(stdin, select.POLLOUT)
            while True:
                ready = {fd for fd, _ in poll.poll(max(deadline_s - time.monotonic(), 0) * 1000)}
                if not ready or wake_up in ready:
                    raise TimeoutError
                for fd in ready - {ended}:
                    if not serve[fd]():
                        poll.unregister(fd)
                if ended in ready:
                    return self._read_the_rest()
        finally:
            os.close(ended)

    def complaint(self) -> str:
        """Return the last line that it wrote to its standard error, if it wrote one."""
        lines = self._errors.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last}" if last else ""

    def close(self) -> None:
        for pipe in (self._stdin, self._stdout, self._stderr):
            with contextlib.suppress(OSError):
                pipe.close()

    def _read(self, fd: int) -> bool:
        """Take what can be read now; False when there is nothing more to come."""
        try:
            part = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return True
        if fd == self._stderr.fileno():
            self._errors = (self._errors + part)[-COMPLAINT_BYTES:]
            return bool(part)
        self.output += part
        if len(self.output) > self._output_bytes_max:
            raise HookFailed(f"printed more than {self._output_bytes_max} bytes")
        return bool(part)

    def _write(self) -> bool:
        """Tell it more; False when it knows everything, or does not care to."""
        try:
            self._told = self._told[os.write(self._stdin.fileno(), self._told[:READ_BYTES]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            self._told = self._told[:0]
        if not self._told:
            self._stdin.close()
        return bool(self._told)

    def _read_the_rest(self) -> None:
        """What it printed last is still in the pipes; a program that it left behind may go on printing for ever."""
        for pipe in (self._stdout, self._stderr):
            for _ in range(PIPE_BYTES_MAX // READ_BYTES):
                if not self._read(pipe.fileno()):
                    break


def _ending(returncode: int) -> str:
    return f"ended with exit status {returncode}" if returncode > 0 else f"was killed by signal {-returncode}"
