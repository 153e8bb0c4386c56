"""What operators may ask of the cluster as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.change_messages import ChangeRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterModify(ChangeRequest):
    """None leaves a setting as it is."""

    candidate_pool_size: int | None = None
    enabled_hypervisors: tuple[str, ...] | None = None
    hvparams: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """By hypervisor, as written on a command line; None forgets a parameter. Those not named stay."""
    modify_etc_hosts: bool | None = None
    use_external_mip_script: bool | None = None
    file_hooks: bool | None = None
