"""os_search: what lies in the search path, on a real disk."""

import os
import stat
from pathlib import Path

import pytest

from node_agent.os_search import OsSearch
from protocol.names import NodeName
from protocol.os_messages import OsDefinition, OsReport

SEARCH_PATH = ("/srv/ganeti/os", "/usr/share/ganeti/os")


def write_os(place: Path, name: str = "tiny", *, versions: str = "20\n") -> Path:
    """Write a usable OS definition."""
    directory = place / name
    directory.mkdir(parents=True)
    for script in ("create", "import", "export", "rename", "verify"):
        (directory / script).write_text("#!/bin/sh\n")
        (directory / script).chmod(0o755)
    (directory / "ganeti_api_version").write_text(versions)
    (directory / "parameters.list").write_text("size how large\n")
    (directory / "variants.list").write_text("small\n")
    return directory


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """The node's own directories; those of the machine are not there."""
    return tmp_path / "root/srv/ganeti/os", tmp_path / "root/usr/share/ganeti/os"


@pytest.fixture
def search(tmp_path: Path) -> OsSearch:
    return OsSearch(NodeName("node2"), tmp_path / "root", [f"{tmp_path}/machine", *SEARCH_PATH])


def report(search: OsSearch) -> OsReport:
    """What is in the node's own places: the machine may have OS definitions of its own."""
    found = search.report()
    own = tuple(one for one in found.definitions if not one.directory.startswith(SEARCH_PATH))
    return OsReport(node=found.node, definitions=own, problems=found.problems)


def only(search: OsSearch) -> OsDefinition:
    (definition,) = report(search).definitions
    return definition


def test_a_definition_is_found_below_the_nodes_root(search: OsSearch, places: tuple[Path, Path]) -> None:
    directory = write_os(places[0])

    definition = only(search)

    assert definition.is_valid
    assert (definition.name, definition.directory) == ("tiny", str(directory))
    assert (definition.api_versions, definition.variants) == ((20,), ("small",))
    assert search.definition("tiny") == definition
    assert search.definition("other") is None


def test_the_nodes_own_places_come_before_the_machines(tmp_path: Path, places: tuple[Path, Path]) -> None:
    search = OsSearch(NodeName("node2"), tmp_path / "root", [str(tmp_path / "os")])
    write_os(tmp_path / "os")
    mine = write_os(tmp_path / "root" / str(tmp_path / "os").lstrip("/"))

    assert [one.directory for one in search.report().definitions] == [str(mine), str(tmp_path / "os/tiny")]
    assert search.definition("tiny") == search.report().definitions[0]


def test_the_first_of_one_name_is_used_and_the_others_are_told(search: OsSearch, places: tuple[Path, Path]) -> None:
    first, second = (write_os(place) for place in places)
    (first / "create").unlink()

    assert [one.directory for one in report(search).definitions] == [str(first), str(second)]
    used = search.definition("tiny")
    assert used and used.problems == ("create is missing",)


def test_a_root_that_is_the_machines_is_searched_once(tmp_path: Path) -> None:
    write_os(tmp_path / "os")

    assert len(OsSearch(NodeName("node2"), Path("/"), [str(tmp_path / "os")]).report().definitions) == 1


def test_dotted_names_and_lost_found_are_nobodys(search: OsSearch, places: tuple[Path, Path]) -> None:
    for name in (".git", "lost+found"):
        (places[0] / name).mkdir(parents=True)

    assert report(search).definitions == ()


def test_everything_else_is_judged(search: OsSearch, places: tuple[Path, Path]) -> None:
    places[0].mkdir(parents=True)
    (places[0] / "README").write_text("")
    (places[0] / "gone").symlink_to("/nowhere")

    problems = {one.name: one.problems for one in report(search).definitions}

    assert problems == {"README": ("it is not a directory",), "gone": ("No such file or directory",)}


def test_links_are_followed(search: OsSearch, places: tuple[Path, Path], tmp_path: Path) -> None:
    """debootstrap's variants.list is a link into /etc/ganeti, and whole definitions are shared by links."""
    directory = write_os(tmp_path / "elsewhere")
    (directory / "variants.list").unlink()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/variants.list").write_text("one\n")
    (directory / "variants.list").symlink_to(tmp_path / "etc/variants.list")
    places[0].mkdir(parents=True)
    (places[0] / "tiny").symlink_to(directory)

    assert only(search).variants == ("one",)
    assert {directory.resolve(), (tmp_path / "etc").resolve()} <= search.watch_directories()


@pytest.mark.parametrize(
    ("file", "make", "problem"),
    [
        ("create", lambda path: path.chmod(0o644), "create is not executable by its owner"),
        ("create", lambda path: (path.unlink(), path.mkdir()), "create is not a regular file"),
        ("variants.list", lambda path: path.write_bytes(b"\xff\n"), "variants.list is not valid UTF-8"),
        ("variants.list", lambda path: path.write_bytes(b"\n" * 70_000), "variants.list is larger than 65536 bytes"),
        ("variants.list", lambda path: (path.unlink(), os.mkfifo(path)), "variants.list is not a regular file"),
        ("variants.list", lambda path: (path.unlink(), path.mkdir()), "variants.list cannot be read: Is a directory"),
        (
            "variants.list",
            lambda path: (path.unlink(), path.symlink_to("nowhere")),
            "variants.list is a link to something that does not exist",
        ),
        (
            "variants.list",
            lambda path: (path.unlink(), path.symlink_to("variants.list")),
            "variants.list cannot be read: Too many levels of symbolic links",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_said(
    search: OsSearch, places: tuple[Path, Path], file: str, make: object, problem: str
) -> None:
    make(write_os(places[0]) / file)  # type: ignore[operator]

    assert only(search).problems == (problem,)


def test_a_place_that_is_no_directory_is_a_problem_of_the_search_path(
    search: OsSearch, places: tuple[Path, Path]
) -> None:
    places[0].parent.mkdir(parents=True)
    places[0].write_text("")

    assert report(search).problems == (f"{places[0]}: Not a directory",)


def test_a_name_that_is_not_text_can_be_told(search: OsSearch, places: tuple[Path, Path]) -> None:
    places[0].mkdir(parents=True)
    (places[0] / os.fsdecode(b"a\xff\nb")).mkdir()

    definition = only(search)

    assert definition.name == "a\\xff\\nb"
    assert "OS name" in definition.problems[0]


def test_there_is_an_end_to_what_is_looked_at(search: OsSearch, places: tuple[Path, Path]) -> None:
    for number in range(205):
        (places[0] / f"os{number:03}").mkdir(parents=True)

    found = search.report()

    assert len(found.definitions) == 200
    assert any("OS definitions, of which the first 200 are looked at" in problem for problem in found.problems)


def test_where_a_definition_would_appear_is_watched(
    search: OsSearch, places: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "root/srv").mkdir(parents=True)
    assert tmp_path / "root/srv" in search.watch_directories()

    directory = write_os(places[0])
    assert {places[0], directory} <= search.watch_directories()


def test_who_may_execute_is_not_asked_of_the_reader(search: OsSearch, places: tuple[Path, Path]) -> None:
    """The owner's bit counts, as in Ganeti; the agent may run as somebody else than the tests."""
    directory = write_os(places[0])
    (directory / "create").chmod(stat.S_IRUSR | stat.S_IXUSR)

    assert only(search).is_valid
