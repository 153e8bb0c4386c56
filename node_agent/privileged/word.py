"""The master's word as the agent got it, kept as it was signed, so that the privileged process can check it again."""

import hashlib

from node_agent.privileged.messages import ASSIGNMENT
from protocol.bus import AsSigned


class SignedWord:
    """The newest of each part; what is older than what is here is not taken."""

    def __init__(self) -> None:
        self._parts: dict[str, AsSigned] = {}
        self._digests: dict[str, str] = {}
        self.board = b""
        """The node's job board as it was last on the bus."""

    def take(self, message: AsSigned) -> None:
        """Take what the bus has handed over; to be given to the bus as its witness."""
        if message.kind == "board":
            self.board = message.data
            return
        name = message.scope or ASSIGNMENT
        former = self._parts.get(name)
        if former is None or message.version >= former.version:
            self._parts[name] = message
            self._digests[name] = hashlib.sha256(message.data).hexdigest()

    @property
    def digests(self) -> dict[str, str]:
        return self._digests

    def part(self, name: str) -> AsSigned:
        return self._parts[name]
