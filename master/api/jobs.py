"""Jobs: list, follow, cancel. They are made by the verbs of instances."""

import contextlib

from master.core import job_queue
from master.daemon import MasterDaemon
from protocol import operator_job_messages as op
from protocol.bus import Handler
from protocol.errors import Refused, Unavailable
from protocol.job_messages import ENDED

PATIENCE_S_MAX = 5.0


class JobVerbs:
    """`job …`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._jobs = daemon.jobs
        self._installs = daemon.installs

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {
            "job.list": (op.JobQuery, self.list_all),
            "job.follow": (op.JobFollow, self.follow),
            "job.cancel": (op.JobCancel, self.cancel),
        }

    async def list_all(self, request: op.JobQuery) -> op.JobInfos:
        records = self._jobs.records
        wanted = [job_queue.known(records, job) for job in request.ids] if request.ids else list(records.values())
        if request.node:
            wanted = [record for record in wanted if record.job.node == request.node]
        if request.instance:
            wanted = [record for record in wanted if record.is_about(request.instance)]
        if request.only_active:
            wanted = [record for record in wanted if record.is_active]
        return op.JobInfos(jobs=self._jobs.infos(wanted))

    async def follow(self, request: op.JobFollow) -> op.JobNews:
        patience_s = min(max(request.patience_s, 0.0), PATIENCE_S_MAX)
        news = await self._jobs.follow(
            request.id, offset=request.offset, revision=request.revision, patience_s=patience_s
        )
        if news.job.status in ENDED:
            with contextlib.suppress(Refused, Unavailable):  # tried again, and logged, by the installs themselves
                await self._installs.settle()  # who is told that it has ended finds what it brought
        return news

    async def cancel(self, request: op.JobCancel) -> op.JobInfos:
        return op.JobInfos(jobs=(await self._jobs.cancel(request.id),))
