"""master/core/verify.py: what is on the disks, held against what is published."""

import itertools
from collections.abc import Iterable

import pytest

from master.core.cluster import AncillaryFile, ClusterConfig
from master.core.verify import PAGE_CONTENT_BYTES_MAX, UNSAID, Verification
from protocol import codec
from protocol.messages import FileEntry, FileError
from protocol.names import ALL, MASTER_CANDIDATES, ManagedPath, NodeName, ScopeName, group_scope
from protocol.verify_messages import (
    ECLUSTERFILECHECK,
    ENODEFILECHECK,
    NODES_NAMED_MAX,
    PATHS_MAX,
    FileSeen,
    FilesSeen,
    Finding,
    LookAtFiles,
)
from tests.support.values import (
    OTHER,
    PATH,
    a_config,
    a_file,
    a_manifest,
    a_node,
    an_entry,
    digest_of,
)

MASTER = NodeName("node1")
NODE2, NODE3, NODE10 = NodeName("node2"), NodeName("node3"), NodeName("node10")
CONFIG = a_config(a_node("node10"), a_node("node2", "C"), a_node("node3"))
"""node1 is the master, node2 a candidate, node3 and node10 are regular."""
EVERYWHERE = (MASTER, NODE2, NODE3, NODE10)

ABSENT = ""


def seen(content: str = "content", path: str = PATH, **more: object) -> FileSeen:
    """Return what a node says of a file with this content, or of none."""
    if not content:
        return FileSeen(path=ManagedPath(path), what="absent")
    facts = {"size_bytes": len(content), "mode": 0o644, "owner": "root", "group": "root"} | more
    return FileSeen(path=ManagedPath(path), what="file", digest=digest_of(content), **facts)  # type: ignore[arg-type]


def barred(reason: str, path: str = PATH) -> FileSeen:
    return FileSeen(path=ManagedPath(path), what="blocked", reason=reason)


def verified(
    answers: dict[NodeName, FileSeen | str | None],
    *,
    entry: FileEntry | None = None,
    file: AncillaryFile | None = None,
    scope: ScopeName = ALL,
    config: ClusterConfig = CONFIG,
    published: bool = True,
    problems: Iterable[FileError] = (),
) -> list[Finding]:
    """Return the findings after these answers for one file: a text is why a node did not answer."""
    verification = Verification()
    manifest = a_manifest(entry or an_entry(), scope=scope) if published else a_manifest(scope=scope)
    paths = verification.expect(config, [file or a_file(scope=scope)], {scope: manifest})
    assert paths == {PATH}
    for node in verification.nodes(config):
        answer = answers.get(node.name, seen())
        if isinstance(answer, str):
            verification.note_silent(node.name, answer)
        else:
            verification.take(node.name, [PATH], [answer] if answer else [])
    return list(verification.findings(MASTER, problems))


def test_all_as_published_is_no_finding() -> None:
    assert verified({}) == []


def test_a_missing_file_names_its_nodes_in_natural_order() -> None:
    (found,) = verified({NODE2: seen(ABSENT), NODE10: seen(ABSENT)})

    assert (found.problem, found.code, found.node, found.path) == ("missing", ECLUSTERFILECHECK, "", PATH)
    assert (found.nodes, found.nodes_count) == ((NODE2, NODE10), 2)


def test_a_different_file_names_variants_and_nodes() -> None:
    (found,) = verified({NODE2: seen("by hand"), NODE3: seen("older"), NODE10: seen("by hand")})

    assert (found.problem, found.code, found.variants_count, found.nodes_count) == (
        "different",
        ECLUSTERFILECHECK,
        3,
        4,
    )
    assert [(one.what, one.nodes, one.is_published) for one in found.variants] == [
        (digest_of("content"), (MASTER,), True),
        (digest_of("by hand"), (NODE2, NODE10), False),
        (digest_of("older"), (NODE3,), False),
    ]


def test_the_same_wrong_content_everywhere_is_found() -> None:
    """Ganeti, which compares nodes with each other alone, would call it right."""
    (found,) = verified(dict.fromkeys(EVERYWHERE, seen("by hand")))

    assert (found.problem, found.variants_count) == ("different", 1)
    assert not found.variants[0].is_published


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mode": 0o600}, "root:root 0600"),
        ({"owner": "daemon"}, "daemon:root 0644"),
        ({"group": "12345"}, "root:12345 0644"),
    ],
)
def test_owner_group_and_mode_are_compared(wrong: dict[str, object], said: str) -> None:
    (found,) = verified({NODE3: seen(**wrong)})

    assert (found.problem, found.code, found.wanted) == ("attributes", ECLUSTERFILECHECK, "root:root 0644")
    assert [(one.what, one.nodes) for one in found.variants] == [(said, (NODE3,))]


