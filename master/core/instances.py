"""What operators may change of instances: each takes a config and a request and returns the new config, or refuses.

Pure. What is to be stored and what a job carries come from the same values, so that what is stored is what a script
gets. The mesh runs OS scripts; it starts no virtual machine, and it makes and removes no disk.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from master.core.cluster import ClusterConfig, Node
from master.core.hv_parameters import typed
from master.core.instance import Instance, Reinstall
from master.core.os_params import Given, Settled, Stored, check_variant, cluster_defaults, settle
from protocol.errors import Refused
from protocol.instance_messages import (
    DiskWanted,
    InstanceAdd,
    InstanceInfo,
    InstanceModify,
    InstanceReinstall,
    InstanceRename,
    NicWanted,
)
from protocol.os_messages import Confidential, OsDefinition, OsDisk, OsNic, Scalar
from protocol.os_names import InstanceName, JobId, full_os, instance_name, split_os

DEVICES: Final = "/dev/"
"""A disk below it is a block device, any other a file."""


@dataclass(frozen=True, slots=True)
class Install:
    """A config in which an install is noted, and what its script gets."""

    config: ClusterConfig
    instance: Instance
    os: str
    settled: Settled


def add(
    config: ClusterConfig,
    request: InstanceAdd,
    confidential: Confidential,
    definition: OsDefinition,
    *,
    uuids: Sequence[str],
    macs: Iterable[str],
    now: float,
) -> Install:
    """Add an instance. `uuids` are used up in order: its own, one per disk, one per network interface.

    The one that the same request has added before is made anew: its job was not taken, so no script has run.
    """
    assert len(uuids) == 1 + len(request.disks) + len(request.nics)
    name = _name(request.name)
    config = _without_unfinished(config, name, request.job.id if request.job else None)
    node = vm_capable_node(config, request.node)
    hypervisor = request.hypervisor or config.cluster.enabled_hypervisors[0]
    if hypervisor not in config.cluster.enabled_hypervisors:
        enabled = ", ".join(config.cluster.enabled_hypervisors)
        raise Refused(f"hypervisor {hypervisor} is not enabled in this cluster; enabled: {enabled}")
    os, settled = _settled(
        config,
        definition,
        request.os,
        Given(request.parameters, confidential.private, confidential.secret),
        force_variant=request.force_variant or bool(request.import_from),
    )
    uuid, *inner = uuids
    with _refusing():
        disks = tuple(_disk(disk, own) for disk, own in zip(request.disks, inner, strict=False))
        _check_disks_are_free(config, node, disks)
        instance = Instance(
            name=name,
            uuid=uuid,
            primary_node=node.uuid,
            os=os,
            hypervisor=hypervisor,
            hvparams=_merged({}, typed(hypervisor, request.hvparams)),
            beparams=_merged({}, request.beparams),
            osparams=settled.public,
            osparams_private=settled.private,
            disks=disks,
            nics=tuple(_nics(config, request.nics, inner[len(disks) :], macs)),
            install=request.job.id if request.job and disks else None,
            ctime=now,
            mtime=now,
        )
    return Install(_with(config, instance, now), instance, os, settled)


def end_install(config: ClusterConfig, uuid: str) -> ClusterConfig:
    """Forget which job installs an instance. The instance stays what its script was told: no serial, no mtime."""
    instance = config.instances.get(uuid)
    if instance is None or instance.install is None:
        return config
    instances = {**config.instances, uuid: replace(instance, install=None)}
    return replace(config, instances=instances, serial_no=config.serial_no + 1)


def begin_reinstall(
    config: ClusterConfig,
    request: InstanceReinstall,
    confidential: Confidential,
    definition: OsDefinition,
    *,
    now: float,
) -> Install:
    """Note a reinstall. Same OS: what is stored counts below what is given. Another OS: only if it is to be kept.

    Founding text, OS Parameters: "by default discarded and reset to the default (or passed) values, unless a special
    --keep-known-os-parameters flag is passed".
    """
    instance = config.instance(request.name)
    if instance.reinstall and instance.reinstall.job != request.job.id:
        raise Refused(
            f"instance {instance.name} is being reinstalled by job {instance.reinstall.job}; "
            f"first: gnt-mesh job cancel {instance.reinstall.job}, or wait for it"
        )
    wanted = request.os or instance.os
    with _refusing():
        is_same_os = split_os(wanted)[0] == instance.split_os[0]
    kept = Stored(instance.osparams, instance.osparams_private) if is_same_os or request.keep_known else None
    os, settled = _settled(
        config,
        definition,
        wanted,
        Given(request.parameters, confidential.private, confidential.secret),
        kept=kept,
        force_variant=request.force_variant,
    )
    noted = Reinstall(job=request.job.id, os=os, osparams=settled.public, osparams_private=settled.private)
    after = _changed(instance, now, reinstall=noted)
    return Install(_with(config, after, now), after, os, settled)


def end_reinstall(config: ClusterConfig, uuid: str, *, has_begun: bool, now: float) -> ClusterConfig:
    """Make what a reinstall brought the instance's own, if its script was begun; forget it if it was not."""
    instance = config.instances.get(uuid)
    if instance is None or instance.reinstall is None:
        return config
    noted = instance.reinstall
    if not has_begun:
        return _with(config, _changed(instance, now, reinstall=None), now)
    after = _changed(
        instance,
        now,
        reinstall=None,
        os=noted.os,
        osparams=noted.osparams,
        osparams_private=noted.osparams_private,
    )
    return _with(config, after, now)


