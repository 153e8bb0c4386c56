"""node_agent/core/reconcile.py: every small disk against every small wish, and random larger ones."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.core.reconcile import ABSENT, Found, Known, Plan, Remove, Wanted, is_as_wanted, is_ours, reconcile
from protocol.messages import Withdrawal
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, ManagedPath
from tests.support.fake_disk import FakeDisk
from tests.support.values import OTHER, PATH, an_entry, digest_of, found_as, found_file

ENTRY = an_entry(content="new")
BLOCKED = Found("blocked", reason="/etc/ganeti/x is a directory")

FOUND: dict[str, Found] = {
    "absent": ABSENT,
    "blocked": BLOCKED,
    "right": found_as(ENTRY),
    "wrong mode": replace(found_as(ENTRY), mode=0o600),
    "wrong owner": replace(found_as(ENTRY), owner="daemon"),
    "wrong group": replace(found_as(ENTRY), group="daemon"),
    "old": found_file("old"),
    "foreign": found_file("by hand"),
}
WANTED: dict[str, Wanted | None] = {
    "unwanted": None,
    "wanted": Wanted(ALL, ENTRY),
    "wanted secret": Wanted(MASTER_CANDIDATES, ENTRY),
}
KNOWN: dict[str, Known | None] = {
    "unknown": None,
    "known old": Known(ALL, digest_of("old")),
    "known new": Known(ALL, digest_of("new")),
    "known secret": Known(MASTER_CANDIDATES, digest_of("old")),
    "intent new": Known(ALL, digest_of("new"), is_intent=True),
    "intent other": Known(ALL, digest_of("never written"), is_intent=True),
}
WITHDRAWN: dict[str, Withdrawal | None] = {
    "not withdrawn": None,
    "withdrawn": Withdrawal(path=PATH, generation=3),
    "purged": Withdrawal(path=PATH, generation=3, purge=True),
}
CASES = list(itertools.product(FOUND, WANTED, KNOWN, WITHDRAWN))


def plan_of(case: tuple[str, str, str, str], *, holds_sources: bool = False) -> Plan:
    found, wanted, known, withdrawn = case
    want, knowledge, withdrawal = WANTED[wanted], KNOWN[known], WITHDRAWN[withdrawn]
    return reconcile(
        {PATH: want} if want else {},
        {PATH: FOUND[found]},
        {PATH: knowledge} if knowledge else {},
        {PATH: withdrawal} if withdrawal else {},
        holds_sources=holds_sources,
    )


def cases(found: str = "", wanted: str = "", known: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield the cases whose parts contain these words."""
    for case in CASES:
        if all(word in part for word, part in zip((found, wanted, known), case, strict=False)):
            yield case


def test_a_file_is_written_exactly_when_it_is_wanted_and_differs() -> None:
    for case in CASES:
        found, wanted, *_ = case
        is_needed = wanted != "unwanted" and found not in ("right", "blocked")
        assert len(plan_of(case).writes) == is_needed, case


def test_a_file_is_removed_exactly_when_it_is_ours_and_not_wanted() -> None:
    """What was intended, and never written, is not ours: somebody else put something else there."""
    for case in CASES:
        found, wanted, known, withdrawn = case
        is_intended = known.startswith("intent")
        is_mine = known != "unknown" and (
            not is_intended or (known == "intent new" and FOUND[found].digest == ENTRY.digest)
        )
        is_there = is_mine and FOUND[found].kind == "file"
        leaves_backups = known != "unknown" and found == "absent" and withdrawn == "purged"
        is_needed = wanted == "unwanted" and (is_there or leaves_backups)
        assert len(plan_of(case).removals) == is_needed, case


def test_what_is_blocked_is_never_touched_and_always_told() -> None:
    for case in cases(found="blocked"):
        _, wanted, known, _ = case
        plan = plan_of(case)
        is_surplus = wanted == "unwanted" and known.startswith("known")
        assert plan.is_empty
        assert plan.errors == (((PATH, BLOCKED.reason),) if wanted != "unwanted" or is_surplus else ()), case


def test_what_is_not_blocked_is_no_error() -> None:
    assert not any(plan_of(case).errors for case in CASES if case[0] != "blocked")


