"""What the disk may do to a write: full, read-only, busy, broken. The old file stays, the error has its name.

The faults are real ones wherever they can be had; the rest are put between the process and the kernel by strace.
"""

import asyncio
import errno
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from node_agent.core.reconcile import ABSENT, Outcome, Remove, Write
from node_agent.files import NodeFiles
from protocol.names import ManagedPath
from tests.support.disk_image import a_disk, fill_up_below, sync_disk
from tests.support.forked import (
    MS_BIND,
    drop_capabilities,
    enter_mount_namespace,
    in_child,
    make_read_only,
    mount,
    mount_tmpfs,
)
from tests.support.node_tree import NodeTree, a_plan, a_removal, my_user, names_in, paths, picture

X, Y, Z = paths("/etc/x", "/etc/y", "/etc/z")
REPOSITORY = Path(__file__).parents[2]
KIB = 1024


def performed(tree: NodeTree, *actions: Write | Remove) -> Outcome:
    return asyncio.run(tree.perform(*actions))


def reasons(outcome: Outcome) -> dict[ManagedPath, str]:
    return dict(outcome.errors)


# The whole disk: nothing is replaced


@pytest.fixture
def old(tmp_path: Path) -> NodeTree:
    """X and Y are to be replaced, Z is to be removed."""
    tree = NodeTree(tmp_path)
    for path in (X, Y, Z):
        tree.put(path, b"old")
    return tree


def test_a_full_disk_holds_back_the_plan_and_is_as_full_as_before(tmp_path: Path) -> None:
    def scenario() -> None:
        enter_mount_namespace()
        mount_tmpfs(tmp_path / "root", size="128k")
        tree = NodeTree(tmp_path)
        for path in (X, Z):
            tree.put(path, b"old")
        before = picture(tree.root)

        outcome = performed(
            tree, tree.write(X, b"small"), tree.write(Y, b"x" * 300 * KIB), tree.write("/etc/n", b"n"), a_removal(Z)
        )

        held_back = "held back: /etc/y: No space left on device"
        assert reasons(outcome) == {
            Y: "No space left on device",
            X: held_back,
            ManagedPath("/etc/n"): held_back,
            Z: held_back,
        }
        assert outcome.found == {}
        assert picture(tree.root) == before
        assert performed(tree, tree.write(X, b"x" * 80 * KIB)).errors == {}

    in_child(scenario)


def test_a_disk_full_of_names_holds_back_the_plan(tmp_path: Path) -> None:
    """No inode is left for a temporary file, nor for a directory."""

    def scenario() -> None:
        enter_mount_namespace()
        (tmp_path / "root").mkdir()
        mount("tmpfs", tmp_path / "root", kind="tmpfs", options="nr_inodes=4,mode=0755")
        tree = NodeTree(tmp_path)
        tree.put(X)
        tree.put(Z)

        for action in (tree.write(Y), tree.write("/etc/d/y")):
            outcome = performed(tree, tree.write(X, b"", keep_backup=True), action, a_removal(Z))
            assert set(reasons(outcome)) == {X, action.entry.path, Z}
            assert "No space left on device" in reasons(outcome).values()
        assert names_in(tree.root / "etc") == ["x", "z"]

    in_child(scenario)


def test_no_room_for_a_backup_holds_back_the_plan(tmp_path: Path) -> None:
    def scenario() -> None:
        enter_mount_namespace()
        tree = NodeTree(tmp_path)
        mount_tmpfs(tree.backups, size="128k")
        tree.put(X, b"small")
        tree.put(Y, b"x" * 300 * KIB)
        before = picture(tree.root)

        outcome = performed(tree, tree.write(X, keep_backup=True), tree.write(Y, keep_backup=True))

        reason = "no backup could be kept: No space left on device"
        assert reasons(outcome) == {Y: reason, X: f"held back: /etc/y: {reason}"}
        assert picture(tree.root) == before
        assert names_in(tree.backups) == []

    in_child(scenario)


def test_no_room_for_the_backup_of_a_removal_keeps_that_file(tmp_path: Path) -> None:
    def scenario() -> None:
        enter_mount_namespace()
        tree = NodeTree(tmp_path)
        mount_tmpfs(tree.backups, size="128k")
        tree.put(X, b"small")
        large = tree.put(Y, b"x" * 300 * KIB)

        outcome = performed(tree, a_removal(X, keep_backup=True), a_removal(Y, keep_backup=True))

        assert reasons(outcome) == {Y: "no backup could be kept: No space left on device"}
        assert outcome.found == {X: ABSENT}
        assert large.exists()
        assert tree.backup_contents() == [b"small"]
        assert tree.leftovers() == []

    in_child(scenario)


