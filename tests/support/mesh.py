"""A real mesh for one test: `gnt-mesh up` as a user starts it, ended with the test, and no process of it left.

Nothing here sleeps: readiness is a datagram, everything else a change of a file or the end of a process (`waiting`).
"""

import contextlib
import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.waiting import until, until_ended

COMMAND = Path(sys.prefix) / "bin" / "gnt-mesh"

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
RUN_TIMEOUT_S = 90.0
_LOG_BYTES_SHOWN = 2000


def environment(**more: str) -> dict[str, str]:
    """Return what a command is started with: ours, without what would make it another mesh's or tell our starter."""
    ours = {key: value for key, value in os.environ.items() if key not in ("GNT_MESH_DIR", "NOTIFY_SOCKET")}
    return ours | more


def processes_of(directory: Path) -> dict[int, str]:
    """Return the live children of the mesh in `directory`, known by a path below it in their command: pid, command."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if any(word.startswith(os.fsencode(directory) + b"/") for word in words):
                    found[int(entry.name)] = b" ".join(words).decode(errors="replace").strip()
    return found


class Up:
    """One process `gnt-mesh up`, in a process group of its own as a shell would start it."""

    def __init__(self, directory: Path, *options: str, command: tuple[str, ...] = (), **more: str) -> None:
        self.directory = directory
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        name = f"gnt-mesh-test-{secrets.token_hex(8)}"
        self._notices.bind(f"\0{name}")
        self._output = directory.with_name(f"{directory.name}.{secrets.token_hex(4)}.out")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*(command or (str(COMMAND),)), "up", "--dir", str(directory), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(NOTIFY_SOCKET=f"@{name}", **more),
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text(errors="replace")

    def until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when it says READY=1; AssertionError with its output if it ends first or takes too long."""
        deadline_s = time.monotonic() + timeout_s
        ended = os.pidfd_open(self.process.pid)
        try:
            while True:
                left_s = max(deadline_s - time.monotonic(), 0.0)
                readable, _, _ = select.select((self._notices, ended), (), (), left_s)
                if self._notices in readable:
                    if b"READY=1" in self._notices.recv(4096).split(b"\n"):
                        return
                    continue
                assert readable, f"gnt-mesh up is not ready after {timeout_s:g} s:\n{self.describe()}"
                raise AssertionError(f"gnt-mesh up ended with {self.process.wait()}:\n{self.describe()}")
        finally:
            os.close(ended)

    def until_says(self, pattern: str) -> str:
        """Return the line of its output in which the pattern is, once it is there."""
        found = until(lambda: re.search(f".*{pattern}.*", self.output), near=self._output, what=repr(pattern))
        return found[0]

    def interrupt(self) -> None:
        """Send what Ctrl-C on a terminal sends: SIGINT to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Return its exit code once it has ended."""
        return self.process.wait(timeout_s)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, and return its exit code once it has ended."""
        self.process.send_signal(number)
        return self.wait()

    def close(self) -> None:
        """Make sure that it has ended, however."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._notices.close()

    def describe(self) -> str:
        """Return its output and the ends of all logs, for a failure's message."""
        parts = [f"--- output of gnt-mesh up\n{self.output}"]
        for log in sorted(self.directory.glob("log/*.log")):
            parts.append(f"--- end of {log}\n{log.read_bytes()[-_LOG_BYTES_SHOWN:].decode(errors='replace')}")
        return "\n".join(parts)


def refused_up(
    directory: Path,
    *options: str,
    command: tuple[str, ...] = (str(COMMAND),),
    before_exec: Callable[[], None] | None = None,
    **more: str,
) -> str:
    """Run an `up` that must fail at once; return its one sentence."""
    done = subprocess.run(
        [*command, "up", "--dir", directory, *options],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**more),
        check=False,
        preexec_fn=before_exec,
    )
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.startswith("gnt-mesh: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


class RunningMesh:
    """A mesh that is up: what a test does with it, as a user would."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.dir = up.directory

    def run(
        self, *args: str, timeout_s: float = RUN_TIMEOUT_S, told: str = "", **more: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run `gnt-mesh --dir DIR ARGS...` to its end, whatever its exit code; it is `told` what it asks for."""
        return subprocess.run(
            [COMMAND, "--dir", self.dir, *args],
            input=told,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment(**more),
            check=False,
        )

    def ok(self, *args: str, timeout_s: float = RUN_TIMEOUT_S) -> str:
        """Run a command that must succeed; return what it printed on stdout."""
        done = self.run(*args, timeout_s=timeout_s)
        assert done.returncode == 0, f"gnt-mesh {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *args: str, timeout_s: float = RUN_TIMEOUT_S) -> Any:
        """Run a command with --json that must succeed; return what it printed."""
        return json.loads(self.ok(*args, "--json", timeout_s=timeout_s))

    def node_root(self, node: str) -> Path:
        return self.dir / "nodes" / node

    def pid(self, name: str) -> int:
        """Return the pid of a child: `nats-server`, `master`, or the name of a node for its agent."""
        return int(until(lambda: self._pid_text(name), near=self.dir / "run", what=f"a pid of {name}"))

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a child; return the pid that it had."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def until_restarted(self, name: str, old_pid: int) -> int:
        """Return the pid of a child once it is no longer `old_pid`."""
        text = until(
            lambda: (text := self._pid_text(name)) != str(old_pid) and text,
            near=self.dir / "run",
            what=f"{name} started again",
        )
        return int(text)

    def _pid_text(self, name: str) -> str:
        try:
            return (self.dir / "run" / f"{name}.pid").read_text().strip()
        except FileNotFoundError:
            return ""


@contextlib.contextmanager
def running_mesh(
    tmp_path: Path, *options: str, nodes: int = 3, candidate_pool_size: int = 1, name: str = "mesh"
) -> Iterator[RunningMesh]:
    """Yield a mesh in `tmp_path / name` that is ready. At the end it must stop in order and leave no process."""
    shape = ("--nodes", str(nodes), "--candidate-pool-size", str(candidate_pool_size))
    up = Up(tmp_path / name, *shape, *options)
    try:
        up.until_ready()
        yield RunningMesh(up)
        code = up.stop()
        assert code == 0, f"gnt-mesh up ended with {code}:\n{up.describe()}"
    except BaseException as error:
        error.add_note(up.describe())
        raise
    finally:
        up.close()
        left = processes_left(up.directory)
    assert not left, f"still running: {left}"


def processes_left(directory: Path, timeout_s: float = 10.0) -> dict[int, str]:
    """Return the processes of a mesh that are still there after the kernel had some time to end them."""
    deadline_s = time.monotonic() + timeout_s
    while (left := processes_of(directory)) and (remaining_s := deadline_s - time.monotonic()) > 0:
        until_ended(left, timeout_s=remaining_s)
    return left
