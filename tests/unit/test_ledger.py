"""node_agent/ledger.py: what the agent remembers across its own death."""

import errno
import hashlib
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from node_agent.core.events import Memory
from node_agent.core.reconcile import Known
from node_agent.ledger import NAMES, Ledger
from protocol import durable
from protocol.errors import Refused, Unavailable
from protocol.names import ALL, MASTER_CANDIDATES, ManagedPath
from tests.support.forked import in_child
from tests.support.values import OTHER, PATH, digest_of

MEMORY = Memory(
    serial=(2, 7),
    versions={ALL: (2, 40), MASTER_CANDIDATES: (1, 3)},
    known={
        PATH: Known(ALL, digest_of("content")),
        OTHER: Known(MASTER_CANDIDATES, digest_of("secret"), is_intent=True),
        ManagedPath('/etc/ä "b" \\'): Known(ALL, digest_of("")),
    },
)


def many_files(count: int) -> dict[ManagedPath, Known]:
    return {ManagedPath(f"/etc/many/{number}"): Known(ALL, digest_of(str(number))) for number in range(count)}


def test_the_first_start_has_nothing_to_remember(tmp_path: Path) -> None:
    state = tmp_path / "new" / "state"

    assert Ledger(state).open() == Memory()
    assert state.stat().st_mode & 0o777 == 0o700


def test_a_memory_survives(tmp_path: Path) -> None:
    Ledger(tmp_path).open()
    Ledger(tmp_path).save(MEMORY)

    assert Ledger(tmp_path).open() == MEMORY
    assert (tmp_path / NAMES[0]).stat().st_mode & 0o777 == 0o600


def test_the_last_memory_counts(tmp_path: Path) -> None:
    """However many there were, in however many lives of the agent, and however long the former ones."""
    for life in range(3):
        ledger = Ledger(tmp_path)
        ledger.open()
        for turn in range(5):
            memory = replace(MEMORY, serial=(life + 1, turn), known=many_files(100 * ((life + turn) % 3)))
            ledger.save(memory)
            assert Ledger(tmp_path).open() == memory
    assert {path.name for path in tmp_path.iterdir()} == {*NAMES}


def test_what_is_owed_is_made_durable_once_and_only_the_newest(tmp_path: Path) -> None:
    """Whoever comes first does it for all: a later memory says all that an earlier one says."""
    ledger = Ledger(tmp_path)
    ledger.settle()
    assert not list(tmp_path.iterdir())
    ledger.owe(replace(MEMORY, serial=(1, 7)))
    ledger.owe(MEMORY)
    assert ledger.owes

    ledger.settle()

    assert not ledger.owes
    assert Ledger(tmp_path).open() == MEMORY
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ledger.settle()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == written == {NAMES[0]: written[NAMES[0]]}


def test_what_the_disk_did_not_take_is_still_owed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "not there")
    ledger.owe(MEMORY)

    with pytest.raises(Unavailable):
        ledger.settle()

    assert ledger.owes


def test_what_an_interrupted_write_left_is_swept(tmp_path: Path) -> None:
    Ledger(tmp_path).save(MEMORY)
    leftover = tmp_path / durable.temporary_name()
    leftover.write_bytes(b"half")

    assert Ledger(tmp_path).open() == MEMORY
    assert not leftover.exists()


DAMAGES = (b"", b"{", b"\xff", b"null", b'{"serial": [1, 1]}', b'{"sequence":1,"digest":"0","memory":{}}')


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_memory_is_refused_and_left_alone(tmp_path: Path, damage: bytes) -> None:
    """It decides what is removed; to forget it quietly would leave secrets behind."""
    (tmp_path / NAMES[0]).write_bytes(damage)

    with pytest.raises(Refused, match=r"ledger\.json is damaged: .*; move it away"):
        Ledger(tmp_path).open()
    assert (tmp_path / NAMES[0]).read_bytes() == damage


def test_of_a_memory_that_is_whole_but_wrong_nothing_is_believed(tmp_path: Path) -> None:
    """The digest fits, what it vouches for does not: not our making."""
    for memory in (b'{"serial": [1]}', b'{"known": {"/x": 1}}', b'{"versions": {"all": "x"}}'):
        digest = hashlib.sha256(b"1 " + memory).hexdigest().encode()
        (tmp_path / NAMES[0]).write_bytes(b'{"sequence":1,"digest":"%s","memory":%s}' % (digest, memory))
        with pytest.raises(Refused):
            Ledger(tmp_path).open()


def test_wherever_a_write_is_cut_off_the_former_memory_is_there(tmp_path: Path) -> None:
    """Power fails in the middle of an overwrite: any part of the new blocks may be on the disk, in any order."""
    ledger = Ledger(tmp_path)
    for turn in range(3):
        ledger.save(replace(MEMORY, serial=(1, turn)))
    torn = tmp_path / NAMES[1]
    before = torn.read_bytes()
    ledger.save(replace(MEMORY, serial=(1, 3)))
    after = torn.read_bytes()
    length = len(after.rstrip())
    for cut in range(length):
        for mixed in (after[:cut] + before[cut:], before[:cut] + after[cut:], after[:cut]):
            torn.write_bytes(mixed)
            expected = 3 if mixed == after else 2
            assert Ledger(tmp_path).open().serial == (1, expected), cut
    torn.write_bytes(after)
    assert Ledger(tmp_path).open().serial == (1, 3)


def test_after_a_write_that_was_cut_off_it_goes_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for turn in range(3):
        ledger.save(replace(MEMORY, serial=(1, turn)))
    (tmp_path / NAMES[1]).write_bytes(b"x" * 9000)

    ledger = Ledger(tmp_path)
    assert ledger.open().serial == (1, 2)
    for turn in range(3, 6):
        ledger.save(replace(MEMORY, serial=(1, turn)))
        assert Ledger(tmp_path).open().serial == (1, turn)


def test_a_ledger_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).mkdir()

    with pytest.raises(Refused, match="Is a directory"):
        Ledger(tmp_path).open()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_full_disk_is_unavailable_and_the_old_memory_stays(tmp_path: Path, turns: int) -> None:
    """Whether the next file is to be made, or grows; and when there is room again, it goes on."""

    def fill() -> tuple[str, Memory, Memory]:
        ledger = Ledger(tmp_path)
        for turn in range(turns):
            ledger.save(replace(MEMORY, serial=(1, turn)))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
        with pytest.raises(Unavailable) as caught:
            ledger.save(replace(MEMORY, known=many_files(100)))
        kept = Ledger(tmp_path).open()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        ledger.save(replace(MEMORY, serial=(1, 99)))
        return str(caught.value), kept, Ledger(tmp_path).open()

    reason, kept, after = in_child(fill)

    assert reason == f"cannot write {tmp_path / NAMES[turns % 2]}: {os.strerror(errno.EFBIG)}"
    assert kept.serial == (1, turns - 1)
    assert after.serial == (1, 99)
    assert not [path for path in tmp_path.iterdir() if durable.is_temporary(path.name)]
