"""The job that goes with a request: an instance's facts, parameters and the requester's wishes, for one node. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from master.core.cluster import ClusterConfig
from master.core.instance import Instance
from master.core.os_params import DEFAULT
from protocol.errors import Refused
from protocol.instance_messages import JobWishes
from protocol.names import managed_path
from protocol.os_messages import Confidential, OsAction, OsJob, OsTransfer
from protocol.os_names import OsParameterName, instance_name, os_parameter_name, split_os


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request asks a job for, in its requester's words."""

    action: OsAction
    instance: str
    os: str = ""
    """Empty: what the instance has."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The public ones that were given."""
    disks: tuple[str, ...] | None = None
    """The paths of an instance that is new."""
    is_reinstall: bool = False
    old_name: str = ""
    directory: str = ""
    """Of an export or import."""


def is_for(job: OsJob, asked: Asked) -> bool:
    """True if a job is what a request asks for: then the same id means that it was asked for before (design, D7)."""
    about = job.instance
    if about is None or (job.action, about.name) != (asked.action, asked.instance):
        return False
    given = {name: value for name, value in asked.parameters.items() if value != DEFAULT}
    return (
        asked.os in ("", job.os, job.full_os)
        and given.items() <= job.parameters.items()
        and asked.disks in (None, tuple(disk.path for disk in about.disks))
        and (asked.is_reinstall, asked.old_name) == (job.is_reinstall, job.old_name or "")
        and all(transfer.path.rpartition("/")[0] == asked.directory.rstrip("/") for transfer in job.transfers)
    )


def os_job(
    config: ClusterConfig,
    instance: Instance,
    action: OsAction,
    wishes: JobWishes,
    *,
    now: float,
    os: str = "",
    parameters: Mapping[str, str] | None = None,
    confidential: Confidential,
    sealed: bytes,
    is_reinstall: bool = False,
    old_name: str = "",
    transfers: Sequence[OsTransfer] = (),
) -> OsJob:
    """Return a job for the instance's node. `sealed` is the confidential parameters, sealed for that node.

    Without `os` and `parameters` it is for what the instance has.
    """
    name, variant = split_os(os or instance.os)
    hvparams = config.cluster.hvparams.get(instance.hypervisor, {})
    try:
        return OsJob(
            id=wishes.id,
            node=config.nodes[instance.primary_node].name,
            epoch=config.cluster.epoch,
            requested=now,
            action=action,
            os=name,
            variant=variant,
            instance=None if action == "verify" else instance.facts(hvparams),
            parameters=dict(instance.osparams if parameters is None else parameters),
            private_names=_names(confidential.private),
            secret_names=_names(confidential.secret),
            sealed=sealed,
            is_reinstall=is_reinstall,
            old_name=instance_name(old_name) if old_name else None,
            transfers=tuple(transfers),
            debug_level=wishes.debug_level,
            timeout_s=wishes.timeout_s,
        )
    except ValueError as error:
        raise Refused(str(error)) from error


def transfers_of(instance: Instance, directory: str) -> tuple[OsTransfer, ...]:
    """Return one transfer per disk, to or from `disk0`, `disk1`, ... in a directory of the node."""
    if not instance.disks:
        raise Refused(f"instance {instance.name} has no disk to export from or import into")
    try:
        base = managed_path(directory.rstrip("/") or directory)
        return tuple(OsTransfer(disk=index, path=f"{base}/disk{index}") for index in range(len(instance.disks)))
    except ValueError as error:
        raise Refused(str(error)) from error


def _names(parameters: Mapping[str, str]) -> tuple[OsParameterName, ...]:
    return tuple(os_parameter_name(name) for name in sorted(parameters))
