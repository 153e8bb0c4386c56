"""What may lie at a path or on the way to it, and what a name may be: refused by name, or written; never followed."""

import asyncio
import ctypes
import os
import socket
import threading
import unicodedata
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from node_agent.core.reconcile import ABSENT, Found
from node_agent.files import Fetch, NodeFiles
from protocol import durable
from protocol.messages import FileEntry
from protocol.names import ManagedPath, ScopeName, managed_path
from tests.support.node_tree import (
    NodeTree,
    a_plan,
    a_removal,
    digest_of,
    names_in,
    no_descriptor_leaks,
    paths,
    picture,
)

X, Y = paths("/etc/x", "/etc/y")


@pytest.fixture
def tree(tmp_path: Path) -> NodeTree:
    return NodeTree(tmp_path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)
        server.bind(path.name)
        os.chdir(here)


STRANGE: dict[str, Callable[[Path], object]] = {
    "a symbolic link": lambda path: path.symlink_to("stranger"),
    "a dangling symbolic link": lambda path: path.symlink_to("nowhere"),
    "a directory": Path.mkdir,
    "a FIFO": os.mkfifo,
    "a socket": a_socket,
}


@pytest.mark.parametrize("kind", STRANGE)
async def test_a_target_that_is_no_regular_file_is_refused_by_name(tree: NodeTree, kind: str) -> None:
    tree.put("/etc/stranger", b"stranger")
    STRANGE[kind](tree.real(X))
    before = picture(tree.root)
    reason = f"/etc/x is {kind.replace('dangling ', '')}"

    assert tree.files.observe([X]) == {X: Found("blocked", reason=reason)}
    for action in (
        tree.write(X),
        tree.write(X, keep_backup=True),
        a_removal(X),
        a_removal(X, keep_backup=True, purge=True),
    ):
        assert (await tree.perform(action)).errors == {X: reason}

    assert picture(tree.root) == before


async def test_a_device_is_refused_by_name(tmp_path: Path) -> None:
    files = NodeFiles(Path("/"), allowed=["/dev"], protected=[], backups=tmp_path)
    null, tree = ManagedPath("/dev/null"), NodeTree(tmp_path)

    outcome = await files.perform(a_plan(tree.write(null)), tree.fetch)

    assert files.observe([null]) == {null: Found("blocked", reason="/dev/null is a device")}
    assert outcome.errors == {null: "/dev/null is a device"}
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("kind", ["a symbolic link", "a regular file", "a FIFO"])
async def test_whatever_is_on_the_way_is_refused_by_name(tree: NodeTree, depth: int, kind: str) -> None:
    """At every component, and although the link leads to just the place where the file should be."""
    parts = ["etc", "d", "e"]
    real = tree.real("/" + "/".join(parts[:depth]))
    real.parent.mkdir(parents=True, exist_ok=True)
    tree.real("/elsewhere/d/e").mkdir(parents=True)
    if real.exists():
        real.rmdir()
    match kind:
        case "a symbolic link":
            real.symlink_to(tree.real("/" + "/".join(["elsewhere", *parts[1:depth]])))
        case "a regular file":
            real.write_bytes(b"")
        case "a FIFO":
            os.mkfifo(real)
    path = ManagedPath("/etc/d/e/x")
    tree.put("/elsewhere/d/e/x", b"not to be seen")
    before = picture(tree.root)
    reason = f"/{'/'.join(parts[:depth])} on the way to /etc/d/e/x is {kind}"

    assert tree.files.observe([path]) == {path: Found("blocked", reason=reason)}
    for action in (tree.write(path), a_removal(path)):
        assert (await tree.perform(action)).errors == {path: reason}
    assert tree.files.sweep([path]) == 0

    assert picture(tree.root) == before


async def test_a_root_reached_by_a_link_is_the_administrator_s_choice(tmp_path: Path) -> None:
    tree = NodeTree(tmp_path / "disk")
    (tmp_path / "link").symlink_to("disk/root")
    files = NodeFiles(tmp_path / "link", allowed=["/etc"], protected=[], backups=tmp_path / "backups")

    outcome = await files.perform(a_plan(tree.write(X)), tree.fetch)

    assert (outcome.errors, tree.real(X).read_bytes()) == ({}, b"new\n")


