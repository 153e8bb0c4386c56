"""Makes what a reinstall brought the instance's own when its job has ended, and forgets it if create never began.

What is stored is what the script got: one that is cancelled while it waits, or refused by verify, has changed nothing.
Level-triggered: the note is in config.data and the job's record on the disk; they are compared when anything moved.
"""

import contextlib
from collections.abc import Iterator

import structlog

from master.core.instances import end_reinstall
from master.desired import Desired
from master.jobs import Jobs
from master.progress import Progress
from protocol.change_messages import ChangeRequest
from protocol.errors import Refused, Unavailable
from protocol.os_names import JobId

LOOK_AGAIN_S = 5.0

log = structlog.get_logger()


class Reinstalls:
    """Settles the reinstalls that are noted in the cluster config."""

    def __init__(self, desired: Desired, jobs: Jobs, progress: Progress) -> None:
        self._desired = desired
        self._jobs = jobs
        self._progress = progress
        self._coming: set[JobId] = set()

    @contextlib.contextmanager
    def coming(self, job: JobId) -> Iterator[None]:
        """While a reinstall is noted and its job is not taken yet, its absence says nothing."""
        self._coming.add(job)
        try:
            yield
        finally:
            self._coming.discard(job)

    async def run(self) -> None:
        """Settle what can be, until cancelled."""
        while True:
            try:
                await self.settle()
            except (Refused, Unavailable) as error:
                log.warning("reinstall_not_settled", reason=str(error))
            await self._progress.wait(LOOK_AGAIN_S)

    async def settle(self) -> None:
        """Look at every reinstall that is noted; Refused or Unavailable if the config cannot be changed now."""
        for uuid, instance in self._desired.config.instances.items():
            if instance.reinstall is None or instance.reinstall.job in self._coming:
                continue
            job = instance.reinstall.job
            record = self._jobs.records.get(job)
            if record is not None and record.is_active:
                continue
            has_begun = record is not None and record.has_begun_create
            await self._desired.change(
                lambda config, now, uuid=uuid, has_begun=has_begun: end_reinstall(  # type: ignore[misc]
                    config, uuid, has_begun=has_begun, now=now
                ),
                ChangeRequest(by="master", reason=f"job {job}"),
                why=f"instance reinstall {instance.name}",
            )
            log.info("reinstall_settled", instance=instance.name, job=job, has_begun=has_begun)
