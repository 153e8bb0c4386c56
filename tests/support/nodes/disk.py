"""A node's disk: the machine's own root as it is, below a bounded layer of the node's own, which survives its boots."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from tests.support.nodes.kernel import mount

SIZE = "512m"

HIDDEN = (
    *("etc/systemd/system", "etc/systemd/network", "etc/init.d", "etc/cron.d", "etc/ganeti", "etc/gnt-mesh"),
    *("var/log", "var/lib/systemd", "var/lib/ganeti", "var/lib/gnt-mesh", "var/spool", "var/tmp", "srv"),
)
"""Directories that begin empty, whatever the machine has there."""

MASKED = (
    *("console-getty.service", "getty.target", "systemd-logind.service", "systemd-networkd.service"),
    *("systemd-resolved.service", "systemd-timesyncd.service", "systemd-udevd.service", "systemd-udev-trigger.service"),
    *("systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-firstboot.service"),
    *("systemd-hwdb-update.service", "systemd-pcrphase.service", "systemd-binfmt.service", "ldconfig.service"),
    *("modprobe@.service", "dev-hugepages.mount", "dev-mqueue.mount", "sys-fs-fuse-connections.mount"),
    *("systemd-tmpfiles-clean.timer", "e2scrub_all.timer", "apt-daily.timer", "apt-daily-upgrade.timer"),
    *("dpkg-db-backup.timer", "man-db.timer", "fstrim.timer", "logrotate.timer"),
)
"""What a machine has and a node in a lab cannot do, or what would only make its boot slower."""

JOURNAL = "[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\n"
MANAGER = "[Manager]\nDefaultTimeoutStopSec=15s\nShowStatus=no\n"


def make(directory: Path, name: str, hosts: Mapping[str, str]) -> Path:
    """Make a node's disk in `directory`; return its root, mounted."""
    disk, root = directory / "disk", directory / "root"
    upper, work = disk / "upper", disk / "work"
    disk.mkdir(parents=True)
    root.mkdir()
    mount("tmpfs", disk, "tmpfs", f"mode=755,size={SIZE}")
    upper.mkdir()
    work.mkdir()
    for hidden in HIDDEN:
        (upper / hidden).mkdir(parents=True)
        os.setxattr(upper / hidden, "trusted.overlay.opaque", b"y")
    (upper / "var/tmp").chmod(0o1777)
    (upper / "var/log/journal").mkdir()
    units = upper / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).symlink_to("/dev/null")
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    for path, text in {
        "etc/hostname": f"{name}\n",
        "etc/machine-id": f"{uuid.uuid5(uuid.NAMESPACE_DNS, name).hex}\n",
        "etc/fstab": "",
        "etc/resolv.conf": "",
        "etc/hosts": "127.0.0.1 localhost\n" + "".join(f"{address} {host}\n" for host, address in hosts.items()),
        "etc/systemd/journald.conf": JOURNAL,
        "etc/systemd/system.conf": MANAGER,
    }.items():
        (upper / path).parent.mkdir(parents=True, exist_ok=True)
        (upper / path).write_text(text)
    mount("overlay", root, "overlay", f"lowerdir=/,upperdir={upper},workdir={work},volatile")
    return root
