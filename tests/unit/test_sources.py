"""master/sources.py with real files: what is taken is complete, what is not complete is never taken.

The seam for changes in the middle of a read is the wait for the kernel's clock: it lies between the first look at a
file and the reading of its content.
"""

import errno
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from master.core.plan import Source
from master.sources import BEING_WRITTEN, CLOCK_STEP_NS, RACY_NS, Sources
from protocol import durable
from protocol.names import ManagedPath
from tests.support.forked import drop_capabilities, in_child
from tests.support.system_calls import system_calls
from tests.support.values import OTHER, PATH, digest_of

MIB = 1024 * 1024
UNSETTLED = Source("unsettled", reason=BEING_WRITTEN)


@pytest.fixture(autouse=True)
def survive_broken_leases() -> Iterator[None]:
    """As the master daemon does: a writer that opens during a lease sends this signal, whose default is death."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)


class Master:
    """A master's disk with one source, and a clock that says how long ago it was changed."""

    def __init__(self, directory: Path, *, size_bytes_max: int = 100 * MIB) -> None:
        self.root, self.blobs = directory / "root", directory / "blobs"
        self.file = self.root / PATH[1:]
        self.file.parent.mkdir(parents=True)
        self.blobs.mkdir()
        self.age_ns = 10**12
        self.slept_s: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.sources = Sources(self.root, self.blobs, size_bytes_max=size_bytes_max, now=self._now, sleep=self._sleep)

    def read(self, path: ManagedPath = PATH) -> Source:
        return self.sources.read([path])[path]

    def read_while(self, meanwhile: Callable[[], object]) -> Source:
        """Read, and let something happen after the first look and before the content is read."""
        self.age_ns, self.meanwhile = 0, meanwhile
        source = self.read()
        assert self.slept_s, "nothing happened meanwhile"
        return source

    def stored(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.blobs.iterdir()}

    def _now(self) -> int:
        return (self.file.stat().st_ctime_ns if self.file.exists() else 0) + self.age_ns

    def _sleep(self, pause_s: float) -> None:
        self.slept_s.append(pause_s)
        until_the_clock_steps(self.root, self.file)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()


@pytest.fixture
def master(tmp_path: Path) -> Master:
    return Master(tmp_path)


def until_the_clock_steps(directory: Path, changed: Path) -> None:
    """Return when a change made now has a later time than the last one of a file."""
    scratch = directory / "scratch"
    while True:
        scratch.write_bytes(b"")
        if not changed.exists() or scratch.stat().st_ctime_ns > changed.stat().st_ctime_ns:
            return


@pytest.mark.parametrize("content", [b"", b"one", b"\xff\x00\xfe not text\n", b"x" * (3 * MIB + 1)])
def test_a_source_is_ready_when_its_content_is_stored_under_its_hash(master: Master, content: bytes) -> None:
    master.file.write_bytes(content)
    master.file.chmod(0o640)

    source = master.read()

    assert (source.kind, source.digest, source.size_bytes, source.mode) == (
        "ready",
        digest_of(content),
        len(content),
        0o640,
    )
    assert source.owner == master.file.owner()
    assert source.group == master.file.group()
    assert master.stored() == {digest_of(content): content}


def test_64_mib_are_ready(master: Master) -> None:
    with master.file.open("wb") as file:
        file.truncate(64 * MIB)

    source = master.read()

    assert (source.kind, source.size_bytes) == ("ready", 64 * MIB)
    assert (master.blobs / source.digest).stat().st_size == 64 * MIB


def test_stored_contents_are_for_the_master_alone(master: Master) -> None:
    """Candidates' secrets are among them."""
    master.file.write_bytes(b"secret")
    master.file.chmod(0o644)

    assert (master.blobs / master.read().digest).stat().st_mode & 0o777 == 0o600


def test_equal_contents_are_stored_once(master: Master) -> None:
    other = master.root / OTHER[1:]
    master.file.write_bytes(b"same")
    other.write_bytes(b"same")

    found = master.sources.read([PATH, OTHER])

    assert found[PATH] == found[OTHER]
    assert list(master.stored()) == [digest_of(b"same")]


