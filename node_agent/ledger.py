"""What the agent remembers across its own death: two small files, overwritten in turn.

Every change of a node's files is noted here first, so the note is made as cheap as the disk allows: in place, one
fdatasync, no new name. The older of the two is overwritten, so that a write that is cut off leaves the newer one.
"""

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from node_agent.core.events import Memory
from protocol import durable
from protocol.errors import Refused, Unavailable

NAMES: Final = ("ledger.json", "ledger-2.json")
BLOCK_BYTES: Final = 4096
"""A record is filled up to whole blocks, so that its file rarely changes its size."""


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    sequence: int
    digest: str
    """Of the sequence and the memory as it stands in the file: tells a record that is only half of this write."""
    memory: msgspec.Raw


@dataclass(frozen=True, slots=True)
class _Slot:
    """One of the two files as it was found."""

    path: Path
    sequence: int = -1
    memory: Memory | None = None
    damage: str = ""


class Ledger:
    """The memory in the agent's state directory. One agent has it open at a time."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir
        self._sequence = 0
        self._next = NAMES[0]
        self._owed: Memory | None = None
        self._one_at_a_time = threading.Lock()

    def open(self) -> Memory:
        """Return the memory, an empty one at the very first start. Refused if none is whole: it decides removals.

        Of two records one may be half written: the agent died before it had acted on what it was about to note.
        """
        try:
            durable.make_directory(self._directory)
            durable.sweep(self._directory)
            slots = [_read(self._directory / name) for name in NAMES]
        except OSError as error:
            raise Refused(f"{error.filename or self._directory}: {error.strerror}") from error
        newest = max(slots, key=lambda slot: slot.sequence)
        if newest.memory is not None:
            self._sequence = newest.sequence
            self._next = next(name for name in NAMES if name != newest.path.name)
            return newest.memory
        for slot in slots:
            if slot.damage:
                moved = "move it away, and this node takes stock anew"
                raise Refused(f"{slot.path} is damaged: {slot.damage}; {moved}")
        return Memory()

    @property
    def owes(self) -> bool:
        """True if there is a memory that is not durable yet."""
        return self._owed is not None

    def owe(self, memory: Memory) -> None:
        """Take a memory that `settle` is to make durable. It says all that an earlier one says."""
        self._owed = memory

    def settle(self) -> None:
        """Make the newest memory durable, unless it is: from any thread, before anything is done that it speaks of."""
        with self._one_at_a_time:
            if (memory := self._owed) is not None:
                self.save(memory)
                if self._owed is memory:
                    self._owed = None

    def save(self, memory: Memory) -> None:
        """Make a memory durable; Unavailable if the disk is in the way, and then the former one stays."""
        path = self._directory / self._next
        text = _encode(self._sequence + 1, memory)
        padded = text.ljust(-(-len(text) // BLOCK_BYTES) * BLOCK_BYTES, b"\n")
        try:
            try:
                durable.overwrite(path, padded)
            except FileNotFoundError:
                durable.write_file(path, padded)
        except OSError as error:
            raise Unavailable(f"cannot write {path}: {error.strerror}") from error
        self._sequence += 1
        self._next = next(name for name in NAMES if name != self._next)


def _encode(sequence: int, memory: Memory) -> bytes:
    encoded = msgspec.json.encode(memory)
    return msgspec.json.encode(_Record(sequence, _digest(sequence, encoded), msgspec.Raw(encoded)))


def _digest(sequence: int, memory: bytes | msgspec.Raw) -> str:
    return hashlib.sha256(b"%d %s" % (sequence, memory)).hexdigest()


def _read(path: Path) -> _Slot:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return _Slot(path)
    try:
        record = msgspec.json.decode(raw, type=_Record)
        if _digest(record.sequence, record.memory) != record.digest:
            raise ValueError("its digest belies it")
        memory = msgspec.json.decode(record.memory, type=Memory)
    except (msgspec.DecodeError, ValueError) as error:
        return _Slot(path, damage=str(error))
    return _Slot(path, record.sequence, memory)