@pytest.mark.parametrize(("uid", "is_right"), [(54321, True), (54322, False)])
def test_a_number_that_has_a_name_on_a_node_is_the_number(uid: int, is_right: bool) -> None:
    """The master publishes a number where it has no name for it; a node may have one."""
    entry = an_entry(owner="54321", group="12345")
    here = {"owner": "alice", "group": "users", "uid": uid, "gid": 12345}
    as_numbers = {"owner": "54321", "group": "12345", "uid": 54321, "gid": 12345}

    findings = verified({node: seen(**(here if node == NODE3 else as_numbers)) for node in EVERYWHERE}, entry=entry)

    assert [found.problem for found in findings] == ([] if is_right else ["attributes"])
    assert is_right or findings[0].variants[0].what == "alice:12345 0644"


def test_a_wrong_mode_shows_also_where_the_content_is_wrong_too() -> None:
    assert [found.problem for found in verified({NODE3: seen("by hand", mode=0o600)})] == ["different", "attributes"]


@pytest.mark.parametrize("optional", [False, True])
def test_a_file_outside_its_scope_is_found_also_if_it_is_optional(optional: bool) -> None:
    """Ganeti never reports an optional one."""
    only = {NODE3: seen(), NODE10: seen(ABSENT)}

    (found,) = verified(only, scope=MASTER_CANDIDATES, file=a_file(scope=MASTER_CANDIDATES, optional=optional))

    assert (found.problem, found.code, found.nodes) == ("unexpected", ECLUSTERFILECHECK, (NODE3,))


def test_a_source_on_the_master_is_never_outside_its_scope() -> None:
    """The sources of every scope are there, also of a node group that the master's node is not in."""
    config = a_config(a_node("node3", group="rack"), groups=("default", "rack"))
    rack = group_scope("rack")

    assert verified({}, scope=rack, config=config) == []
    (found,) = verified({MASTER: seen("by hand")}, scope=rack, config=config)
    assert found.problem == "different"


def test_another_content_outside_the_scope_counts_among_the_variants() -> None:
    """As Ganeti has it. Its owner and mode do not: there is nothing that they should be."""
    answers = {NODE3: seen("by hand", mode=0o600), NODE10: seen(ABSENT)}

    assert [found.problem for found in verified(answers, scope=MASTER_CANDIDATES)] == ["unexpected", "different"]


def test_a_silent_node_is_one_finding_and_hides_no_other() -> None:
    findings = verified({NODE2: "no answer within 30 s", NODE3: seen(ABSENT)})

    assert [(found.problem, found.code, found.node, found.reason) for found in findings] == [
        ("silent", ENODEFILECHECK, NODE2, "no answer within 30 s"),
        ("missing", ECLUSTERFILECHECK, "", ""),
    ]
    assert findings[1].nodes == (NODE3,)


def test_a_node_that_falls_silent_half_way_is_not_believed_in_halves() -> None:
    verification = Verification()
    verification.expect(CONFIG, [], {ALL: a_manifest(an_entry(PATH), an_entry(OTHER))})
    for node in EVERYWHERE:
        verification.take(node, [PATH], [seen("by hand" if node == NODE2 else "content")])
        if node != NODE2:
            verification.take(node, [OTHER], [seen(path=OTHER)])
    verification.note_silent(NODE2, "its agent is not connected")

    assert [found.problem for found in verification.findings(MASTER, [])] == ["silent"]


def test_what_a_node_cannot_or_will_not_read_is_said_in_its_words() -> None:
    (found,) = verified({NODE3: barred("/etc/ganeti/x is a symbolic link")})

    assert (found.problem, found.nodes, found.reason) == ("unreadable", (NODE3,), "/etc/ganeti/x is a symbolic link")


def test_what_a_node_outside_the_scope_will_not_read_is_no_finding() -> None:
    """Nothing of the mesh can be there."""
    barred_there = {NODE3: barred("outside the paths this node allows"), NODE10: seen(ABSENT)}

    assert verified(barred_there, scope=MASTER_CANDIDATES) == []