def test_contents_are_copied_then_synced_then_named_together(master: Master) -> None:
    """Syncs of files whose writing has begun cost little more than one; and what is named is synced."""
    paths = [ManagedPath(f"/etc/ganeti/file{number}") for number in range(25)]
    for path in paths:
        (master.root / path[1:]).write_bytes(path.encode())

    with system_calls() as calls:
        found = master.sources.read(paths)

    steps = [call for call in calls if call in ("write", "fsync", "rename")]
    assert steps == ["write"] * 25 + ["fsync"] * 25 + ["rename"] * 25 + ["fsync"]
    assert master.stored() == {source.digest: path.encode() for path, source in found.items()}


def test_a_content_that_the_disk_does_not_take_is_that_file_alone(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = master.root / OTHER[1:]
    master.file.write_bytes(b"content")
    other.write_bytes(b"other")
    sync = os.fsync

    def fsync(fd: int) -> None:
        if os.pread(fd, 8, 0) == b"other":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda fd: sync(fd) if stat.S_ISDIR(os.fstat(fd).st_mode) else fsync(fd))
        found = master.sources.read([PATH, OTHER])

    assert (found[PATH].kind, found[OTHER].kind) == ("ready", "unusable")
    assert found[OTHER].reason == "cannot be read and stored on the master: Input/output error"
    assert master.stored() == {digest_of("content"): b"content"}
    assert master.read(OTHER).kind == "ready"


def test_an_unchanged_file_is_not_read_again(master: Master) -> None:
    master.file.write_bytes(b"one")

    assert master.read() is master.read()


def test_a_file_that_is_forgotten_is_read_again(master: Master) -> None:
    """The store has lost or damaged its content."""
    master.file.write_bytes(b"one")
    first = master.read()
    master.sources.forget(PATH)

    assert master.read() is not first
    assert master.read() == first


def test_a_content_that_was_collected_is_stored_again(master: Master) -> None:
    """A file taken off the list, and put back on it unchanged when no kept generation names it any more."""
    master.file.write_bytes(b"one")
    source = master.read()
    (master.blobs / source.digest).unlink()

    assert master.read() == source
    assert master.stored() == {source.digest: b"one"}


def test_a_content_that_was_cut_short_in_the_store_is_stored_again(master: Master) -> None:
    master.file.write_bytes(b"one")
    source = master.read()
    (master.blobs / source.digest).write_bytes(b"on")

    assert master.read() == source
    assert master.stored() == {source.digest: b"one"}


def test_a_file_that_changed_just_now_is_read_again_next_time(master: Master) -> None:
    """A second change of the same size could have the same times."""
    master.file.write_bytes(b"one")
    master.age_ns = RACY_NS

    assert master.read() is not master.read()
    assert master.slept_s == []


@pytest.mark.parametrize("age_ns", [-5_000_000, 0, CLOCK_STEP_NS - 1])
def test_what_changed_within_this_step_of_the_clock_is_read_in_the_next(master: Master, age_ns: int) -> None:
    master.file.write_bytes(b"one")
    master.age_ns = age_ns

    assert master.read().kind == "ready"
    assert master.slept_s == [(CLOCK_STEP_NS - max(age_ns, 0)) / 1e9]


def test_changes_are_seen(master: Master) -> None:
    master.file.write_bytes(b"one")
    master.read()
    until_the_clock_steps(master.root, master.file)
    master.file.write_bytes(b"two")
    assert master.read().digest == digest_of(b"two")
    until_the_clock_steps(master.root, master.file)
    master.file.chmod(0o600)
    assert master.read().mode == 0o600
    master.file.unlink()
    assert master.read() == Source("absent")


@pytest.mark.parametrize("mode", ["r+b", "ab", "wb"])
def test_a_file_that_somebody_has_open_for_writing_is_not_taken(master: Master, mode: str) -> None:
    master.file.write_bytes(b"one")
    with master.file.open(mode) as writer:
        assert master.read() == UNSETTLED
        writer.write(b"half")
        writer.flush()
        assert master.read() == UNSETTLED
    assert master.read().kind == "ready"


def test_a_reader_does_not_keep_a_file_from_being_taken(master: Master) -> None:
    master.file.write_bytes(b"one")
    with master.file.open("rb"):
        assert master.read().kind == "ready"


