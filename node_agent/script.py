"""One script at a time, for the runner: started in a world of its own, listened to, and its exit told.

What it gets: the plan's environment, directory, umask and arguments, a session of its own, default signals, and the
descriptors 0, 1, 2 and those that the plan names. What it prints goes where the plan says, else into the output pipe.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from node_agent import processes
from node_agent.core.run_plan import PROGRESS_FD, SIZE_FD, Step
from protocol import durable

PART: Final = ".part"
PROGRESS: Final = "progress"

READ_BYTES: Final = 64 * 1024
READS_PER_TURN: Final = 32
LINE_BYTES_MAX: Final = 16 * 1024
PROGRESS_TEXT_CHARS_MAX: Final = 200
PROGRESS_PAUSE_S: Final = 0.1
FIRST_SPARE_FD: Final = 10
PR_SET_PDEATHSIG: Final = 1


class ScriptFailed(Exception):
    """It could not be started, or what it wrote could not be kept."""


class Script:
    """The script that runs now, or was the last to run. Files of the job's directory are named in `os_run`."""

    def __init__(
        self, directory: Path, output: int, into_output: int, cgroup: str, take_output: Callable[[bytes], None]
    ) -> None:
        self._directory = directory
        self._output = output
        self._into_output = into_output
        self._cgroup = cgroup
        self._take_output = take_output
        self._pid = 0
        self._status: int | None = None
        self._size = self._progress = -1
        self._stdout = -1
        self._step: Step
        os.set_blocking(output, False)
        wake, self._wakes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake = wake
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        self._lines = b""
        self._size_text = b""
        self._said: dict[str, object] = {}
        self._told_s = 0.0

    @property
    def has_ended(self) -> bool:
        return self._status is not None

    @property
    def exit_code(self) -> int | None:
        """None if a signal ended it."""
        if self._status is None or not os.WIFEXITED(self._status):
            return None
        return os.WEXITSTATUS(self._status)

    def start(self, step: Step) -> None:
        """Start a step's script; ScriptFailed says why it cannot be."""
        self._step, self._status = step, None
        self._lines = self._size_text = b""
        given = [self._output_end(step)]
        try:
            given.append(self._input_end(step))
            size, progress = self._pipe(step.has_size_fd), self._pipe(step.has_progress_fd)
            self._size, self._progress = size[0], progress[0]
            given += [size[1], progress[1]]
            stdout, stdin = given[0], given[1]
            self._fork({0: stdin, 1: stdout, 2: self._into_output, SIZE_FD: size[1], PROGRESS_FD: progress[1]})
        except OSError as error:
            raise ScriptFailed(f"{error.filename or 'it'} cannot be opened: {error.strerror}") from error
        finally:
            for fd in given:
                if fd not in (-1, self._into_output, self._stdout):
                    os.close(fd)

    def wait(self, timeout_s: float) -> None:
        """Return when something has happened, or the time is over. Output that came meanwhile is taken in."""
        poll = select.poll()
        for fd in (self._output, self._wake, self._size, self._progress):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(timeout_s * 1000)}
        if self._wake in ready:
            os.read(self._wake, READ_BYTES)
        if self._output in ready:
            self._take_some()
        if self._size in ready and not self._take_size():
            self._size = _closed(self._size)
        if self._progress in ready and not self._take_progress():
            self._progress = _closed(self._progress)
        self._tell_size()
        self.reap()

    def reap(self) -> None:
        """Take notice of every process that has ended: the script, and orphans that became ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                self._status = status

    def drain(self) -> None:
        """Take in what is left in the pipes, once nobody of the job is there to write any more."""
        while self._take_some():
            continue
        if self._progress >= 0:
            self._take_progress()
            self._tell(force=True)
        for fd in (self._size, self._progress):
            if fd >= 0:
                os.close(fd)
        self._size = self._progress = -1

    def finish(self) -> str:
        """Return how the script failed, empty if it did not; then what it was to write has its name, durably."""
        assert self._status is not None
        if self._status == 0:
            self._keep_stdout()
            return ""
        self.discard()
        if os.WIFSIGNALED(self._status):
            return f"ended by {signal.Signals(os.WTERMSIG(self._status)).name}"
        return f"exit code {os.WEXITSTATUS(self._status)}"

    def discard(self) -> None:
        """Throw away what it was to write."""
        if self._stdout >= 0:
            self._stdout = _closed(self._stdout)
            Path(self._step.stdout_file + PART).unlink(missing_ok=True)

    def _output_end(self, step: Step) -> int:
        if not step.stdout_file:
            return self._into_output
        path = step.stdout_file + PART
        try:
            self._stdout = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ScriptFailed(f"{path} cannot be written: {error.strerror}") from error
        return self._stdout

    def _input_end(self, step: Step) -> int:
        """Return what the script reads: a file, or a pipe that ends at once, as Ganeti has it."""
        if step.stdin_file:
            return os.open(step.stdin_file, os.O_RDONLY | os.O_CLOEXEC)
        read, write = os.pipe2(os.O_CLOEXEC)
        os.close(write)
        return read

    def _pipe(self, wanted: bool) -> tuple[int, int]:
        if not wanted:
            return -1, -1
        read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read, False)
        return read, write

    def _fork(self, descriptors: dict[int, int]) -> None:
        """Start the script, and return once it is running or known not to run."""
        failed, told = os.pipe2(os.O_CLOEXEC)
        runner = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _become(self._step, descriptors, told, runner, self._cgroup)
        os.close(told)
        with os.fdopen(failed, "rb") as end:
            reason = end.read().decode(errors="replace")
        if reason:
            os.waitpid(self._pid, 0)
            raise ScriptFailed(reason)

    def _take_some(self) -> bool:
        """Take in some output; return whether there may be more."""
        for _ in range(READS_PER_TURN):
            try:
                data = os.read(self._output, READ_BYTES)
            except BlockingIOError:
                return False
            self._take_output(data)
        return True

    def _take_size(self) -> bool:
        """Take in how much will be exported; return whether more can come."""
        data = _read(self._size)
        self._size_text = (self._size_text + data)[:LINE_BYTES_MAX]
        return bool(data)

    def _take_progress(self) -> bool:
        data = _read(self._progress)
        *lines, rest = (self._lines + data).split(b"\n")
        self._lines = rest[-LINE_BYTES_MAX:]
        for line in lines:
            self._said |= _progress(line)
        self._tell(force=False)
        return bool(data)

    def _tell_size(self) -> None:
        """An export that said how much it will be needs to say no more: its file is looked at."""
        expected = self._size_text.strip()
        if self._stdout < 0 or not expected.isdigit() or int(expected) == 0:
            return
        percent = round(min(100.0 * os.fstat(self._stdout).st_size / int(expected), 100.0), 1)
        if self._said.get("percent") != percent:
            self._said["percent"] = percent
            self._tell(force=False)

    def _tell(self, *, force: bool) -> None:
        """Leave word of the progress for the agent. What the disk does not take is told the next time."""
        now_s = time.monotonic()
        if not self._said or (now_s - self._told_s < PROGRESS_PAUSE_S and not force):
            return
        self._told_s = now_s
        new = self._directory / f".{PROGRESS}"
        with contextlib.suppress(OSError):
            new.write_text(json.dumps(self._said))
            new.replace(self._directory / PROGRESS)
        self._take_output(b"")

    def _keep_stdout(self) -> None:
        if self._stdout < 0:
            return
        target = Path(self._step.stdout_file)
        try:
            os.fsync(self._stdout)
            Path(self._step.stdout_file + PART).rename(target)
            durable.sync_directory(target.parent)
        except OSError as error:
            self.discard()
            raise ScriptFailed(f"{target} cannot be kept: {error.strerror}") from error
        self._stdout = _closed(self._stdout)


def _become(step: Step, descriptors: dict[int, int], told: int, runner: int, cgroup: str) -> NoReturn:
    """In the child: turn into the script, or say why not and end."""
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        _die_with(runner)
        if cgroup:
            processes.enter_cgroup(cgroup)
        os.umask(step.umask)
        os.chdir(step.cwd)
        told = _leave_only(descriptors, told)
        os.execve(step.argv[0], list(step.argv), dict(step.env))
    except BaseException as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        os.write(told, f"{step.argv[0]} cannot be run: {text}".encode())
    finally:
        os._exit(127)


def _die_with(runner: int) -> None:
    """Have the kernel kill the script if its runner is killed: nobody would hear it, or could end it in order."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != runner:
        os._exit(127)


