"""Access of operators and observers, and the audit log of what they have asked."""

from master.audit import AuditLog
from master.core import access_operations
from master.daemon import MasterDaemon
from protocol import access_messages as am
from protocol import operator_messages as op
from protocol.bus import Handler
from protocol.errors import Unavailable

ENTRIES_MAX = 500


class AccessVerbs:
    """`cluster access …`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._desired = daemon.desired

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {
            "access.add": (am.AccessAdd, self.add),
            "access.list": (op.Nothing, self.list_all),
            "access.remove": (am.AccessRemove, self.remove),
            "access.renew": (am.AccessRenew, self.renew),
        }

    async def add(self, request: am.AccessAdd) -> op.Changed:
        outcome = await self._desired.change(
            lambda config, now: access_operations.add_access(config, request, now=now),
            request,
            why=f"access add {request.name}",
        )
        return outcome.answer([f"{request.name} is let in, as {request.role}.", *self._doubt()])

    async def list_all(self, request: op.Nothing) -> am.AccessInfos:
        return am.AccessInfos(
            access=tuple(
                am.AccessInfo(name=one.name, role=one.role, public_key=one.public_key, ctime=one.ctime)
                for one in self._desired.config.cluster.access
            )
        )

    async def renew(self, request: am.AccessRenew) -> op.Changed:
        """Answered when the broker lets the new key in, so that the former one may be given up."""
        outcome = await self._desired.change(
            lambda config, now: access_operations.renew_access(config, request, now=now),
            request,
            why=f"access renew {request.name}",
        )
        if not request.dry_run and not self._desired.publisher.is_enforced:
            raise Unavailable("the broker could not be told yet; ask again in a moment")
        void = "; the former one is void" if request.is_taken_up else " as well"
        return outcome.answer([f"{request.name} is let in with the new key{void}."])

    async def remove(self, request: am.AccessRemove) -> op.Changed:
        outcome = await self._desired.change(
            lambda config, now: access_operations.remove_access(config, request, now=now),
            request,
            why=f"access remove {request.name}",
        )
        return outcome.answer([f"{request.name} is shut out.", *self._doubt()])

    def _doubt(self) -> tuple[str, ...]:
        if self._desired.publisher.is_enforced:
            return ()
        return ("But the broker could not be told yet; it is being tried again.",)


class AuditVerbs:
    """`cluster audit …`."""

    def __init__(self, audit_log: AuditLog) -> None:
        self._log = audit_log

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {
            "audit.list": (am.AuditQuery, self.list_last),
            "audit.verify": (op.Nothing, self.verify),
        }

    async def list_last(self, request: am.AuditQuery) -> am.AuditEntries:
        lines = await self._log.last(min(request.last, ENTRIES_MAX))
        return am.AuditEntries(entries=tuple(line.decode(errors="replace").rstrip("\n") for line in lines))

    async def verify(self, request: op.Nothing) -> am.AuditReport:
        head, problem = await self._log.verify()
        return am.AuditReport(entries=head.number, digest=head.digest, problem=problem)