def modify(
    config: ClusterConfig, request: InstanceModify, definition: OsDefinition | None, *, now: float
) -> ClusterConfig:
    """Change what may be changed without a script. OS parameters may not (founding text)."""
    instance = config.instance(request.name)
    if request.parameters:
        raise Refused(
            f"OS parameter {', '.join(request.parameters)}: OS parameters of an instance change only when it is "
            f"reinstalled; use: gnt-mesh instance reinstall {instance.name} -O {request.parameters[0]}=VALUE"
        )
    after = instance
    if request.os is not None:
        with _refusing():
            base, variant = split_os(request.os)
        if definition is not None:
            variant = check_variant(definition, variant, force=request.force_variant)
        after = replace(after, os=full_os(base, variant))
    with _refusing():
        hvparams = _merged(after.hvparams, typed(after.hypervisor, request.hvparams))
        after = replace(after, hvparams=hvparams, beparams=_merged(after.beparams, request.beparams))
    if after == instance:
        return config
    return _with(config, _changed(after, now), now)


def rename(config: ClusterConfig, request: InstanceRename, *, now: float) -> ClusterConfig:
    """Give an instance another name. As in Ganeti it keeps it, even if the script that comes after fails."""
    instance = config.instance(request.name)
    name = _name(request.new_name)
    if name == instance.name:
        raise Refused(f"instance {name} has that name already")
    if any(other.name == name for other in config.instances.values()):
        raise Refused(f"instance {name} exists already; choose another name")
    return _with(config, _changed(instance, now, name=name), now)


def remove(config: ClusterConfig, name: str, *, now: float) -> ClusterConfig:
    """Forget an instance."""
    uuid = config.instance(name).uuid
    left = {other: instance for other, instance in config.instances.items() if other != uuid}
    return replace(config, instances=left, serial_no=config.serial_no + 1, mtime=now)


def info(config: ClusterConfig, instance: Instance) -> InstanceInfo:
    """Return all that operators may know of an instance."""
    return InstanceInfo(
        name=instance.name,
        uuid=instance.uuid,
        node=config.nodes[instance.primary_node].name,
        os=instance.os,
        hypervisor=instance.hypervisor,
        hvparams={**config.cluster.hvparams.get(instance.hypervisor, {}), **instance.hvparams},
        beparams=instance.beparams,
        osparams=instance.osparams,
        private_names=tuple(sorted(instance.osparams_private)),
        disks=instance.disks,
        nics=instance.nics,
        reinstalling=instance.reinstall.job if instance.reinstall else "",
        serial_no=instance.serial_no,
        ctime=instance.ctime,
        mtime=instance.mtime,
    )


def vm_capable_node(config: ClusterConfig, name: str) -> Node:
    """Return a node that may hold instances; Refused if it may not."""
    node = config.node(name)
    if not node.vm_capable:
        raise Refused(f"node {name} is not vm-capable; first: gnt-mesh node modify {name} --vm-capable yes")
    return node


