"""What operators may change of the cluster as a whole. As in `operations`: a new config, or Refused."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from master.core import candidate_pool
from master.core.cluster import Cluster, ClusterConfig, next_serial, with_cluster
from master.core.hv_parameters import merged
from master.core.hypervisors import Hypervisor
from protocol.cluster_messages import ClusterModify
from protocol.errors import Refused
from protocol.names import ManagedPath, managed_path

SETTINGS: Final = (
    "candidate_pool_size",
    "enabled_hypervisors",
    "modify_etc_hosts",
    "use_external_mip_script",
    "file_hooks",
)


def modify_cluster(
    config: ClusterConfig, request: ClusterModify, *, hypervisors: Mapping[str, Hypervisor], now: float
) -> ClusterConfig:
    """Change settings of the cluster; a larger candidate pool is filled at once, a smaller one demotes nobody."""
    before = config.cluster
    if not _asks_for_anything(request):
        raise Refused("nothing to change was given")
    for name in (*(request.enabled_hypervisors or ()), *request.hvparams):
        if name not in hypervisors:
            raise Refused(f"hypervisor {name!r} is unknown here; there are {', '.join(sorted(hypervisors))}")
    given = {key: value for key in SETTINGS if (value := getattr(request, key)) is not None}
    try:
        after = replace(before, **given, hvparams=merged(before.hvparams, request.hvparams))
    except ValueError as error:
        raise Refused(str(error)) from error
    if after == before:
        return config
    changed = with_cluster(config, after, now)
    if after.candidate_pool_size == before.candidate_pool_size:
        return changed
    promoted = {
        node.uuid: replace(node, serial_no=next_serial(config), mtime=now)
        for node in candidate_pool.to_promote(changed)
    }
    serial_no = max(changed.serial_no, next_serial(config)) if promoted else changed.serial_no
    return replace(changed, nodes={**changed.nodes, **promoted}, serial_no=serial_no)


def named_files(request: ClusterModify, hypervisors: Mapping[str, Hypervisor]) -> Iterator[ManagedPath]:
    """Yield the files that parameters in a request name; what is none is for `modify_cluster` to refuse."""
    for name in request.hvparams.keys() & hypervisors.keys():
        for parameter in hypervisors[name].file_parameters:
            with contextlib.suppress(ValueError):
                yield managed_path(request.hvparams[name].get(parameter) or "")


def _asks_for_anything(request: ClusterModify) -> bool:
    return ClusterModify(by=request.by, reason=request.reason, dry_run=request.dry_run) != request


def cluster_changes(before: Cluster, after: Cluster) -> Iterator[str]:
    """Yield ` - setting -> value` per setting that is not what it was, in the words of `gnt-cluster modify`."""
    for key in SETTINGS:
        value = getattr(after, key)
        if value != getattr(before, key):
            yield f" - {key} -> {','.join(value) if isinstance(value, tuple) else value}"
    for hypervisor in sorted({*before.hvparams, *after.hvparams}):
        old, new = before.hvparams.get(hypervisor, {}), after.hvparams.get(hypervisor, {})
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                yield f" - hvparams/{hypervisor}/{name} -> {new.get(name, 'forgotten')}"
