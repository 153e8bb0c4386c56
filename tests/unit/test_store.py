"""master/store.py: the authority on the master's disk: nothing damaged is believed, nothing needed is forgotten."""

import errno
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from master.core.cluster import ClusterConfig, to_text
from master.core.history import Generation
from master.core.operations import add_group, remove_group
from master.store import Store, save_config
from protocol import durable
from protocol.errors import Refused, Unavailable
from protocol.messages import Manifest
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, ScopeName
from protocol.operator_messages import GroupAdd, GroupRemove
from tests.support.forked import in_child
from tests.support.values import OTHER, PATH, a_config, a_manifest, a_node, an_entry, digest_of

SCOPES = (ALL, MASTER_CANDIDATES, VM_CAPABLE, ScopeName("group-default"))


class Disk:
    def __init__(self, directory: Path, config: ClusterConfig | None = None) -> None:
        self.state = directory / "state"
        self.config_data = directory / "root" / "config.data"
        save_config(self.config_data, config or a_config())

    def open(self) -> Store:
        store = Store(self.state, self.config_data)
        store.open()
        return store

    def history(self) -> list[str]:
        return sorted(path.name for path in (self.state / "history").iterdir())

    def blobs(self) -> set[str]:
        return {path.name for path in (self.state / "blobs").iterdir()}


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def a_generation(number: int, *manifests: Manifest, why: str = "a source changed") -> Generation:
    return Generation(generation=number, time=1.5, why=why, manifests=manifests or (manifest(number),))


def manifest(number: int, scope: ScopeName = ALL, content: str | None = None) -> Manifest:
    return a_manifest(an_entry(content=content or f"content {number}"), scope=scope, generation=number)


def put_blob(store: Store, content: str) -> str:
    store.blob_path(digest_of(content)).write_bytes(content.encode())
    return digest_of(content)


def test_what_was_saved_is_read(disk: Disk) -> None:
    config = a_config(a_node())
    disk.open().save_config(config)

    assert Store(disk.state, disk.config_data).open() == config
    assert disk.config_data.stat().st_mode & 0o777 == 0o640


def test_a_disk_without_a_cluster_is_refused(disk: Disk) -> None:
    disk.config_data.unlink()

    with pytest.raises(Refused, match=f"{disk.config_data}: there is no cluster here"):
        disk.open()
    assert not disk.config_data.exists()


@pytest.mark.parametrize("damage", [b"", b"\0\0\0\0", b'{"cluster": {"cluster_name": "te', b"\xff", b"[]"])
def test_a_damaged_config_is_refused_and_left_alone(disk: Disk, damage: bytes) -> None:
    disk.config_data.write_bytes(damage)

    with pytest.raises(Refused, match=f"{disk.config_data}: .*is damaged at line 1, column .*it was left as it is"):
        disk.open()
    assert disk.config_data.read_bytes() == damage


def test_a_config_that_is_no_file_is_refused(disk: Disk) -> None:
    disk.config_data.unlink()
    disk.config_data.mkdir()

    with pytest.raises(Refused, match="Is a directory"):
        disk.open()


def test_a_state_directory_that_cannot_be_made_is_refused(disk: Disk) -> None:
    disk.state.write_text("in the way")

    with pytest.raises(Refused, match=str(disk.state)):
        disk.open()


def test_the_history_is_read_back(disk: Disk) -> None:
    store = disk.open()
    entries = [a_generation(1, *(manifest(1, scope) for scope in SCOPES)), a_generation(2, why="redist-conf")]
    for entry in entries:
        store.add_generation(entry)

    again = disk.open()

    assert (again.generation, again.kept) == (2, 2)
    assert again.manifests() == {**{scope: manifest(1, scope) for scope in SCOPES}, ALL: manifest(2)}
    assert again.manifests() == store.manifests()


def test_who_asked_for_a_generation_and_why_is_kept(disk: Disk) -> None:
    entry = replace(a_generation(1, why="file add /etc/x"), by="root@master1", reason="ticket 17")
    disk.open().add_generation(entry)

    text = (disk.state / "history" / "000000000001.json").read_bytes()

    assert msgspec.json.decode(text, type=Generation) == entry


