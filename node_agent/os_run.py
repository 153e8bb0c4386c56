"""The runner of one job: a program of its own that owns the job's scripts, so that they survive whoever asked for them.

`python -m node_agent.os_run` waits for one line on its standard input, a RunPlan; without one it ends and has done
nothing. It depends on nobody from then on: not on the agent, the broker or the master. In the job's directory it

* holds `lock` while it lives, so that anybody can tell a job that runs from one that was lost;
* makes `started`, durably, before the first script. The kernel lets only one process ever make it: no job runs twice;
* writes the output to the log (`job_log`) and rings the agent's `bell` in the directory above;
* ends the whole job when `cancel` appears there;
* writes `verdict`, durably, when nothing of the job is left, and only then ends.

`python -m node_agent.os_run --ended DIRECTORY` gives a job whose unit has ended its verdict, if its runner could not.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final

from node_agent import job_log, processes
from node_agent.core import job_text, run_plan
from node_agent.core.run_plan import RunPlan, Verdict
from node_agent.job_log import JobLog
from node_agent.script import Script, ScriptFailed
from protocol import durable

LOCK: Final = "lock"
STARTED: Final = "started"
CANCEL: Final = "cancel"
VERDICT: Final = "verdict"
BELL: Final = "bell"

PLAN_BYTES_MAX: Final = 4 * 1024 * 1024
VERDICT_BYTES: Final = 8192
REASON_CHARS_MAX: Final = 400
LOOK_S: Final = 0.2
RETRY_S: Final = 1.0
LEFT_BEHIND_GRACE_S: Final = 1.0
PR_SET_CHILD_SUBREAPER: Final = 36


def main() -> None:
    """Run the job that comes in, if one comes."""
    if sys.argv[1:2] == ["--ended"]:
        return conclude_lost(Path(sys.argv[2]), os.environ.get("SERVICE_RESULT", ""), os.environ.get("EXIT_STATUS", ""))
    line = sys.stdin.buffer.readline(PLAN_BYTES_MAX)
    if not line.endswith(b"\n"):
        return None
    os.chdir("/")
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    plan = run_plan.from_json(line)
    try:
        Runner(plan).run()
    except OSError as error:
        sys.exit(f"job {plan.job} cannot be run: {error.filename or plan.directory}: {error.strerror}")
    return None


def conclude_lost(directory: Path, result: str, status: str) -> None:
    """Write the verdict of a job that was begun and has none, now that systemd says that nothing of it is left."""
    if not (directory / STARTED).exists() or (directory / VERDICT).exists() or is_held(directory / LOCK):
        return
    mark = json.loads((directory / STARTED).read_bytes() or b"{}")
    sizes = {"head_bytes": mark.get("log_head_bytes", 1), "tail_bytes": mark.get("log_tail_bytes", 1)}
    facts = {
        "status": "interrupted",
        "reason": _LOST.get(result, f"its unit ended by {result or 'nobody knows what'} {status}".strip()),
        "started": mark.get("time"),
        "ended": time.time(),
        "log_end": job_log.end_of(directory, **sizes),
    }
    durable.write_file(directory / VERDICT, json.dumps(facts).encode())
    Bell(directory.parent).ring()


_LOST: Final = {
    "oom-kill": "the kernel ended it: out of memory",
    "signal": "its runner was killed while it ran: what it did may be half done",
    "core-dump": "its runner was killed while it ran: what it did may be half done",
    "timeout": "its unit did not end in time and was killed: what it did may be half done",
}
"""By systemd's word ($SERVICE_RESULT)."""


