"""OS definitions: list, info, diagnose, modify."""

from master.core import os_catalog, os_defaults
from master.daemon import MasterDaemon
from protocol import operator_messages as op
from protocol.bus import Handler
from protocol.operator_os_messages import OsDiagnoses, OsInfos, OsModify, OsQuery


class OsVerbs:
    """`os …`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._daemon = daemon
        self._desired = daemon.desired

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {
            "os.list": (OsQuery, self.list_all),
            "os.diagnose": (OsQuery, self.diagnose),
            "os.modify": (OsModify, self.modify),
        }

    async def list_all(self, query: OsQuery) -> OsInfos:
        config, reports = self._desired.config, self._daemon.os_reports.of(self._desired.config)
        names = query.names or os_catalog.names(reports)
        infos = tuple(os_catalog.info(name, reports, config.cluster.osparams) for name in names)
        return OsInfos(infos=infos, silent=self._daemon.os_reports.silent(config))

    async def diagnose(self, query: OsQuery) -> OsDiagnoses:
        config, reports = self._desired.config, self._daemon.os_reports.of(self._desired.config)
        names = query.names or os_catalog.names(reports)
        return OsDiagnoses(
            diagnoses=tuple(os_catalog.diagnosis(name, reports) for name in names),
            silent=self._daemon.os_reports.silent(config),
            problems={node: report.problems for node, report in reports.items() if report.problems},
        )

    async def modify(self, request: OsModify) -> op.Changed:
        outcome = await self._desired.change(
            lambda config, now: os_defaults.modify_os(config, request, now=now),
            request,
            why=f"os modify {request.name}",
        )
        defaults = outcome.after.cluster.osparams.get(request.name, {})
        lines = [f" - {name} -> {defaults.get(name, 'no default')}" for name in sorted(request.parameters)]
        return outcome.answer([f"Modified OS {request.name}", *lines])
