"""Opens a lab: namespaces and a control group of their own, in which everything lives and with which everything dies.

Whoever is killed here, with whatever signal, the kernel ends all the rest: `unshare` has asked for it, and so have we.
What can remain is one empty control group, which the next lab removes.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from tests.support.nodes import kernel

GROUP_PREFIX = "gnt-mesh-nodes-"
INSIDE = "GNT_MESH_NODES"
"""In the environment of what runs in a lab."""

SYSTEMD = Path("/lib/systemd/systemd")
PROGRAMS = ("unshare", "setpriv", "nsenter", "ip", "mount", "dbus-daemon", "systemctl", "dpkg")


def missing() -> str:
    """Return why there can be no lab on this machine; empty if there can."""
    if os.geteuid() != 0:
        return "nodes need root: namespaces, mounts and control groups are made"
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking or not SYSTEMD.exists():
        names = ", ".join([*lacking, *([] if SYSTEMD.exists() else ["systemd"])])
        return f"not here: {names}; on Debian: apt install systemd dbus iproute2 util-linux"
    if kernel.own_group() is None:
        return "no cgroup2 is mounted here"
    probe = kernel.run("unshare", "--mount", "--pid", "--net", "--cgroup", "--fork", "true", check=False)
    return f"no namespaces here: {probe.stderr.strip()}" if probe.returncode else ""


def sweep() -> list[Path]:
    """Remove the groups of labs whose owner is gone; return them."""
    base = kernel.own_group()
    assert base is not None
    gone = []
    for group in base.glob(f"{GROUP_PREFIX}*"):
        pid, _, started = group.name.removeprefix(GROUP_PREFIX).partition("-")
        if kernel.start_time(int(pid)) != started:
            kernel.drop_group(group)
            gone.append(group)
    return gone


def run_inside(command: list[str]) -> int:
    """Run a command in a new lab; return its exit code when nothing of the lab is left."""
    sweep()
    base = kernel.own_group()
    assert base is not None
    group = base / f"{GROUP_PREFIX}{os.getpid()}-{kernel.start_time(os.getpid())}"
    group.mkdir()
    namespaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")
    unshare = ["unshare", *namespaces, "--fork", "--kill-child=KILL", "--propagation", "private"]
    dies_with_us = ["setpriv", "--pdeathsig", "KILL"]
    try:
        child = subprocess.Popen(
            kernel.in_group(
                group, [*dies_with_us, *unshare, sys.executable, "-m", "tests.support.nodes.inside", *command]
            ),
            env={**os.environ, INSIDE: "1"},
        )

        def end(number: int, frame: FrameType | None) -> None:
            child.kill()

        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end)
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue  # pytest has had it too, and ends
    finally:
        kernel.drop_group(group)
