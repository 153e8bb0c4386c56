"""master/core/plan.py: what a generation would publish, and what is never published by itself."""

import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from master.core import operations
from master.core.cluster import AncillaryFile, ClusterConfig, WithdrawnFile
from master.core.plan import WITHDRAWALS_MAX, Publication, Source, plan
from protocol.messages import FileEntry, Manifest, Withdrawal
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, Digest, ManagedPath, ScopeName
from protocol.operator_messages import FileAdd, FileModify, FileRemove, GroupAdd
from tests.support.values import OTHER, PATH, SURROUNDINGS, a_config, a_file, a_manifest, a_source, an_entry

ABSENT = Source("absent")
UNSETTLED = Source("unsettled", reason="is being written on the master")
UNUSABLE = Source("unusable", reason="is a symbolic link on the master")
EMPTY = a_source("")
HELD_BACK = {"vanished": ABSENT, "emptied": EMPTY, "unusable": UNUSABLE, "unsettled": UNSETTLED}

Manifests = dict[ScopeName, Manifest]


def plan_of(
    sources: Mapping[ManagedPath, Source],
    before: Manifests | None = None,
    *,
    files: Iterable[AncillaryFile] | None = None,
    config: ClusterConfig | None = None,
    generation: int = 7,
) -> Publication:
    """Plan with one file in scope `all`, unless told otherwise."""
    config = config or a_config(files=[a_file()] if files is None else files)
    return plan(config, config.cluster.ancillary_files, sources, before or {}, generation=generation)


def applied(publication: Publication, before: Manifests | None = None) -> Manifests:
    return {**(before or {}), **{manifest.scope: manifest for manifest in publication.manifests}}


def published(content: str = "content", *, generation: int = 3) -> Manifests:
    """Return what lies on the bus after one file was published to `all`."""
    return applied(plan_of({PATH: a_source(content)}, generation=generation))


def entries(manifests: Mapping[ScopeName, Manifest]) -> dict[tuple[ScopeName, ManagedPath], FileEntry]:
    return {(scope, entry.path): entry for scope, manifest in manifests.items() for entry in manifest.files}


def test_the_first_plan_has_a_manifest_for_every_scope() -> None:
    first = plan_of({PATH: a_source()})

    assert [manifest.scope for manifest in first.manifests] == [ALL, MASTER_CANDIDATES, VM_CAPABLE, "group-default"]
    assert entries(applied(first)) == {(ALL, PATH): an_entry(generation=7)}
    assert [(event.path, event.change, event.generation) for event in first.events] == [(PATH, "changed", 7)]
    assert first.problems == ()


def test_nothing_changed_means_nothing_to_publish() -> None:
    again = plan_of({PATH: a_source()}, published())

    assert (again.manifests, again.events, again.problems) == ((), (), ())


def test_a_changed_content_is_a_new_generation_of_its_scope_alone() -> None:
    after = plan_of({PATH: a_source("new")}, published())

    assert after.manifests == (a_manifest(an_entry(content="new", generation=7), generation=7),)


@pytest.mark.parametrize("change", [{"mode": 0o600}, {"owner": "daemon"}, {"group": "daemon"}])
def test_a_changed_mode_or_owner_alone_is_a_change(change: dict[str, object]) -> None:
    after = plan_of({PATH: replace(a_source(), **change)}, published())

    assert after.manifests == (a_manifest(replace(an_entry(generation=7), **change), generation=7),)
    assert len(after.events) == 1


def test_entries_that_did_not_change_keep_their_generation() -> None:
    files = [a_file(), a_file(OTHER)]
    before = applied(plan_of({PATH: a_source(), OTHER: a_source()}, files=files, generation=3))

    after = plan_of({PATH: a_source("new"), OTHER: a_source()}, before, files=files)

    assert [entry.generation for entry in after.manifests[0].files] == [7, 3]
    assert [event.path for event in after.events] == [PATH]


@pytest.mark.parametrize("why", HELD_BACK)
def test_what_is_published_stays_when_the_source_is_gone_or_unfit(why: str) -> None:
    """Otherwise one wrong rm or a full disk on the master empties the fleet."""
    after = plan_of({PATH: HELD_BACK[why]}, published())

    assert after.manifests == ()
    assert [(problem.path, problem.scope) for problem in after.problems] == [(PATH, ALL)]
    assert after.problems[0].reason