def check_holds_none(config: ClusterConfig, node: Node, doing: str) -> None:
    """Refused if a node holds instances: their OS scripts could not be run any more (ganeti-behaviour, a.5)."""
    held = sorted(instance.name for instance in config.instances.values() if instance.primary_node == node.uuid)
    if held:
        raise Refused(
            f"node {node.name} cannot {doing}: it holds instance {', '.join(held[:10])}; "
            f"first: gnt-mesh instance remove {held[0]}"
        )


def _settled(
    config: ClusterConfig,
    definition: OsDefinition,
    wanted: str,
    given: Given,
    *,
    kept: Stored | None = None,
    force_variant: bool,
) -> tuple[str, Settled]:
    with _refusing():
        base, variant = split_os(wanted)
    variant = check_variant(definition, variant, force=force_variant)
    defaults = cluster_defaults(config.cluster.osparams, base, variant)
    return full_os(base, variant), settle(definition, defaults=defaults, given=given, kept=kept)


def _without_unfinished(config: ClusterConfig, name: InstanceName, job: JobId | None) -> ClusterConfig:
    """Return a config without an instance of this name, that this job was to install. Refused if it is any other."""
    found = next((instance for instance in config.instances.values() if instance.name == name), None)
    if found is None:
        return config
    if job is None or found.install != job:
        raise Refused(f"instance {name} exists already; see: gnt-mesh instance info {name}")
    return replace(config, instances={uuid: one for uuid, one in config.instances.items() if one is not found})


def _disk(wanted: DiskWanted, uuid: str) -> OsDisk:
    backend = "block" if wanted.path.startswith(DEVICES) else "file:loop"
    return OsDisk(
        path=wanted.path,
        access=wanted.access,
        backend=backend,
        size_mib=wanted.size_mib,
        uuid=uuid,
        name=wanted.name,
    )


def _check_disks_are_free(config: ClusterConfig, node: Node, disks: Sequence[OsDisk]) -> None:
    """Two instances on one disk would each destroy the other's at its next install."""
    taken = {
        disk.path: instance.name
        for instance in config.instances.values()
        if instance.primary_node == node.uuid
        for disk in instance.disks
    }
    for index, disk in enumerate(disks):
        if disk.path in taken:
            raise Refused(f"disk {disk.path} on node {node.name} is a disk of instance {taken[disk.path]} already")
        if disk.path in [other.path for other in disks[:index]]:
            raise Refused(f"disk {disk.path} is named twice")


def _nics(
    config: ClusterConfig, wanted: Sequence[NicWanted], uuids: Sequence[str], macs: Iterable[str]
) -> Iterable[OsNic]:
    taken = {nic.mac for instance in config.instances.values() for nic in instance.nics}
    spare = iter(macs)
    for one, uuid in zip(wanted, uuids, strict=True):
        mac = one.mac.lower() or next(mac for mac in spare if mac not in taken)
        if mac in taken:
            raise Refused(f"MAC address {mac} is in use already")
        taken.add(mac)
        yield OsNic(mac=mac, mode=one.mode, link=one.link, ip=one.ip, uuid=uuid, name=one.name)


def _merged(before: Mapping[str, Scalar], changes: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {key: value for key, value in {**before, **changes}.items() if value is not None}


def _changed(instance: Instance, now: float, **fields: object) -> Instance:
    """Whoever changes an instance takes it as it is: it is not made anew any more."""
    return replace(instance, install=None, serial_no=instance.serial_no + 1, mtime=now, **fields)  # type: ignore[arg-type]


def _with(config: ClusterConfig, instance: Instance, now: float) -> ClusterConfig:
    instances = {**config.instances, instance.uuid: instance}
    return replace(config, instances=instances, serial_no=config.serial_no + 1, mtime=now)


def _name(text: str) -> InstanceName:
    with _refusing():
        return instance_name(text)


@contextmanager
def _refusing() -> Iterator[None]:
    """What a value refuses to be is what the operator asked for."""
    try:
        yield
    except ValueError as error:
        raise Refused(str(error)) from error
