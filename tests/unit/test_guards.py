"""master/core/guards.py: what an operator has to confirm, and what of the master's disk is held back."""

from collections.abc import Iterable

import pytest

from master.core.cluster import AncillaryFile, WithdrawnFile
from master.core.guards import (
    REMOVALS_ANY_SHARE,
    REMOVALS_MIN,
    TRUNCATED_BYTES_MIN,
    Confirmed,
    hold,
    looks_truncated,
    moves_of,
    objections,
    refusal,
    refuse,
    unconfirmed,
)
from master.core.plan import Source, plan
from protocol.errors import Refused
from protocol.messages import REASON_CHARS_MAX, Manifest
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, ManagedPath, ScopeName
from tests.support.values import OTHER, PATH, a_config, a_file, a_manifest, a_node, a_source, an_entry

CONFIG = a_config(a_node("node2"), a_node("node3"))


def listing(count: int, scope: ScopeName = ALL) -> list[AncillaryFile]:
    return [a_file(f"/etc/many/{number:03}", scope) for number in range(count)]


def published(files: Iterable[AncillaryFile]) -> dict[ScopeName, Manifest]:
    scopes = sorted({file.scope for file in files})
    return {
        scope: a_manifest(*(an_entry(file.path) for file in files if file.scope == scope), scope=scope)
        for scope in scopes
    }


def sources(files: Iterable[AncillaryFile], **others: Source) -> dict[ManagedPath, Source]:
    return {file.path: a_source() for file in files} | {ManagedPath(path): other for path, other in others.items()}


def guards_of(before: list[AncillaryFile], after: list[AncillaryFile], secrets: Iterable[str] = ()) -> list[str]:
    found = objections(CONFIG, before, after, published(before), frozenset(map(ManagedPath, secrets)))
    return [one.guard for one in found]


@pytest.mark.parametrize(
    ("held", "removed", "is_many"),
    [
        (REMOVALS_MIN, REMOVALS_MIN, True),
        (REMOVALS_MIN - 1, REMOVALS_MIN - 1, False),
        (40, 10, True),
        (41, 10, False),
        (41, 11, True),
        (5000, REMOVALS_ANY_SHARE, True),
        (5000, REMOVALS_ANY_SHARE - 1, False),
        (20, 0, False),
    ],
)
def test_many_is_ten_that_are_a_quarter_or_a_hundred(held: int, removed: int, is_many: bool) -> None:
    files = listing(held)

    assert guards_of(files, files[removed:]) == (["removals"] if is_many else [])


def test_a_move_counts_for_nodes_that_are_not_in_the_new_scope() -> None:
    files = listing(20)
    candidates_only = [a_file(file.path, MASTER_CANDIDATES) for file in files]

    assert guards_of(files, candidates_only) == ["removals"]
    assert guards_of(files, [a_file(file.path, VM_CAPABLE) for file in files]) == [], "every node here is vm-capable"


def test_files_that_no_node_but_the_master_holds_are_not_missed_by_anybody() -> None:
    files = listing(20, MASTER_CANDIDATES)

    assert guards_of(files, []) == []


def test_the_sentence_says_how_many_of_whom_and_which_flag_allows_it() -> None:
    files = listing(12)

    found = objections(CONFIG, files, [], published(files), frozenset())

    assert refusal(found) == (
        "12 of 12 files would be removed from node2, node3: /etc/many/000, /etc/many/001, /etc/many/002, and 9 more; "
        "to see it in full: --dry-run, to have it done: --confirm removals"
    )
    with pytest.raises(Refused, match="12 of 12 files"):
        refuse(found)
    assert unconfirmed(found, ["removals"]) == ()
    refuse(unconfirmed(found, ["removals"]))
    assert unconfirmed(found, ["wider-scope"]) == found


@pytest.mark.parametrize(
    ("before", "after", "objects"),
    [
        (MASTER_CANDIDATES, ALL, True),
        (MASTER_CANDIDATES, VM_CAPABLE, True),
        (MASTER_CANDIDATES, "group-default", True),
        (MASTER_CANDIDATES, MASTER_CANDIDATES, False),
        (MASTER_CANDIDATES, None, False),
        (None, ALL, True),
        (None, MASTER_CANDIDATES, False),
        (ALL, VM_CAPABLE, False),
        (VM_CAPABLE, ALL, False),
        (ALL, MASTER_CANDIDATES, False),
    ],
)
def test_what_is_or_was_a_secret_goes_to_more_nodes_only_if_that_is_confirmed(
    before: ScopeName | None, after: ScopeName | None, objects: bool
) -> None:
    """From an open scope to another one is no question any more: that it was opened has been confirmed."""
    old, new = ([a_file(scope=scope)] if scope else [] for scope in (before, after))

    assert guards_of(old, new, secrets=[PATH]) == (["wider-scope"] if objects else [])
    assert guards_of(old, new, secrets=[OTHER]) == []


def test_the_moves_between_two_listings() -> None:
    assert moves_of([a_file(), a_file(OTHER)], [a_file(), a_file(OTHER, VM_CAPABLE)]) == {OTHER}
    assert moves_of([a_file()], [a_file(OTHER)]) == {PATH, OTHER}