def test_a_backup_is_kept_of_what_did_not_come_from_the_mesh_and_is_no_secret() -> None:
    """The mesh's own contents are in the master's history."""
    for case in CASES:
        found, wanted, known, _ = case
        for write in plan_of(case).writes:
            here, knowledge = FOUND[found], KNOWN[known]
            is_own = knowledge is not None and knowledge.digest == here.digest
            is_secret = wanted == "wanted secret" or known == "known secret"
            is_lost = here.kind == "file" and here.digest != ENTRY.digest
            expected = is_lost and not is_own and not is_secret
            assert write.keep_backup == expected, case


def test_a_removed_file_is_kept_unless_purged_or_secret() -> None:
    for case in CASES:
        for removal in plan_of(case).removals:
            purge = case[3] == "purged"
            is_secret = case[2] == "known secret"
            scope = MASTER_CANDIDATES if is_secret else ALL
            kept = not purge and not is_secret
            facts = {"is_gone": case[0] == "absent", "is_secret": is_secret}
            assert removal == Remove(scope, PATH, keep_backup=kept, purge=purge, **facts), case


def test_a_file_that_was_shipped_as_a_secret_is_one_in_any_scope() -> None:
    """Neither what replaces it nor what removes it leaves a copy behind."""
    secret = replace(ENTRY, secret=True)
    here = {PATH: found_file("by hand")}
    known = {PATH: Known(ALL, digest_of("other"), secret=True)}

    (write,) = reconcile({PATH: Wanted(ALL, secret)}, here, {}, {}).writes
    (after_secret,) = reconcile({PATH: Wanted(ALL, ENTRY)}, here, known, {}).writes
    (removal,) = reconcile({}, here, known, {}).removals

    assert not write.keep_backup and not after_secret.keep_backup
    assert removal == Remove(ALL, PATH, is_secret=True)


def test_a_content_that_is_on_the_node_already_is_copied_from_there() -> None:
    for case in CASES:
        for write in plan_of(case).writes:
            expected = PATH if FOUND[case[0]].digest == ENTRY.digest else None
            assert write.copy_of == expected, case


def test_the_first_path_that_holds_a_content_is_its_source() -> None:
    found = {PATH: ABSENT, OTHER: found_file("new"), ManagedPath("/etc/a"): found_file("new", mode=0o600)}

    plan = reconcile({PATH: Wanted(ALL, ENTRY)}, found, {}, {})

    assert plan.writes[0].copy_of == "/etc/a"


def test_on_the_node_that_holds_the_sources_nothing_is_ever_done() -> None:
    reasons = {
        "absent": "the source is missing on the master",
        "blocked": BLOCKED.reason,
    }
    for case in CASES:
        plan = plan_of(case, holds_sources=True)
        assert plan.is_empty, case
        differs = case[1] != "unwanted" and case[0] != "right"
        reason = reasons.get(case[0], "the source differs from what is published")
        assert plan.errors == (((PATH, reason),) if differs else ()), case


@pytest.mark.parametrize("case", [c for c in CASES if c[3] == "not withdrawn"], ids=" / ".join)
def test_after_the_plan_there_is_nothing_to_plan(case: tuple[str, str, str, str]) -> None:
    disk = FakeDisk()
    disk.files[PATH] = FOUND[case[0]]
    plan = plan_of(case)
    disk.perform(plan)
    want, known = WANTED[case[1]], KNOWN[case[2]]

    again = reconcile({PATH: want} if want else {}, {PATH: disk.here(PATH)}, {PATH: known} if known else {}, {})

    assert again.is_empty
    if want and FOUND[case[0]].kind != "blocked":
        assert is_as_wanted(want.entry, disk.here(PATH))


def test_ours_is_what_we_wrote_or_what_took_its_place() -> None:
    assert is_ours(found_file("by hand"), Known(ALL, digest_of("old")))
    assert is_ours(found_file("new"), Known(ALL, digest_of("new"), is_intent=True))
    assert not is_ours(found_file("by hand"), Known(ALL, digest_of("new"), is_intent=True))
    assert not is_ours(ABSENT, Known(ALL, digest_of("old")))


