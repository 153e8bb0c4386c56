"""The lab of tests/nodes leaves nothing behind, whoever is killed. Without nodes: it is the kernel that cleans up."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.nodes import kernel, outside
from tests.support.waiting import until_ended

ROOT = Path(__file__).parents[2]
WHY_NOT = outside.missing()
OPEN = """
import sys
from tests.support.nodes import outside
outside.run_inside([sys.executable, "-c", "print(1, flush=True); input()"])
"""

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")


def test_a_lab_whose_owner_is_killed_is_gone() -> None:
    """No process is left, and so no mount and no network; the empty control group goes with the next lab."""
    base = kernel.own_group()
    assert base is not None
    mounts = Path("/proc/self/mountinfo").read_text()
    command = [sys.executable, "-c", OPEN]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == b"1\n"
        (group,) = base.glob(f"{outside.GROUP_PREFIX}{owner.pid}-*")
        inside = [int(pid) for file in group.rglob("cgroup.procs") for pid in file.read_text().split()]
        assert len(inside) >= 2
        owner.kill()
    until_ended(inside)

    assert [pid for pid in inside if lives(pid)] == []
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert group in outside.sweep()
    assert not group.exists()


def lives(pid: int) -> bool:
    """False also for one that has ended and that nobody has asked about."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
