"""OS definitions: list, info, diagnose, modify, env."""

import time

from master.core import os_catalog, os_defaults
from master.core.os_jobs import os_job, transfers_of
from master.daemon import MasterDaemon
from protocol import identity, sealing
from protocol import operator_messages as op
from protocol.bus import Handler
from protocol.errors import Refused
from protocol.instance_messages import JobWishes, SealingKey
from protocol.operator_os_messages import OsDiagnoses, OsEnvQuery, OsInfos, OsModify, OsQuery
from protocol.os_messages import Confidential, OsEnv, OsEnvWanted
from protocol.os_names import JobId

ENV_TIMEOUT_S = 8.0


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
            "os.env": (OsEnvQuery, self.env),
            "os.key": (op.Nothing, self.key),
        }

    async def list_all(self, query: OsQuery) -> OsInfos:
        config, reports = self._desired.config, self._daemon.os_reports.of(self._desired.config)
        names = query.names or os_catalog.names(reports)
        infos = tuple(os_catalog.info(name, reports, config.cluster.osparams) for name in names)
        if nowhere := [one.name for one in infos if one.status == "unknown" and not one.defaults]:
            raise Refused(f"no node has an OS {', '.join(nowhere)}; see: gnt-mesh os list")
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

    async def env(self, query: OsEnvQuery) -> OsEnv:
        """Ask the instance's node: what a script gets is decided there, from the definition that is there."""
        config = self._desired.config
        instance = config.instance(query.instance)
        node = config.nodes[instance.primary_node]
        if not node.public_key:
            raise Refused(f"node {node.name} has no public key, so its agent has never been here")
        confidential = Confidential(private=instance.osparams_private)
        job = os_job(
            config,
            instance,
            query.action,
            JobWishes(id=JobId("env")),
            now=time.time(),
            confidential=confidential,
            sealed=sealing.seal(confidential, node.public_key),
            old_name=instance.name if query.action == "rename" else "",
            transfers=transfers_of(instance, "/env")[:1] if query.action in ("export", "import") else (),
        )
        wanted = OsEnvWanted(job=job, api_version=query.api_version)
        return await self._daemon.bus.ask_node(node.name, "os-env", wanted, OsEnv, timeout_s=ENV_TIMEOUT_S)

    async def key(self, _: op.Nothing) -> SealingKey:
        return SealingKey(public_key=identity.read_public_key(self._daemon.settings.seed_file))
