"""A write that breaks off, at any line, by a kill or by a power cut: old or new, never between, and it heals."""

import json
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import crash_points
from tests.support.crash_points import OLD_A, OLD_GONE, every_line
from tests.support.disk_image import a_disk, after_a_power_cut, sync_disk
from tests.support.forked import in_child
from tests.support.node_tree import NodeTree

REPOSITORY = Path(__file__).parents[2]
LINES_BETWEEN_KILLS = 8
LINES_BETWEEN_CUTS = 10


@pytest.fixture
def quick_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory if there is one: what a killed process leaves does not depend on the disk."""
    shared = Path("/dev/shm")
    place = shared / f"gnt-mesh-{tmp_path.name}" if shared.is_dir() else tmp_path / "crashes"
    place.mkdir()
    yield place
    shutil.rmtree(place)


def test_killed_at_any_line_targets_are_old_or_new_and_the_next_agent_finishes(quick_disk: Path) -> None:
    command = [sys.executable, "-m", "tests.support.crash_points", quick_disk, str(LINES_BETWEEN_KILLS)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)

    assert report["faults"] == {}
    assert report["lines"] > 500
    assert report["kills"] > report["lines"] // LINES_BETWEEN_KILLS
    assert list(report["states"]) == [
        "old old absent old",
        "new old absent old",
        "new new absent old",
        "new new new old",
        "new new new absent",
    ]


def test_what_an_outcome_promises_survives_a_power_cut(tmp_path: Path) -> None:
    """A receipt means disk (design, D4): contents, modes, names, the removal and the backups."""

    def scenario() -> None:
        image, place = a_disk(tmp_path, size_bytes=16 << 20)
        node = crash_points.before(place)
        sync_disk(place)

        crash_points.converge(node)
        cut = shutil.copy(image, tmp_path / "cut")

        with after_a_power_cut(cut, tmp_path / "again") as again:
            assert state_after_restart(again) == ("new", "new", "new", "absent")
            assert sorted(NodeTree(again).backup_contents()) == sorted((OLD_A[0], OLD_GONE[0]))
            assert NodeTree(again).leftovers() == []

    in_child(scenario)


def test_a_power_cut_at_any_line_leaves_targets_old_or_new(tmp_path: Path) -> None:
    """In particular never empty, as a rename before the content is synced would leave them."""

    def scenario() -> None:
        image, place = a_disk(tmp_path, size_bytes=8 << 20)
        node = crash_points.before(place)
        sync_disk(place)
        cuts: dict[int, Path] = {}

        def cut(line: int) -> None:
            if line % LINES_BETWEEN_CUTS == 0:
                disk = image.read_bytes()
                if zlib.crc32(disk) not in cuts:
                    cuts[zlib.crc32(disk)] = tmp_path / f"cut-{line}"
                    cuts[zlib.crc32(disk)].write_bytes(disk)

        with every_line(cut):
            crash_points.converge(node)

        states = set()
        for disk in cuts.values():
            with after_a_power_cut(disk, tmp_path / "again") as again:
                assert crash_points.faults_after_a_crash(NodeTree(again)) == [], disk.name
                states.add(state_after_restart(again))
            disk.unlink()
        assert {("old", "old", "absent", "old"), ("new", "new", "new", "absent")} <= states

    in_child(scenario)


def state_after_restart(place: Path) -> tuple[str, ...]:
    return crash_points.state_of(NodeTree(place))