def test_what_an_answer_leaves_out_is_found() -> None:
    (found,) = verified({NODE3: None})

    assert (found.problem, found.nodes, found.reason) == ("unreadable", (NODE3,), UNSAID)


def test_what_a_node_says_unasked_is_ignored() -> None:
    verification = Verification()
    verification.expect(CONFIG, [], {ALL: a_manifest(an_entry())})
    for node in EVERYWHERE:
        verification.take(node, [PATH], [seen(), seen("by hand", path=OTHER)])

    assert verification.findings(MASTER, []) == ()


@pytest.mark.parametrize(
    ("holders", "problems"), [((), []), (EVERYWHERE, []), ((NODE2,), ["incomplete"]), ((MASTER, NODE3), ["incomplete"])]
)
def test_an_optional_file_that_is_not_published_must_be_on_all_nodes_or_on_none(
    holders: tuple[NodeName, ...], problems: list[str]
) -> None:
    answers = {node: seen("own" if node in holders else ABSENT) for node in EVERYWHERE}

    findings = verified(answers, file=a_file(optional=True), published=False)

    assert [found.problem for found in findings] == problems
    assert all(set(found.nodes) == set(EVERYWHERE) - set(holders) for found in findings)


def test_an_optional_file_that_is_published_must_be_everywhere() -> None:
    missing_everywhere = dict.fromkeys(EVERYWHERE, seen(ABSENT))

    assert [found.problem for found in verified(missing_everywhere, file=a_file(optional=True))] == ["missing"]


def test_a_source_that_is_held_back_is_found_on_the_master() -> None:
    (found,) = verified({}, problems=[FileError(path=PATH, scope=ALL, reason="became empty on the master")])

    assert (found.problem, found.code, found.node, found.path) == ("source", ENODEFILECHECK, MASTER, PATH)
    assert found.reason == "became empty on the master"


def test_offline_nodes_are_not_asked_and_drained_ones_are() -> None:
    config = a_config(a_node("node2", "O"), a_node("node3", "D"))

    assert [node.name for node in Verification().nodes(config)] == [MASTER, NODE3]
    assert verified({}, config=config) == []


def test_of_a_group_only_its_nodes_are_asked_and_compared() -> None:
    config = a_config(a_node("node2", group="rack2"), a_node("node3", group="rack2"), groups=("default", "rack2"))
    verification = Verification("rack2")
    verification.expect(config, [], {ALL: a_manifest(an_entry())})
    assert [node.name for node in verification.nodes(config)] == [NODE2, NODE3]

    for node, content in ((NODE2, "content"), (NODE3, ABSENT)):
        verification.take(node, [PATH], [seen(content)])

    assert [(found.problem, found.nodes) for found in verification.findings(MASTER, [])] == [("missing", (NODE3,))]


# ---- what changes meanwhile


def test_only_what_has_changed_meanwhile_is_asked_for_again() -> None:
    verification = Verification()
    files = [a_file(PATH), a_file(OTHER)]
    assert verification.expect(CONFIG, files, {ALL: a_manifest(an_entry(PATH), an_entry(OTHER))}) == {PATH, OTHER}
    for node in EVERYWHERE:
        verification.take(node, [PATH, OTHER], [seen("new"), seen(path=OTHER)])

    newer = {ALL: a_manifest(an_entry(PATH, "new", generation=2), an_entry(OTHER), generation=2)}
    assert verification.expect(CONFIG, files, newer) == {PATH}
    for node in EVERYWHERE:
        verification.take(node, [PATH], [seen("new")])

    assert verification.expect(CONFIG, files, newer) == frozenset()
    assert verification.findings(MASTER, []) == ()


def test_a_file_that_is_withdrawn_meanwhile_is_forgotten() -> None:
    verification = Verification()
    verification.expect(CONFIG, [], {ALL: a_manifest(an_entry(PATH))})
    verification.take(NODE2, [PATH], [seen("by hand")])

    assert verification.expect(CONFIG, [], {ALL: a_manifest()}) == frozenset()
    assert verification.findings(MASTER, []) == ()


def test_a_change_of_role_asks_for_everything_again() -> None:
    """What a node held before its promotion says nothing."""
    verification = Verification()
    manifests = {ALL: a_manifest(an_entry(PATH)), MASTER_CANDIDATES: a_manifest(an_entry(OTHER))}
    promoted = a_config(a_node("node10"), a_node("node2", "C"), a_node("node3", "C"))
    verification.expect(CONFIG, [], manifests)

    assert verification.expect(promoted, [], manifests) == {PATH, OTHER}