@pytest.mark.parametrize("why", HELD_BACK)
def test_other_files_change_while_one_is_held_back(why: str) -> None:
    files = [a_file(), a_file(OTHER)]
    before = applied(plan_of({PATH: a_source(), OTHER: a_source()}, files=files, generation=3))

    after = plan_of({PATH: HELD_BACK[why], OTHER: a_source("new")}, before, files=files)

    assert after.manifests[0].files == (an_entry(generation=3), an_entry(OTHER, "new", generation=7))
    assert [problem.path for problem in after.problems] == [PATH]


@pytest.mark.parametrize("why", HELD_BACK)
def test_a_file_that_is_held_back_can_still_move_to_another_scope(why: str) -> None:
    after = plan_of({PATH: HELD_BACK[why]}, published(), files=[a_file(scope=VM_CAPABLE)])

    assert entries(applied(after, published())) == {(VM_CAPABLE, PATH): an_entry(generation=3)}


def test_the_problem_says_what_the_operator_can_do() -> None:
    vanished, emptied = (plan_of({PATH: source}, published()).problems[0].reason for source in (ABSENT, EMPTY))

    assert vanished == (
        f"vanished from the master; nodes keep generation 3. To withdraw it from them: gnt-mesh file remove {PATH}"
    )
    assert emptied == (
        "became empty on the master; nodes keep the 7 bytes of generation 3. "
        f"To ship it empty: gnt-mesh file confirm {PATH}"
    )


def test_a_source_that_may_be_empty_is_shipped_empty() -> None:
    after = plan_of({PATH: EMPTY}, published(), files=[a_file(allow_empty=True)])

    assert after.manifests[0].files == (an_entry(content="", generation=7),)
    assert after.problems == ()


def test_a_file_that_was_always_empty_is_shipped() -> None:
    first = plan_of({PATH: EMPTY})

    assert entries(applied(first)) == {(ALL, PATH): an_entry(content="", generation=7)}
    assert plan_of({PATH: replace(EMPTY, mode=0o600)}, applied(first)).problems == ()


@pytest.mark.parametrize("optional", [False, True])
def test_a_file_that_was_never_there_is_a_problem_unless_optional(optional: bool) -> None:
    after = plan_of({PATH: ABSENT}, files=[a_file(optional=optional)])

    assert entries(applied(after)) == {}
    assert [problem.reason for problem in after.problems] == (
        [] if optional else ["does not exist on the master, so there is nothing to ship yet"]
    )


@pytest.mark.parametrize("optional", [False, True])
def test_a_file_that_was_never_fit_is_a_problem(optional: bool) -> None:
    for source in (UNUSABLE, UNSETTLED):
        after = plan_of({PATH: source}, files=[a_file(optional=optional)])

        assert entries(applied(after)) == {}
        assert [problem.reason for problem in after.problems] == [source.reason]


@pytest.mark.parametrize("purge", [False, True])
def test_a_file_taken_off_the_list_is_withdrawn(purge: bool) -> None:
    config = operations.remove_file(a_config(files=[a_file()]), FileRemove(path=PATH, purge=purge), now=1.0)

    after = plan_of({}, published(), config=config)

    withdrawal = Withdrawal(path=PATH, generation=7, purge=purge)
    assert after.manifests == (a_manifest(generation=7, withdrawn=[withdrawal]),)
    assert [(event.path, event.change, event.entry) for event in after.events] == [(PATH, "removed", None)]
    assert plan_of({}, applied(after, published()), config=config, generation=8).manifests == ()


def test_a_withdrawal_ends_when_the_file_comes_back() -> None:
    gone = applied(plan_of({}, published(), files=[]), published())

    after = plan_of({PATH: a_source()}, gone, generation=8)

    assert after.manifests == (a_manifest(an_entry(generation=8), generation=8),)