@pytest.mark.parametrize(
    ("was", "is_now", "looks_so"),
    [
        (1000, 500, True),
        (1000, 501, False),
        (1000, 1, True),
        (1000, 0, False),
        (100, 36, True),
        (100, 37, False),
        (TRUNCATED_BYTES_MIN, 1, False),
        (10, 1, False),
    ],
)
def test_much_shorter_is_half_and_64_bytes(was: int, is_now: int, looks_so: bool) -> None:
    """An empty source is another guard's matter."""
    assert looks_truncated(was, is_now) is looks_so


LONG, SHORT = "line\n" * 100, "line\n" * 10


def test_a_truncated_source_is_held_back_and_everything_else_goes_on() -> None:
    files = [a_file(), a_file(OTHER)]
    before = {ALL: a_manifest(an_entry(content=LONG, generation=3), an_entry(OTHER))}
    found = {PATH: a_source(SHORT), OTHER: a_source("new")}

    held = hold(CONFIG, files, found, before, beginnings=[PATH])
    after = plan(CONFIG, held.files, held.sources, before, generation=7)

    assert held.contents == {PATH}
    assert [(entry.path, entry.generation) for entry in after.manifests[0].files] == [(PATH, 3), (OTHER, 7)]
    assert [problem.reason for problem in after.problems] == [
        "looks truncated: it is the first 50 of the 500 bytes of generation 3, which nodes keep. "
        f"To ship it: gnt-mesh file confirm {PATH}"
    ]


def test_a_content_that_is_confirmed_is_shipped_truncated_or_empty() -> None:
    before = {ALL: a_manifest(an_entry(content=LONG))}

    for content in (SHORT, ""):
        held = hold(
            CONFIG,
            [a_file()],
            {PATH: a_source(content)},
            before,
            beginnings=[PATH],
            confirmed=Confirmed(contents=frozenset({PATH})),
        )
        after = plan(CONFIG, held.files, held.sources, before, generation=7)
        assert after.manifests[0].files == (an_entry(content=content, generation=7),)
        assert after.problems == ()


def test_many_files_that_nobody_withdrew_are_held_back_and_still_published() -> None:
    files = listing(20)
    before = published(files)

    held = hold(CONFIG, files[:5], sources(files[:5]), before)
    after = plan(CONFIG, held.files, held.sources, before, generation=7)

    assert len(held.moves) == 15
    assert after.events == ()
    assert {entry.path for entry in before[ALL].files} == {file.path for file in held.files}
    assert all("To have it done: gnt-mesh file confirm --removals" in problem.reason for problem in after.problems)


def test_a_few_go_and_so_does_what_a_command_withdrew_or_an_operator_confirmed() -> None:
    files = listing(20)
    gone = frozenset(file.path for file in files[5:])
    commanded = a_config(a_node(), withdrawn=[WithdrawnFile(path=path, scope=ALL) for path in sorted(gone)])

    assert hold(CONFIG, files[2:], sources(files[2:]), published(files)).moves == frozenset()
    assert hold(commanded, files[:5], sources(files[:5]), published(files)).moves == frozenset()
    confirmed = Confirmed(moves=gone)
    assert hold(CONFIG, files[:5], sources(files[:5]), published(files), confirmed=confirmed).moves == frozenset()


def test_a_secret_that_would_go_elsewhere_by_itself_stays_where_it_is() -> None:
    before = {MASTER_CANDIDATES: a_manifest(an_entry(content="key"), scope=MASTER_CANDIDATES), ALL: a_manifest()}

    held = hold(CONFIG, [a_file(scope=ALL)], {PATH: a_source("new key")}, before)
    after = plan(CONFIG, held.files, held.sources, before, generation=7)

    assert PATH not in [event.path for event in after.events]
    assert [(problem.path, problem.scope) for problem in after.problems] == [(PATH, MASTER_CANDIDATES)]
    assert f"To ship it there: gnt-mesh file confirm {PATH}" in after.problems[0].reason
    confirmed = Confirmed(moves=frozenset({PATH}))
    assert hold(CONFIG, [a_file()], {PATH: a_source()}, before, confirmed=confirmed).files == (a_file(),)


def test_a_long_path_does_not_make_the_reason_too_long() -> None:
    """A reason has a limit, and a path may be longer than it."""
    path = ManagedPath("/etc/" + "/".join(["x" * 200] * 5))
    before = {ALL: a_manifest(an_entry(path, LONG))}

    for source in (a_source(SHORT), a_source(""), Source("absent")):
        held = hold(CONFIG, [a_file(path)], {path: source}, before, beginnings=[path] if source.size_bytes else [])
        (problem,) = plan(CONFIG, held.files, held.sources, before, generation=7).problems
        assert problem.path == path
        assert len(problem.reason) <= REASON_CHARS_MAX
        assert problem.reason.endswith(" PATH")
    files = [a_file(f"{path[:-2]}{number}") for number in range(10, 30)]
    held = hold(CONFIG, [], {}, published(files))
    assert all(len(source.reason) <= REASON_CHARS_MAX for source in held.sources.values())
