"""`gnt-mesh file log, diff, rollback`: what they ask, what they print, and what they keep to themselves."""

import hashlib
import json
from dataclasses import dataclass, field, replace

import pytest

from master.cli.contents import TEXT_BYTES_MAX
from protocol.change_messages import FileChange
from protocol.history_messages import (
    ContentPart,
    ContentQuery,
    DiffQuery,
    DiffReply,
    FileDiff,
    FileRollback,
    LogEntry,
    LogQuery,
    LogReply,
)
from protocol.names import ALL, MASTER_CANDIDATES, ManagedPath
from protocol.operator_messages import Changed
from tests.support.builders import an_entry
from tests.support.fake_operator_bus import ASKER, FakeOperatorBus, a_goal, a_wait_reply

PATH = ManagedPath("/etc/motd")
CHANGED = FileChange(path=PATH, scope=ALL, change="changed", details=("content", "mode"))
ADDED = FileChange(path=ManagedPath("/etc/new"), scope=ALL, change="added")
ENTRY = LogEntry(
    generation=42,
    time=0.0,
    why="file add /etc/new",
    by="root@master1",
    reason="ticket 17",
    changes=(CHANGED,),
    changes_count=1,
)


@dataclass
class Master(FakeOperatorBus):
    """Answers `file.content` from what it holds, in pieces, as the real one does."""

    held: dict[tuple[int, str], bytes] = field(default_factory=dict)
    piece_bytes: int = 7

    async def ask(self, verb, request, reply, *, timeout_s=10.0):  # type: ignore[no-untyped-def]
        if isinstance(request, ContentQuery):
            self.asked.append((verb, request))
            content = self.held[request.generation, request.path]
            return ContentPart(data=content[request.offset : request.offset + self.piece_bytes])
        return await super().ask(verb, request, reply, timeout_s=timeout_s)


def differing(before: bytes | None, after: bytes | None, *, is_secret: bool = False, mode: int = 0o644) -> Master:
    """A master on which one file differs between generations 41 and 42."""
    old, new = (an_entry(PATH, content=content) if content is not None else None for content in (before, after))
    scope = MASTER_CANDIDATES if is_secret else ALL
    one = FileDiff(
        path=PATH,
        before=old,
        after=replace(new, mode=mode) if new else None,
        scope_before=scope if old else "",
        scope_after=scope if new else "",
        is_secret=is_secret,
    )
    bus = Master(answers={"file.diff": [DiffReply(files=(one,), files_count=1)]})
    for generation, content in ((41, before), (42, after)):
        if content is not None:
            bus.held[generation, PATH] = content
    return bus


def test_log_is_a_table() -> None:
    entries = (
        ENTRY,
        replace(ENTRY, generation=9, by="", why="edited", reason="", changes=(CHANGED, ADDED, ADDED), changes_count=3),
        replace(ENTRY, generation=8, changes=(CHANGED,), changes_count=2500),
        replace(ENTRY, generation=7, changes=(), changes_count=0),
    )
    bus = FakeOperatorBus(answers={"file.log": [LogReply(entries=entries, is_all=False)]})

    lines = bus.run("file", "log").stdout.splitlines()

    assert bus.requests("file.log") == [LogQuery(limit=20)]
    assert lines[0].split() == ["Generation", "Time", "Who", "(as", "told)", "What", "Changes", "Reason"]
    assert lines[1].endswith("root@master1   file add /etc/new  /etc/motd changed (content, mode)  ticket 17")
    assert "-              edited             1 changed, 2 added" in lines[2]
    assert "2500 files" in lines[3]
    assert lines[-1] == "There are older ones: --before 7"


def test_log_of_one_file_and_page_by_page() -> None:
    bus = FakeOperatorBus(answers={"file.log": [LogReply(entries=(), is_all=True)]})

    result = bus.run("file", "log", "/etc/motd", "-n", "5", "--before", "40")

    assert bus.requests("file.log") == [LogQuery(path="/etc/motd", limit=5, before=40)]
    assert result.stdout == "No generation that is kept has changed it.\n"


def test_log_as_json() -> None:
    bus = FakeOperatorBus(answers={"file.log": [LogReply(entries=(ENTRY,), is_all=True)]})

    assert json.loads(bus.run("file", "log", "--json").stdout) == [
        {
            "generation": 42,
            "time": 0.0,
            "by": "root@master1",
            "why": "file add /etc/new",
            "reason": "ticket 17",
            "changes_count": 1,
            "changes": [{"path": PATH, "scope": "all", "change": "changed", "details": ["content", "mode"]}],
        }
    ]


def test_a_text_is_compared_line_by_line() -> None:
    bus = differing(b"one\ntwo\nthree", b"one\n2\nthree", mode=0o600)

    assert bus.run("file", "diff", "41", "42").stdout.splitlines() == [
        "--- /etc/motd generation 41",
        "+++ /etc/motd generation 42",
        "! mode 0644 -> 0600",
        "@@ -1,3 +1,3 @@",
        " one",
        "-two",
        "+2",
        " three",
        "\\ No newline at end of file",
    ]
    assert len(bus.requests("file.content")) == 4, "in pieces, each one message"