def test_too_few_descriptors_hold_back_the_plan(old: NodeTree) -> None:
    """Wherever they run out."""

    def scenario() -> None:
        before = picture(old.root)
        for room in range(1, 20):
            outcome = asyncio.run(perform(room))
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
            if not outcome.errors:
                break
            assert outcome.found == {}
            assert set(reasons(outcome)) == {X, Z, *more}
            assert all("Too many open files" in reason for reason in reasons(outcome).values())
            assert picture(old.root) == before
            assert old.backup_contents() == []
        assert room > 5
        assert old.backup_contents() == [b"old"]

    async def perform(room: int) -> Outcome:
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + room, hard))
        return await old.perform(old.write(X, keep_backup=True), *map(old.write, more), a_removal(Z))

    more = paths(*(f"/etc/more{number}" for number in range(6)))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_child(scenario)


def test_a_disk_that_fails_under_a_sync_holds_back_the_plan(tmp_path: Path) -> None:
    """The writes are taken, only the fsync says that they never arrived: the pool below a thin disk is full."""

    def scenario() -> None:
        image, place = a_disk(tmp_path, size_bytes=24 << 20, options="rw")
        tree = NodeTree(place)
        for path in (X, Z):
            tree.put(path, b"old")
        sync_disk(place)
        fill_up_below(image)

        outcome = performed(tree, tree.write(X, b"small"), tree.write(Y, os.urandom(9 << 20)), a_removal(Z))

        assert outcome.found == {}
        assert set(reasons(outcome)) == {X, Y, Z}
        assert lost & set(reasons(outcome).values())
        assert tree.real(X).read_bytes() == b"old"
        assert tree.real(Z).exists()

    # Which of them depends on what the kernel could not write first: content, journal or both.
    lost = {"No space left on device", "Input/output error", "Read-only file system"}
    in_child(scenario)


# One path: the others are done


def test_a_file_that_may_not_be_replaced_is_its_own_error(old: NodeTree) -> None:
    """Immutable, as some administrators make what must not be touched. Its backup is taken back with it."""
    set_immutable(old.real(X), True)
    set_immutable(old.real(Z), True)
    try:
        outcome = performed(
            old, old.write(X, b"new", keep_backup=True), old.write(Y, b"new"), a_removal(Z, keep_backup=True)
        )
    finally:
        set_immutable(old.real(X), False)
        set_immutable(old.real(Z), False)

    assert reasons(outcome) == {X: "Operation not permitted", Z: "Operation not permitted"}
    assert [old.real(path).read_bytes() for path in (X, Y, Z)] == [b"old", b"new", b"old"]
    assert (old.leftovers(), old.backup_contents()) == ([], [])


def set_immutable(path: Path, immutable: bool) -> None:
    get_flags, set_flags, immutable_flag = 0x80086601, 0x40086602, 0x10
    with path.open("rb") as file:
        try:
            flags = int.from_bytes(fcntl.ioctl(file, get_flags, bytes(8)), sys.byteorder)
            flags = flags | immutable_flag if immutable else flags & ~immutable_flag
            fcntl.ioctl(file, set_flags, flags.to_bytes(8, sys.byteorder))
        except OSError as error:
            pytest.skip(f"no file can be made immutable here: {error}")


def test_a_read_only_directory_is_the_error_of_what_is_in_it(old: NodeTree) -> None:
    def scenario() -> None:
        enter_mount_namespace()
        inside, new, going = paths("/etc/ro/x", "/etc/ro/d/x", "/etc/ro/z")
        for path in (inside, going):
            old.put(path, b"old")
        make_read_only(old.real("/etc/ro"))

        outcome = performed(
            old, old.write(X, b"new"), old.write(inside, keep_backup=True), old.write(new), a_removal(going)
        )

        assert reasons(outcome) == dict.fromkeys((inside, new, going), "Read-only file system")
        assert set(outcome.found) == {X}
        assert names_in(old.real("/etc/ro")) == ["x", "z"]
        assert old.backup_contents() == []

    in_child(scenario)


def test_a_file_that_is_mounted_is_busy(old: NodeTree) -> None:
    """As in a container, where single files are bound over: no fallback writes into it (peers' lessons, 2)."""

    def scenario() -> None:
        enter_mount_namespace()
        mount(old.real(Z), old.real(X), flags=MS_BIND)

        outcome = performed(old, old.write(X, b"new", keep_backup=True), old.write(Y, b"new"))

        assert reasons(outcome) == {X: "Device or resource busy"}
        assert [old.real(path).read_bytes() for path in (X, Y, Z)] == [b"old", b"new", b"old"]
        assert (old.leftovers(), old.backup_contents()) == ([], [])
        assert reasons(performed(old, a_removal(X))) == {X: "Device or resource busy"}

    in_child(scenario)


