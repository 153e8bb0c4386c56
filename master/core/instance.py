"""One instance as config.data has it. The mesh runs its OS scripts; it starts no virtual machine. Keys are Ganeti's."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from master.core.damage import Misfit
from master.core.hv_defaults import BE_DEFAULTS, HV_DEFAULTS
from protocol.errors import Refused
from protocol.os_messages import OsDisk, OsInstance, OsNic, Scalar, check_parameters
from protocol.os_names import InstanceName, JobId, OsName, OsVariant, job_id, split_os


@dataclass(frozen=True, slots=True, kw_only=True)
class Reinstall:
    """A reinstall that was asked for. What it brings is the instance's when its job has ended, if create was begun."""

    job: JobId
    os: str
    osparams: dict[str, str] = field(default_factory=dict)
    osparams_private: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        job_id(self.job)
        split_os(self.os)
        check_parameters(self.osparams)
        check_parameters(self.osparams_private)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    name: InstanceName
    uuid: str
    primary_node: str
    """The UUID of its node."""
    os: str
    """The full name: base, or base+variant."""
    hypervisor: str
    hvparams: dict[str, Scalar] = field(default_factory=dict)
    """Its own; the cluster's are below them."""
    beparams: dict[str, Scalar] = field(default_factory=dict)
    osparams: dict[str, str] = field(default_factory=dict)
    """What the last install got, defaults included, so that nothing but a reinstall changes it."""
    osparams_private: dict[str, str] = field(default_factory=dict, repr=False)
    disks: tuple[OsDisk, ...] = ()
    nics: tuple[OsNic, ...] = ()
    install: JobId | None = None
    """The job of `instance add`, until that has ended: the request may come again before its job was taken."""
    reinstall: Reinstall | None = None
    serial_no: int = 1
    ctime: float = 0.0
    mtime: float = 0.0

    def __post_init__(self) -> None:
        split_os(self.os)
        if self.install is not None:
            job_id(self.install)
        check_parameters(self.osparams)
        check_parameters(self.osparams_private)
        if both := sorted(self.osparams.keys() & self.osparams_private.keys()):
            raise ValueError(f"instance {self.name}: {', '.join(both)} both in osparams and in osparams_private")
        self.facts({})  # checks the rest

    @property
    def split_os(self) -> tuple[OsName, OsVariant | None]:
        return split_os(self.os)

    @property
    def noted_jobs(self) -> tuple[JobId, ...]:
        """The jobs whose ends are still to be settled in this record."""
        return tuple(job for job in (self.install, self.reinstall and self.reinstall.job) if job)

    def facts(self, cluster_hvparams: Mapping[str, Scalar]) -> OsInstance:
        """Return what its scripts are told of it: its own parameters over the cluster's, and those over Ganeti's."""
        return OsInstance(
            name=self.name,
            uuid=self.uuid,
            ctime=self.ctime,
            mtime=self.mtime,
            primary_node=self.primary_node,
            hypervisor=self.hypervisor,
            hvparams={**HV_DEFAULTS.get(self.hypervisor, {}), **cluster_hvparams, **self.hvparams},
            beparams={**BE_DEFAULTS, **self.beparams},
            disks=self.disks,
            nics=self.nics,
        )


def instance_of(instances: Mapping[str, Instance], name: str) -> Instance:
    """Return an instance by name; Refused if there is none."""
    for instance in instances.values():
        if instance.name == name:
            return instance
    raise Refused(f"there is no instance {name!r}; see: gnt-mesh instance list")


def check_instances(instances: Mapping[str, Instance], nodes: Collection[str]) -> None:
    """Misfit if two have one name, or one is not where its UUID or its node says. All are keyed by UUID."""
    names: set[str] = set()
    for uuid, instance in instances.items():
        if instance.name in names:
            raise Misfit(f"instance name {instance.name} twice", "instances", uuid, "name")
        names.add(instance.name)
        if instance.uuid != uuid or instance.primary_node not in nodes:
            wrong = "uuid" if instance.uuid != uuid else "primary_node"
            raise Misfit(f"instance {instance.name}: its {wrong} does not fit", "instances", uuid, wrong)


def check_osparams(osparams: Mapping[str, Mapping[str, str]]) -> None:
    """ValueError if a key is no OS, or OS+variant, or a default is not allowed."""
    for full_os, defaults in osparams.items():
        split_os(full_os)
        check_parameters(defaults)
