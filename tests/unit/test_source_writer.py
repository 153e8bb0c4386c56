"""master/source_writer.py: all or none, at every kill; contents, modes and owners; what is refused before a write."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from master import source_writer
from master.core.plan import Source
from master.core.rollback import Rollback, Step
from master.source_writer import SourceWriter
from master.sources import Sources
from master.store import Store, save_config
from protocol import durable
from protocol.errors import Refused, Unavailable
from protocol.names import ManagedPath
from tests.support.values import a_config, digest_of

A, B, C = (ManagedPath(path) for path in ("/etc/a", "/etc/b", "/srv/c"))
NEW = {A: b"new a", B: b"new b"}
OLD = {A: b"old a" * 1000, B: b"", C: b"old c"}
MODE = 0o640
TRACED = {str(module.__file__) for module in (source_writer, durable)}


class Master:
    """A master's disk: /etc/a and /etc/b hold something newer, /srv/c has vanished."""

    def __init__(self, directory: Path) -> None:
        self.root, self.state = directory / "root", directory / "state"
        if not self.root.exists():
            save_config(self.root / "config.data", a_config())
            for path in OLD:
                self.real(path).parent.mkdir(exist_ok=True, parents=True)
            for path, content in NEW.items():
                self.real(path).write_bytes(content)
        self.store = Store(self.state, self.root / "config.data")
        self.store.open()
        for content in OLD.values():
            self.store.blob_path(digest_of(content)).write_bytes(content)
        self.sources = Sources(self.root, self.store.blobs_dir, size_bytes_max=1 << 20, sleep=lambda _: None)
        self.writer = SourceWriter(self.state, self.store, self.sources)

    def real(self, path: ManagedPath) -> Path:
        return self.root / path[1:]

    def rollback(self, **wanted: object) -> Rollback:
        now = self.sources.read(OLD)
        steps = (
            Step(path=path, before=now[path], wanted=self.source(content, **wanted)) for path, content in OLD.items()
        )
        return Rollback(why="file rollback 7", by="root@master1", reason="ticket 17", steps=tuple(steps))

    def source(self, content: bytes, **changed: object) -> Source:
        made = {"mode": MODE, "owner": "root", "group": "root", "digest": digest_of(content)} | changed
        return Source("ready", size_bytes=len(content), **made)  # type: ignore[arg-type]

    def contents(self) -> dict[ManagedPath, bytes]:
        return {path: self.real(path).read_bytes() for path in OLD if self.real(path).exists()}

    def leftovers(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if durable.is_temporary(path.name)]


@pytest.fixture
def master(tmp_path: Path) -> Master:
    return Master(tmp_path)


def test_all_sources_are_what_they_were(master: Master) -> None:
    rollback = master.rollback()
    master.writer.check(rollback.steps)
    master.writer.begin(rollback)

    master.writer.perform(rollback)
    master.writer.end()

    assert master.contents() == OLD
    assert {master.real(path).stat().st_mode & 0o7777 for path in OLD} == {MODE}
    assert master.leftovers() == []
    assert master.writer.pending() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner_and_set_user_id_come_back_too(master: Master) -> None:
    rollback = master.rollback(owner="daemon", group="12345", mode=0o4755)

    master.writer.perform(rollback)

    status = master.real(A).stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1, 12345, 0o4755)


def test_the_decision_survives_a_restart(master: Master, tmp_path: Path) -> None:
    rollback = master.rollback()
    master.writer.begin(rollback)

    assert Master(tmp_path).writer.pending() == rollback


def test_a_damaged_decision_is_not_guessed_at(master: Master) -> None:
    (master.state / "rollback.json").write_text('{"why": 1}')

    with pytest.raises(Refused, match=r"rollback\.json is damaged: .*; move it away to forget this rollback"):
        master.writer.pending()


def test_done_again_it_changes_nothing(master: Master) -> None:
    rollback = master.rollback()
    master.writer.perform(rollback)
    before = {path: master.real(path).stat().st_ino for path in OLD}

    master.writer.perform(rollback)

    assert {path: master.real(path).stat().st_ino for path in OLD} == before


def test_what_somebody_has_edited_since_is_theirs(master: Master) -> None:
    rollback = master.rollback()
    master.real(B).write_bytes(b"edited while the master was down")

    master.writer.perform(rollback)

    assert master.contents() == OLD | {B: b"edited while the master was down"}


def test_a_content_that_is_not_kept_or_damaged_is_refused_by_name(master: Master) -> None:
    master.store.blob_path(digest_of(OLD[C])).write_bytes(b"old C")

    with pytest.raises(Refused, match=f"^{C}: its content of then is not kept any more"):
        master.writer.check(master.rollback().steps)
    assert master.contents() == NEW


@pytest.mark.parametrize("who", ["owner", "group"])
def test_an_owner_that_is_gone_is_refused_by_name(master: Master, who: str) -> None:
    with pytest.raises(Refused, match=f"^{A}: there is no (user|group) nobody-of-this-name on the master any more"):
        master.writer.check(master.rollback(**{who: "nobody-of-this-name"}).steps)


def test_a_directory_that_is_gone_is_refused_by_name(master: Master) -> None:
    rollback = master.rollback()
    master.real(C).parent.rmdir()

    with pytest.raises(Refused, match=f"^{C}: its directory is not there any more"):
        master.writer.check(rollback.steps)


def test_what_cannot_be_written_leaves_everything_as_it_was(master: Master) -> None:
    rollback = master.rollback()
    master.real(C).parent.rmdir()

    with pytest.raises(Unavailable, match=r"the rollback cannot be written: .*No such file or directory"):
        master.writer.perform(rollback)

    assert master.contents() == NEW
    assert master.leftovers() == []
    assert master.writer.is_untouched(rollback)


def test_a_content_that_was_damaged_on_its_way_replaces_nothing(master: Master) -> None:
    rollback = master.rollback()
    master.store.blob_path(digest_of(OLD[C])).write_bytes(b"old C")

    with pytest.raises(Unavailable, match="what was written is not what was read"):
        master.writer.perform(rollback)
    assert master.contents() == NEW


def killed_at(line: int, work: Callable[[], None]) -> bool:
    """Do the work in this process and end it at the n-th line; False if it was done before."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal lines
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            lines += 1
            if lines == line:
                os._exit(9)
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
    work()
    sys.settrace(None)
    return False


def test_killed_at_any_line_the_next_master_finishes_it_or_has_never_heard_of_it(tmp_path: Path) -> None:
    """Nobody decides to publish between: the daemon finishes a rollback before it looks at any source."""
    seen: set[tuple[bytes, ...]] = set()
    line = 0
    while True:
        line += 1
        place = tmp_path / str(line)
        rollback = Master(place).rollback()
        child = os.fork()
        if child == 0:
            master = Master(place)

            def work(master: Master = master, rollback: Rollback = rollback) -> None:
                master.writer.begin(rollback)
                master.writer.perform(rollback)
                master.writer.end()

            killed_at(line, work)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        after = Master(place)
        seen.add(tuple(after.contents().get(path, b"-")[:5] for path in OLD))
        if pending := after.writer.pending():
            after.writer.perform(pending)
            after.writer.end()
            assert after.contents() == OLD, line
        assert after.contents() in (NEW, OLD), line
        assert after.leftovers() == [], line
        if os.waitstatus_to_exitcode(status) == 0:
            break
    assert line > 100
    assert seen == {
        (b"new a", b"new b", b"-"),
        (b"old a", b"new b", b"-"),
        (b"old a", b"", b"-"),
        (b"old a", b"", b"old c"),
    }
