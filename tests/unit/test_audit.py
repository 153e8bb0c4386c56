"""The audit log's chain notices whatever is done to it, and never holds what nobody may read."""

from dataclasses import dataclass, field, replace

import pytest

from master.core import audit
from master.core.audit import Entry, Head


def a_chain(length: int) -> tuple[list[bytes], Head]:
    lines, head = [], Head()
    for number in range(1, length + 1):
        entry = Entry(
            number=number,
            time=1000.0 + number,
            who="alice",
            key="UA",
            origin="10.0.0.1",
            verb="node.add",
            outcome="asked",
            what={"name": f"node{number}"},
            before=head.digest,
        )
        lines.append(audit.line_of(entry))
        head = audit.head_of(entry, lines[-1])
    return lines, head


def test_a_chain_that_nobody_touched_is_sound_to_its_end() -> None:
    lines, head = a_chain(5)
    assert audit.follow(lines, head) == (head, "")
    assert audit.follow(lines) == (head, "")
    assert audit.follow([], Head()) == (Head(), "")


@pytest.mark.parametrize("number", [1, 2, 4])
def test_an_altered_entry_is_found(number: int) -> None:
    lines, head = a_chain(5)
    entry = audit.entry_of(lines[number - 1])
    lines[number - 1] = audit.line_of(replace(entry, who="mallory"))
    sound, problem = audit.follow(lines, head)
    assert (sound.number, problem) == (number, f"entry {number} is not what entry {number + 1} saw: it was altered")


def test_an_altered_last_entry_is_found_by_the_noted_head() -> None:
    lines, head = a_chain(3)
    lines[2] = audit.line_of(replace(audit.entry_of(lines[2]), verb="node.list"))
    assert audit.follow(lines)[1] == ""
    assert "entry 3 is not the one that was written" in audit.follow(lines, head)[1]


@pytest.mark.parametrize("number", [1, 3])
def test_a_removed_entry_is_found(number: int) -> None:
    lines, head = a_chain(5)
    del lines[number - 1]
    assert "some were removed or inserted" in audit.follow(lines, head)[1]


def test_a_chain_without_its_end_is_found_by_the_noted_head() -> None:
    lines, head = a_chain(5)
    assert audit.follow(lines[:3], head)[1] == "there were 5 entries: the last 2 are gone"
    assert audit.follow([], head)[1] == "there were 5 entries: the last 5 are gone"


def test_a_chain_forged_as_a_whole_is_found_by_the_noted_head() -> None:
    _, head = a_chain(5)
    forged = [audit.entry_of(line) for line in a_chain(6)[0]]
    lines, former = [], Head()
    for entry in forged:
        lines.append(audit.line_of(replace(entry, who="mallory", before=former.digest)))
        former = audit.head_of(entry, lines[-1])
    assert audit.follow(lines)[1] == ""
    assert "the log was replaced from there on" in audit.follow(lines, head)[1]


@pytest.mark.parametrize("line", [b"", b"\n", b"nonsense\n", b"{}\n", b'{"number":3}\n', b"\xff\n"])
def test_a_line_that_is_none_is_found(line: bytes) -> None:
    lines, _ = a_chain(2)
    head, problem = audit.follow([*lines, line])
    assert head.number == 2 and problem.startswith("entry 3 cannot be read: ")


def test_what_nobody_may_read_is_not_written_down() -> None:
    @dataclass(frozen=True)
    class Request:
        name: str = "web1"
        offline: bool | None = None
        size: int = 7
        os_parameters: dict[str, str] = field(default_factory=lambda: {"root_pw": "hunter2", "disk": "1"})
        given: tuple[str, ...] = ("root_pw=hunter2",)
        secret_names: tuple[str, ...] = ("hunter2",)
        content: bytes = b"hunter2"
        inner: object = object()

    shown = audit.shown(Request())
    assert shown == {"name": "web1", "size": 7, "os_parameters": ["disk", "root_pw"], "given": ["root_pw"]}
    assert "hunter2" not in repr(shown)
    assert audit.shown(None) == {}


def test_an_entry_has_a_bound_whatever_is_asked() -> None:
    @dataclass(frozen=True)
    class Request:
        name: str = "x" * 100_000
        names: tuple[str, ...] = tuple("y" * 1000 for _ in range(1000))

    assert len(repr(audit.shown(Request()))) < 20_000
