"""What travels of the OS interface: a node's OS definitions, a job for one of their scripts, its environment.

A private or secret OS parameter never is in a message as it is: it is a part of `Confidential`, and that travels
sealed for the one who has to read it (`sealing`). So no log, record or dump of any message can show one.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from protocol.messages import REASON_CHARS_MAX
from protocol.names import NodeName, managed_path, node_name
from protocol.os_names import (
    InstanceName,
    JobId,
    OsName,
    OsParameterName,
    OsVariant,
    full_os,
    instance_name,
    job_id,
    os_name,
    os_parameter_name,
    os_parameter_value,
    os_variant,
)

API_VERSIONS: Final = (10, 15, 20)
"""The OS API versions of the mesh, in ascending order."""

DISKS_MAX: Final = 16
NICS_MAX: Final = 8
PARAMETERS_MAX: Final = 100
PARAMETERS_BYTES_MAX: Final = 32 * 1024
"""All names and values of one instance's parameters of one kind together."""
HELP_CHARS_MAX: Final = 300
CHOICES_MAX: Final = 50
VARIANTS_MAX: Final = 200
DEFINITIONS_MAX: Final = 200
PROBLEMS_MAX: Final = 20
SEALED_BYTES_MAX: Final = 128 * 1024
TIMEOUT_S_MAX: Final = 7 * 24 * 3600.0
HYPERVISOR_PARAMETERS_MAX: Final = 200

OsAction = Literal["create", "import", "export", "rename", "verify"]
"""The script that a job runs; a reinstall is a create with a flag."""