def test_a_lease_is_given_back(master: Master) -> None:
    """Otherwise the next writer hangs until the kernel breaks it."""
    master.file.write_bytes(b"one")
    master.read()

    fd = os.open(master.file, os.O_WRONLY | os.O_NONBLOCK)
    os.close(fd)


CHANGES: dict[str, Callable[[Path], object]] = {
    "rewritten in place, same size": lambda file: file.write_bytes(b"two"),
    "grown": lambda file: file.write_bytes(b"longer"),
    "truncated": lambda file: os.truncate(file, 0),
    "truncated and written again": lambda file: (os.truncate(file, 0), file.write_bytes(b"two")),
    "mode changed": lambda file: file.chmod(0o600),
    "times put back": lambda file: (file.write_bytes(b"two"), os.utime(file, ns=(0, 0))),
    "removed": lambda file: file.unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_read_is_not_taken(master: Master, change: str) -> None:
    master.file.write_bytes(b"one")

    assert master.read_while(lambda: CHANGES[change](master.file)) == UNSETTLED


def test_a_file_that_is_replaced_while_it_is_read_is_not_taken(master: Master) -> None:
    master.file.write_bytes(b"one")
    new = master.root / "new"
    new.write_bytes(b"two")

    assert master.read_while(lambda: new.rename(master.file)) == UNSETTLED
    assert master.read().digest == digest_of(b"two")


def test_a_writer_who_comes_while_it_is_read_and_stays_is_noticed(master: Master) -> None:
    """It has not written yet, so no time shows it."""
    master.file.write_bytes(b"one")
    writers = []

    assert master.read_while(lambda: writers.append(master.file.open("r+b"))) == UNSETTLED
    writers[0].close()


def test_what_is_not_taken_leaves_nothing_behind(master: Master) -> None:
    master.file.write_bytes(b"one")
    master.read_while(lambda: master.file.write_bytes(b"longer"))

    assert set(master.stored()) <= {digest_of(b"longer"), digest_of(b"one")}
    assert not [path for path in master.blobs.iterdir() if durable.is_temporary(path.name)]


def test_no_torn_content_is_taken_from_a_busy_writer(tmp_path: Path) -> None:
    """A writer rewrites in place, half by half; whatever is ready is one whole version."""
    master = Master(tmp_path)
    sources = Sources(master.root, master.blobs, size_bytes_max=MIB)
    master.file.write_bytes(b"a" * 8192)

    def write() -> None:
        for number in range(300):
            letter = b"abcdefgh"[number % 8 : number % 8 + 1]
            with master.file.open("r+b") as file:
                file.write(letter * 4096)
                file.flush()
                os.sched_yield()
                file.write(letter * 4096)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        source = sources.read([PATH])[PATH]
        if source.kind == "ready":
            assert len(set((master.blobs / source.digest).read_bytes())) == 1
    writer.join()
    assert sources.read([PATH])[PATH].kind == "ready"


def _make_socket(file: Path) -> None:
    here = Path.cwd()
    os.chdir(file.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(file.name)
    finally:
        os.chdir(here)


ODDITIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (lambda file: file.symlink_to("elsewhere"), "is a symbolic link on the master"),
    "link to itself": (lambda file: file.symlink_to(file.name), "is a symbolic link on the master"),
    "directory": (lambda file: file.mkdir(), "is not a regular file on the master"),
    "FIFO": (lambda file: os.mkfifo(file), "is not a regular file on the master"),
    "socket": (_make_socket, "is not a regular file on the master"),
}


@pytest.mark.parametrize("kind", ODDITIES)
def test_what_is_not_a_regular_file_is_unusable(master: Master, kind: str) -> None:
    make, reason = ODDITIES[kind]
    make(master.file)

    source = master.read()

    assert source.kind == "unusable"
    assert source.reason.startswith(reason)
    assert master.stored() == {}


def test_a_file_that_becomes_a_link_to_itself_elsewhere_is_unusable(master: Master) -> None:
    master.file.write_bytes(b"one")
    master.read()
    master.file.rename(master.root / "moved")
    master.file.symlink_to(master.root / "moved")

    assert master.read().kind == "unusable"


def test_a_device_is_unusable() -> None:
    sources = Sources(Path("/dev"), Path("/nowhere"), size_bytes_max=1)

    assert sources.read([ManagedPath("/null")])[ManagedPath("/null")].kind == "unusable"


@pytest.mark.parametrize("path", ["/etc/ganeti/nothing", "/no/such/directory", f"{PATH}/below-a-file"])
def test_nothing_there_is_absent(master: Master, path: str) -> None:
    master.file.write_bytes(b"one")

    assert master.read(ManagedPath(path)) == Source("absent")


def test_one_byte_too_many_is_unusable(tmp_path: Path) -> None:
    master = Master(tmp_path, size_bytes_max=4)
    master.file.write_bytes(b"four")
    assert master.read().kind == "ready"
    master.file.write_bytes(b"fives")

    assert master.read() == Source("unusable", reason="has 5 bytes, limit 4")


def test_an_unreadable_file_is_unusable(master: Master) -> None:
    master.file.write_bytes(b"one")
    master.file.chmod(0)

    def read() -> Source:
        drop_capabilities()
        return master.read()

    def glance() -> Source:
        drop_capabilities()
        return master.sources.glance(PATH)

    for look in (read, glance):
        assert in_child(look) == Source("unusable", reason="cannot be read on the master: Permission denied")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a file of somebody else")
def test_a_foreign_file_is_taken_without_a_lease(master: Master) -> None:
    """Only an owner, or the privileged, may take one: times and size have to do."""
    master.file.write_bytes(b"one")
    os.chown(master.file, 65534, 65534)

    def read() -> Source:
        drop_capabilities()
        return master.read()

    assert in_child(read).kind == "ready"


def test_a_store_that_takes_nothing_is_named(tmp_path: Path) -> None:
    master = Master(tmp_path)
    master.file.write_bytes(b"one")
    master.blobs.rmdir()

    assert master.read().reason == "cannot be read and stored on the master: No such file or directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a file of somebody else")
