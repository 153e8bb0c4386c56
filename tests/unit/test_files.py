"""node_agent/files.py: what it sees, what it writes, and what it says of both. Trouble has files of its own."""

import asyncio
import hashlib
import os
import resource
import shutil
import tempfile
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.core.reconcile import ABSENT, Found, Known, Wanted, Write, is_as_wanted, reconcile
from node_agent.files import NodeFiles
from protocol import durable
from protocol.errors import Unavailable
from protocol.messages import FileEntry
from protocol.names import ALL, ManagedPath, ScopeName
from tests.support.node_tree import (
    NodeTree,
    a_plan,
    a_removal,
    digest_of,
    mode_of,
    my_group,
    my_user,
    names_in,
    no_descriptor_leaks,
    open_descriptors,
    paths,
    picture,
)
from tests.support.system_calls import system_calls

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
X, Y, Z = paths("/etc/x", "/etc/y", "/etc/z")


@pytest.fixture
def tree(tmp_path: Path) -> NodeTree:
    return NodeTree(tmp_path)


def found_of(entry: FileEntry) -> Found:
    return Found(
        "file",
        digest=entry.digest,
        size_bytes=entry.size_bytes,
        mode=entry.mode,
        owner=entry.owner,
        group=entry.group,
    )


# What is there


def test_a_file_is_seen_as_reconcile_compares_it(tree: NodeTree) -> None:
    tree.put("/etc/x", b"content", mode=0o640)

    assert tree.files.observe([X]) == {X: found_of(tree.entry(X, b"content", mode=0o640))}


def test_what_is_not_there_is_absent(tree: NodeTree) -> None:
    """Also below a directory that is not there, and below a root that is not there."""
    deep = ManagedPath("/etc/no/such/directory/x")
    assert tree.files.observe([X, deep]) == {X: ABSENT, deep: ABSENT}

    shutil.rmtree(tree.root)
    assert tree.files.observe([X]) == {X: ABSENT}


@AS_ROOT
def test_a_number_without_a_name_is_decimal_text(tree: NodeTree) -> None:
    os.chown(tree.put("/etc/x"), 54321, 54322)

    found = tree.files.observe([X])[X]

    assert (found.owner, found.group) == ("54321", "54322")


def bytes_read() -> int:
    """Return how much this process has had from read calls, as the kernel counts it."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_an_unchanged_file_is_not_read_again_unless_asked(tmp_path: Path) -> None:
    size_bytes = 4 << 20
    tree = NodeTree(tmp_path, now=lambda: time.time_ns() + 10_000_000_000)
    tree.put("/etc/x", bytes(size_bytes))
    first = tree.files.observe([X])

    before = bytes_read()
    assert tree.files.observe([X]) == first
    assert bytes_read() - before < size_bytes // 2

    before = bytes_read()
    assert tree.files.observe([X], afresh=True) == first
    assert bytes_read() - before >= size_bytes


def test_a_file_changed_just_now_is_read_again(tree: NodeTree) -> None:
    """The next change might fall into the same tick of the file system's clock, and would not show."""
    size_bytes = 4 << 20
    tree.put("/etc/x", bytes(size_bytes))
    first = tree.files.observe([X])

    before = bytes_read()
    assert tree.files.observe([X]) == first
    assert bytes_read() - before >= size_bytes