PATHS = [ManagedPath(f"/etc/{letter}") for letter in "abcdef"]
contents = st.sampled_from(["one", "two", "three"])
modes = st.sampled_from([0o644, 0o600])
scopes = st.sampled_from([ALL, MASTER_CANDIDATES, VM_CAPABLE])
things = st.one_of(
    st.just(ABSENT), st.just(BLOCKED), st.builds(lambda content, mode: found_file(content, mode=mode), contents, modes)
)
disks = st.fixed_dictionaries(dict.fromkeys(PATHS, things))
knowledge = st.dictionaries(
    st.sampled_from(PATHS),
    st.builds(lambda scope, content, intent: Known(scope, digest_of(content), intent), scopes, contents, st.booleans()),
)
wishes = st.dictionaries(st.sampled_from(PATHS), st.tuples(scopes, contents, modes)).map(
    lambda wish: {
        path: Wanted(scope, an_entry(path, content, mode=mode)) for path, (scope, content, mode) in wish.items()
    }
)


def known_after(
    plan: Plan, wanted: Mapping[ManagedPath, Wanted], disk: FakeDisk, known: Mapping[ManagedPath, Known]
) -> dict[ManagedPath, Known]:
    """Return what the agent knows after a plan: what it wrote, and what it found to be right."""
    after = {path: old for path, old in known.items() if path in wanted or disk.here(path).kind != "absent"}
    right = {path: want for path, want in wanted.items() if is_as_wanted(want.entry, disk.here(path))}
    return after | {path: Known(want.scope, want.entry.digest) for path, want in right.items()}


@given(disks, wishes, knowledge)
@settings(max_examples=300, deadline=None)
def test_a_plan_reaches_its_end_and_touches_nothing_else(
    found: dict[ManagedPath, Found], wanted: dict[ManagedPath, Wanted], known: dict[ManagedPath, Known]
) -> None:
    disk = FakeDisk()
    disk.files = dict(found)

    plan = reconcile(wanted, found, known, {})
    assert reconcile(wanted, dict(reversed(found.items())), known, {}) == plan, "no order in, the same order out"
    disk.perform(plan)

    touched = {path for path in PATHS if disk.here(path) != found[path]}
    assert touched <= wanted.keys() | known.keys()
    assert all(found[path].kind != "blocked" for path in touched)
    named = [write.entry.path for write in plan.writes] + [removal.path for removal in plan.removals]
    assert len(named) == len(set(named))
    for write in plan.writes:
        assert write.copy_of is None or found[write.copy_of].digest == write.entry.digest
    for path, want in wanted.items():
        assert found[path].kind == "blocked" or is_as_wanted(want.entry, disk.here(path))
    again = reconcile(wanted, disk.observe(PATHS), known_after(plan, wanted, disk, known), {})
    assert again.is_empty
    assert again.errors == plan.errors


@given(disks, wishes, wishes)
@settings(max_examples=150, deadline=None)
def test_there_and_back_again(
    found: dict[ManagedPath, Found], first: dict[ManagedPath, Wanted], second: dict[ManagedPath, Wanted]
) -> None:
    """plan(A to B), then plan(B to A), ends where A ended."""
    disk = FakeDisk()
    disk.files = dict(found)
    known: dict[ManagedPath, Known] = {}
    ends = []
    for wanted in (first, second, first):
        plan = reconcile(wanted, disk.observe(PATHS), known, {})
        disk.perform(plan)
        known = known_after(plan, wanted, disk, known)
        ends.append({path: disk.here(path) for path in first})

    assert ends[0] == ends[2]


@pytest.mark.parametrize(
    ("owner", "group", "is_right"),
    [("root", "root", True), ("0", "0", True), ("0", "root", True), ("1", "0", False), ("0", "daemon", False)],
)
def test_an_owner_is_right_by_its_name_or_by_its_number(owner: str, group: str, is_right: bool) -> None:
    here = replace(found_as(ENTRY), owner="root", group="root", uid=0, gid=0)

    assert is_as_wanted(replace(ENTRY, owner=owner, group=group), here) is is_right