def swapping(tree: NodeTree, swap: Callable[[], object]) -> Fetch:
    """A fetch during which somebody changes the tree: after the checks, before anything is replaced.

    Within a large content that is when its temporary file is there.
    """

    async def fetch(scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        content = tree.contents[entry.digest]
        yield content[:-1]
        swap()
        yield content[-1:]

    return fetch


@pytest.mark.parametrize("kind", STRANGE)
async def test_a_target_swapped_meanwhile_is_refused_by_name(tree: NodeTree, kind: str) -> None:
    tree.put("/etc/stranger", b"stranger")
    real = tree.put("/etc/x", b"old")

    def swap() -> None:
        real.unlink()
        STRANGE[kind](real)

    outcome = await tree.files.perform(a_plan(tree.write(X), tree.write(Y, b"")), swapping(tree, swap))

    assert outcome.errors == {X: f"/etc/x is {kind.replace('dangling ', '')}"}
    assert set(outcome.found) == {Y}
    assert tree.real("/etc/stranger").read_bytes() == b"stranger"
    assert names_in(tree.root / "etc") == ["stranger", "x", "y"]


@pytest.mark.parametrize("instead", ["link", "directory", "nothing"])
async def test_a_directory_swapped_meanwhile_is_noticed(tree: NodeTree, instead: str) -> None:
    """Nothing is written through the link or into the moved directory, and nothing is called done."""
    path = ManagedPath("/etc/d/x")
    tree.put(path, b"old")
    tree.put("/elsewhere/x", b"stranger")
    directory, moved = tree.real("/etc/d"), tree.real("/moved")

    def swap() -> None:
        assert len(tree.leftovers()) == 2
        directory.rename(moved)
        if instead == "link":
            directory.symlink_to("../elsewhere")
        elif instead == "directory":
            directory.mkdir()

    large = tree.write(path, b"new" * (1 << 20), keep_backup=True)
    with no_descriptor_leaks():
        outcome = await tree.files.perform(a_plan(large, tree.write(X, b"")), swapping(tree, swap))

    expected = {
        "link": "/etc/d on the way to /etc/d/x is a symbolic link",
        "directory": "the directory of /etc/d/x was replaced by another one meanwhile",
        "nothing": "the directory of /etc/d/x was removed meanwhile",
    }
    assert outcome.errors == {path: expected[instead]}
    assert set(outcome.found) == {X}
    assert (moved / "x").read_bytes() == b"old"
    assert tree.real("/elsewhere/x").read_bytes() == b"stranger"
    assert (tree.leftovers(), tree.backup_contents()) == ([], [])


def exchange(one: Path, other: Path) -> None:
    """Let two names change places, in one step."""
    libc = ctypes.CDLL(None, use_errno=True)
    here, rename_exchange = -100, 2
    if libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), rename_exchange) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_a_directory_swapped_all_the_time_leads_nowhere_else(tree: NodeTree) -> None:
    path = ManagedPath("/etc/d/x")
    tree.put(path)
    outside = tree.root.parent / "outside"
    outside.mkdir()
    directory, link = tree.real("/etc/d"), tree.real("/etc/link")
    link.symlink_to(outside)
    try:
        exchange(directory, link)
        exchange(directory, link)
    except OSError as error:
        pytest.skip(f"names cannot be exchanged here: {error}")
    over = threading.Event()
    swaps = 0

    def swap_often() -> None:
        nonlocal swaps
        while not over.is_set():
            exchange(directory, link)
            swaps += 1

    swapper = threading.Thread(target=swap_often)
    swapper.start()
    try:
        done = sum(
            bool(asyncio.run(tree.perform(tree.write(path, b"%d" % number), a_removal("/etc/d/y"))).found)
            for number in range(300)
        )
    finally:
        over.set()
        swapper.join()

    assert names_in(outside) == []
    assert swaps > 300
    assert done > 0
    assert tree.leftovers() == []


async def test_a_hard_link_is_never_written_through(tree: NodeTree) -> None:
    protected = tree.put("/usr/protected", b"protected", mode=0o600)
    tree.real(X).hardlink_to(protected)

    outcome = await tree.perform(tree.write(X, b"new", mode=0o666))

    assert outcome.errors == {}
    assert (protected.read_bytes(), protected.stat().st_mode & 0o7777, protected.stat().st_nlink) == (
        b"protected",
        0o600,
        1,
    )


async def test_a_removed_hard_link_leaves_the_other_name(tree: NodeTree) -> None:
    protected = tree.put("/usr/protected", b"protected")
    tree.real(X).hardlink_to(protected)

    await tree.perform(a_removal(X))

    assert protected.read_bytes() == b"protected"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/usr/bin/x", "/usr/bin/x is outside the paths this node allows: /etc, /opt"),
        ("/etcetera/x", "/etcetera/x is outside the paths this node allows: /etc, /opt"),
        ("/etc", "/etc is outside the paths this node allows: /etc, /opt"),
        ("/x", "/x is outside the paths this node allows: /etc, /opt"),
        ("/etc/gnt-mesh", "/etc/gnt-mesh is protected on this node, as all of /etc/gnt-mesh"),
        ("/etc/gnt-mesh/agent.toml", "/etc/gnt-mesh/agent.toml is protected on this node, as all of /etc/gnt-mesh"),
    ],
)
async def test_only_what_this_node_allows_is_looked_at_or_touched(tree: NodeTree, path: str, reason: str) -> None:
    if path != "/etc":
        tree.put(path, b"mine")
    refused = ManagedPath(path)
    before = picture(tree.root)

    assert tree.files.observe([refused]) == {refused: Found("blocked", reason=reason)}
    for action in (tree.write(path), a_removal(path), a_removal(path, purge=True)):
        outcome = await tree.perform(action)
        assert (outcome.found, outcome.errors) == ({}, {refused: reason})

    assert picture(tree.root) == before


