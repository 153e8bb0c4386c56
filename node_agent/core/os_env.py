"""OS definition and job -> the environment of the script, by OS API version (design, D8). Pure.

A variable came with a version, and reaches no OS that does not declare that version. Names and formats are those of
the founding text and of Ganeti (ganeti-behaviour, d): API 10 is what Ganeti 2.0 passed, API 15 what came with 2.1 and
the names of the founding text, API 20 what came later. A script gets exactly this and nothing of the agent's own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol.errors import Refused
from protocol.os_messages import (
    API_VERSIONS,
    Confidential,
    OsDefinition,
    OsDisk,
    OsInstance,
    OsJob,
    OsNic,
    OsParameter,
    OsTransfer,
    Scalar,
)
from protocol.os_names import variable_part

PATH: Final = "/sbin:/bin:/usr/sbin:/usr/bin"

SIZE_FD: Final = "EXP_SIZE_FD"
PROGRESS_FD: Final = "OS_PROGRESS_FD"
"""Ours, beside Ganeti's: a descriptor that takes progress as one JSON object per line."""

Offer = tuple[str, str, int]
"""A variable's name, its value, and the API version that it came with."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What a script gets, and what it does not."""

    api_version: int
    variables: Mapping[str, str] = field(repr=False)
    confidential: frozenset[str]
    """Variables that carry private or secret parameters: nobody is shown their values."""
    withheld: Mapping[str, str]
    """Variables that exist, but not for this script, and why."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Open descriptors that a script is told of."""

    size: int | None = None
    """Of an export: takes the predicted number of bytes and a line break."""
    progress: int | None = None


def environment(
    definition: OsDefinition,
    job: OsJob,
    confidential: Confidential,
    *,
    transfer: OsTransfer | None = None,
    descriptors: Descriptors | None = None,
    api_version: int | None = None,
) -> Environment:
    """Return the environment of one run of a job's script; with `api_version`, as if that were the highest common one.

    An export or import has one run per `transfer`. Refused if the definition and the mesh have no version in common.
    """
    version = api_version or definition.api_version
    if version not in API_VERSIONS:
        known = ", ".join(map(str, API_VERSIONS))
        raise Refused(f"OS {job.os}: there is no OS API version {version}; the mesh knows {known}")
    offers = list(_offers(definition, job, version, transfer, descriptors or Descriptors()))
    passed, hidden, withheld = _parameters(definition, job, confidential, version)
    withheld |= {name: _came_with(since) for name, _, since in offers if since > version}
    variables = {name: value for name, value, since in offers if since <= version} | passed
    return Environment(version, dict(sorted(variables.items())), frozenset(hidden), dict(sorted(withheld.items())))


def check(definition: OsDefinition, job: OsJob, confidential: Confidential) -> None:
    """Refused if this node's OS cannot do this job: the receiver checks again what the sender has checked.

    Only for what is about to install: an instance whose OS has changed since can still be renamed or exported.
    """
    if not definition.is_valid:
        raise Refused(f"OS {job.os} on {job.node} is not usable: {definition.problems[0]}; see: gnt-mesh os diagnose")
    if job.variant is not None and job.variant not in definition.variants:
        listed = f"its variants are {', '.join(definition.variants)}" if definition.variants else "it has no variants"
        raise Refused(f"OS {job.os} on {job.node} has no variant {job.variant}; {listed}")
    declared = {str(parameter.name): parameter for parameter in definition.parameters}
    given = {**job.parameters, **confidential.private, **confidential.secret}
    for name, value in given.items():
        parameter = declared.get(name)
        if parameter is None:
            known = ", ".join(declared) or "none"
            raise Refused(f"OS {job.os} on {job.node} does not declare parameter {name}; it declares {known}")
        if objection := parameter.objection(value):
            raise Refused(f"OS parameter {name} of {job.os} {objection}")
    for name, parameter in declared.items():
        if parameter.required and name not in given:
            raise Refused(f"OS {job.os} needs parameter {name}")


def _offers(
    definition: OsDefinition, job: OsJob, version: int, transfer: OsTransfer | None, descriptors: Descriptors
) -> Iterator[Offer]:
    """Yield every variable that there is for this run, whatever the version, but for OS parameters."""
    is_told_debug_level = job.action in ("create", "rename")
    variant = job.variant or next(iter(definition.variants), "")
    yield "OS_API_VERSION", str(version), 10
    yield "PATH", PATH, 10
    yield "DEBUG_LEVEL", str(job.debug_level if is_told_debug_level else 0), 10
    yield "OS_VARIANT", variant, 15
    yield "OS_NAME", job.os, 20
    if descriptors.progress is not None:
        yield PROGRESS_FD, str(descriptors.progress), 20
    if job.instance is not None:
        yield "INSTANCE_OS", job.full_os, 10
        yield from _instance(job.instance)
        yield from _action(job, job.instance, transfer, descriptors)