def test_a_directory_without_permission_is_the_error_of_what_is_in_it(old: NodeTree) -> None:
    def scenario() -> None:
        drop_capabilities()
        closed, barred = paths("/etc/closed/x", "/etc/barred/x")
        for path, mode in ((closed, 0o500), (barred, 0o000)):
            old.put(path, b"old").parent.chmod(mode)
        on_the_way = "/etc/barred on the way to /etc/barred/x: Permission denied"

        outcome = performed(old, old.write(X, b"new"), old.write(closed), old.write(barred), a_removal("/etc/closed/x"))

        assert reasons(outcome) == {closed: "Permission denied", barred: on_the_way}
        assert set(outcome.found) == {X}
        assert old.files.observe([barred])[barred].reason == on_the_way
        for path in (closed, barred):
            old.real(path).parent.chmod(0o755)
            assert old.real(path).read_bytes() == b"old"

    in_child(scenario)


def test_a_file_that_cannot_be_read_is_blocked(old: NodeTree) -> None:
    def scenario() -> None:
        drop_capabilities()
        old.real(X).chmod(0)

        found = old.files.observe([X, Y])

        assert (found[X].kind, found[X].reason) == ("blocked", "/etc/x cannot be read: Permission denied")
        assert found[Y].kind == "file"

    in_child(scenario)


def test_a_file_that_breaks_under_a_read_is_blocked(tmp_path: Path) -> None:
    """A process's own memory is such a file: it opens, and nothing can be read at its beginning."""
    files = NodeFiles(Path("/"), allowed=["/proc"], protected=[], backups=tmp_path)
    path = ManagedPath(f"/proc/{os.getpid()}/mem")

    found = files.observe([path])[path]

    assert (found.kind, found.reason) == ("blocked", f"{path} cannot be read: Input/output error")


def test_a_broken_local_copy_is_fetched(tmp_path: Path) -> None:
    tree = NodeTree(tmp_path / "node")
    files = NodeFiles(Path("/"), allowed=["/proc", str(tmp_path)], protected=[], backups=tmp_path / "backups")
    target = tmp_path / "x"

    plan = a_plan(tree.write(str(target), copy_of=f"/proc/{os.getpid()}/mem"))
    outcome = asyncio.run(files.perform(plan, tree.fetch))

    assert (outcome.errors, target.read_bytes(), tree.fetched) == ({}, b"new\n", [str(target)])


def test_an_owner_that_may_not_be_given_is_that_path_s_error(old: NodeTree) -> None:
    def scenario() -> None:
        drop_capabilities()
        other = "daemon" if my_user() != "daemon" else "bin"

        outcome = performed(old, old.write(X, owner=other), old.write(Y, b"new"))

        assert reasons(outcome) == {X: "Operation not permitted"}
        assert set(outcome.found) == {Y}
        assert old.real(X).read_bytes() == b"old"
        assert old.leftovers() == []

    in_child(scenario)


def test_a_mode_that_does_not_hold_is_that_path_s_error(old: NodeTree) -> None:
    """The kernel takes the set-group-id bit away without a word from who is not in the group."""

    def scenario() -> None:
        if os.geteuid() != 0:
            pytest.skip("only root may give a directory to a group it is not in")
        path = ManagedPath("/etc/d/x")
        old.put(path, b"old")
        os.chown(old.real("/etc/d"), 0, 1)
        old.real("/etc/d").chmod(0o2755)
        os.setgroups([])
        drop_capabilities()

        outcome = performed(old, old.write(path, mode=0o2755, group="daemon"), old.write(X, b"new"))

        assert reasons(outcome) == {path: "mode 2755 cannot be set here, it becomes 0755"}
        assert set(outcome.found) == {X}
        assert names_in(old.real("/etc/d")) == ["x"]
        assert old.real(path).read_bytes() == b"old"

    in_child(scenario)


def test_a_file_over_the_limit_is_that_path_s_error(old: NodeTree) -> None:
    def scenario() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * KIB, 64 * KIB))

        outcome = performed(old, old.write(X, b"x" * 300 * KIB), old.write(Y, b"new"))

        assert reasons(outcome) == {X: "File too large"}
        assert set(outcome.found) == {Y}
        assert old.real(X).read_bytes() == b"old"
        assert old.leftovers() == []

    in_child(scenario)


def test_a_root_that_is_no_directory_is_every_path_s_error(tmp_path: Path) -> None:
    tree = NodeTree(tmp_path)
    shutil.rmtree(tree.root)
    tree.root.write_bytes(b"")

    outcome = performed(tree, tree.write(X), a_removal(Y))

    assert set(reasons(outcome)) == {X, Y}
    assert tree.files.observe([X])[X].kind == "blocked"


