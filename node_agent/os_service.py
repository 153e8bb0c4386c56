"""Keeps what the node's OS definitions are, and answers the master's questions about them. Runs nothing.

The report is read again when a watched directory changes; its digest is in the node's status, so that the master
fetches it when it is another one.
"""

import hashlib
from collections.abc import Callable, Mapping

from node_agent.core import job_plan, os_env
from node_agent.disk import OsCatalog
from protocol import codec
from protocol.bus import Handler
from protocol.errors import Refused, Unavailable
from protocol.names import Digest
from protocol.os_messages import Confidential, OsDefinition, OsEnv, OsEnvWanted, OsReport, OsReportWanted

Unseal = Callable[[bytes], Confidential]


class OsService:
    """One node's side of the OS interface, but for the running of scripts."""

    def __init__(self, catalog: OsCatalog, unseal: Unseal) -> None:
        self._catalog = catalog
        self._unseal = unseal
        self._report: OsReport | None = None

    def handlers(self) -> Mapping[str, tuple[type, Handler]]:
        """Return what the bus is to serve."""
        return {"os-definitions": (OsReportWanted, self.definitions), "os-env": (OsEnvWanted, self.env)}

    async def look(self) -> Digest:
        """Read the search path; return the digest of what is there."""
        self._report = await self._catalog.os_report()
        return digest_of(self._report)

    async def definitions(self, _: OsReportWanted) -> OsReport:
        """Return what was found by the last look, which is the one that the status speaks of."""
        if self._report is None:
            raise Unavailable("has not looked at its OS definitions yet")
        return self._report

    async def env(self, wanted: OsEnvWanted) -> OsEnv:
        """Return what the script of a job would get here, now. Confidential values stay on the node."""
        definition = await self._catalog.os_definition(wanted.job.os)
        if definition is None:
            raise Refused(f"there is no OS {wanted.job.os} on {wanted.job.node}; see: gnt-mesh os diagnose")
        return shown_env(definition, wanted, self._unseal(wanted.job.sealed))


def shown_env(definition: OsDefinition, wanted: OsEnvWanted, confidential: Confidential) -> OsEnv:
    """Return an environment as it may be shown: of confidential variables only the names."""
    job = wanted.job
    transfer = job.transfers[0] if job.transfers else None
    env = os_env.environment(
        definition,
        job,
        confidential,
        transfer=transfer,
        descriptors=job_plan.descriptors(job),
        api_version=wanted.api_version,
    )
    return OsEnv(
        api_version=env.api_version,
        directory=definition.directory,
        variables={name: value for name, value in env.variables.items() if name not in env.confidential},
        redacted=tuple(sorted(env.confidential)),
        withheld=dict(env.withheld),
    )


def digest_of(report: OsReport) -> Digest:
    """Return what a status says of a report."""
    return Digest(hashlib.sha256(codec.encode(report)).hexdigest())
