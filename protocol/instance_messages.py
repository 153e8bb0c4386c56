"""What operators ask of the master about instances, and what it answers.

Private and secret OS parameters come sealed for the master (`sealing`), whose key `os.key` tells.
"""

from dataclasses import dataclass, field
from typing import Literal

from protocol.change_messages import ChangeRequest
from protocol.os_messages import OsDisk, OsNic, Scalar
from protocol.os_names import JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingKey:
    """The public nkey to seal confidential OS parameters for: the master's."""

    public_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskWanted:
    path: str
    size_mib: int = 0
    """0: not said."""
    access: Literal["rw", "ro"] = "rw"
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NicWanted:
    mac: str = ""
    """Empty: the master chooses one."""
    mode: Literal["bridged", "routed", "openvswitch"] = "bridged"
    link: str = ""
    ip: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWishes:
    """How a job that comes with a request is to be run."""

    id: JobId
    """Chosen by the requester: the same request again with the same id is the same job."""
    waits_for_node: bool = True
    """If the node is not online: wait for it, or refuse."""
    debug_level: int = 0
    timeout_s: float = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceAdd(ChangeRequest):
    name: str
    node: str
    os: str
    """Base name, or base+variant."""
    hypervisor: str = ""
    """Empty: the first that the cluster has enabled."""
    hvparams: dict[str, Scalar] = field(default_factory=dict)
    beparams: dict[str, Scalar] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    sealed: bytes = field(default=b"", repr=False)
    disks: tuple[DiskWanted, ...] = ()
    nics: tuple[NicWanted, ...] = ()
    force_variant: bool = False
    job: JobWishes | None = None
    """None: no script is run, as with --no-install."""
    import_from: str = ""
    """If set: run the import script instead, on the files of an export in this directory of the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceModify(ChangeRequest):
    """None leaves a thing as it is. No script is run; a value None in hvparams or beparams removes the key."""

    name: str
    os: str | None = None
    force_variant: bool = False
    hvparams: dict[str, Scalar] = field(default_factory=dict)
    beparams: dict[str, Scalar] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    """Names of OS parameters, of which none can be changed like this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceReinstall(ChangeRequest):
    name: str
    job: JobWishes
    os: str = ""
    """Empty: the OS that it has."""
    parameters: dict[str, str] = field(default_factory=dict)
    sealed: bytes = field(default=b"", repr=False)
    keep_known: bool = False
    """With another OS: keep the stored parameters that it declares."""
    force_variant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRename(ChangeRequest):
    name: str
    new_name: str
    job: JobWishes | None = None
    """None: the record alone is renamed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceExport(ChangeRequest):
    name: str
    directory: str
    """On the node; a file for each disk is made in it."""
    job: JobWishes


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRemove(ChangeRequest):
    """Forget an instance. Its disks stay as they are."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceQuery:
    """No names: all instances."""

    names: tuple[str, ...] = ()
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceInfo:
    name: str
    uuid: str
    node: str
    os: str
    hypervisor: str
    hvparams: dict[str, Scalar]
    """Its own over the cluster's."""
    beparams: dict[str, Scalar]
    osparams: dict[str, str]
    private_names: tuple[str, ...]
    """Private OS parameters are named, and never shown."""
    disks: tuple[OsDisk, ...]
    nics: tuple[OsNic, ...]
    reinstalling: str
    """The job of a reinstall that has not begun yet; empty if there is none."""
    serial_no: int
    ctime: float
    mtime: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceInfos:
    instances: tuple[InstanceInfo, ...]