def test_a_generation_that_was_kept_before_anybody_was_named_is_read(disk: Disk) -> None:
    store = disk.open()
    store.add_generation(a_generation(1))
    path = disk.state / "history" / "000000000001.json"
    fields = msgspec.json.decode(path.read_bytes())
    del fields["by"], fields["reason"]
    path.write_bytes(msgspec.json.encode(fields))

    assert disk.open().manifests() == store.manifests()


def test_before_the_first_generation_there_is_none(disk: Disk) -> None:
    store = disk.open()

    assert (store.generation, store.kept, store.manifests()) == (0, 0, {})


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b'{"generation": 2}', b"null"])
def test_a_damaged_generation_is_refused_by_name(disk: Disk, damage: bytes) -> None:
    """Without it the master could publish a number a second time, or forget what it must withdraw."""
    disk.open().add_generation(a_generation(1))
    damaged = disk.state / "history" / "000000000002.json"
    damaged.write_bytes(damage)

    with pytest.raises(Refused, match=r"000000000002\.json is damaged: .*; move it away to go on"):
        disk.open()
    assert damaged.read_bytes() == damage


def test_a_generation_under_another_ones_name_is_refused(disk: Disk) -> None:
    disk.open().add_generation(a_generation(1))
    first = disk.state / "history" / "000000000001.json"
    first.rename(first.with_name("000000000007.json"))

    with pytest.raises(Refused, match=r"000000000007\.json is damaged: it holds generation 1"):
        disk.open()


def test_leftovers_of_interrupted_writes_are_swept(disk: Disk) -> None:
    store = disk.open()
    leftovers = [directory / durable.temporary_name() for directory in (store.blobs_dir, disk.state / "history")]
    for leftover in leftovers:
        leftover.write_bytes(b"half")

    disk.open()

    assert not any(leftover.exists() for leftover in leftovers)


def test_a_generation_number_is_never_used_twice(disk: Disk) -> None:
    store = disk.open()
    store.add_generation(a_generation(3))

    for number in (1, 2, 3):
        with pytest.raises(AssertionError, match="after 3"):
            store.add_generation(a_generation(number))


def test_a_removed_scope_is_not_brought_back_by_the_history(disk: Disk) -> None:
    """A restarted master would publish it to a stream that is gone, and never get done."""
    rack = ScopeName("group-rack")
    config = add_group(a_config(), GroupAdd(name="rack"), uuid="g", now=1.0)
    store = disk.open()
    store.save_config(config)
    store.add_generation(a_generation(1, manifest(1), manifest(1, rack)))
    assert rack in store.manifests()

    store.save_config(remove_group(config, GroupRemove(name="rack"), now=2.0))

    assert set(store.manifests()) == set(disk.open().manifests()) == {ALL}


def test_a_full_disk_is_unavailable_and_changes_nothing(disk: Disk) -> None:
    """The old config and the old history stay what they are, on disk and in memory."""

    def fill() -> tuple[list[str], int, str, list[str]]:
        store = disk.open()
        store.add_generation(a_generation(1))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
        refusals = []
        for write in (lambda: store.add_generation(a_generation(2)), lambda: store.save_config(a_config(a_node()))):
            with pytest.raises(Unavailable) as caught:
                write()
            refusals.append(str(caught.value))
        return refusals, store.generation, disk.config_data.read_text(), disk.history()

    refusals, generation, config_text, history = in_child(fill)

    too_large = os.strerror(errno.EFBIG)
    assert refusals == [
        f"cannot write {disk.state}/history/000000000002.json: {too_large}",
        f"cannot write {disk.config_data}: {too_large}",
    ]
    assert (generation, history) == (1, ["000000000001.json"])
    assert config_text == to_text(a_config())


def test_collecting_keeps_the_newest_generations(disk: Disk) -> None:
    store = disk.open()
    for number in range(1, 8):
        store.add_generation(a_generation(number))

    store.collect(3, SCOPES)

    assert disk.history() == [f"{number:012d}.json" for number in (5, 6, 7)]
    assert (store.kept, store.generation) == (3, 7)
    assert disk.open().manifests() == {ALL: manifest(7)}


