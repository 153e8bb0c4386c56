"""master/core/history.py: what the kept generations say, also where older ones are kept only in part."""

import pytest

from master.core.history import LOG_CHANGES_MAX, Generation, diff, log, secrets, snapshot
from protocol import codec
from protocol.change_messages import FileChange
from protocol.errors import Refused
from protocol.messages import FileEntry, Manifest
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, ScopeName
from tests.support.values import OTHER, PATH, a_manifest, an_entry


def a_generation(number: int, *manifests: Manifest, is_remainder: bool = False, reason: str = "") -> Generation:
    return Generation(
        generation=number,
        time=float(number),
        why=f"command {number}",
        by="root@master1",
        reason=reason,
        manifests=manifests,
        is_remainder=is_remainder,
    )


def files(number: int, *entries: FileEntry, scope: ScopeName = ALL) -> Manifest:
    return a_manifest(*entries, scope=scope, generation=number)


ONE, TWO, THREE = an_entry(content="one"), an_entry(content="two", mode=0o600, generation=2), an_entry(OTHER)
HISTORY = (
    a_generation(1, files(1, ONE), files(1, scope=VM_CAPABLE)),
    a_generation(2, files(2, TWO)),
    a_generation(4, files(4, TWO, THREE), reason="ticket 17"),
    a_generation(5, files(5, THREE), files(5, TWO, scope=VM_CAPABLE)),
    a_generation(6, files(6), files(6, TWO, scope=VM_CAPABLE)),
)


def told(path: str = "", **query: int) -> list[tuple[int, list[tuple[str, str, str]]]]:
    entries = log(HISTORY, path=path, **query).entries
    return [(one.generation, [(c.path, c.scope, c.change) for c in one.changes]) for one in entries]


def test_the_log_tells_what_each_generation_changed_newest_first() -> None:
    assert told() == [
        (6, [(OTHER, ALL, "removed")]),
        (5, [(PATH, ALL, "removed"), (PATH, VM_CAPABLE, "added")]),
        (4, [(OTHER, ALL, "added")]),
        (2, [(PATH, ALL, "changed")]),
        (1, [(PATH, ALL, "added")]),
    ]


def test_it_tells_who_and_why_and_in_which_respects() -> None:
    by_number = {one.generation: one for one in log(HISTORY).entries}

    assert (by_number[4].by, by_number[4].why, by_number[4].reason) == ("root@master1", "command 4", "ticket 17")
    assert by_number[2].changes == (FileChange(path=PATH, scope=ALL, change="changed", details=("content", "mode")),)


def test_the_log_of_a_file_has_only_what_changed_it() -> None:
    assert [number for number, _ in told(OTHER)] == [6, 4]
    assert [number for number, _ in told("/etc/nowhere")] == []


def test_the_log_is_read_page_by_page() -> None:
    assert [number for number, _ in told(limit=2)] == [6, 5]
    assert [number for number, _ in told(before=5, limit=2)] == [4, 2]
    assert not log(HISTORY, before=5, limit=2).is_all
    assert log(HISTORY, before=2, limit=2).is_all


def test_a_remainder_is_no_generation_of_its_own_but_tells_what_was_there() -> None:
    """Of generation 1 only what is in force in generation 2 is left."""
    kept = (a_generation(1, files(1, scope=VM_CAPABLE), is_remainder=True), *HISTORY[1:])

    assert [one.generation for one in log(kept).entries] == [6, 5, 4, 2]
    assert snapshot(kept, 2) == snapshot(HISTORY, 2)
    with pytest.raises(Refused, match="generation 1 is not kept; those that are: 2 to 6, see: gnt-mesh file log"):
        snapshot(kept, 1)


def test_without_what_came_before_only_what_is_new_by_its_own_word_is_told() -> None:
    kept = (a_generation(4, files(4, TWO, an_entry(OTHER, generation=4))),)

    assert [change.path for change in log(kept).entries[0].changes] == [OTHER]


def test_a_snapshot_is_all_that_was_published_then() -> None:
    assert snapshot(HISTORY, 1) == {PATH: (ALL, ONE)}
    assert snapshot(HISTORY, 4) == {PATH: (ALL, TWO), OTHER: (ALL, THREE)}
    assert snapshot(HISTORY, 6) == {PATH: (VM_CAPABLE, TWO)}


@pytest.mark.parametrize("number", [0, 3, 7])
def test_a_generation_that_never_was_is_refused(number: int) -> None:
    with pytest.raises(Refused, match=f"generation {number} is not kept; those that are: 1 to 6"):
        snapshot(HISTORY, number)


def test_a_diff_is_between_any_two_generations_in_either_direction() -> None:
    there, back = diff(HISTORY, 1, 4).files, diff(HISTORY, 4, 1).files

    assert [(one.path, one.before, one.after) for one in there] == [(PATH, ONE, TWO), (OTHER, None, THREE)]
    assert [(one.path, one.before, one.after) for one in back] == [(PATH, TWO, ONE), (OTHER, THREE, None)]
    assert diff(HISTORY, 4, 4).files == ()


def test_another_scope_is_a_difference() -> None:
    (one,) = diff(HISTORY, 4, 6, [PATH]).files

    assert (one.scope_before, one.scope_after) == (ALL, VM_CAPABLE)


def test_a_diff_of_a_path_that_neither_has_is_refused() -> None:
    with pytest.raises(Refused, match="/etc/z was not published in generation 1, nor in 4"):
        diff(HISTORY, 1, 4, ["/etc/z"])


def test_what_was_for_candidates_alone_in_any_kept_generation_is_a_secret() -> None:
    """Also after it was moved to another scope: what it held then was not for everybody."""
    kept = (a_generation(1, files(1, ONE, scope=MASTER_CANDIDATES)), a_generation(2, files(2, TWO)))

    assert secrets(kept) == {PATH}
    assert [one.is_secret for one in diff((*kept, a_generation(3, files(3, ONE))), 2, 3).files] == [True]
    assert secrets(HISTORY) == frozenset()


def test_answers_stay_one_message_each() -> None:
    entries = [an_entry(f"/etc/{'x' * 200}/{number:05}", generation=1) for number in range(5000)]
    kept = [a_generation(number, files(number, *entries[:: 1 + number % 2])) for number in range(1, 60)]

    shown, found = log(kept), diff(kept, 1, 2)

    assert len(codec.encode(shown)) < codec.MESSAGE_BYTES_MAX
    assert len(codec.encode(found)) < codec.MESSAGE_BYTES_MAX
    assert not shown.is_all
    assert {one.changes_count for one in shown.entries} == {2500}
    assert max(len(one.changes) for one in shown.entries) == LOG_CHANGES_MAX
    assert len(found.files) < found.files_count == 2500
