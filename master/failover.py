"""A master candidate becomes the master, from what lies on its own disk. Nothing here asks the former master.

config.data is the one decision: until it is written nothing has happened, and from then on this is the master's disk.
The new epoch precedes every generation, so that a former master that comes back cannot win.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from master.core.ancillary import Surroundings, managed_files
from master.core.cluster import AncillaryFile, ClusterConfig, from_text
from master.core.failover import fail_over, not_held
from master.core.globs import directory_of, is_glob, selected
from master.hypervisor_plugins import all_hypervisors
from master.store import save_config
from protocol import durable
from protocol.errors import Refused
from protocol.names import ManagedPath

NAMED_MAX: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where a node has what a master works with."""

    root: Path
    """Of its files: the sources from now on."""
    config_data: ManagedPath
    state_dir: Path

    @property
    def config_file(self) -> Path:
        return self.root / self.config_data[1:]


def look(seat: Seat, name: str) -> tuple[ClusterConfig, ClusterConfig]:
    """Return the cluster config on a candidate's disk, and what it would be with that node as the master.

    Nothing is written. Refused if it cannot be.
    """
    before = _read(seat)
    return before, fail_over(before, name, now=time.time())


def check_sources(seat: Seat, config: ClusterConfig, name: str) -> None:
    """Refused if files would be withdrawn from nodes because their sources are not on the disk of the new master.

    It holds what its own scopes hold. A file of another node group, say, was on the former master alone.
    """
    missing = list(_missing(seat, config, name))
    if missing:
        named = ", ".join(f"{file.path} ({file.scope})" for file in missing[:NAMED_MAX])
        more = f" and {len(missing) - NAMED_MAX} more" if len(missing) > NAMED_MAX else ""
        raise Refused(
            f"{name} has no source of {named}{more}, so the nodes that hold them would lose them; copy them there, "
            "or have it done with: --confirm removals"
        )


def take_over(seat: Seat, name: str) -> ClusterConfig:
    """Make the node at this seat the master, durably, unless it is already; return the cluster config.

    What is left of a time when it was the master before is put aside: its history would be older than the nodes'.
    """
    config = _read(seat)
    if config.master.name == name:
        return config
    config = fail_over(config, name, now=time.time())
    try:
        if seat.state_dir.exists():
            seat.state_dir.rename(
                seat.state_dir.with_name(f"{seat.state_dir.name}.before-epoch-{config.cluster.epoch}")
            )
            durable.sync_directory(seat.state_dir.parent)
        save_config(seat.config_file, config)
    except OSError as error:
        where = error.filename or seat.config_file
        raise Refused(f"{where}: {os.strerror(error.errno or 0)}; the master is who it was") from error
    return config


def _read(seat: Seat) -> ClusterConfig:
    path = seat.config_file
    try:
        return from_text(path.read_bytes())
    except FileNotFoundError:
        raise Refused(f"{path} is not there: this node is not a master candidate, or has lost it") from None
    except OSError as error:
        raise Refused(f"{path}: {os.strerror(error.errno or 0)}") from error
    except Refused as error:
        raise Refused(f"{path}: {error}; nothing was changed, fail over to another candidate") from error


def _missing(seat: Seat, config: ClusterConfig, name: str) -> Iterator[AncillaryFile]:
    surroundings = Surroundings(
        config_data=seat.config_data, hypervisors=all_hypervisors(), release=version("gnt-mesh")
    )
    patterns = [file for file in config.cluster.ancillary_files if is_glob(file.path)]
    files = (*managed_files(config, surroundings).files, *patterns)
    for file in not_held(config, config.node(name), files):
        if not _is_there(seat, file.path):
            yield file


def _is_there(seat: Seat, path: ManagedPath) -> bool:
    """True if a source is on the disk; of a pattern, one at least that it selects."""
    if not is_glob(path):
        return (seat.root / path[1:]).exists()
    try:
        return bool(selected(path, (found.name for found in (seat.root / directory_of(path)[1:]).iterdir())))
    except OSError:
        return False
