"""Jobs for tests of the cores. Everything has a default, so that what a test names is what matters to it."""

from collections.abc import Iterable
from typing import Any

from node_agent.core.jobs import Entry, Phase
from protocol.job_messages import JobBoard, JobOrder, JobState, JobStatus
from protocol.names import NodeName
from protocol.os_messages import OsDisk, OsInstance, OsJob
from protocol.os_names import instance_name, job_id, os_name
from tests.support.builders import NODE1

STATUS: dict[Phase, JobStatus] = {
    Phase.NOTED: "queued",
    Phase.BEGUN: "running",
    Phase.LOST: "running",
    Phase.ENDED: "success",
}


def an_instance(name: str = "web", disk: str = "/dev/null") -> OsInstance:
    return OsInstance(
        name=instance_name(name),
        uuid=f"uuid-{name}",
        ctime=1.5,
        mtime=2.5,
        primary_node="uuid-node1",
        hypervisor="kvm",
        disks=(OsDisk(path=disk),),
    )


def a_job(
    job: str = "job-1", *, node: NodeName = NODE1, instance: str | None = None, os: str = "tiny", **more: Any
) -> OsJob:
    """Return a create of an instance of its own, unless more is said; a verify is about none."""
    about = None if more.get("action") == "verify" else an_instance(instance or f"of-{job}")
    facts: dict[str, Any] = {"action": "create", "instance": about} | more
    return OsJob(id=job_id(job), node=node, epoch=1, requested=3.5, os=os_name(os), **facts)


def a_board(
    *jobs: OsJob | str, cancelled: Iterable[str] = (), serial: int = 1, epoch: int = 1, node: NodeName = NODE1
) -> JobBoard:
    listed = [a_job(job, node=node) if isinstance(job, str) else job for job in jobs]
    orders = tuple(JobOrder(job=job, is_cancelled=job.id in set(cancelled)) for job in listed)
    return JobBoard(node=node, epoch=epoch, serial=serial, orders=orders)


def an_entry(job: OsJob | str, phase: Phase, *, is_cancel_noted: bool = False) -> Entry:
    known = a_job(job) if isinstance(job, str) else job
    return Entry(known, phase, JobState(id=known.id, status=STATUS[phase]), is_cancel_noted)
