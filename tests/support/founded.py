"""A cluster made by `gnt-mesh cluster init` below a root of its own, and its programs started as its output says."""

import contextlib
import json
import os
import secrets
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from master.up import broker
from protocol import identity
from tests.support.mesh import COMMAND, environment
from tests.support.waiting import until

END_S = 20
READY_S = 30


class Founded:
    """One machine. Whatever was started here has ended when the context is left."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.etc = root / "etc/gnt-mesh"
        self._processes: list[subprocess.Popen[bytes]] = []

    def init(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run `cluster init`, with a free port; return how it ended."""
        where = ("--root", str(self.root), "--address", "127.0.0.1", "--port", str(broker.free_port()))
        return run("cluster", "init", *options, *where)

    def run(self, *args: str) -> "subprocess.CompletedProcess[str]":
        return run("--dir", str(self.etc), *args)

    def json(self, *args: str) -> Any:
        done = self.run(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, printed: str) -> None:
        """Start what the output of `cluster init` says, in its order."""
        self.start_broker(printed)
        for program in _commands(printed)[1:]:
            self.start_daemon([str(Path(sys.prefix) / "bin" / program[0]), *program[1:]])

    def add_node(self, node: str, root: Path) -> str:
        """Make another node's root, as its own administrator would; return its public key."""
        etc = root / "etc/gnt-mesh"
        etc.mkdir(parents=True)
        (root / "var/lib/ganeti").mkdir(parents=True)
        for name in ("ca.pem", "master.pub"):
            (etc / name).write_bytes((self.etc / name).read_bytes())
        values = (self.etc / "operator.toml").read_text().splitlines()
        server = next(line for line in values if line.startswith("server"))
        (etc / "agent.toml").write_text(
            f'node = "{node}"\n{server}\nca_file = "ca.pem"\nseed_file = "agent.nk"\n'
            'master_keys_file = "master.pub"\n'
            'root = "../.."\nstate_dir = "../../var/lib/gnt-mesh/agent"\n'
        )
        return identity.ensure_seed(etc / "agent.nk")

    def start_agent(self, root: Path) -> None:
        program = Path(sys.prefix) / "bin/gnt-mesh-agent"
        self.start_daemon([str(program), "--settings", str(root / "etc/gnt-mesh/agent.toml")])

    def start_broker(self, printed: str) -> None:
        """Start the first of what the output of `cluster init` says."""
        command = _commands(printed)[0]
        log = self.root / "nats-server.log"
        with log.open("wb") as output:
            self._processes.append(subprocess.Popen(command, stderr=output, stdout=output, env=environment()))
        until(lambda: "Server is ready" in log.read_text(), near=self.root)

    def start_daemon(self, command: list[str], **more: str) -> "subprocess.Popen[bytes]":
        """Start a daemon and return once it is ready."""
        name = f"gnt-mesh-test-{secrets.token_hex(8)}"
        log = self.root / f"{Path(command[0]).name}-{secrets.token_hex(4)}.log"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notices, log.open("wb") as out:
            notices.bind(f"\0{name}")
            process = subprocess.Popen(
                command, stdout=out, stderr=out, env=environment(NOTIFY_SOCKET=f"@{name}", **more)
            )
            self._processes.append(process)
            until_ready(notices, process.pid, log)
        return process

    def kill(self, program: str) -> None:
        """Kill what was started as this program, wherever; return once it has ended."""
        for process in self._processes:
            assert isinstance(process.args, list)
            if Path(process.args[0]).name == program:
                process.kill()
                process.wait()

    def stop(self) -> None:
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _commands(printed: str) -> list[list[str]]:
    return [shlex.split(line) for line in printed.splitlines() if line.startswith("   ")]


def until_ready(notices: socket.socket, pid: int, log: Path) -> None:
    """Return when READY=1 is among what is said; AssertionError with the log if the process ends before."""
    ended = os.pidfd_open(pid)
    deadline_s = time.monotonic() + READY_S
    try:
        while True:
            readable, _, _ = select.select((notices, ended), (), (), max(deadline_s - time.monotonic(), 0.0))
            assert notices in readable, log.read_text()
            if b"READY=1" in notices.recv(4096).split(b"\n"):
                return
    finally:
        os.close(ended)


def run(*args: str) -> "subprocess.CompletedProcess[str]":
    """Run `gnt-mesh` to its end, whatever its exit code."""
    return subprocess.run(
        [COMMAND, *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        env=environment(),
        check=False,
    )


@contextlib.contextmanager
def founded(root: Path) -> Iterator[Founded]:
    root.mkdir()
    here = Founded(root)
    try:
        yield here
    finally:
        here.stop()