def test_owners_without_a_name_travel_as_numbers(master: Master) -> None:
    master.file.write_bytes(b"one")
    os.chown(master.file, 54321, 54322)

    source = master.read()

    assert (source.owner, source.group) == ("54321", "54322")


def test_one_bad_file_does_not_hide_the_others(master: Master) -> None:
    master.file.write_bytes(b"one")
    (master.root / OTHER[1:]).mkdir()

    found = master.sources.read([OTHER, PATH])

    assert [found[path].kind for path in (OTHER, PATH)] == ["unusable", "ready"]


def test_paths_and_places_translate_both_ways(master: Master) -> None:
    real = master.sources.real(ManagedPath("/etc/ä b"))

    assert real == master.root / "etc/ä b"
    assert master.sources.managed(real) == "/etc/ä b"
    assert master.sources.managed(Path("/elsewhere/x")) is None


def test_the_nearest_existing_directory_is_watched(master: Master) -> None:
    paths = [PATH, ManagedPath("/etc/ganeti/deep/er/x"), ManagedPath("/new/x")]

    assert master.sources.directories(paths) == {master.file.parent, master.root}


def test_a_glance_says_what_is_there_and_stores_nothing(master: Master) -> None:
    master.file.write_bytes(b"content")
    (master.file.parent / "link").symlink_to(master.file)
    (master.file.parent / "directory").mkdir()

    kinds = {
        name: master.sources.glance(ManagedPath(f"/etc/ganeti/{name}")) for name in ("x", "link", "directory", "no")
    }

    assert [found.kind for found in kinds.values()] == ["ready", "unusable", "unusable", "absent"]
    assert kinds["directory"].reason == "is not a regular file on the master but a directory"
    assert "symbolic link" in kinds["link"].reason
    assert list(master.blobs.iterdir()) == []


def test_names_are_those_of_regular_files_alone(master: Master) -> None:
    for name in ("a", ".b"):
        (master.file.parent / name).write_bytes(b"")
    (master.file.parent / "link").symlink_to("a")
    (master.file.parent / "directory").mkdir()

    assert sorted(master.sources.names("/etc/ganeti")) == [".b", "a"]
    assert master.sources.names("/etc/nowhere") == master.sources.names("/etc/ganeti/a") == []