def test_a_file_that_is_new_or_gone_is_compared_with_nothing() -> None:
    assert differing(None, b"one\n").run("file", "diff", "41", "42").stdout.splitlines() == [
        "--- (not published in generation 41)",
        "+++ /etc/motd generation 42",
        "! new in all: mode 0644, owner root:root",
        "@@ -0,0 +1 @@",
        "+one",
    ]
    gone = differing(b"one\n", None).run("file", "diff", "41", "42").stdout.splitlines()
    assert gone[2:] == ["! no longer in all: mode 0644, owner root:root", "@@ -1 +0,0 @@", "-one"]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"\x00\x01", "binary"),
        (b"caf\xe9", "binary"),
        (b"x" * (TEXT_BYTES_MAX + 1), "too large to be compared line by line"),
    ],
)
def test_what_is_no_text_is_told_by_size_and_digest(content: bytes, note: str) -> None:
    bus = differing(b"one\n", content)
    bus.piece_bytes = 512 * 1024
    size = {2: "2 B", 4: "4 B"}.get(len(content), "1 MiB")
    digests = [hashlib.sha256(part).hexdigest()[:12] for part in (b"one\n", content)]

    shown = bus.run("file", "diff", "41", "42").stdout.splitlines()

    assert shown[2:] == [f"! content 4 B, {digests[0]}… -> {size}, {digests[1]}…: {note}"]


def test_a_secret_is_not_even_asked_for_unless_it_may_be_shown() -> None:
    bus = differing(b"key one\n", b"key two\n", is_secret=True)

    shown = bus.run("file", "diff", "41", "42").stdout
    as_json = bus.run("file", "diff", "41", "42", "--json").stdout

    assert "a secret; its content is shown with --show-secrets" in shown
    assert "key" not in shown + as_json
    assert bus.requests("file.content") == []

    told = bus.run("file", "diff", "41", "42", "--show-secrets").stdout
    assert "-key one\n+key two\n" in told
    assert all(query.show_secrets for query in bus.requests("file.content") if isinstance(query, ContentQuery))


def test_a_change_of_mode_alone_asks_for_no_content() -> None:
    bus = differing(b"one\n", b"one\n", mode=0o600)

    assert bus.run("file", "diff", "41", "42").stdout.splitlines()[2:] == ["! mode 0644 -> 0600"]
    assert bus.requests("file.content") == []


def test_a_damaged_content_is_not_shown_as_if_it_were_the_file() -> None:
    bus = differing(b"one\n", b"two\n")
    bus.held[42, PATH] = b"tvo\n"

    result = bus.run("file", "diff", "41", "42")

    assert result.exit_code == 1
    assert "what the master keeps of generation 42 is damaged" in result.stderr
    assert result.stdout == ""


def test_nothing_in_a_file_can_move_the_cursor() -> None:
    shown = differing(b"", b"\ta\x1b[31m\rb\xe2\x80\xae\n").run("file", "diff", "41", "42").stdout

    assert "+\ta\\x1b[31m\\rb\\u202e\n" in shown


def test_diff_as_json() -> None:
    (shown,) = json.loads(differing(b"one\n", b"two\n").run("file", "diff", "41", "42", "--json").stdout)["files"]

    assert (shown["path"], shown["secret"], shown["note"]) == (PATH, False, "")
    assert shown["before"]["digest"] == hashlib.sha256(b"one\n").hexdigest()
    assert shown["diff"] == ["@@ -1 +1 @@", "-one", "+two"]


def test_what_differs_is_asked_for_the_paths_named() -> None:
    bus = FakeOperatorBus(answers={"file.diff": [DiffReply(files=(), files_count=0)]})

    assert bus.run("file", "diff", "41", "42", "/etc/a", "/etc/b").stdout == "Nothing differs.\n"
    assert bus.requests("file.diff") == [DiffQuery(before=41, after=42, paths=("/etc/a", "/etc/b"))]


@pytest.mark.parametrize(
    "line",
    [
        "file diff 0 1",
        "file diff 1",
        "file diff x 1",
        "file rollback",
        "file rollback x",
        "file rollback 99999999999999999999",
    ],
)
def test_what_is_no_generation_is_refused_at_once(line: str) -> None:
    bus = FakeOperatorBus()

    assert bus.run(*line.split()).exit_code == 1
    assert bus.asked == []


def test_rollback_asks_and_waits() -> None:
    changed = Changed(goal=a_goal(), done=("done",))
    bus = FakeOperatorBus(answers={"file.rollback": [changed], "wait": [a_wait_reply()]})

    result = bus.run("file", "rollback", "41", "/etc/a", "/etc/b", "--reason", "broken")

    assert result.exit_code == 0, result.stderr
    assert bus.requests("file.rollback") == [
        FileRollback(generation=41, paths=("/etc/a", "/etc/b"), by=ASKER, reason="broken")
    ]
    assert len(bus.requests("wait")) == 1
