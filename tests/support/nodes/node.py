"""One node: its power, its network port, and what an administrator does on it."""

import contextlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.nodes import disk
from tests.support.nodes.inside import GROUPS, LAB
from tests.support.nodes.kernel import Failed, in_group, run

BOOT_S = 60.0
AWAIT_S = 60.0
STARTED = "39f53479d3a045ac8e11786248231fbf"
"""The journal's id of systemd's message that a unit is up."""


@dataclass(frozen=True)
class Found:
    """A file as it is on a node's disk, with the names that the node itself gives to its owner and group."""

    content: bytes
    mode: int
    owner: str
    group: str


class Node:
    def __init__(self, name: str, address: str, hosts: Mapping[str, str], binds: Mapping[str, str]) -> None:
        self.name = name
        self.address = address
        self.port = f"v-{name}"
        """Its end of the cable at the switch."""
        self._binds = binds
        self._directory = LAB / name
        self.root = disk.make(self._directory, name, hosts)
        self._group = GROUPS / name
        self._process: subprocess.Popen[bytes] | None = None
        self._notices: socket.socket | None = None
        run("ip", "netns", "add", name)
        run("ip", "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", name)
        for words in (("link", "set", "lo", "up"), ("addr", "add", f"{address}/24", "dev", "eth0")):
            run("ip", "-n", name, *words)
        run("ip", "-n", name, "link", "set", "eth0", "up")

    # power

    def boot(self) -> None:
        """Return when systemd has nothing left to start."""
        notify = self._directory / "notify"
        notify.unlink(missing_ok=True)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._notices.bind(str(notify))
        self._start()

    def reboot(self) -> None:
        """In good order; the disk stays, /run does not."""
        assert self._process is not None
        with contextlib.suppress(Failed):  # the connection is cut with the node
            self.run("systemctl", "--no-block", "reboot")
        code = self._process.wait(BOOT_S)
        assert code == -signal.SIGHUP, f"{self.name} went down with {code} instead of a reboot"
        self._start()

    def cut_power(self) -> None:
        """Nothing on the node gets to do anything any more."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self.first_pid, signal.SIGKILL)
            self._process.wait(BOOT_S)
        if self._notices is not None:
            self._notices.close()

    @property
    def first_pid(self) -> int:
        """The lab's number of the node's systemd."""
        return int((self._group / "init.scope/cgroup.procs").read_text().split()[0])

    def _start(self) -> None:
        boot = {"name": self.name, "root": str(self.root), "notify": str(self._directory / "notify")}
        namespaces = ("--mount", "--uts", "--ipc", "--pid", "--cgroup")
        self._group.mkdir(exist_ok=True)
        with (self._directory / "console").open("ab") as console:
            self._process = subprocess.Popen(
                in_group(
                    self._group,
                    [
                        *("nsenter", f"--net=/run/netns/{self.name}"),
                        *("unshare", *namespaces, "--fork", "--kill-child=KILL", "--propagation", "private"),
                        *(sys.executable, "-m", "tests.support.nodes.first_process"),
                        json.dumps({**boot, "binds": dict(self._binds)}),
                    ],
                ),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self._wait_ready()

    def _wait_ready(self) -> None:
        assert self._process is not None and self._notices is not None
        deadline_s = time.monotonic() + BOOT_S
        ended = os.pidfd_open(self._process.pid)
        try:
            while True:
                left_s = max(deadline_s - time.monotonic(), 0.0)
                readable, _, _ = select.select((self._notices, ended), (), (), left_s)
                if self._notices not in readable:
                    raise Failed(f"{self.name} did not come up\n{self._why_not()}")
                if "READY=1" in self._notices.recv(4096).decode().splitlines():
                    return
        finally:
            os.close(ended)

    def _why_not(self) -> str:
        console = (self._directory / "console").read_text(errors="backslashreplace")
        with contextlib.suppress(OSError):
            return f"{console[-2000:]}\n{self.run('systemctl', 'list-jobs', check=False).stdout}\n{self.log()}"
        return console

    # what is done on it

    def enter(self, *words: str) -> list[str]:
        """Return the command that runs another one on this node."""
        into = ("-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w")
        return ["nsenter", "-t", str(self.first_pid), *into, "--", *words]

    def run(self, *words: str, check: bool = True, text: str = "") -> "subprocess.CompletedProcess[str]":
        clean = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8")
        return run(*self.enter(*clean, *words), check=check, text=text)

    def said(self, *words: str) -> str:
        """Return what a command has printed."""
        return self.run(*words).stdout.strip()

    def systemctl(self, *words: str) -> str:
        return self.said("systemctl", *words)

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.systemctl("show", "--value", "--property", name, unit)

    def main_pid(self, unit: str) -> str:
        pid = self.show(unit, "MainPID")
        assert pid != "0", f"{unit} does not run on {self.name}\n{self.log(unit)}"
        return pid

    def log(self, *units: str) -> str:
        chosen = [word for unit in units for word in ("-u", unit)]
        return self.run("journalctl", "--no-pager", "-n", "60", *chosen, check=False).stdout

    # its journal, as it is written

    def cursor(self) -> str:
        """Return a place in the journal: its end, now."""
        self.run("journalctl", "--sync")
        last = self.said("journalctl", "-n", "1", "-o", "json", "--no-pager").splitlines()
        return str(json.loads(last[-1])["__CURSOR"])

    def await_started(self, unit: str, since: str, times: int = 1) -> None:
        """Return when systemd has said, after the place `since`, that the unit is up: it has notified its readiness."""
        left = times
        for record in self.follow(since, f"UNIT={unit}"):
            left -= record.get("MESSAGE_ID") == STARTED
            if left <= 0:
                return

    def follow(self, since: str, *matches: str) -> Iterator[dict[str, Any]]:
        """Yield records of the journal as they come; Failed if none comes for too long."""
        command = self.enter("journalctl", "-f", "-n", "all", "-o", "json", f"--after-cursor={since}", *matches)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as following:
            assert following.stdout is not None
            try:
                deadline_s = time.monotonic() + AWAIT_S
                waiting = select.poll()
                waiting.register(following.stdout, select.POLLIN)
                held = b""
                while waiting.poll(max(deadline_s - time.monotonic(), 0) * 1000):
                    held += os.read(following.stdout.fileno(), 65536)
                    *lines, held = held.split(b"\n")
                    for line in lines:
                        if line.startswith(b"{"):
                            yield json.loads(line)
            finally:
                following.kill()
        raise Failed(f"{self.name}: nothing more of {matches} in the journal\n{self.log()}")

    # its disk

    def real(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file as an editor does: a new one takes the place of the old."""
        file = self.real(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f".{file.name}.edited")
        new.write_text(text)
        new.chmod(mode)
        new.rename(file)

    def find(self, path: str) -> Found | None:
        """Return a file as the disk has it, None if there is none."""
        file = self.real(path)
        if not file.exists():
            return None
        about = file.stat()
        return Found(
            content=file.read_bytes(),
            mode=stat.S_IMODE(about.st_mode),
            owner=self._name("passwd", about.st_uid),
            group=self._name("group", about.st_gid),
        )

    def _name(self, file: str, number: int) -> str:
        for line in self.real(f"/etc/{file}").read_text().splitlines():
            name, _, found, *_ = line.split(":")
            if found == str(number):
                return name
        return str(number)