# ---- limits


def test_every_page_and_its_longest_answer_fit_into_one_message() -> None:
    long = [ManagedPath("/" + "/".join([f"{number:04}" + "ü" * 120] * 4) + "/" + "x" * 30) for number in range(700)]
    assert max(len(path.encode()) for path in long) > 1000
    verification = Verification()
    paths = verification.expect(CONFIG, [], {ALL: a_manifest(*(an_entry(path) for path in long))})

    pages = verification.pages(paths)

    assert sorted(itertools.chain(*pages)) == sorted(long)
    assert [len(page) for page in pages] == [PATHS_MAX, PATHS_MAX, 700 - 2 * PATHS_MAX]
    for page in pages:
        assert len(codec.encode(LookAtFiles(paths=page))) <= codec.MESSAGE_BYTES_MAX
        answer = tuple(
            FileSeen(path=path, what="blocked", digest=digest_of("x"), owner="o" * 64, group="g" * 64, reason="ü" * 400)
            for path in page
        )
        assert len(codec.encode(FilesSeen(node=NODE2, files=answer))) <= codec.MESSAGE_BYTES_MAX


def test_a_page_is_no_more_than_a_node_reads_in_time() -> None:
    half = PAGE_CONTENT_BYTES_MAX // 2
    sizes = {"/a": half, "/b": half, "/c": 1, "/d": 3 * half, "/e": 0}
    entries = [
        FileEntry(**{**_fields(an_entry(path)), "size_bytes": size})  # type: ignore[arg-type]
        for path, size in sizes.items()
    ]
    verification = Verification()

    pages = verification.pages(verification.expect(CONFIG, [], {ALL: a_manifest(*entries)}))

    assert pages == [("/a", "/b"), ("/c",), ("/d",), ("/e",)]


def test_without_a_file_every_node_is_still_heard() -> None:
    assert Verification().pages([]) == [()]


def test_the_largest_finding_of_a_large_fleet_fits_into_half_a_message() -> None:
    names = [NodeName(f"node{number}." + "x" * 40 + ".example.com") for number in range(6000)]
    config = a_config(*(a_node(name) for name in names))
    verification = Verification()
    verification.expect(config, [], {ALL: a_manifest(an_entry())})
    for name in names:
        verification.take(name, [PATH], [seen(name, owner=name[:20])])
    verification.take(MASTER, [PATH], [seen()])

    different, attributes = verification.findings(MASTER, [])

    for found in (different, attributes):
        assert len(codec.encode(found)) <= codec.MESSAGE_BYTES_MAX // 2
        assert sum(len(one.nodes) for one in found.variants) == NODES_NAMED_MAX
    assert (different.variants_count, different.nodes_count) == (6001, 6001)


def _fields(entry: FileEntry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in entry.__slots__}


# ---- every small case, against a brute force of the rules

CONTENTS = (ABSENT, "content", "by hand")


@pytest.mark.parametrize("scope", [ALL, MASTER_CANDIDATES])
@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("optional", [True, False])
def test_every_small_case_is_as_the_rules_say(scope: ScopeName, published: bool, optional: bool) -> None:
    members = set(EVERYWHERE) if scope == ALL else {MASTER, NODE2}
    for contents in itertools.product((*CONTENTS, None), repeat=len(EVERYWHERE)):
        has = dict(zip(EVERYWHERE, contents, strict=True))
        answers = {node: "silent" if content is None else seen(content) for node, content in has.items()}
        heard = {node for node in has if has[node] is not None}
        holders = {node for node in heard if has[node]}
        missing = (members & heard) - holders
        expected = {("silent", node) for node in has if node not in heard}
        if missing and published:
            expected.add(("missing", *sorted(missing)))
        if missing and not published and optional and members & holders:
            expected.add(("incomplete", *sorted(missing)))
        if holders - members:
            expected.add(("unexpected", *sorted(holders - members)))
        kinds = {has[node] for node in holders}
        if len(kinds) > 1 or (published and any(has[node] == "by hand" for node in members & holders)):
            expected.add(("different", *sorted(holders)))

        findings = verified(answers, scope=scope, published=published, file=a_file(scope=scope, optional=optional))

        told = {(found.problem, *sorted(_nodes(found))) for found in findings}
        assert told == expected, contents


def _nodes(found: Finding) -> set[str]:
    if found.node:
        return {found.node}
    return set(found.nodes) | {node for one in found.variants for node in one.nodes}
