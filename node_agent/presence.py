"""What the agent tells whoever started it: whether it is ready, and in one line how this node is."""

from protocol.messages import Status
from protocol.readiness import Readiness

STATUS_CHARS_MAX = 300


class Presence:
    """Ready is who has been connected and has done all that could be done about what the bus says."""

    def __init__(self, readiness: Readiness, server: str) -> None:
        self._readiness = readiness
        self._server = server
        self._is_connected = False
        self._status: Status | None = None
        readiness.say(f"connecting to {server}")

    def note_connected(self) -> None:
        self._is_connected = True
        self._readiness.say(f"connected to {self._server}, catching up")

    def note_disconnected(self, reason: str) -> None:
        self._is_connected = False
        self._readiness.say(f"not connected to {self._server}: {reason}"[:STATUS_CHARS_MAX])

    def note_status(self, status: Status) -> None:
        """Take what was reported last."""
        self._status = status

    def note_caught_up(self) -> None:
        if self._is_connected:
            self._readiness.ready()
            self._readiness.say(_line(self._status) if self._status else "up to date")


def _line(status: Status) -> str:
    if status.errors:
        first = status.errors[0]
        more = f", and {status.errors_count - 1} more" if status.errors_count > 1 else ""
        return f"{first.path or first.scope or 'assignment'}: {first.reason}{more}"[:STATUS_CHARS_MAX]
    held = ", ".join(f"{receipt.scope} {receipt.generation}" for receipt in status.receipts)
    return f"up to date: {held or 'nothing to hold'}"[:STATUS_CHARS_MAX]
