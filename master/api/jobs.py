"""Jobs: list, follow, cancel. They are made by the verbs of instances."""

from master.core import job_queue
from master.daemon import MasterDaemon
from protocol import operator_job_messages as op
from protocol.bus import Handler

PATIENCE_S_MAX = 5.0


class JobVerbs:
    """`job …`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._jobs = daemon.jobs

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
        return await self._jobs.follow(
            request.id, offset=request.offset, revision=request.revision, patience_s=patience_s
        )

    async def cancel(self, request: op.JobCancel) -> op.JobInfos:
        return op.JobInfos(jobs=(await self._jobs.cancel(request.id),))
