"""master/core/globs.py: what a pattern on the list is, and which names it selects."""

import pytest

from master.core.cluster import WithdrawnFile
from master.core.globs import MATCHES_MAX, check_glob, is_glob, select, selected, selects
from protocol.messages import FileEntry
from protocol.names import ALL, ManagedPath
from tests.support.values import a_config, a_file, a_manifest, an_entry

NAMES = ["vif-bridge", "vif-route", "block", ".hidden", "x~", "*", "[a]"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/etc/x", False), ("/etc/*", True), ("/etc/x?", True), ("/etc/[ab]", True), ("/etc/a]b", False)],
)
def test_what_a_pattern_is(path: str, expected: bool) -> None:
    assert is_glob(path) == expected


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("vif-*", {"vif-bridge", "vif-route"}),
        ("*", {"vif-bridge", "vif-route", "block", "x~", "*", "[a]"}),
        (".*", {".hidden"}),
        ("?????", {"block"}),
        ("[bv]*", {"vif-bridge", "vif-route", "block"}),
        ("[!v]*", {"block", "x~", "*", "[a]"}),
        ("[*]", {"*"}),
        ("VIF-*", set()),
    ],
)
def test_it_selects_as_the_shell_does(pattern: str, names: set[str]) -> None:
    found = selected(ManagedPath(f"/etc/xen/{pattern}"), NAMES)

    assert found == {f"/etc/xen/{name}" for name in names}


def test_it_selects_in_its_own_directory_alone() -> None:
    pattern = ManagedPath("/etc/xen/*")

    assert selects(pattern, ManagedPath("/etc/xen/a"))
    assert not selects(pattern, ManagedPath("/etc/xen/a/b"))
    assert not selects(pattern, ManagedPath("/etc/xenon"))


@pytest.mark.parametrize("pattern", ["/etc/*/x", "/*/x", "/et[c]/*"])
def test_wildcards_before_the_last_component_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="wildcards only after the last"):
        check_glob(ManagedPath(pattern))


@pytest.mark.parametrize("pattern", ["/etc/*", "/*", "/etc/x"])
def test_wildcards_in_the_last_component_are_fine(pattern: str) -> None:
    check_glob(ManagedPath(pattern))


# ---- what is selected, with what was published before


PATTERN = ManagedPath("/etc/site/*")


def select_in(
    names: list[str] | None,
    *published: FileEntry,
    withdrawn: list[WithdrawnFile] | None = None,
) -> tuple[set[str], str]:
    config = a_config(files=[a_file(PATTERN)], withdrawn=withdrawn or [])
    there = {} if names is None else {"/etc/site": names}
    unreadable = {"/etc/site": "/etc/site: Permission denied"} if names is None else {}
    matches, faults = select(config, [PATTERN], there, unreadable, [a_manifest(*published)])
    return {path.rpartition("/")[2] for path in matches[PATTERN]}, faults.get(PATTERN, "")


def test_what_vanished_after_it_was_published_stays_selected() -> None:
    assert select_in(["a"], an_entry("/etc/site/b"), an_entry("/etc/other")) == ({"a", "b"}, "")


def test_until_it_is_withdrawn_by_name() -> None:
    withdrawn = [WithdrawnFile(path=ManagedPath("/etc/site/b"), scope=ALL, generation=7)]

    assert select_in(["a"], an_entry("/etc/site/b", generation=7), withdrawn=withdrawn)[0] == {"a"}
    assert select_in(["a", "b"], withdrawn=withdrawn)[0] == {"a", "b"}


def test_a_file_that_came_back_and_vanished_again_stays_again() -> None:
    withdrawn = [WithdrawnFile(path=ManagedPath("/etc/site/b"), scope=ALL, generation=7)]

    assert select_in([], an_entry("/etc/site/b", generation=9), withdrawn=withdrawn)[0] == {"b"}


def test_a_directory_that_cannot_be_read_takes_nothing_away() -> None:
    assert select_in(None, an_entry("/etc/site/b")) == ({"b"}, "/etc/site: Permission denied")


def test_a_pattern_that_selects_too_much_selects_nothing_new() -> None:
    found, fault = select_in([str(number) for number in range(MATCHES_MAX + 1)], an_entry("/etc/site/b"))

    assert found == {"b"}
    assert fault == "selects 5001 files, limit 5000; what it has selected before stays"


def test_a_name_that_cannot_travel_is_passed_over_and_told() -> None:
    """Whoever may write in the directory may call a file so; the rest must go on."""
    pattern, directory = ManagedPath("/etc/xen/*"), "/etc/xen"
    names = ["block", "two\nlines", "no text \udcff", "n" * 256]

    matches, faults = select(a_config(), [pattern], {directory: names}, {}, [])

    assert matches == {pattern: {"/etc/xen/block"}}
    assert faults[pattern].startswith("passes over 3 files whose names cannot travel, such as 'n")
    faults[pattern].encode()
    assert not select(a_config(), [ManagedPath("/etc/xen/b*")], {directory: names}, {}, [])[1]
