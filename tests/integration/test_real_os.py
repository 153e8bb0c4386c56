"""OS definitions as Debian ships them, unmodified, through the mesh: the proof that the interface is Ganeti's.

Packages are fetched with apt and unpacked below a node's root; nothing of the machine is changed. What cannot be had is
skipped, with the reason. The whole Debian takes over a minute the first time, and a second from the cache in .tools.
"""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.operator_job_messages import JobInfo
from protocol.os_messages import OsDisk, OsInstance, OsJob, OsTransfer
from protocol.os_names import instance_name, os_variant
from tests.support.job_mesh import NODE, JobMesh, create, job_mesh
from tests.support.job_values import an_instance

OS_PATH = "/usr/share/ganeti/os"
CACHE = Path(__file__).parents[2] / ".tools/debootstrap-cache"
DISK_BYTES = 2 * 1024**3
INSTALL_S = 600.0
SYNC_S = 30.0
NEEDED = ("debootstrap", "dump", "losetup", "mkfs.ext4", "udevadm", "unshare")
"""What ganeti-instance-debootstrap calls."""
SEE_OUR_ETC = 'mount -t overlay overlay -o "lowerdir=$1/etc:/etc" /etc && shift && exec "$@"'
"""The package's configuration has absolute paths: in a mount namespace of the agent's it is where it should be."""


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[JobMesh]:
    async with job_mesh(tmp_path) as mesh:
        yield mesh


def unpack(package: str, mesh: JobMesh) -> None:
    """Put a package's files below the node's root."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip("no apt-get and dpkg-deb here: Debian's OS definitions come as Debian packages")
    place = mesh.tmp_path / "packages"
    place.mkdir(exist_ok=True)
    fetched = subprocess.run(
        ["apt-get", "download", package], cwd=place, capture_output=True, text=True, timeout=120, check=False
    )
    found = list(place.glob(f"{package}_*.deb"))
    if not found:
        pytest.skip(f"package {package} cannot be had: {fetched.stderr.strip().splitlines()[-1:]}")
    subprocess.run(["dpkg-deb", "-x", found[0], mesh.root(NODE)], check=True, timeout=60)


async def restart(mesh: JobMesh, within: tuple[str, ...] = ()) -> None:
    mesh.kill_agent()
    mesh.start_agent(within=within, os_search_path=[OS_PATH])
    await mesh.online()


async def succeeds(mesh: JobMesh, job: OsJob) -> JobInfo:
    await mesh.submit(job)
    info = await mesh.status(job.id, timeout_s=INSTALL_S)
    assert info.status == "success", f"{info.reason}\n{await mesh.output(job.id)}"
    return info


async def test_noop_of_debian_runs_all_its_scripts(mesh: JobMesh) -> None:
    """It declares API versions 5 and 10: what came later must not be there, and what it needs must."""
    unpack("ganeti-os-noop", mesh)
    (mesh.tmp_path / "export").mkdir()
    disk = mesh.tmp_path / "export/disk0"
    disk.write_bytes(b"")
    transfer = (OsTransfer(disk=0, path=str(disk)),)
    await restart(mesh)

    await succeeds(mesh, create("create", "noop"))
    await succeeds(mesh, create("rename", "noop", action="rename", instance="new", old_name=instance_name("old")))
    await succeeds(mesh, create("export", "noop", action="export", transfers=transfer))
    await succeeds(mesh, create("import", "noop", action="import", transfers=transfer))


def debian_on(disk: Path) -> OsInstance:
    return replace(an_instance("debian"), disks=(OsDisk(path=str(disk), backend="file:loop", size_mib=2048),))


def sparse(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(DISK_BYTES)
    return path


def why_not() -> str:
    if os.geteuid() != 0:
        return "needs root: loop devices, mounts and a chroot"
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        return f"needs {', '.join(missing)}: apt-get install debootstrap dump e2fsprogs udev"
    if not Path("/dev/loop-control").exists():
        return "needs loop devices"
    return ""


def skip_where_disks_hang() -> None:
    """debootstrap calls sync(1), which waits for every disk of the machine, and cannot be ended while it does."""
    syncing = subprocess.Popen(["sync"])
    try:
        syncing.wait(SYNC_S)
    except subprocess.TimeoutExpired:
        syncing.returncode = 0  # nobody can end it, so nobody waits for it
        pytest.skip(f"sync(1) has not returned in {SYNC_S:g} s: a disk of this machine hangs")


def mirror() -> tuple[str, str]:
    """Return site and release that this machine's own apt uses."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)"], capture_output=True, text=True, check=True
    )
    site, release = min(listed.stdout.splitlines(), key=len).split()
    return site, release


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
async def test_a_real_debian_is_installed_exported_imported_and_renamed(mesh: JobMesh) -> None:
    skip_where_disks_hang()
    unpack("ganeti-instance-debootstrap", mesh)
    site, release = mirror()
    etc = mesh.root(NODE) / "etc/ganeti/instance-debootstrap"
    CACHE.mkdir(parents=True, exist_ok=True)
    is_cached = any(CACHE.iterdir())
    (etc / "variants.list").write_text("mesh\n")
    (etc / "variants/mesh.conf").write_text(
        f'SUITE="{release}"\nMIRROR="{site}"\nPARTITION_STYLE="none"\nCACHE_DIR="{CACHE}"\nEXTRA_PKGS=""\n'
    )
    (mesh.tmp_path / "export").mkdir()
    dump = mesh.tmp_path / "export/disk0"
    transfer = (OsTransfer(disk=0, path=str(dump)),)
    first, second = sparse(mesh.tmp_path / "disk1"), sparse(mesh.tmp_path / "disk2")
    how = {"variant": os_variant("mesh"), "parameters": {"filesystem": "ext4"}}
    await restart(
        mesh, ("unshare", "--mount", "--propagation", "private", "sh", "-ec", SEE_OUR_ETC, "sh", str(mesh.root(NODE)))
    )

    await succeeds(mesh, replace(create("create", "debootstrap", **how), instance=debian_on(first)))
    said = await mesh.output("create")
    assert is_cached or ("Retrieving" in said and "Base system installed successfully" in said)
    assert release_of(first).startswith("Debian GNU/Linux")

    about = replace(
        create("export", "debootstrap", action="export", transfers=transfer, **how), instance=debian_on(first)
    )
    info = await succeeds(mesh, about)
    assert dump.stat().st_size > 100_000_000
    assert info.progress is None, "an export that has ended is not under way"

    again = {"action": "import", "transfers": transfer}
    await succeeds(mesh, replace(create("import", "debootstrap", **again, **how), instance=debian_on(second)))
    assert release_of(second) == release_of(first)

    renamed = replace(debian_on(second), name=instance_name("renamed"))
    old = {"action": "rename", "old_name": instance_name("debian")}
    await succeeds(mesh, replace(create("rename", "debootstrap", **old, **how), instance=renamed))
    assert loop_devices_of(mesh.tmp_path) == ""


def release_of(disk: Path) -> str:
    """Return what the system on a disk says that it is. The file system is on the disk itself: no partitions."""
    found = subprocess.run(
        ["debugfs", "-R", "cat /usr/lib/os-release", disk], capture_output=True, text=True, timeout=60, check=True
    )
    return next(line.split('"')[1] for line in found.stdout.splitlines() if line.startswith("PRETTY_NAME="))


def loop_devices_of(directory: Path) -> str:
    listed = subprocess.run(
        ["losetup", "--list", "--noheadings", "-O", "BACK-FILE"], capture_output=True, text=True, check=True
    )
    return "".join(line for line in listed.stdout.splitlines() if str(directory) in line)