def test_a_scope_without_a_manifest_withdraws_what_the_config_remembers() -> None:
    """The history was lost; a node that was off must still remove, and purge, what was taken off the list."""
    remembered = [WithdrawnFile(path=PATH, scope=ALL, purge=True), WithdrawnFile(path=OTHER, scope=VM_CAPABLE)]

    manifests = applied(plan_of({}, config=a_config(withdrawn=remembered)))

    assert manifests[ALL].withdrawn == (Withdrawal(path=PATH, generation=7, purge=True),)
    assert manifests[VM_CAPABLE].withdrawn == (Withdrawal(path=OTHER, generation=7),)


def test_only_the_newest_withdrawals_are_kept() -> None:
    paths = [ManagedPath(f"/etc/{number:04}") for number in range(WITHDRAWALS_MAX + 2)]
    old = [Withdrawal(path=path, generation=index) for index, path in enumerate(paths[:-1])]
    before = {ALL: a_manifest(an_entry(paths[-1]), generation=3, withdrawn=old[1:])}

    after = plan_of({}, {**applied(plan_of({}, files=[])), **before}, files=[], generation=5000)

    assert [item.path for item in after.manifests[0].withdrawn] == paths[2:]


@pytest.mark.parametrize(("origin", "target"), list(itertools.permutations([ALL, MASTER_CANDIDATES, VM_CAPABLE], 2)))
@pytest.mark.parametrize("content", ["content", "new"])
def test_a_file_that_moves_is_published_where_it_goes_before_it_is_withdrawn(
    origin: ScopeName, target: ScopeName, content: str
) -> None:
    """A node in both scopes never hears that it is on neither."""
    config = a_config(files=[a_file(scope=origin)])
    before = applied(plan_of({PATH: a_source()}, config=config, generation=3))
    moved = operations.modify_file(config, FileModify(path=PATH, scope=target), now=1.0)

    after = plan_of({PATH: a_source(content)}, before, config=moved)

    assert [manifest.scope for manifest in after.manifests] == [target, origin]
    assert [item.path for item in after.manifests[1].withdrawn] == [PATH]
    assert not after.manifests[1].withdrawn[0].purge
    changed_in = 3 if content == "content" else 7
    entry = an_entry(content=content, generation=changed_in)
    assert after.manifests[0].files == (replace(entry, secret=target == MASTER_CANDIDATES),)
    assert [(event.scope, event.change) for event in after.events if event.scope == target] == [(target, "changed")]


def test_a_new_scope_gets_a_manifest_and_the_others_stay() -> None:
    config = operations.add_group(a_config(files=[a_file()]), GroupAdd(name="rack"), uuid="g", now=1.0)

    after = plan_of({PATH: a_source()}, published(), config=config)

    assert after.manifests == (a_manifest(scope=ScopeName("group-rack"), generation=7),)


def test_a_scope_that_is_gone_is_not_published_and_does_no_harm() -> None:
    before = {**published(), ScopeName("group-gone"): a_manifest(scope=ScopeName("group-gone"), generation=2)}

    assert plan_of({PATH: a_source()}, before).manifests == ()


def test_a_new_term_publishes_everything_again() -> None:
    """What a deposed master still publishes must lose against it (design, D2)."""
    after = plan_of({PATH: a_source()}, published(), config=a_config(files=[a_file()], epoch=2))

    assert [manifest.version for manifest in after.manifests] == [(2, 7)] * 4
    assert after.events == ()


def test_thousands_of_files_are_planned_in_well_under_a_second() -> None:
    """Not a measurement: a guard against a square in the number of files."""
    paths = [ManagedPath(f"/etc/many/{number:05}") for number in range(5000)]
    files = [a_file(path) for path in paths]
    sources = {path: a_source(path) for path in paths}
    before = applied(plan_of(sources, files=files))

    started = time.process_time()
    after = plan_of({**sources, paths[4321]: a_source("new")}, before, files=files, generation=8)
    took_s = time.process_time() - started

    assert [event.path for event in after.events] == [paths[4321]]
    assert took_s < 2


PATHS = [PATH, OTHER]
SCOPES = [ALL, MASTER_CANDIDATES, VM_CAPABLE, ScopeName("group-default")]
CONTENTS = [a_source("one"), a_source("two"), a_source("one", mode=0o600), EMPTY, ABSENT, UNSETTLED, UNUSABLE]