Scalar = str | int | float | bool | None
"""A hypervisor or backend parameter, typed as it is in config.data."""

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_BACKEND = re.compile(r"block|file:[a-z0-9]{1,20}", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class OsParameter:
    """One parameter that an OS declares in `parameters` or `parameters.list`; `parameters.toml` may say more of it."""

    name: OsParameterName
    since: Literal[15, 20]
    """The lowest API version at which it is passed: 15 if `parameters` names it, 20 if only `parameters.list` does."""
    help: str = ""
    type: Literal["string", "integer", "boolean"] = "string"
    choices: tuple[str, ...] = ()
    """If not empty: the only values there are."""
    default: str | None = None
    """Passed where nobody gives a value."""
    required: bool = False
    secret: bool = False
    """Only taken as a secret parameter: never stored, never shown."""

    def __post_init__(self) -> None:
        os_parameter_name(self.name)
        _check_text(f"help of parameter {self.name}", self.help, HELP_CHARS_MAX)
        _check_count(f"choices of parameter {self.name}", self.choices, CHOICES_MAX)
        for value in (*self.choices, self.default or ""):
            os_parameter_value(self.name, value)

    def objection(self, value: str) -> str:
        """Return why a value is not one of this parameter, empty if it is. Never shows the value."""
        if self.type == "integer" and not _INTEGER.fullmatch(value):
            return "is not a whole number"
        if self.type == "boolean" and value.lower() not in ("yes", "no", "true", "false"):
            return "is neither yes nor no"
        if self.choices and value not in self.choices:
            return f"is not one of {', '.join(self.choices)}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OsDefinition:
    """One OS definition of one node, as its agent found it; usable if there is no problem."""

    name: str
    """The name of the directory. A name that is not allowed is one of the problems."""
    directory: str
    api_versions: tuple[int, ...] = ()
    """All that it declares, also those that the mesh does not know."""
    variants: tuple[OsVariant, ...] = ()
    """In the order of `variants.list`; the first is the default."""
    parameters: tuple[OsParameter, ...] = ()
    problems: tuple[str, ...] = ()
    """What is wrong and where, a sentence each."""

    def __post_init__(self) -> None:
        _check_text("name of an OS definition", self.name, 255)
        _check_text(f"directory of OS {self.name}", self.directory, 4096)
        _check_count(f"API versions of OS {self.name}", self.api_versions, 20)
        _check_count(f"variants of OS {self.name}", self.variants, VARIANTS_MAX)
        _check_count(f"parameters of OS {self.name}", self.parameters, PARAMETERS_MAX)
        _check_count(f"problems of OS {self.name}", self.problems, PROBLEMS_MAX)
        for variant in self.variants:
            os_variant(variant)
        for problem in self.problems:
            _check_text(f"problem of OS {self.name}", problem, REASON_CHARS_MAX)

    @property
    def api_version(self) -> int | None:
        """Return the highest version that both sides know, None if there is none."""
        return max((version for version in self.api_versions if version in API_VERSIONS), default=None)

    @property
    def is_valid(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class OsReport:
    """All OS definitions of one node, in the order of its search path: of two with one name the first is used."""

    node: NodeName
    definitions: tuple[OsDefinition, ...] = ()
    problems: tuple[str, ...] = ()
    """What is wrong with the search path itself."""

    def __post_init__(self) -> None:
        node_name(self.node)
        _check_count(f"OS definitions of {self.node}", self.definitions, DEFINITIONS_MAX)
        _check_count(f"problems of the search path of {self.node}", self.problems, PROBLEMS_MAX)
        for problem in self.problems:
            _check_text(f"problem of the search path of {self.node}", problem, REASON_CHARS_MAX)

    def definition(self, name: str) -> OsDefinition | None:
        """Return the definition that the node uses for a base name, None if it has none."""
        return next((definition for definition in self.definitions if definition.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OsReportWanted:
    """The master asks for a node's OS definitions. An empty payload means the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OsDisk:
    path: str
    """A block device or a file, as the node sees it; never below the mesh's own root."""
    access: Literal["rw", "ro"] = "rw"
    backend: str = "block"
    """`block`, or `file:DRIVER`."""
    size_mib: int = 0
    """0 if it was not said."""
    uuid: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        try:  # the same rule: absolute, normalised, nothing that a script could stumble over
            managed_path(self.path)
        except ValueError as error:
            raise ValueError(f"disk: {error}") from None
        if not _BACKEND.fullmatch(self.backend):
            raise ValueError(f"disk {self.path}: backend {self.backend[:40]!r}, but it is block or file:DRIVER")
        if not 0 <= self.size_mib <= 2**40:
            raise ValueError(f"disk {self.path}: size {self.size_mib} MiB")
        _check_text(f"uuid of disk {self.path}", self.uuid, 64)
        _check_text(f"name of disk {self.path}", self.name, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class OsNic:
    mac: str
    mode: Literal["bridged", "routed", "openvswitch"] = "bridged"
    link: str = ""
    """The bridge or switch; the routing table of a routed one."""
    ip: str = ""
    uuid: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if not _MAC.fullmatch(self.mac):
            raise ValueError(f"MAC address {self.mac[:40]!r}: six lower-case hexadecimal bytes, as aa:00:00:01:02:03")
        for what, text in (("link", self.link), ("ip", self.ip)):
            if text and not _WORD.fullmatch(text):
                raise ValueError(f"network interface {self.mac}: {what} {text[:64]!r} is not one")
        _check_text(f"uuid of network interface {self.mac}", self.uuid, 64)
        _check_text(f"name of network interface {self.mac}", self.name, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class OsInstance:
    """What an OS script is told of its instance, besides the OS parameters."""

    name: InstanceName
    uuid: str
    ctime: float
    mtime: float
    primary_node: str
    """The UUID of its node."""
    hypervisor: str
    hvparams: dict[str, Scalar] = field(default_factory=dict)
    """Fully filled."""
    beparams: dict[str, Scalar] = field(default_factory=dict)
    disks: tuple[OsDisk, ...] = ()
    nics: tuple[OsNic, ...] = ()

    def __post_init__(self) -> None:
        instance_name(self.name)
        for what, text in (("uuid", self.uuid), ("primary_node", self.primary_node), ("hypervisor", self.hypervisor)):
            if not _WORD.fullmatch(text):
                raise ValueError(f"instance {self.name}: {what} {text[:64]!r} is not one")
        if not math.isfinite(self.ctime) or not math.isfinite(self.mtime):
            raise ValueError(f"instance {self.name}: ctime and mtime are seconds")
        check_scalars(f"hypervisor parameter of instance {self.name}", self.hvparams)
        check_scalars(f"backend parameter of instance {self.name}", self.beparams)
        _check_count(f"disks of instance {self.name}", self.disks, DISKS_MAX)
        _check_count(f"network interfaces of instance {self.name}", self.nics, NICS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class OsTransfer:
    """One run of export or import: the script's stdout goes to a file, or its stdin comes from one, for one disk."""

    disk: int
    path: str
    """On the job's node."""

    def __post_init__(self) -> None:
        managed_path(self.path)
        if not 0 <= self.disk < DISKS_MAX:
            raise ValueError(f"disk {self.disk}: an instance has disks 0 to {DISKS_MAX - 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OsJob:
    """One OS job for one node. The agent makes the environment of it, with its own definition of the OS."""

    id: JobId
    node: NodeName
    epoch: int
    requested: float
    """The master's clock when it took the request."""
    action: OsAction
    os: OsName
    variant: OsVariant | None = None
    instance: OsInstance | None = None
    """None for verify alone, which checks parameters and knows no instance."""
    parameters: dict[str, str] = field(default_factory=dict)
    """The public OS parameters: all of them, defaults included, so that what is stored is what the script gets."""
    private_names: tuple[OsParameterName, ...] = ()
    secret_names: tuple[OsParameterName, ...] = ()
    sealed: bytes = field(default=b"", repr=False)
    """A `Confidential` with the values of these names, sealed for the node; empty if there are none."""
    is_reinstall: bool = False
    old_name: InstanceName | None = None
    """What the instance was called before a rename."""
    transfers: tuple[OsTransfer, ...] = ()
    """Export and import: one run of the script for each, in this order."""
    debug_level: int = 0
    timeout_s: float = 24 * 3600.0

    def __post_init__(self) -> None:
        job_id(self.id)
        node_name(self.node)
        os_name(self.os)
        if self.variant is not None:
            os_variant(self.variant)
        if self.epoch < 1 or not math.isfinite(self.requested):
            raise ValueError(f"job {self.id}: epoch {self.epoch} counts from 1, requested is in seconds")
        if not 0 <= self.debug_level <= 9 or not 0 < self.timeout_s <= TIMEOUT_S_MAX:
            raise ValueError(f"job {self.id}: debug_level is 0 to 9, timeout_s at most {TIMEOUT_S_MAX:.0f}")
        self._check_parameters()
        self._check_action()

    @property
    def full_os(self) -> str:
        return full_os(self.os, self.variant)

    def _check_parameters(self) -> None:
        confidential = (*self.private_names, *self.secret_names)
        check_parameters(self.parameters)
        _check_count(f"confidential parameters of job {self.id}", confidential, 2 * PARAMETERS_MAX)
        for name in confidential:
            os_parameter_name(name)
        if len({*self.parameters, *confidential}) != len(self.parameters) + len(confidential):
            raise ValueError(f"job {self.id}: a parameter is one of public, private and secret")
        if bool(self.sealed) != bool(confidential) or len(self.sealed) > SEALED_BYTES_MAX:
            raise ValueError(f"job {self.id}: its confidential parameters do not fit to what is sealed")

    def _check_action(self) -> None:
        if (self.instance is None) != (self.action == "verify"):
            raise ValueError(f"job {self.id}: every action but verify is about an instance")
        if (self.old_name is not None) != (self.action == "rename"):
            raise ValueError(f"job {self.id}: old_name belongs to rename")
        if self.old_name is not None:
            instance_name(self.old_name)
        if self.is_reinstall and self.action != "create":
            raise ValueError(f"job {self.id}: a reinstall is a create")
        if bool(self.transfers) != (self.action in ("export", "import")):
            raise ValueError(f"job {self.id}: transfers belong to export and import")
        disks = [transfer.disk for transfer in self.transfers]
        if len(set(disks)) != len(disks) or (self.instance and max(disks, default=-1) >= len(self.instance.disks)):
            raise ValueError(f"job {self.id}: transfers of disks that there are not, or of one twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidential:
    """Private and secret OS parameters. It travels and lies on disks sealed, in a field of another message."""

    private: dict[str, str] = field(default_factory=dict, repr=False)
    """Stored with the instance, sealed for the master."""
    secret: dict[str, str] = field(default_factory=dict, repr=False)
    """Passed to the one run and forgotten."""

    def __post_init__(self) -> None:
        check_parameters(self.private)
        check_parameters(self.secret)
        if self.private.keys() & self.secret.keys():
            raise ValueError("a parameter is either private or secret")


@dataclass(frozen=True, slots=True, kw_only=True)
class OsEnvWanted:
    """The master asks a node what the script of a job would get. Nothing is run."""

    job: OsJob
    api_version: int | None = None
    """None: the highest that the node's definition and the mesh know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OsEnv:
    """What a script would get on a node, and what it would not."""

    api_version: int
    directory: str
    """Where the script is, which is also its working directory."""
    variables: dict[str, str]
    """Without those of confidential parameters."""
    redacted: tuple[str, ...] = ()
    """The variables that carry confidential parameters; their values stay on the node."""
    withheld: dict[str, str] = field(default_factory=dict)
    """The variables that this version of the API does not have, and why."""


def check_parameters(parameters: Mapping[str, str]) -> None:
    """ValueError if a name or a value is not allowed, or if it is too much. No value is shown."""
    _check_count("OS parameters", parameters, PARAMETERS_MAX)
    for name, value in parameters.items():
        os_parameter_value(os_parameter_name(name), value)
    total = sum(len(name) + len(value.encode()) for name, value in parameters.items())
    if total > PARAMETERS_BYTES_MAX:
        raise ValueError(f"OS parameters of {total} bytes together, limit {PARAMETERS_BYTES_MAX}")


def check_scalars(what: str, values: Mapping[str, Scalar]) -> None:
    """ValueError if a key or a value could not be part of an environment."""
    _check_count(f"every {what}", values, HYPERVISOR_PARAMETERS_MAX)
    for key, value in values.items():
        if not _KEY.fullmatch(key):
            raise ValueError(f"{what} {key[:64]!r}: letters, digits, '_', '-' and '.', at most 100 characters")
        if isinstance(value, str):
            _check_text(f"{what} {key}", value, 1024)
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{what} {key}: a number beyond 64 bits")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{what} {key}: not a finite number")


def _check_text(what: str, text: str, chars_max: int) -> None:
    if len(text) > chars_max:
        raise ValueError(f"{what}: {len(text)} characters, limit {chars_max}")
    if not text.isprintable():
        raise ValueError(f"{what}: {text[:100]!r} is not printable")


def _check_count(what: str, values: Collection[object], count_max: int) -> None:
    if len(values) > count_max:
        raise ValueError(f"{what}: {len(values)}, limit {count_max}")
