"""Settles what installs have noted in the records of their instances, when their jobs have ended.

What a reinstall brought is then the instance's own; it is forgotten if create never began: what is stored is what the
script got, and one that is cancelled while it waits, or refused by verify, has changed nothing. The first install's
note goes too: until then the same request may come again and find no job (`instances.add`).
Level-triggered: the note is in config.data and the job's record on the disk; they are compared when anything moved.
"""

import contextlib
from collections.abc import Callable, Iterator

import structlog

from master.core.cluster import ClusterConfig
from master.core.instance import Instance
from master.core.instances import end_install, end_reinstall
from master.desired import Desired
from master.jobs import Jobs
from master.progress import Progress
from protocol.change_messages import ChangeRequest
from protocol.errors import Refused, Unavailable
from protocol.os_names import JobId

LOOK_AGAIN_S = 5.0

log = structlog.get_logger()


class Installs:
    """Settles the installs and reinstalls that are noted in the cluster config."""

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
                log.warning("install_not_settled", reason=str(error))
            await self._progress.wait(LOOK_AGAIN_S)

    async def settle(self) -> None:
        """Look at every install that is noted; Refused or Unavailable if the config cannot be changed now."""
        for uuid, instance in self._desired.config.instances.items():
            if instance.install is not None:
                await self._settle_install(uuid, instance, instance.install)
            if instance.reinstall is not None and instance.reinstall.job not in self._coming:
                await self._settle_reinstall(uuid, instance, instance.reinstall.job)

    async def _settle_install(self, uuid: str, instance: Instance, job: JobId) -> None:
        """One whose job is not known stays noted: its request may come again."""
        record = self._jobs.records.get(job)
        if record is None or record.is_active:
            return
        await self._change(lambda config, _: end_install(config, uuid), job, f"instance add {instance.name}")
        log.info("install_settled", instance=instance.name, job=job)

    async def _settle_reinstall(self, uuid: str, instance: Instance, job: JobId) -> None:
        record = self._jobs.records.get(job)
        if record is not None and record.is_active:
            return
        has_begun = record is not None and record.has_begun_create
        await self._change(
            lambda config, now: end_reinstall(config, uuid, has_begun=has_begun, now=now),
            job,
            f"instance reinstall {instance.name}",
        )
        log.info("reinstall_settled", instance=instance.name, job=job, has_begun=has_begun)

    async def _change(self, make: Callable[[ClusterConfig, float], ClusterConfig], job: JobId, why: str) -> None:
        await self._desired.change(make, ChangeRequest(by="master", reason=f"job {job}"), why=why)
