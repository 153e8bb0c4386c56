"""What the agent remembers across its own death: one small file, replaced durably."""

from pathlib import Path

import msgspec

from node_agent.core.events import Memory
from protocol import durable
from protocol.errors import Refused, Unavailable

NAME = "ledger.json"


class Ledger:
    """The memory file in the agent's state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / NAME

    def open(self) -> Memory:
        """Return the memory, an empty one at the very first start. Refused if it is damaged: it decides removals."""
        try:
            durable.make_directory(self._path.parent)
            durable.sweep(self._path.parent)
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return Memory()
        except OSError as error:
            raise Refused(f"{self._path}: {error.strerror}") from error
        try:
            return msgspec.json.decode(raw, type=Memory)
        except (msgspec.DecodeError, ValueError) as error:
            raise Refused(f"{self._path} is damaged: {error}; move it away, and this node takes stock anew") from error

    def save(self, memory: Memory) -> None:
        """Make a memory durable; Unavailable if the disk is in the way."""
        try:
            durable.write_file(self._path, msgspec.json.encode(memory))
        except OSError as error:
            raise Unavailable(f"cannot write {self._path}: {error.strerror}") from error