edits = st.tuples(st.just("edit"), st.sampled_from(PATHS), st.sampled_from(CONTENTS))
listings = st.tuples(st.just("list"), st.sampled_from(PATHS), st.sampled_from([None, *SCOPES]))
allowances = st.tuples(st.just("allow"), st.sampled_from(PATHS), st.booleans())


@given(st.lists(st.lists(edits | listings | allowances, min_size=1, max_size=3), max_size=8))
@settings(max_examples=150, deadline=None)
def test_a_plan_applied_leaves_nothing_to_plan(history: list[list[tuple[str, ManagedPath, object]]]) -> None:
    """And along any history: what is listed and was ever fit stays published, exactly where it is listed."""
    config, sources, manifests = a_config(), dict.fromkeys(PATHS, ABSENT), Manifests()
    was_fit: set[ManagedPath] = set()
    for generation, steps in enumerate(history, 1):
        for step in steps:
            config = _step(config, sources, step)
        listed = {file.path: file.scope for file in config.cluster.ancillary_files}
        was_fit = {path for path in listed if path in was_fit or sources[path].kind == "ready"}

        publication = plan_of(sources, manifests, config=config, generation=generation)

        before, manifests = manifests, applied(publication, manifests)
        here = entries(manifests)
        assert set(here) == {(listed[path], path) for path in was_fit}
        assert plan_of(sources, manifests, config=config, generation=generation + 1).manifests == ()
        assert plan_of(sources, manifests, config=config, generation=99).problems == publication.problems
        assert all(manifest.generation == generation for manifest in publication.manifests)
        assert all(entry.generation <= manifests[scope].generation for (scope, _), entry in here.items())
        _check_contents(config, sources, publication, here)
        _check_withdrawals(before, manifests)
        was_fit &= listed.keys()


def _step(config: ClusterConfig, sources: dict[ManagedPath, Source], step: tuple[str, ManagedPath, object]):
    verb, path, value = step
    is_listed = any(file.path == path for file in config.cluster.ancillary_files)
    match verb, value:
        case "edit", Source():
            sources[path] = value
        case "allow", bool() if is_listed:
            config = operations.modify_file(config, FileModify(path=path, allow_empty=value), now=1.0)
        case "list", None if is_listed:
            config = operations.remove_file(config, FileRemove(path=path), now=1.0)
        case "list", str() if is_listed:
            config = operations.modify_file(config, FileModify(path=path, scope=value), now=1.0)
        case "list", str():
            config = operations.add_file(config, FileAdd(path=path, scope=value), surroundings=SURROUNDINGS, now=1.0)
    return config


def _check_contents(
    config: ClusterConfig,
    sources: Mapping[ManagedPath, Source],
    publication: Publication,
    here: Mapping[tuple[ScopeName, ManagedPath], FileEntry],
) -> None:
    """What is published is what lies on the master, or a problem says that it is not."""
    troubled = {problem.path for problem in publication.problems}
    for file in config.cluster.ancillary_files:
        entry, source = here.get((file.scope, file.path)), sources[file.path]
        is_shipped = (
            entry is not None and source.kind == "ready" and (entry.digest, entry.mode) == (source.digest, source.mode)
        )
        assert is_shipped == (file.path not in troubled)


def _check_withdrawals(before: Manifests, after: Manifests) -> None:
    """A path of a scope is listed or, from the moment that it was, withdrawn: never simply not mentioned."""
    for scope, manifest in before.items():
        mentioned = {entry.path for entry in manifest.files} | {item.path for item in manifest.withdrawn}
        later = {entry.path for entry in after[scope].files}, {item.path for item in after[scope].withdrawn}
        assert mentioned <= later[0] | later[1]
        assert not later[0] & later[1]


def test_a_digest_is_never_made_up() -> None:
    """A source that is not ready carries no digest into an entry."""
    for source in HELD_BACK.values():
        first = plan_of({PATH: source})
        assert all(entry.digest != Digest("") for entry in entries(applied(first)).values())
