"""The first process of a lab: mounts what belongs to the new namespaces, runs one command, and reaps."""

import contextlib
import os
import signal
import sys
from pathlib import Path

from tests.support.nodes.kernel import mount, run

GROUPS = Path("/sys/fs/cgroup")
LAB = Path("/run/gnt-mesh-nodes")


def main() -> None:
    """Exit as the command does; whatever else still lives in the lab then is killed by the kernel."""
    assert os.getpid() == 1
    mount("proc", "/proc", "proc", "nosuid,nodev,noexec")
    mount("tmpfs", "/run", "tmpfs", "mode=755")
    mount("sysfs", "/sys", "sysfs", "nosuid,nodev,noexec")
    mount("cgroup2", GROUPS, "cgroup2")
    for directory in (Path("/run/netns"), Path("/run/lock"), LAB):
        directory.mkdir(parents=True)
    hand_down_controllers()
    run("ip", "link", "set", "lo", "up")
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.execvp(sys.argv[1], sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def hand_down_controllers() -> None:
    """Nodes get what the lab has; for that nobody may live in the lab's own group."""
    own = GROUPS / "lab"
    own.mkdir()
    (own / "cgroup.procs").write_text("0")
    for controller in (GROUPS / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):
            (GROUPS / "cgroup.subtree_control").write_text(f"+{controller}")


if __name__ == "__main__":
    main()