def test_no_quick_change_of_equal_size_goes_unseen(tree: NodeTree) -> None:
    real = tree.put("/etc/x", b"0000")
    status = real.stat()
    for number in range(300):
        content = b"%04d" % number
        real.write_bytes(content)
        os.utime(real, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert tree.files.observe([X])[X].digest == digest_of(content)


@pytest.mark.parametrize("change", ["content", "quietly", "mode", "replaced", "removed"])
def test_a_remembered_file_that_changed_is_seen_so(tmp_path: Path, change: str) -> None:
    tree = NodeTree(tmp_path, now=lambda: time.time_ns() + 10_000_000_000)
    real = tree.put("/etc/x", b"one")
    before = tree.files.observe([X])
    match change:
        case "content":
            real.write_bytes(b"two")
        case "quietly":
            status = real.stat()
            real.write_bytes(b"two")
            os.utime(real, ns=(status.st_atime_ns, status.st_mtime_ns))
        case "mode":
            real.chmod(0o600)
        case "replaced":
            tree.put("/etc/y", b"two").rename(real)
        case "removed":
            real.unlink()

    after = tree.files.observe([X])

    assert after != before
    assert after == NodeTree(tmp_path).files.observe([X])


# What is written


async def test_a_plan_is_done_and_told(tree: NodeTree) -> None:
    tree.put("/etc/x", b"old")
    tree.put("/etc/z", b"to go")
    writes = [tree.write(X, b"new x", mode=0o640), tree.write("/etc/new/dir/y", b"new y", mode=0o600)]

    with no_descriptor_leaks():
        outcome = await tree.perform(*writes, a_removal(Z))

    assert outcome.errors == {}
    assert outcome.found == {write.entry.path: found_of(write.entry) for write in writes} | {Z: ABSENT}
    assert tree.real("/etc/x").read_bytes() == b"new x"
    assert tree.real("/etc/new/dir/y").read_bytes() == b"new y"
    assert tree.files.observe(outcome.found, afresh=True) == outcome.found
    assert tree.leftovers() == []
    assert tree.backup_contents() == []


async def test_an_empty_plan_is_nothing(tree: NodeTree) -> None:
    before = picture(tree.root)

    outcome = await tree.perform()

    assert (outcome.found, outcome.errors, picture(tree.root)) == ({}, {}, before)


async def test_missing_directories_are_made_for_all_to_enter(tree: NodeTree) -> None:
    """Whatever the daemon's own umask is."""
    umask = os.umask(0o077)
    try:
        await tree.perform(tree.write("/etc/a/b/x"))
    finally:
        os.umask(umask)

    assert [mode_of(tree.real(path)) for path in ("/etc/a", "/etc/a/b")] == [0o755, 0o755]


async def test_a_wiped_root_is_filled_again(tree: NodeTree) -> None:
    shutil.rmtree(tree.root)

    outcome = await tree.perform(tree.write(X))

    assert (outcome.errors, tree.real(X).read_bytes()) == ({}, b"new\n")


async def test_an_empty_file_needs_no_content(tree: NodeTree) -> None:
    outcome = await tree.perform(tree.write(X, b""))

    assert outcome.found[X] == found_of(tree.entry(X, b""))
    assert (tree.real(X).read_bytes(), tree.fetched) == (b"", [])


@pytest.mark.parametrize("mode", [0o0, 0o400, 0o644, 0o777, 0o4755, 0o1777, 0o6711])
async def test_every_mode_is_set_whole(tree: NodeTree, mode: int) -> None:
    """The set-id bits too, which a chown or a write after them would take away again; 0 is a mode."""
    outcome = await tree.perform(tree.write(X, mode=mode))

    assert outcome.errors == {}
    assert outcome.found[X].mode == mode == mode_of(tree.real(X))


async def test_only_a_wrong_mode_needs_no_content_from_the_bus(tree: NodeTree) -> None:
    tree.put("/etc/x", b"same", mode=0o666)

    outcome = await tree.perform(tree.write(X, b"same", mode=0o600, copy_of="/etc/x"))

    assert (outcome.errors, mode_of(tree.real(X)), tree.fetched) == ({}, 0o600, [])


@AS_ROOT
async def test_owner_and_group_are_names_or_numbers(tree: NodeTree) -> None:
    named = tree.write(X, mode=0o4750, owner="daemon", group="daemon")
    numbered = tree.write(Y, owner="54321", group="54322")

    outcome = await tree.perform(named, numbered)

    assert outcome.found == {write.entry.path: found_of(write.entry) for write in (named, numbered)}
    status = tree.real(Y).stat()
    assert (status.st_uid, status.st_gid) == (54321, 54322)


@pytest.mark.parametrize("owner", ["no-such-user", "a\0b", "\udc80", "-1", "4294967295", "99999999999", "²"])
async def test_an_unknown_owner_is_that_path_s_error(tree: NodeTree, owner: str) -> None:
    outcome = await tree.perform(tree.write(X, owner=owner), tree.write(Y), tree.write(Z, group=owner))

    assert outcome.errors[X].startswith("this node has no user")
    assert outcome.errors[Z].startswith("this node has no group")
    assert set(outcome.found) == {Y}


async def test_a_number_that_has_a_name_here_is_taken_as_the_number(tree: NodeTree) -> None:
    """The master has no name for it. What is then found has one, and is as it should be: nothing is written again."""
    write = tree.write(X, owner=str(os.geteuid()), group=str(os.getegid()))

    outcome = await tree.perform(write)

    assert outcome.errors == {}
    assert outcome.found[X].owner == my_user()
    for found in (outcome.found[X], tree.files.observe([X])[X]):
        assert is_as_wanted(write.entry, found)
        assert not is_as_wanted(replace(write.entry, owner="54321"), found)
        assert not is_as_wanted(replace(write.entry, group="54321"), found)


async def test_a_target_is_replaced_and_never_written_into(tree: NodeTree) -> None:
    with tree.put("/etc/x", b"old").open("rb") as still_open:
        await tree.perform(tree.write(X, b"new"))

        assert still_open.read() == b"old"


# Content from this node


async def test_a_copy_is_taken_from_this_node(tree: NodeTree) -> None:
    tree.put("/etc/y", b"new\n" * 1_000_000)

    outcome = await tree.perform(tree.write(X, b"new\n" * 1_000_000, copy_of="/etc/y"))

    assert (set(outcome.found), tree.fetched) == ({X}, [])
    assert tree.real(X).read_bytes() == b"new\n" * 1_000_000


@pytest.mark.parametrize("source", ["changed", "longer", "missing", "directory", "link", "outside", "barred"])
async def test_a_copy_that_is_not_to_be_had_is_fetched(tree: NodeTree, source: str) -> None:
    copy_of = "/etc/y"
    match source:
        case "changed":
            tree.put("/etc/y", b"NEW\n")
        case "longer":
            tree.put("/etc/y", b"new\n" * 2_000_000)
        case "directory":
            tree.real("/etc/y").mkdir()
        case "link":
            tree.put("/etc/z", b"new\n")
            tree.real("/etc/y").symlink_to("z")
        case "outside":
            copy_of = "/usr/y"
            tree.put("/usr/y", b"new\n")
        case "barred":
            copy_of = "/etc/d/y"
            tree.real("/etc/d").symlink_to("/etc")

    with no_descriptor_leaks():
        outcome = await tree.perform(tree.write(X, b"new\n", copy_of=copy_of))

    assert (outcome.errors, tree.fetched) == ({}, [X])
    assert tree.real(X).read_bytes() == b"new\n"
    assert tree.leftovers() == []


async def test_two_files_that_trade_places_are_copied_before_either_is_replaced(tree: NodeTree) -> None:
    tree.put("/etc/x", b"x")
    tree.put("/etc/y", b"y")

    await tree.perform(tree.write(X, b"y", copy_of="/etc/y"), tree.write(Y, b"x", copy_of="/etc/x"))

    assert (tree.real(X).read_bytes(), tree.real(Y).read_bytes(), tree.fetched) == (b"y", b"x", [])


# Backups


async def test_what_a_write_replaces_is_kept_if_asked(tree: NodeTree) -> None:
    tree.put("/etc/x", b"by hand")
    tree.put("/etc/y", b"by the mesh")

    await tree.perform(tree.write(X, keep_backup=True), tree.write(Y), tree.write(Z, keep_backup=True))

    assert tree.backup_contents() == [b"by hand"]
    assert mode_of(tree.backups) == 0o700


async def test_what_a_removal_takes_is_kept_if_asked(tree: NodeTree) -> None:
    tree.put("/etc/x", b"x")
    tree.put("/etc/y", b"y")

    outcome = await tree.perform(a_removal(X, keep_backup=True), a_removal(Y), a_removal(Z, keep_backup=True))

    assert (outcome.found, outcome.errors) == ({X: ABSENT, Y: ABSENT, Z: ABSENT}, {})
    assert tree.backup_contents() == [b"x"]
    assert list(tree.real("/etc").iterdir()) == []


async def test_a_directory_that_becomes_empty_stays(tree: NodeTree) -> None:
    tree.put("/etc/d/x")

    await tree.perform(a_removal("/etc/d/x"))

    assert tree.real("/etc/d").is_dir()


async def test_a_backup_s_name_tells_the_path_and_the_time(tmp_path: Path) -> None:
    tree = NodeTree(tmp_path, now=lambda: 1_795_361_730_123_456_789)
    path = "/etc/ganeti/x"
    tree.put(path)

    await tree.perform(a_removal(path, keep_backup=True))

    assert names_in(tree.backups) == ["etc=2Fganeti=2Fx.20261122T153530.123456Z"]


async def test_backups_of_one_microsecond_do_not_collide(tmp_path: Path) -> None:
    """Nor do they after a restart, when the clock has gone back meanwhile."""
    for start in range(3):
        tree = NodeTree(tmp_path, now=lambda: 1_795_361_730_123_456_789)
        for number in range(3):
            tree.put("/etc/x", b"%d%d" % (start, number))
            await tree.perform(a_removal(X, keep_backup=True))

    assert sorted(tree.backup_contents()) == [b"%d%d" % (start, number) for start in range(3) for number in range(3)]


async def test_ten_backups_of_a_path_are_kept(tree: NodeTree) -> None:
    tree.put("/etc/y", b"another's")
    await tree.perform(a_removal(Y, keep_backup=True))
    for number in range(12):
        tree.put("/etc/x", b"%02d" % number)
        await tree.perform(tree.write(X, keep_backup=True))

    assert tree.backup_contents() == [*(b"%02d" % number for number in range(2, 12)), b"another's"]


async def test_the_newest_backup_stays_although_the_clock_went_back(tmp_path: Path) -> None:
    now = 1_795_361_730_123_456_789
    tree = NodeTree(tmp_path, now=lambda: now)
    for number in range(11):
        tree.put("/etc/x", b"%02d" % number)
        await tree.perform(a_removal(X, keep_backup=True))

    now -= 10**18
    tree = NodeTree(tmp_path, now=lambda: now)
    tree.put("/etc/x", b"latest")
    await tree.perform(a_removal(X, keep_backup=True))

    assert tree.backup_contents() == [b"latest", *(b"%02d" % number for number in range(2, 11))]


async def test_a_purge_takes_the_backups_of_its_path_and_no_other(tree: NodeTree) -> None:
    similar = paths("/etc/x", "/etc/x.20261122T153530.123456Z", "/etc/xx", "/opt/x", "/etc/x=2E", "/etc/x/y")
    for path in similar:
        tree.put(path, path.encode())
        await tree.perform(a_removal(path, keep_backup=True))
        if path == "/etc/x":
            tree.put("/etc/x")
            await tree.perform(tree.write("/etc/x", keep_backup=True), a_removal("/etc/x"))
    tree.real("/etc/x").rmdir()
    tree.put("/etc/x", b"secret")

    outcome = await tree.perform(a_removal(X, purge=True))

    assert outcome.found == {X: ABSENT}
    assert sorted(tree.backup_contents()) == sorted(path.encode() for path in similar[1:])


async def test_a_purge_needs_no_file(tree: NodeTree) -> None:
    tree.put("/etc/x")
    await tree.perform(a_removal(X, keep_backup=True))

    await tree.perform(a_removal(X, purge=True))

    assert tree.backup_contents() == []
    assert tree.files.purge_backups(X) == 0


async def test_a_purge_of_what_was_gone_leaves_what_has_appeared_since(tree: NodeTree) -> None:
    """Somebody else put it there, after the agent had looked."""
    tree.put("/etc/x", b"older")
    await tree.perform(a_removal(X, keep_backup=True))
    tree.put("/etc/x", b"by hand")

    outcome = await tree.perform(a_removal(X, purge=True, is_gone=True))

    assert outcome.errors == {}
    assert tree.real(X).read_bytes() == b"by hand"
    assert tree.backup_contents() == []


async def test_a_path_too_long_for_a_backup_s_name_is_kept_and_found_all_the_same(tree: NodeTree) -> None:
    long = "/etc/" + "ä" * 127
    similar = long[:-1] + "ö"
    for path in (long, similar):
        tree.put(path, path.encode())
        await tree.perform(a_removal(path, keep_backup=True))

    assert tree.files.purge_backups(ManagedPath(long)) == 1

    assert tree.backup_contents() == [similar.encode()]


async def test_a_backup_holds_the_old_content_although_the_target_goes_on(tree: NodeTree) -> None:
    """A backup may be a link to the old file: what is written later must be another file."""
    tree.put("/etc/x", b"old")
    await tree.perform(tree.write(X, b"new", keep_backup=True))
    tree.real(X).write_bytes(b"newer")

    assert tree.backup_contents() == [b"old"]


@contextmanager
def after_each(call: str, act: Callable[[], object]) -> Iterator[None]:
    """Let somebody else act just after a system call of the threads that begin meanwhile."""

    def watch(frame: Any, event: str, function: Any) -> None:
        if event == "c_return" and function.__name__ == call:
            act()

    threading.setprofile(watch)
    try:
        yield
    finally:
        threading.setprofile(None)


@pytest.mark.parametrize("action", ["write", "removal"])
async def test_a_change_after_the_backup_is_not_lost(tree: NodeTree, action: str) -> None:
    """Retried later, with a backup of the change."""
    tree.put("/etc/x", b"old")
    plan = tree.write(X, keep_backup=True) if action == "write" else a_removal(X, keep_backup=True)

    with after_each("link", lambda: tree.put("/etc/new", b"changed").rename(tree.real(X))):
        outcome = await tree.perform(plan, tree.write(Y))

    assert outcome.errors == {X: "/etc/x was changed by someone else just now"}
    assert set(outcome.found) == {Y}
    assert tree.real(X).read_bytes() == b"changed"
    assert (tree.leftovers(), tree.backup_contents()) == ([], [])


async def test_a_file_that_appears_while_another_is_staged_is_not_lost(tree: NodeTree) -> None:
    def appear() -> None:
        if not tree.real(X).exists():
            tree.put("/etc/x", b"appeared")

    with after_each("fsync", appear):
        outcome = await tree.perform(tree.write(X, keep_backup=True))

    assert outcome.errors == {}
    assert tree.backup_contents() == [b"appeared"]


async def test_what_is_read_back_must_be_what_was_written(tree: NodeTree) -> None:
    """A disk that lies between the write and the receipt is not believed (design, D4)."""
    tree.put("/etc/x", b"old")

    def lose_a_bit() -> None:
        for path in tree.leftovers():
            path.write_bytes(b"nev\n")

    with after_each("fsync", lose_a_bit):
        outcome = await tree.perform(tree.write(X, b"new\n"), tree.write(Y, b"y"))

    assert outcome.found == {}
    assert outcome.errors[X] == "what was read back is not what was written"
    assert tree.real(X).read_bytes() == b"old"
    assert tree.leftovers() == []


# Order, cost


class CountingExecutor(ThreadPoolExecutor):
    """Counts how often the loop hands work to a thread."""

    calls = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        return super().submit(*args, **kwargs)


async def test_small_files_are_written_then_synced_then_renamed_together(tree: NodeTree) -> None:
    """Twice as fast as one after the other (performance facts, 1), and a generation appears as nearly at once."""
    executor = CountingExecutor()
    asyncio.get_running_loop().set_default_executor(executor)
    writes = [tree.write(f"/etc/d{number % 2}/{number}", b"%d" % number) for number in range(25)]
    for write in writes[:2]:
        tree.put(write.entry.path)

    with system_calls() as calls:
        outcome = await tree.perform(*writes)

    assert (len(outcome.found), executor.calls) == (25, 1)
    steps = [call for call in calls if call in ("write", "fsync", "rename")]
    assert steps == ["write"] * 25 + ["fsync"] * 25 + ["rename"] * 25 + ["fsync"] * 2
    assert "unlink" not in calls


async def test_a_new_directory_is_synced_into_the_one_above(tree: NodeTree) -> None:
    """Some file systems do it with the file's own sync, others do not."""
    with system_calls() as calls:
        await tree.perform(tree.write("/etc/a/b/x"))

    steps = [call for call in calls if call in ("mkdir", "write", "fsync", "rename")]
    assert steps == ["mkdir", "fsync", "mkdir", "fsync", "write", "fsync", "rename", "fsync"]


async def test_many_files_need_few_descriptors(tree: NodeTree) -> None:
    writes = [tree.write(f"/etc/{number}/x", b"%d" % number) for number in range(400)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(open_descriptors()) + 300, hard))
    try:
        outcome = await tree.perform(*writes)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (outcome.errors, len(outcome.found)) == ({}, 400)
    assert tree.leftovers() == []