class Runner:
    """One job, from its mark to its verdict. One thread, one loop."""

    def __init__(self, plan: RunPlan) -> None:
        self._plan = plan
        self._directory = Path(plan.directory)
        self._began = time.time()
        self._deadline_s = time.monotonic() + plan.time_limit_s
        self._was_told = False
        self._left_behind = 0
        self._begun = ""
        self._place = os.open(self._directory, durable.DIRECTORY_FLAGS)
        self._bell = Bell(self._directory.parent)

    def run(self) -> None:
        """Run the job unless it ran before, or runs."""
        lock = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        self._become_reaper()
        output, self._output = os.pipe2(os.O_CLOEXEC)
        self._cgroup = processes.new_cgroup(f"gnt-mesh-job-{os.getpid()}")
        try:
            if self._mark():
                self._run(output)
        finally:
            processes.drop_cgroup(self._cgroup)

    def _run(self, output: int) -> None:
        plan = self._plan
        if plan.is_echoed:
            os.set_blocking(1, False)
        self._log = JobLog(self._directory, head_bytes=plan.log_head_bytes, tail_bytes=plan.log_tail_bytes)
        self._script = Script(self._directory, output, self._output, self._cgroup, self._take_output)
        status, exit_code, reason = self._run_steps()
        self._conclude(status, exit_code, reason)

    def _become_reaper(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            sys.exit(f"cannot be the parent of what a script leaves behind: {os.strerror(ctypes.get_errno())}")
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_told)

    def _on_told(self, number: int, frame: object) -> None:
        self._was_told = True

    def _mark(self) -> bool:
        """Make `started` and room for the verdict, durably. False if this job has been started before."""
        me = processes.of(os.getpid())
        facts = {
            "pid": os.getpid(),
            "ticks": me.started if me else 0,
            "boot": processes.boot_id(),
            "pipe": os.fstat(self._output).st_ino,
            "cgroup": self._cgroup,
            "time": self._began,
            "log_head_bytes": self._plan.log_head_bytes,
            "log_tail_bytes": self._plan.log_tail_bytes,
        }
        path = self._directory / STARTED
        try:
            fd = os.open(path, durable.CREATE_FLAGS, 0o600)
        except FileExistsError:
            return False
        try:
            durable.write_all(fd, json.dumps(facts).encode())
            os.fsync(fd)
            self._room = os.open(self._directory / f".{VERDICT}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(self._room, 0, VERDICT_BYTES)
            durable.sync_directory(self._directory)
        except OSError:
            path.unlink()  # nothing has run: the disk may take it later
            raise
        finally:
            os.close(fd)
        self._bell.ring()
        return True

    def _run_steps(self) -> tuple[Verdict, int | None, str]:
        exit_code = None
        for step in self._plan.steps:
            if order := self._order():
                return order[0], exit_code, order[1]
            try:
                self._script.start(step)
                self._begun = step.script
            except ScriptFailed as error:
                self._script.discard()
                return "failed", None, f"{step.name}: {error}"
            order = self._attend()
            self._end_all(self._plan.term_grace_s if order else LEFT_BEHIND_GRACE_S)
            exit_code = self._script.exit_code
            if order:
                self._script.discard()
                return order[0], exit_code, order[1]
            try:
                how = self._script.finish()
            except ScriptFailed as error:
                return "failed", exit_code, f"{step.name}: {error}"
            if how:
                said = job_text.last_line(self._log.last)
                return "failed", exit_code, f"{step.name}: {how}" + (f"; at last it said: {said}" if said else "")
        return "success", exit_code, self._remark()

    def _attend(self) -> tuple[Verdict, str] | None:
        """Return when the script has ended, or with the reason to end it."""
        while not self._script.has_ended:
            if order := self._order():
                return order
            self._script.wait(LOOK_S)
        return None

    def _order(self) -> tuple[Verdict, str] | None:
        if (self._directory / CANCEL).exists():
            return "cancelled", "cancelled on request"
        if time.monotonic() > self._deadline_s:
            return "failed", f"it took longer than its time limit of {self._plan.time_limit_s:g} s"
        if self._was_told:
            return "interrupted", "its runner was told to end"
        if self._plan.tether and not is_held(Path(self._plan.tether)):
            return "interrupted", "the mesh on this machine was ended"
        return None

    def _end_all(self, grace_s: float) -> None:
        """Return when nothing of the job is left: asked first, made to end after `grace_s`."""
        asked: set[int] = set()
        kill_at_s = time.monotonic() + grace_s
        while left := self._alive():
            if time.monotonic() >= kill_at_s:
                processes.kill_cgroup(self._cgroup)
                processes.send(left, signal.SIGKILL)
            elif fresh := left - asked:
                processes.send(fresh, signal.SIGTERM)
                processes.send(fresh, signal.SIGCONT)
                self._left_behind += len(fresh) if self._script.has_ended else 0
                asked |= fresh
            self._script.wait(LOOK_S / 10)
        self._script.drain()

    def _alive(self) -> set[int]:
        self._script.reap()
        return processes.descendants({os.getpid()}, processes.table()) | processes.members(self._cgroup)

    def _remark(self) -> str:
        count = self._left_behind
        if not count:
            return ""
        return f"it left {count} {'process' if count == 1 else 'processes'} behind, which were ended"

    def _take_output(self, data: bytes) -> None:
        if data:
            self._log.write(data)
            if self._plan.is_echoed:
                with contextlib.suppress(OSError):  # who does not take it is not waited for
                    os.write(1, data)
        self._bell.ring()

    def _conclude(self, status: Verdict, exit_code: int | None, reason: str) -> None:
        """Write the verdict, however long the disk refuses it: the job is not over before."""
        facts = {
            "status": status,
            "exit_code": exit_code,
            "reason": reason[:REASON_CHARS_MAX],
            "started": self._began,
            "ended": time.time(),
            "log_end": self._log.end,
            "script": self._begun,
        }
        self._log.close()
        text = json.dumps(facts).encode()
        while True:
            try:
                self._write_verdict(text)
                break
            except OSError:
                time.sleep(RETRY_S)
        self._bell.ring()

    def _write_verdict(self, text: bytes) -> None:
        """Into the room that was made for it: a disk that is full now has this much left.

        The directory is known by its descriptor: whoever reads the verdict may put it elsewhere before we are done.
        """
        os.lseek(self._room, 0, os.SEEK_SET)
        durable.write_all(self._room, text.ljust(VERDICT_BYTES))
        os.fsync(self._room)
        with contextlib.suppress(FileNotFoundError):  # it has its name from an attempt before
            os.rename(f".{VERDICT}", VERDICT, src_dir_fd=self._place, dst_dir_fd=self._place)
        os.fsync(self._place)


class Bell:
    """A datagram to the agent: look. Nobody may be there to hear it, and nothing is lost with it."""

    def __init__(self, directory: Path) -> None:
        self._directory = os.open(directory, durable.DIRECTORY_FLAGS)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def ring(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(b"", address(self._directory))


def address(directory: int) -> str:
    """Return where the bell of an open directory hangs. The path of the directory may be too long for a socket's."""
    return f"/proc/self/fd/{directory}/{BELL}"


def is_held(lock: Path) -> bool:
    """True if somebody holds this lock."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


if __name__ == "__main__":
    main()
