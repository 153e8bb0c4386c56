"""Finds the hypervisors that third parties have installed: entry points of the group `gnt_mesh.hypervisors`.

The entry point's name is the hypervisor's. What it points to is a mapping, or a function without arguments that returns
one, of `files` and `file_parameters`, so that a plug-in needs nothing of ours:

    [project.entry-points."gnt_mesh.hypervisors"]
    bhyve = "gnt_bhyve:HYPERVISOR"          # HYPERVISOR = {"files": ["/etc/bhyve.conf"]}
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import msgspec
import structlog

from master.core.hypervisors import BUILT_IN, Hypervisor, parameter_name
from protocol.names import managed_path

GROUP: Final = "gnt_mesh.hypervisors"

log = structlog.get_logger()


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    files: tuple[str, ...] = ()
    file_parameters: tuple[str, ...] = ()


def all_hypervisors() -> Mapping[str, Hypervisor]:
    """Return Ganeti's own hypervisors and those plugged in. One that is broken is logged and left out."""
    return {**_plugged_in(entry_points(group=GROUP)), **BUILT_IN}


def _plugged_in(found: Iterable[EntryPoint]) -> dict[str, Hypervisor]:
    hypervisors = {}
    for entry in found:
        try:
            hypervisors[entry.name] = _hypervisor(entry)
        except Exception as error:  # it is a stranger's code, and no reason for the master not to start
            log.error("hypervisor_plugin_failed", hypervisor=entry.name, reason=f"{type(error).__name__}: {error}")
    return hypervisors


def _hypervisor(entry: EntryPoint) -> Hypervisor:
    if entry.name in BUILT_IN:
        raise ValueError("a hypervisor of Ganeti's own has this name already")
    said = entry.load()
    wanted = msgspec.convert(said() if callable(said) else said, type=_Wanted)
    return Hypervisor(
        name=entry.name,
        files=tuple(map(managed_path, wanted.files)),
        file_parameters=tuple(map(parameter_name, wanted.file_parameters)),
    )