# Backups across file systems


def test_a_backup_on_another_file_system_is_a_copy(tmp_path: Path) -> None:
    def scenario() -> None:
        enter_mount_namespace()
        tree = NodeTree(tmp_path)
        mount_tmpfs(tree.backups, size="16m")
        content = os.urandom(3 << 20)
        tree.put(X, content, mode=0o4750)
        tree.put(Y, b"y")

        outcome = performed(tree, tree.write(X, keep_backup=True), a_removal(Y, keep_backup=True))

        assert outcome.errors == {}
        assert tree.backup_contents() == [content, b"y"]
        assert [path.stat().st_mode & 0o7777 for path in sorted(tree.backups.iterdir())] == [0o750, 0o644]
        assert tree.leftovers() == []

    in_child(scenario)


# Every step, with a fault put in by strace

BUSY, FULL, QUOTA, BROKEN, DENIED = errno.EBUSY, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPERM
EVERYTHING_OLD = {"x": b"old", "y": b"old", "z": b"old"}
DONE = {"x": b"new x", "y": b"new y"}
NO_BACKUP = "no backup could be kept: "
NOT_DURABLE = "done, but perhaps not durable: Input/output error"


def held_back(path: ManagedPath, error: int, before: str = "") -> dict[ManagedPath, str]:
    reason = before + os.strerror(error)
    return dict.fromkeys((X, Y, Z), f"held back: {path}: {reason}") | {path: reason}


FAULTS = [
    ("write", 1, QUOTA, held_back(X, QUOTA), EVERYTHING_OLD),
    ("write", 2, BROKEN, held_back(Y, BROKEN), EVERYTHING_OLD),
    ("write", 2, DENIED, {Y: os.strerror(DENIED)}, {"x": b"new x", "y": b"old"}),
    ("fchmod", 1, DENIED, {X: os.strerror(DENIED)}, {"x": b"old", "y": b"new y"}),
    ("fsync", 1, BROKEN, held_back(X, BROKEN), EVERYTHING_OLD),
    ("fsync", 2, QUOTA, held_back(Y, QUOTA), EVERYTHING_OLD),
    ("linkat", 1, errno.EMLINK, {}, DONE),
    ("renameat", 1, BUSY, {X: os.strerror(BUSY)}, {"x": b"old", "y": b"new y"}),
    ("renameat", 2, errno.ETXTBSY, {Y: os.strerror(errno.ETXTBSY)}, {"x": b"new x", "y": b"old"}),
    ("renameat", 2, FULL, {Y: os.strerror(FULL)}, {"x": b"new x", "y": b"old"}),
    ("fsync", 3, BROKEN, held_back(X, BROKEN, NO_BACKUP), EVERYTHING_OLD),
    ("fsync", 4, BROKEN, held_back(X, BROKEN, NO_BACKUP), EVERYTHING_OLD),
    ("fsync", 5, BROKEN, held_back(X, BROKEN, NO_BACKUP), EVERYTHING_OLD),
    ("fsync", 6, BROKEN, dict.fromkeys((X, Y), NOT_DURABLE), DONE),
    ("fsync", 7, BROKEN, {Z: NOT_DURABLE}, DONE),
    ("unlinkat", 1, BUSY, {Z: os.strerror(BUSY)}, {**DONE, "z": b"old"}),
]


@pytest.mark.parametrize(("call", "when", "error", "errors", "state"), FAULTS)
def test_a_fault_of_any_step_has_its_name_and_leaves_files_whole(
    old: NodeTree, call: str, when: int, error: int, errors: dict[ManagedPath, str], state: dict[str, bytes]
) -> None:
    outcome = performed_with_a_fault(old.root.parent, call, when, error)

    assert outcome["errors"] == errors
    assert set(outcome["found"]) == {X, Y, Z} - set(errors)
    assert {path.name: path.read_bytes() for path in (old.root / "etc").iterdir()} == state
    assert old.leftovers() == []
    assert old.backup_contents() == ([] if state["x"] == b"old" else [b"old"])


def performed_with_a_fault(directory: Path, call: str, when: int, error: int) -> dict[str, dict[str, str]]:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace")
    inject = f"inject={call}:error={errno.errorcode[error]}:when={when}"
    log = directory / "strace.log"
    tracer = [strace, "-f", "-o", log, "-e", f"trace={call}", "-e", inject]
    done = subprocess.run(
        [*tracer, sys.executable, "-m", "tests.support.performing", directory],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"no ptrace: {done.stderr[:200]}")
    assert "INJECTED" in log.read_text()
    assert done.returncode == 0, done.stderr
    outcome: dict[str, dict[str, str]] = json.loads(done.stdout)
    return outcome
