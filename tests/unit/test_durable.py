"""protocol/durable.py: what an acknowledgement promises, as far as it shows without a power cut."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import durable
from tests.support.node_tree import names_in, open_descriptors


def test_a_written_file_has_its_content_and_mode(tmp_path: Path) -> None:
    target = tmp_path / "record"

    durable.write_file(target, [b"one ", b"two"], mode=0o640)

    assert target.read_bytes() == b"one two"
    assert target.stat().st_mode & 0o7777 == 0o640
    assert names_in(tmp_path) == ["record"]


def test_an_empty_file_can_be_written(tmp_path: Path) -> None:
    durable.write_file(tmp_path / "record", b"")

    assert (tmp_path / "record").read_bytes() == b""


def test_a_replaced_file_is_a_new_one(tmp_path: Path) -> None:
    """A reader that has the old one open keeps it whole; a hard link to it is not written through."""
    target, link = tmp_path / "record", tmp_path / "link"
    target.write_bytes(b"old")
    link.hardlink_to(target)

    durable.write_file(target, b"new")

    assert (target.read_bytes(), link.read_bytes()) == (b"new", b"old")


def test_a_content_that_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "record"
    target.write_bytes(b"old")

    def parts() -> Iterator[bytes]:
        yield b"new, but "
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        durable.write_file(target, parts())

    assert target.read_bytes() == b"old"
    assert names_in(tmp_path) == ["record"]


def test_a_directory_in_the_way_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "record").mkdir()

    with pytest.raises(IsADirectoryError):
        durable.write_file(tmp_path / "record", b"new")

    assert names_in(tmp_path) == ["record"]


def test_a_file_is_not_written_through_a_linked_directory(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")

    with pytest.raises(NotADirectoryError):
        durable.write_file(tmp_path / "link" / "record", b"new")

    assert names_in(tmp_path / "elsewhere") == []


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = open_descriptors()

    durable.write_file(tmp_path / "record", b"new")
    durable.make_directory(tmp_path / "a" / "b")
    durable.sync_directory(tmp_path)
    durable.sweep(tmp_path)

    assert open_descriptors() == before


def test_temporary_names_are_hidden_unique_and_known_as_such() -> None:
    names = {durable.temporary_name() for _ in range(1000)}

    assert len(names) == 1000
    assert all(name.startswith(".") and durable.is_temporary(name) for name in names)
    assert not any(map(durable.is_temporary, ("record", ".record.tmp", ".gnt-mesh.conf", "x.gnt-mesh.1.tmp")))


def test_a_temporary_is_private_counted_and_hashed(tmp_path: Path) -> None:
    directory = os.open(tmp_path, durable.DIRECTORY_FLAGS)
    temporary = durable.Temporary(directory)
    temporary.write(b"one ")
    temporary.write(b"two")

    expected = (hashlib.sha256(b"one two").hexdigest(), 7)
    assert (temporary.digest, temporary.size_bytes) == expected
    assert temporary.read_back() == expected
    assert (tmp_path / temporary.name).stat().st_mode & 0o7777 == 0o600

    temporary.discard(directory)
    os.close(directory)
    assert names_in(tmp_path) == []


def test_what_is_read_back_is_what_the_file_holds(tmp_path: Path) -> None:
    """A receipt rests on it: a disk that lost a byte must show."""
    directory = os.open(tmp_path, durable.DIRECTORY_FLAGS)
    temporary = durable.Temporary(directory)
    temporary.write(b"new")
    (tmp_path / temporary.name).write_bytes(b"now")

    assert temporary.read_back() == (hashlib.sha256(b"now").hexdigest(), 3)
    assert temporary.digest == hashlib.sha256(b"new").hexdigest()

    temporary.close()
    os.close(directory)


def test_a_sweep_takes_our_leftovers_and_nothing_else(tmp_path: Path) -> None:
    name = durable.temporary_name
    leftovers = [tmp_path / name() for _ in range(3)]
    for path in leftovers:
        path.write_bytes(b"half")
    (tmp_path / "record").write_bytes(b"whole")
    (tmp_path / ".hidden.tmp").write_bytes(b"somebody's")
    (tmp_path / name()).mkdir()
    (tmp_path / name()).symlink_to("record")
    others = set(tmp_path.iterdir()) - set(leftovers)

    assert durable.sweep(tmp_path) == 3

    assert set(tmp_path.iterdir()) == others
    assert durable.sweep(tmp_path) == 0


def test_directories_are_made_with_their_parents_and_left_as_they_are(tmp_path: Path) -> None:
    durable.make_directory(tmp_path / "a" / "b")
    (tmp_path / "a").chmod(0o711)

    durable.make_directory(tmp_path / "a" / "b")

    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o711
    assert (tmp_path / "a" / "b").stat().st_mode & 0o7777 == 0o700


def test_write_all_writes_all_of_a_large_piece(tmp_path: Path) -> None:
    """The system may take less than it is given, and a pipe does."""
    reader, writer = os.pipe()
    data = os.urandom(1 << 20)
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            durable.write_all(writer, data)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == data
    os.waitpid(child, 0)


@pytest.mark.parametrize("content", [b"", b"short", b"as long as it was", b"longer than what was there before"])
def test_a_file_overwritten_in_place_holds_exactly_what_it_was_given(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record"
    path.write_bytes(b"as it was before!")
    inode = path.stat().st_ino

    durable.overwrite(path, content)

    assert path.read_bytes() == content
    assert path.stat().st_ino == inode


def test_overwriting_makes_no_file_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("victim")

    with pytest.raises(FileNotFoundError):
        durable.overwrite(tmp_path / "missing", b"x")
    with pytest.raises(OSError, match="symbolic links"):
        durable.overwrite(tmp_path / "link", b"x")
    assert (tmp_path / "victim").read_bytes() == b"mine"