def _instance(instance: OsInstance) -> Iterator[Offer]:
    yield "INSTANCE_NAME", instance.name, 10
    yield "INSTANCE_UUID", instance.uuid, 20
    yield "INSTANCE_CTIME", str(instance.ctime), 20
    yield "INSTANCE_MTIME", str(instance.mtime), 20
    yield "INSTANCE_PRIMARY_NODE", instance.primary_node, 20
    yield "INSTANCE_SECONDARY_NODES", "", 20  # the mesh mirrors no disks
    yield "HYPERVISOR", instance.hypervisor, 10
    yield "INSTANCE_HYPERVISOR", instance.hypervisor, 15
    for key, value in instance.hvparams.items():
        yield f"INSTANCE_HV_{key}", _text(value), 15
    for key, value in instance.beparams.items():
        yield f"INSTANCE_BE_{key}", _text(value), 15
    yield "DISK_COUNT", str(len(instance.disks)), 10
    for index, disk in enumerate(instance.disks):
        yield from _disk(f"DISK_{index}", disk, instance)
    yield "NIC_COUNT", str(len(instance.nics)), 10
    for index, nic in enumerate(instance.nics):
        yield from _nic(f"NIC_{index}", nic, instance)


def _disk(prefix: str, disk: OsDisk, instance: OsInstance) -> Iterator[Offer]:
    yield f"{prefix}_PATH", disk.path, 10
    yield f"{prefix}_ACCESS", disk.access, 10
    yield f"{prefix}_BACKEND_TYPE", disk.backend, 10
    if frontend := instance.hvparams.get("disk_type"):
        yield f"{prefix}_FRONTEND_TYPE", _text(frontend), 10
    if disk.size_mib:
        yield f"{prefix}_SIZE", str(disk.size_mib), 20
    if disk.uuid:
        yield f"{prefix}_UUID", disk.uuid, 20
    if disk.name:
        yield f"{prefix}_NAME", disk.name, 20


def _nic(prefix: str, nic: OsNic, instance: OsInstance) -> Iterator[Offer]:
    yield f"{prefix}_MAC", nic.mac, 10
    if nic.ip:
        yield f"{prefix}_IP", nic.ip, 10
    if nic.mode == "bridged" and nic.link:
        yield f"{prefix}_BRIDGE", nic.link, 10
    if frontend := instance.hvparams.get("nic_type"):
        yield f"{prefix}_FRONTEND_TYPE", _text(frontend), 10
    yield f"{prefix}_MODE", nic.mode, 15
    if nic.link:
        yield f"{prefix}_LINK", nic.link, 15
    if nic.uuid:
        yield f"{prefix}_UUID", nic.uuid, 20
    if nic.name:
        yield f"{prefix}_NAME", nic.name, 20


def _action(job: OsJob, instance: OsInstance, transfer: OsTransfer | None, descriptors: Descriptors) -> Iterator[Offer]:
    if job.is_reinstall:
        yield "INSTANCE_REINSTALL", "1", 15
    if job.old_name is not None:
        yield "OLD_INSTANCE_NAME", job.old_name, 10
    if transfer is None:
        return
    prefix = job.action.upper()
    disk = instance.disks[transfer.disk]
    yield f"{prefix}_INDEX", str(transfer.disk), 10
    yield f"{prefix}_DEVICE", disk.path, 10
    yield f"{prefix}_DISK_PATH", disk.path, 20
    if job.action == "export" and descriptors.size is not None:
        yield SIZE_FD, str(descriptors.size), 20


def _parameters(
    definition: OsDefinition, job: OsJob, confidential: Confidential, version: int
) -> tuple[dict[str, str], set[str], dict[str, str]]:
    """Return the variables of the OS parameters, those of them to hide, and those withheld with the reason."""
    declared = {str(parameter.name): parameter for parameter in definition.parameters}
    passed: dict[str, str] = {}
    hidden: set[str] = set()
    withheld: dict[str, str] = {}
    secret = confidential.secret if job.action in ("create", "verify") else {}
    for name, value in {**job.parameters, **secret, **confidential.private}.items():
        for variable, since in (_founding_name(name), 15), (_shipped_name(name), 20):
            if reason := _reason(declared.get(name), since, version):
                withheld[variable] = reason
                continue
            passed[variable] = value
            if name not in job.parameters:
                hidden.add(variable)
    for name, parameter in declared.items():
        if parameter.secret and _founding_name(name) not in passed:
            for variable in (_founding_name(name), _shipped_name(name)):
                withheld.setdefault(variable, "secret: passed to the run that it is given to, and not stored")
    return passed, hidden, withheld


def _reason(parameter: OsParameter | None, since: int, version: int) -> str:
    """Return why a parameter is not passed under a name that came with an API version; empty if it is passed."""
    if since > version:
        return _came_with(since)
    if parameter is None:
        return "not declared by the OS definition on this node"
    if parameter.since > version:
        return f"declared in parameters.list, which {_came_with(parameter.since)}"
    return ""


def _founding_name(name: str) -> str:
    return f"INSTANCE_OS_PARAMETER_{variable_part(name)}"


def _shipped_name(name: str) -> str:
    return f"OSP_{variable_part(name)}"


def _came_with(version: int) -> str:
    return f"came with OS API {version}"


def _text(value: Scalar) -> str:
    """Return a value as Ganeti passes it: True, False, None, or the number or text."""
    return str(value)
