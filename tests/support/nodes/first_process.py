"""Becomes the first process of a node: makes its file systems, moves into its root, and is systemd from then on.

Everything before systemd that a boot loader, a kernel and a container manager would have done. Arguments: one JSON
object, the fields of `Boot`.
"""

import ctypes
import json
import os
import socket
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from tests.support.nodes.kernel import bind, mount

QUIET = "nosuid,nodev,noexec"
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0"}
LINKS |= {"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "core": "/proc/kcore"}
NOTIFY_SOCKET = "/run/host/notify"

PR_CAPBSET_DROP = 24
MACHINE_WIDE = {"SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_TIME": 25, "SYS_TTY_CONFIG": 26, "SYSLOG": 34, "WAKE_ALARM": 35}
"""What a node must not have, because it would be done to the machine."""

SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MNT_DETACH = 2


@dataclass(frozen=True)
class Boot:
    name: str
    root: str
    notify: str
    """A socket on the machine, for systemd's READY=1."""
    binds: dict[str, str]
    """What of the machine a node sees, and where."""

    def inside(self, path: str) -> str:
        return self.root + path


def main() -> None:
    boot = Boot(**json.loads(sys.argv[1]))
    bind(boot.root, boot.root)
    mount_kernel(boot)
    make_devices(boot)
    show_machine(boot)
    socket.sethostname(boot.name)
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in MACHINE_WIDE.values():
        libc.prctl(PR_CAPBSET_DROP, capability)
    os.chdir(boot.root)
    if libc.syscall(SYS_PIVOT_ROOT[os.uname().machine], b".", b".") or libc.umount2(b".", MNT_DETACH):
        raise OSError(ctypes.get_errno(), "the node's root cannot be entered")
    os.chdir("/")
    mount("none", "/", "", "", "--make-rshared")  # or the credentials of a unit would be empty
    os.setsid()
    environment = {
        "container": "gnt-mesh-nodes",
        "container_uuid": Path("/etc/machine-id").read_text().strip(),
        "NOTIFY_SOCKET": NOTIFY_SOCKET,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }
    os.execve("/lib/systemd/systemd", ["/lib/systemd/systemd", "--system"], environment)


def mount_kernel(boot: Boot) -> None:
    """What shows the kernel, and what would change the machine's is read-only. /run and /tmp are new at each boot."""
    mount("proc", boot.inside("/proc"), "proc", QUIET)
    for path in ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"):
        if Path(boot.inside(path)).exists():
            bind(boot.inside(path), boot.inside(path))
            mount("none", boot.inside(path), "", f"remount,bind,ro,{QUIET}")
    boot_id = Path(boot.root).with_name("boot_id")
    boot_id.write_text(f"{uuid.uuid4()}\n")  # the kernel has one for all nodes and all their boots
    bind(boot_id, boot.inside("/proc/sys/kernel/random/boot_id"))
    mount("sysfs", boot.inside("/sys"), "sysfs", f"ro,{QUIET}")
    mount("cgroup2", boot.inside("/sys/fs/cgroup"), "cgroup2", QUIET)
    for path, mode in (("/run", "755"), ("/tmp", "1777")):
        mount("tmpfs", boot.inside(path), "tmpfs", f"nosuid,nodev,mode={mode}")


def make_devices(boot: Boot) -> None:
    mount("tmpfs", boot.inside("/dev"), "tmpfs", "nosuid,mode=755,size=4m")
    os.umask(0)
    for name, number in DEVICES.items():
        os.mknod(boot.inside(f"/dev/{name}"), 0o20666, os.makedev(*number))
    os.mknod(boot.inside("/dev/console"), 0o20600, os.makedev(1, 3))  # a device that takes everything
    os.umask(0o022)
    for name in ("pts", "shm", "net"):
        Path(boot.inside(f"/dev/{name}")).mkdir()
    for name, target in LINKS.items():
        Path(boot.inside(f"/dev/{name}")).symlink_to(target)
    mount("devpts", boot.inside("/dev/pts"), "devpts", "newinstance,ptmxmode=0666,mode=620,gid=5")
    mount("tmpfs", boot.inside("/dev/shm"), "tmpfs", "nosuid,nodev,mode=1777")


def show_machine(boot: Boot) -> None:
    host = Path(boot.inside("/run/host"))
    host.mkdir(parents=True)
    (host / "container-manager").write_text("gnt-mesh-nodes\n")
    Path(boot.inside(NOTIFY_SOCKET)).touch()
    bind(boot.notify, boot.inside(NOTIFY_SOCKET))
    for source, target in boot.binds.items():
        Path(boot.inside(target)).mkdir(parents=True, exist_ok=True)
        bind(source, boot.inside(target))


if __name__ == "__main__":
    main()