async def test_a_name_that_only_begins_like_a_protected_one_is_allowed(tree: NodeTree) -> None:
    outcome = await tree.perform(tree.write("/etc/gnt-mesh.conf"), tree.write("/etc/gnt-mesh2/x"))

    assert outcome.errors == {}


async def test_a_prefix_may_end_with_a_slash_or_be_all(tmp_path: Path) -> None:
    tree = NodeTree(tmp_path)
    for allowed in ("/etc/", "/"):
        files = NodeFiles(tree.root, allowed=[allowed], protected=["/opt/"], backups=tmp_path / "b")
        assert files.observe([X]) == {X: ABSENT}
        assert files.observe(paths("/opt/x", "/opt"))[ManagedPath("/opt/x")].kind == "blocked"
        assert files.observe(paths("/opt"))[ManagedPath("/opt")].kind == "blocked"


CLIMBING = (
    "/etc/../usr/x",
    "/etc/d/../../usr/x",
    "/etc/./x",
    "/etc//x",
    "/etc/x/",
    "etc/x",
    "/etc/new\nline",
    "/etc/\0",
)


@pytest.mark.parametrize("path", CLIMBING)
async def test_a_path_that_is_none_is_refused_although_it_came_as_one(tree: NodeTree, path: str) -> None:
    """The receiver checks again what the sender checked."""
    with pytest.raises(ValueError, match="path"):
        managed_path(path)
    tree.put("/usr/x", b"mine")
    unchecked = ManagedPath(path)
    before = picture(tree.root)

    found = tree.files.observe([unchecked])[unchecked]
    outcome = await tree.perform(a_removal(path))

    assert found.kind == "blocked"
    assert outcome.errors == {unchecked: found.reason}
    assert picture(tree.root) == before


async def test_unicode_forms_are_different_files(tree: NodeTree) -> None:
    composed = ManagedPath("/etc/" + unicodedata.normalize("NFC", "ünïcode"))
    decomposed = ManagedPath("/etc/" + unicodedata.normalize("NFD", "ünïcode"))
    assert composed != decomposed

    outcome = await tree.perform(tree.write(composed, b"one"), tree.write(decomposed, b"two"))

    assert outcome.errors == {}
    assert (tree.real(composed).read_bytes(), tree.real(decomposed).read_bytes()) == (b"one", b"two")
    await tree.perform(a_removal(composed, keep_backup=True), a_removal(decomposed, keep_backup=True))
    assert tree.files.purge_backups(composed) == 1
    assert tree.backup_contents() == [b"two"]


ODD_NAMES = (
    "with space",
    " leading and trailing ",
    "...",
    ".hidden",
    "trailing.",
    "-rf",
    "*",
    "back\\slash",
    "a=2Fb",
    "%s{0}$HOME`id`",
    "🙂",
    "n" * 255,
    "ä" * 127,
    ".gnt-mesh.conf",
)


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_an_odd_name_is_a_name_like_any_other(tree: NodeTree, name: str) -> None:
    """Written, seen, replaced with a backup, removed with a backup; as a file's name and as a directory's."""
    odd = paths(f"/etc/{name}", f"/opt/{name}/{name}")

    assert (await tree.perform(*(tree.write(path, b"one") for path in odd))).errors == {}
    assert (await tree.perform(*(tree.write(path, b"two", keep_backup=True) for path in odd))).errors == {}
    assert {found.digest for found in tree.files.observe(odd).values()} == {digest_of(b"two")}
    assert [tree.files.managed_path_of(tree.real(path)) for path in odd] == odd
    assert (await tree.perform(*(a_removal(path, keep_backup=True) for path in odd))).errors == {}

    assert tree.files.observe(odd) == dict.fromkeys(odd, ABSENT)
    assert sorted(tree.backup_contents()) == [b"one", b"one", b"two", b"two"]
    assert [tree.files.purge_backups(path) for path in odd] == [2, 2]


async def test_the_longest_and_deepest_paths_are_written(tree: NodeTree) -> None:
    """Deeper, with the root's own path, than the system takes in one call: each step is taken by itself."""
    deepest = "/etc/" + "/".join("d" * 509)
    longest = "/opt/" + "/".join(["x" * 253] * 4)
    assert len(longest) <= 1024

    outcome = await tree.perform(tree.write(deepest), tree.write(longest))

    assert outcome.errors == {}
    assert tree.files.observe(outcome.found) == outcome.found


async def test_a_path_that_a_sweep_would_take_is_refused(tree: NodeTree) -> None:
    path = ManagedPath(f"/etc/{durable.temporary_name()}")

    outcome = await tree.perform(tree.write(path))

    assert outcome.errors == {path: f"{path} is a name of the mesh's own temporary files"}
    assert tree.files.managed_path_of(tree.real(path)) is None
