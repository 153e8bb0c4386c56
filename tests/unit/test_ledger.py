"""node_agent/ledger.py: what the agent remembers across its own death."""

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from node_agent.core.events import Memory
from node_agent.core.reconcile import Known
from node_agent.ledger import NAME, Ledger
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


def test_the_first_start_has_nothing_to_remember(tmp_path: Path) -> None:
    state = tmp_path / "new" / "state"

    assert Ledger(state).open() == Memory()
    assert state.stat().st_mode & 0o777 == 0o700


def test_a_memory_survives(tmp_path: Path) -> None:
    Ledger(tmp_path).open()
    Ledger(tmp_path).save(MEMORY)

    assert Ledger(tmp_path).open() == MEMORY
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_the_last_memory_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.save(MEMORY)
    ledger.save(Memory())

    assert Ledger(tmp_path).open() == Memory()


def test_what_an_interrupted_write_left_is_swept(tmp_path: Path) -> None:
    Ledger(tmp_path).save(MEMORY)
    leftover = tmp_path / durable.temporary_name()
    leftover.write_bytes(b"half")

    assert Ledger(tmp_path).open() == MEMORY
    assert not leftover.exists()


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\xff", b"null", b'{"known": {"/x": 1}}', b'{"serial": [1]}', b'{"versions": {"all": "x"}}']
)
def test_a_damaged_memory_is_refused_and_left_alone(tmp_path: Path, damage: bytes) -> None:
    """It decides what is removed; to forget it quietly would leave secrets behind."""
    (tmp_path / NAME).write_bytes(damage)

    with pytest.raises(Refused, match=r"ledger\.json is damaged: .*; move it away"):
        Ledger(tmp_path).open()
    assert (tmp_path / NAME).read_bytes() == damage


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    Ledger(tmp_path).save(MEMORY)
    whole = (tmp_path / NAME).read_bytes()
    for length in range(len(whole)):
        (tmp_path / NAME).write_bytes(whole[:length])
        with pytest.raises(Refused):
            Ledger(tmp_path).open()


def test_a_ledger_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()

    with pytest.raises(Refused, match="Is a directory"):
        Ledger(tmp_path).open()


def test_a_full_disk_is_unavailable_and_the_old_memory_stays(tmp_path: Path) -> None:
    def fill() -> tuple[str, Memory, list[str]]:
        ledger = Ledger(tmp_path)
        ledger.save(MEMORY)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5, 5))
        with pytest.raises(Unavailable) as caught:
            ledger.save(Memory())
        return str(caught.value), Ledger(tmp_path).open(), [path.name for path in tmp_path.iterdir()]

    reason, memory, names = in_child(fill)

    assert reason == f"cannot write {tmp_path / NAME}: {os.strerror(errno.EFBIG)}"
    assert memory == MEMORY
    assert names == [NAME]
