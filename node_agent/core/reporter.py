"""What the agent says of itself, and when: its status, numbered. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from node_agent.core.events import Report
from protocol.messages import ERRORS_MAX, REASON_CHARS_MAX, FileError, ScopeReceipt, Status
from protocol.names import NodeName, ScopeName


class Reporter:
    """Set `is_due` when there is something to say; what is refused and which look is done is kept here."""

    def __init__(self, node: NodeName, boot: str, version: str) -> None:
        self.is_due = False
        self.reported_s = 0.0
        self._status = Status(node=node, boot=boot, sequence=0, serial=0, agent_version=version)

    @property
    def node(self) -> NodeName:
        return self._status.node

    @property
    def holding(self) -> tuple[ScopeName, ...]:
        """The scopes that it has said it holds files of."""
        return self._status.holding

    @property
    def look(self) -> str:
        """The token of the last look that is finished."""
        return self._status.look

    def refuse(self, reason: str) -> None:
        """Count a message that was not understood, or not believed."""
        self._status = replace(self._status, refusals=self._status.refusals.and_one_more(reason))
        self.is_due = True

    def finish_look(self, token: str) -> None:
        self._status = replace(self._status, look=token)
        self.is_due = True

    def tell_os_report(self, digest: str) -> None:
        """Say which OS definitions the node has now; nothing is said if they are the same."""
        if digest != self._status.os_report:
            self._status = replace(self._status, os_report=digest)
            self.is_due = True

    def report(
        self,
        now_s: float,
        *,
        serial: int,
        receipts: Mapping[ScopeName, tuple[int, int]],
        holding: tuple[ScopeName, ...],
        errors: Iterable[FileError],
    ) -> Report:
        """Return the status that says all this."""
        self.is_due = False
        self.reported_s = now_s
        all_errors = tuple(errors)
        self._status = replace(
            self._status,
            sequence=self._status.sequence + 1,
            serial=serial,
            receipts=tuple(
                ScopeReceipt(scope=scope, epoch=epoch, generation=generation)
                for scope, (epoch, generation) in sorted(receipts.items())
            ),
            holding=holding,
            errors=all_errors[:ERRORS_MAX],
            errors_count=len(all_errors),
        )
        return Report(self._status)


def an_error(path: str, scope: str, reason: str) -> FileError:
    """Return an error that fits into a status."""
    return FileError(path=path, scope=scope, reason=reason[:REASON_CHARS_MAX])