async def test_a_large_file_is_never_in_memory_as_a_whole(tree: NodeTree) -> None:
    size_bytes = 64 << 20
    chunk = bytes(range(256)) * 2048
    entry = FileEntry(
        path=X,
        digest=digest_of(chunk * (size_bytes // len(chunk))),
        size_bytes=size_bytes,
        mode=0o644,
        owner=my_user(),
        group=my_group(),
        generation=1,
    )

    async def fetch(scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        for _ in range(size_bytes // len(chunk)):
            yield bytes(bytearray(chunk))

    tracemalloc.start()
    try:
        outcome = await tree.files.perform(a_plan(Write(ALL, entry)), fetch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert outcome.found == {X: found_of(entry)}
    assert tree.files.observe([X], afresh=True) == outcome.found
    assert peak < 8 << 20


@pytest.mark.parametrize(("size_bytes", "at_once"), [(10, 16), (200_000, 4)])
async def test_some_files_are_fetched_at_once(tree: NodeTree, size_bytes: int, at_once: int) -> None:
    """Few large ones, for the sake of memory; of small ones more, because all that they wait for is the way."""
    under_way = most = 0

    async def fetch(scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(10):
            await asyncio.sleep(0)
        under_way -= 1
        yield tree.contents[entry.digest]

    writes = (tree.write(f"/etc/{n}", b"%02d" % n + bytes(size_bytes)) for n in range(20))
    outcome = await tree.files.perform(a_plan(*writes), fetch)

    assert (len(outcome.found), most) == (20, at_once)


def test_a_reader_never_sees_a_target_absent_short_mixed_or_wider(tree: NodeTree) -> None:
    mode = 0o640
    bodies = [hashlib.sha256(b"%d" % number).digest() * (500 + 37 * number) for number in range(4)]
    real = tree.put("/etc/x", bodies[0], mode=mode)
    faults: list[str] = []
    looks = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal looks
        while not over.is_set() and not faults:
            try:
                with real.open("rb") as file:
                    seen, content = os.fstat(file.fileno()).st_mode & 0o7777, file.read()
            except OSError as error:
                faults.append(str(error))
                return
            looks += 1
            if content not in bodies or seen != mode:
                faults.append(f"mode {seen:o}, {len(content)} bytes")

    async def replace_often() -> None:
        for number in range(200):
            outcome = await tree.perform(tree.write(X, bodies[number % 4], mode=mode))
            assert outcome.errors == {}

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        asyncio.run(replace_often())
    finally:
        over.set()
        reader.join()

    assert faults == []
    assert looks > 200


# Giving up


async def test_a_content_that_cannot_be_had_holds_back_the_whole_plan(tree: NodeTree) -> None:
    """Files that change together change together, or not at all (design, D2)."""
    tree.put("/etc/x", b"old")
    tree.put("/etc/z", b"to go")
    tree.put("/etc/same", b"same")
    lost = tree.write(Y, b"lost")
    del tree.contents[lost.entry.digest]
    before = picture(tree.root)

    with no_descriptor_leaks():
        outcome = await tree.perform(
            tree.write(X, keep_backup=True),
            lost,
            tree.write("/etc/copy", b"same", copy_of="/etc/same"),
            tree.write("/usr/refused"),
            a_removal(Z),
        )

    reason = f"no blob {lost.entry.digest[:8]}"
    held_back = f"held back: /etc/y: {reason}"
    assert outcome.found == {}
    assert outcome.errors == {
        Y: reason,
        X: held_back,
        "/etc/copy": held_back,
        "/usr/refused": held_back,
        Z: held_back,
    }
    assert picture(tree.root) == before
    assert (tree.leftovers(), tree.backup_contents()) == ([], [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"nEw", "content with another digest than the manifest says"),
        (b"ne", "content of 2 bytes, the manifest says 3"),
        (b"newer", "content of 5 bytes, the manifest says 3"),
        (b"", "content of 0 bytes, the manifest says 3"),
    ],
)
async def test_a_content_that_belies_its_entry_holds_back_the_plan(tree: NodeTree, content: bytes, reason: str) -> None:
    tree.put("/etc/x", b"old")
    liar = tree.write(X, b"new")
    tree.contents[liar.entry.digest] = content

    outcome = await tree.perform(liar, tree.write(Y, b"honest"))

    assert outcome.found == {}
    assert outcome.errors[X].startswith(reason)
    assert outcome.errors[Y].startswith(f"held back: /etc/x: {reason}")
    assert names_in(tree.root / "etc") == ["x"]
    assert tree.real(X).read_bytes() == b"old"


async def test_an_endless_content_is_cut_off(tree: NodeTree) -> None:
    async def fetch(scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        while True:
            yield b"xx"

    outcome = await tree.files.perform(a_plan(tree.write(X, b"new")), fetch)

    assert outcome.errors == {X: "content of 4 bytes, the manifest says 3"}


async def test_a_fetch_that_fails_at_once_is_no_other(tree: NodeTree) -> None:
    def fetch(scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        raise Unavailable("not connected")

    outcome = await tree.files.perform(a_plan(tree.write(X)), fetch)

    assert outcome.errors == {X: "not connected"}


async def test_a_fetch_ends_when_it_has_brought_enough(tree: NodeTree) -> None:
    """And not some time later, when nobody looks after its requests any more."""
    begun: list[AsyncIterator[bytes]] = []
    ended = []

    async def pieces(entry: FileEntry) -> AsyncIterator[bytes]:
        try:
            yield tree.contents[entry.digest]
            yield b"more"
        finally:
            ended.append(entry.path)

    def fetch(scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        begun.append(pieces(entry))
        return begun[-1]

    outcome = await tree.files.perform(a_plan(tree.write(X), tree.write(Y)), fetch)

    assert set(outcome.found) == {X, Y}
    assert ended == [X, Y]


async def test_the_other_fetches_end_with_the_one_that_failed(tree: NodeTree) -> None:
    ended = []

    async def fetch(scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        try:
            yield b"n"
            if entry.path == Y:
                raise Unavailable("gone")
            await asyncio.Event().wait()
        finally:
            ended.append(entry.path)

    outcome = await tree.files.perform(a_plan(tree.write(X), tree.write(Y), tree.write(Z)), fetch)

    assert outcome.errors[Y] == "gone"
    assert sorted(ended) == [X, Y, Z]


async def test_a_long_reason_is_cut_and_still_names_the_path(tree: NodeTree) -> None:
    deep = "/etc/" + "/".join(["d" * 100] * 8) + "/name"

    async def fetch(scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        raise Unavailable("why " * 1000)
        yield b""

    outcome = await tree.files.perform(a_plan(tree.write(deep), tree.write("/usr" + deep), tree.write(X)), fetch)

    assert all(len(reason) < 300 for reason in outcome.errors.values())
    assert all("d/name" in outcome.errors[ManagedPath(path)] for path in ("/usr" + deep, X))


async def test_a_cancelled_plan_leaves_nothing_behind(tree: NodeTree) -> None:
    tree.put("/etc/x", b"old")
    started = asyncio.Event()

    async def fetch(scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        yield bytes(3 << 20)
        started.set()
        await asyncio.Event().wait()

    before = picture(tree.root)
    with no_descriptor_leaks():
        task = asyncio.create_task(
            tree.files.perform(a_plan(tree.write(X, bytes(4 << 20)), tree.write(Y, b"", keep_backup=True)), fetch)
        )
        await started.wait()
        assert tree.leftovers() != []
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert picture(tree.root) == before


async def test_cancelled_at_any_turn_of_the_loop_a_plan_is_done_or_undone(tree: NodeTree) -> None:
    """Also while a thread is at work: a thread cannot be cancelled, and must not find its files closed."""
    states = set()
    turns = 0
    while not states & {(False, True, True, 1)}:
        tree.put("/etc/x", b"old")
        tree.put("/etc/y", b"old")
        large = b"%09d" % turns * (1 << 18)
        plan = a_plan(tree.write(X, large), tree.write(Y, b"new", keep_backup=True))
        with no_descriptor_leaks():
            task = asyncio.create_task(tree.files.perform(plan, tree.fetch))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        now = (tree.real(X).read_bytes() == large, tree.real(Y).read_bytes() == b"new", len(tree.backup_contents()))
        states.add((task.cancelled(), *now))
        assert names_in(tree.root / "etc") == ["x", "y"]
        tree.files.purge_backups(Y)
        turns += 1 + turns // 20

    assert states <= {(True, False, False, 0), (True, True, True, 1), (False, True, True, 1)}
    assert (True, False, False, 0) in states


async def test_a_second_cancellation_does_not_hurry_a_thread(tree: NodeTree) -> None:
    before = picture(tree.root)
    for turns in range(60):
        task = asyncio.create_task(tree.perform(tree.write(X, bytes(4 << 20)), tree.write(Y, b"")))
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(20):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([task])
        assert tree.leftovers() == []
        for path in (X, Y):
            tree.real(path).unlink(missing_ok=True)

    assert picture(tree.root) == before


# Housekeeping


def test_a_sweep_takes_the_leftovers_beside_these_paths(tree: NodeTree) -> None:
    def leave(directory: str) -> Path:
        real = tree.real(f"{directory}/{durable.temporary_name()}")
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_bytes(b"half")
        return real

    gone = [leave("/etc"), leave("/etc"), leave("/etc/d"), leave("/../backups")]
    stay = [leave("/etc/other"), leave("/usr"), leave("/elsewhere")]
    tree.real("/etc/link").symlink_to("../elsewhere")

    count = tree.files.sweep(paths("/etc/x", "/etc/y", "/etc/d/x", "/etc/none/x", "/usr/x", "/etc/link/x"))

    assert count == 4
    assert [path.exists() for path in (*gone, *stay)] == [False] * 4 + [True] * 3


def test_the_directories_to_watch_are_real_and_near(tree: NodeTree) -> None:
    tree.real("/etc/d/e").mkdir(parents=True)
    tree.real("/etc/link").symlink_to("d")
    cases = {
        "/etc/x": "etc",
        "/etc/d/e/x": "etc/d/e",
        "/etc/d/none/none/x": "etc/d",
        "/etc/link/e/x": "etc",
        "/opt/x": ".",
    }
    for path, directory in cases.items():
        assert tree.files.watch_directories(paths(path)) == {tree.root / directory}
    assert tree.files.watch_directories(paths("/usr/x")) == set()
    assert tree.files.watch_directories(paths(*cases)) == {tree.root / directory for directory in cases.values()}

    shutil.rmtree(tree.root)
    assert tree.files.watch_directories(paths("/etc/x")) == set()


def test_a_real_path_has_its_managed_path(tree: NodeTree) -> None:
    of = tree.files.managed_path_of

    assert of(tree.root / "etc" / "x") == "/etc/x"
    assert of(tree.root) is None
    assert of(tree.root.parent / "etc" / "x") is None
    assert of(tree.root / "etc" / durable.temporary_name()) is None
    assert of(tree.root / "etc" / ".." / "x") is None
    assert of(tree.root / "etc" / "new\nline") is None
    assert of(tree.root / "etc" / os.fsdecode(b"\xff")) is None


def test_in_production_the_root_is_the_root(tmp_path: Path) -> None:
    files = NodeFiles(Path("/"), allowed=[str(tmp_path)], protected=[], backups=tmp_path / "backups")
    (tmp_path / "x").write_bytes(b"content")
    path = ManagedPath(str(tmp_path / "x"))

    assert files.managed_path_of(tmp_path / "x") == path
    assert files.observe([path])[path].digest == digest_of(b"content")
    assert files.watch_directories([path]) == {tmp_path}


# Reconcile and perform, over small trees of every kind

NAMES = ("/etc/a", "/etc/b", "/etc/d/a", "/etc/d/e/b", "/etc/l/a", "/usr/a")
CONTENTS = (b"", b"one", b"two")


@st.composite
def small_worlds(draw: st.DrawFn) -> tuple[dict[str, Any], ...]:
    a_file = st.tuples(st.sampled_from(CONTENTS), st.sampled_from((0o644, 0o600)))
    actual = draw(st.dictionaries(st.sampled_from(NAMES), a_file | st.sampled_from(("link", "directory"))))
    wanted = draw(st.dictionaries(st.sampled_from(NAMES), a_file))
    known = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(CONTENTS)))
    return actual, wanted, known


@settings(max_examples=80, deadline=None)
@given(small_worlds())
def test_a_plan_done_twice_is_done_once_and_touches_nothing_else(world: tuple[dict[str, Any], ...]) -> None:
    actual, wanted_files, known_files = world
    with tempfile.TemporaryDirectory() as directory:
        tree = NodeTree(Path(directory))
        _build(tree, actual)
        wanted = {
            ManagedPath(path): Wanted(ALL, tree.entry(path, content, mode=mode))
            for path, (content, mode) in wanted_files.items()
        }
        known = {ManagedPath(path): Known(ALL, digest_of(content)) for path, content in known_files.items()}
        before = picture(tree.root)

        first, errors = _round(tree, wanted, known)
        second, _ = _round(tree, wanted, known)

        assert second.is_empty or errors
        mine = {path[1:] for path in (*wanted, *known)}
        after = picture(tree.root)
        for path, state in before.items():
            if path not in mine and state[1:] != after[path][1:]:
                raise AssertionError(f"{path} was touched by {first}")
        parents = {str(parent) for path in wanted for parent in Path(path[1:]).parents}
        assert set(after) - set(before) <= {path[1:] for path in wanted} | parents


def _build(tree: NodeTree, actual: dict[str, Any]) -> None:
    tree.put("/etc/stranger")
    tree.put("/etc/d/stranger")
    tree.put("/elsewhere/a", b"one")
    tree.real("/etc/l").symlink_to("../elsewhere")
    for path, what in actual.items():
        if path == "/etc/l/a":
            continue
        tree.real(path).parent.mkdir(parents=True, exist_ok=True)
        if what == "link":
            tree.real(path).symlink_to(tree.real("/etc/stranger"))
        elif what == "directory":
            tree.real(path).mkdir()
        else:
            tree.put(path, what[0], mode=what[1])


def _round(tree: NodeTree, wanted: dict[ManagedPath, Wanted], known: dict[ManagedPath, Known]) -> tuple[Any, Any]:
    plan = reconcile(wanted, tree.files.observe(wanted.keys() | known.keys()), known, {})
    outcome = asyncio.run(tree.perform(*plan.writes, *plan.removals))
    assert outcome.found.keys() | outcome.errors.keys() == {
        *(write.entry.path for write in plan.writes),
        *(removal.path for removal in plan.removals),
    }
    assert not outcome.found.keys() & outcome.errors.keys()
    return plan, outcome.errors