def _leave_only(descriptors: dict[int, int], told: int) -> int:
    """Put every descriptor into its place and close all others but `told`; return where that one is now."""
    told = fcntl.fcntl(told, fcntl.F_DUPFD_CLOEXEC, FIRST_SPARE_FD)
    spare = {
        place: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_SPARE_FD) for place, fd in descriptors.items() if fd >= 0
    }
    os.closerange(0, FIRST_SPARE_FD)
    for place, fd in spare.items():
        os.dup2(fd, place, inheritable=True)
    os.closerange(FIRST_SPARE_FD, told)
    os.closerange(told + 1, os.sysconf("SC_OPEN_MAX"))
    return told


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, READ_BYTES)
    except BlockingIOError:
        return b""


def _progress(line: bytes) -> dict[str, object]:
    """Return what a script says of its progress, nothing of what is no such word."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    found: dict[str, object] = {}
    if isinstance(said, dict):
        percent, text = said.get("percent"), said.get("text")
        if isinstance(percent, int | float) and not isinstance(percent, bool) and 0 <= percent <= 100:
            found["percent"] = float(percent)
        if isinstance(text, str):
            found["text"] = text[:PROGRESS_TEXT_CHARS_MAX]
    return found


def _closed(fd: int) -> int:
    """Close a descriptor, and return what stands for none."""
    os.close(fd)
    return -1