def test_the_newest_manifest_of_every_scope_is_kept_however_old(disk: Disk) -> None:
    store = disk.open()
    store.add_generation(a_generation(1, manifest(1), manifest(1, MASTER_CANDIDATES)))
    store.add_generation(a_generation(2, manifest(2, VM_CAPABLE)))
    for number in range(3, 9):
        store.add_generation(a_generation(number))
    before = store.manifests()

    store.collect(2, SCOPES)

    assert disk.history() == [f"{number:012d}.json" for number in (1, 2, 7, 8)]
    assert disk.open().manifests() == before


def test_the_last_manifest_of_a_scope_that_is_gone_is_not_kept(disk: Disk) -> None:
    store = disk.open()
    store.add_generation(a_generation(1, manifest(1, ScopeName("group-gone"))))
    for number in (2, 3):
        store.add_generation(a_generation(number))

    store.collect(1, SCOPES)

    assert disk.history() == ["000000000003.json"]


def test_contents_go_when_no_kept_generation_names_them(disk: Disk) -> None:
    store = disk.open()
    for number in range(1, 5):
        put_blob(store, f"content {number}")
        store.add_generation(a_generation(number))
    stray = put_blob(store, "never published")

    collected = store.collect(2, SCOPES)

    assert collected == {digest_of("content 1"), digest_of("content 2"), stray}
    assert disk.blobs() == {digest_of("content 3"), digest_of("content 4")}
    assert store.collect(2, SCOPES) == set()


def test_a_content_that_is_being_written_is_not_collected(disk: Disk) -> None:
    store = disk.open()
    name = durable.temporary_name()
    (store.blobs_dir / name).write_bytes(b"half")

    assert store.collect(1, SCOPES) == set()
    assert disk.blobs() == {name}


def test_what_cannot_be_collected_is_the_worlds_fault(disk: Disk) -> None:
    store = disk.open()
    for number in (1, 2):
        store.add_generation(a_generation(number))
    in_the_way = disk.state / "history" / "000000000001.json"
    in_the_way.unlink()
    in_the_way.mkdir()

    with pytest.raises(Unavailable, match="cannot remove what is no longer kept"):
        store.collect(1, SCOPES)
    assert store.kept == 2, "it will be tried again"


def test_an_intact_content_is_told_from_a_damaged_one(disk: Disk) -> None:
    store = disk.open()
    put_blob(store, "good")
    store.blob_path(digest_of("bad")).write_bytes(b"baD")

    assert store.is_intact(digest_of("good"))
    assert not store.is_intact(digest_of("bad"))
    assert not store.is_intact(digest_of("missing"))


def test_a_history_of_many_files_is_quick_enough_to_read(disk: Disk) -> None:
    """Fifty generations of a thousand files: a master starts in seconds at most."""
    store = disk.open()
    files = [an_entry(f"/etc/{number:04}") for number in range(1000)]
    for number in range(1, 11):
        store.add_generation(a_generation(number, a_manifest(*files, generation=number)))

    assert disk.open().manifests()[ALL].files == tuple(files)


def test_paths_of_every_kind_survive_the_history(disk: Disk) -> None:
    entries = [an_entry('/etc/ä b/"quoted"\\'), an_entry(PATH, mode=0o4755), an_entry(OTHER, content="")]
    store = disk.open()
    store.add_generation(a_generation(1, a_manifest(*entries)))

    assert disk.open().manifests() == {ALL: a_manifest(*entries)}


def test_a_config_that_somebody_else_has_changed_is_not_overwritten(disk: Disk) -> None:
    """Whether it is an edit or damage: what is there may be all that there is."""
    store = disk.open()
    store.save_config(a_config(a_node()))
    for text in (b"{", disk.config_data.read_bytes().replace(b"node2", b"node3")):
        disk.config_data.write_bytes(text)

        with pytest.raises(Refused, match="is not as this master wrote it, and was left as it is"):
            store.save_config(a_config())
        assert disk.config_data.read_bytes() == text


def test_a_config_that_is_gone_is_written_again(disk: Disk) -> None:
    store = disk.open()
    disk.config_data.unlink()

    store.save_config(a_config(a_node()))

    assert store.open() == a_config(a_node())


def test_the_config_is_known_by_its_hash(disk: Disk) -> None:
    store = disk.open()
    assert store.is_ours(digest_of(disk.config_data.read_bytes()))
    store.save_config(a_config(a_node()))
    assert store.is_ours(digest_of(disk.config_data.read_bytes()))
    assert not store.is_ours(digest_of("anything else"))
