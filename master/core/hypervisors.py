"""What each hypervisor wants on the nodes that run instances: its files, and the parameters that name further ones.

Values only: what a hypervisor wants follows from its name and its parameters, and never from a look at a disk.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.names import ManagedPath, managed_path

HvValue = str | int | float | bool | None
"""The value of a hypervisor parameter, as in Ganeti's config.data."""

VNC_PASSWORD: Final = ManagedPath("/etc/ganeti/vnc-cluster-password")
VNC_PASSWORD_PARAMETER: Final = "vnc_password_file"
SPICE_PASSWORD_PARAMETER: Final = "spice_password_file"

XEN_FILES: Final = (
    ManagedPath("/etc/xen/scripts/vif-bridge"),
    ManagedPath("/etc/xen/xend-config.sxp"),
    ManagedPath("/etc/xen/xl.conf"),  # not Ganeti's /etc/xen/xen/xl.conf (ganeti-behaviour, a.3)
)

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_PARAMETER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypervisor:
    """One hypervisor. Its files travel to vm-capable nodes once it is enabled; none has to exist on the master."""

    name: str
    files: tuple[ManagedPath, ...] = ()
    file_parameters: tuple[str, ...] = ()
    """Hypervisor parameters whose value, if there is one, is the path of one more file."""

    def __post_init__(self) -> None:
        hypervisor_name(self.name)
        for path in self.files:
            managed_path(path)

    def files_wanted(self, parameters: Mapping[str, HvValue]) -> Iterator[tuple[ManagedPath, str]]:
        """Yield each file and why; ValueError if a parameter names something that is no path."""
        for path in self.files:
            yield path, f"the enabled hypervisor {self.name} needs it"
        for parameter in self.file_parameters:
            value = parameters.get(parameter)
            if value:
                path = file_named(self.name, parameter, value)
                yield path, f"{parameter} of the enabled hypervisor {self.name} names it"


def hypervisor_name(text: str) -> str:
    """Return `text` as the name of a hypervisor; ValueError says the rule. It becomes part of a file's name."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"hypervisor {text[:80]!r}: lower-case letters, digits and '-', at most 40 characters")
    return text


def parameter_name(text: str) -> str:
    """Return `text` as the name of a hypervisor parameter; ValueError says the rule. It is the key of a line."""
    if not _PARAMETER.fullmatch(text):
        raise ValueError(f"hypervisor parameter {text[:80]!r}: letters, digits, '_', '-', '.', at most 100 characters")
    return text


def check_hypervisors(enabled: Sequence[str], hvparams: Mapping[str, Mapping[str, HvValue]]) -> None:
    """ValueError if these cannot be a cluster's enabled hypervisors and their parameters, whatever they are."""
    if not enabled:
        raise ValueError("enabled_hypervisors: at least one")
    if len(set(enabled)) < len(enabled):
        raise ValueError(f"enabled_hypervisors: one of {', '.join(enabled)} twice")
    for name in (*enabled, *hvparams):
        hypervisor_name(name)
    for parameters in hvparams.values():
        for name in parameters:
            parameter_name(name)


def file_named(hypervisor: str, parameter: str, value: HvValue) -> ManagedPath:
    """Return the path that a parameter names; ValueError says where the wrong one stands."""
    if not isinstance(value, str):
        raise ValueError(f"{parameter} of hypervisor {hypervisor} is {value!r}, not a path")
    try:
        return managed_path(value)
    except ValueError as error:
        raise ValueError(f"{parameter} of hypervisor {hypervisor}: {error}") from None


BUILT_IN: Final[Mapping[str, Hypervisor]] = {
    hypervisor.name: hypervisor
    for hypervisor in (
        Hypervisor(name="chroot"),
        Hypervisor(name="fake"),
        Hypervisor(
            name="kvm",
            files=(
                ManagedPath("/etc/ganeti/kvm-vif-bridge"),
                VNC_PASSWORD,
                ManagedPath("/var/lib/ganeti/spice-ca.pem"),
                ManagedPath("/var/lib/ganeti/spice.pem"),
            ),
            file_parameters=(VNC_PASSWORD_PARAMETER, SPICE_PASSWORD_PARAMETER),
        ),
        Hypervisor(name="lxc"),
        Hypervisor(name="xen-hvm", files=(VNC_PASSWORD, *XEN_FILES), file_parameters=(VNC_PASSWORD_PARAMETER,)),
        Hypervisor(name="xen-pvm", files=XEN_FILES),
    )
}
"""Ganeti's own six. kvm has a VNC password file as xen-hvm has: the design text wants "an equal system" for both."""
