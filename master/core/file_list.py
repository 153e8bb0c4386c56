"""Which files are listed by others than the administrator's single paths: hooks' answers, and what patterns select.

As in `operations`: each takes a config and returns the new one, or refuses, and nothing is written here.
"""

from collections.abc import Sequence
from dataclasses import replace

from master.core.cluster import AncillaryFile, Cluster, ClusterConfig, with_cluster
from protocol.errors import Refused
from protocol.names import ScopeName


def hook_answered(config: ClusterConfig, name: str, files: Sequence[AncillaryFile], *, now: float) -> ClusterConfig:
    """Put a hook's answer in the place of its last one.

    An empty answer after one with files is refused: it looks like a hook that could not find out. As with a source
    that became empty, an operator says so (`forget_hook`).
    """
    before = config.cluster.hook_files.get(name, ())
    if before and not files:
        raise Refused(f"answered with no file at all, after {len(before)} before")
    return _with_hook(config, name, tuple(files), now)


def forget_hook(config: ClusterConfig, name: str, *, now: float) -> ClusterConfig:
    """Withdraw the files that a hook has named; the hook is asked again as long as it is there."""
    if name not in config.cluster.hook_files:
        raise Refused(f"no file hook {name} has named any files")
    return _with_hook(config, name, (), now)


def sees_a_difference(before: ClusterConfig, after: ClusterConfig) -> bool:
    """True if a hook may answer differently; what hooks have answered themselves is not asked about again."""
    if before.nodes != after.nodes or before.nodegroups != after.nodegroups:
        return True
    nothing = {"hook_files": {}, "withdrawn_files": (), "serial_no": 1, "mtime": 0.0}
    return replace(before.cluster, **nothing) != replace(after.cluster, **nothing)  # type: ignore[arg-type]


def without_scope(cluster: Cluster, scope: ScopeName) -> Cluster:
    """Return the cluster without what hooks have answered for a scope that is to go; they are asked again."""
    if not any(file.scope == scope for files in cluster.hook_files.values() for file in files):
        return cluster
    kept = {name: tuple(file for file in files if file.scope != scope) for name, files in cluster.hook_files.items()}
    return replace(cluster, hook_files={name: files for name, files in kept.items() if files})


def _with_hook(config: ClusterConfig, name: str, files: tuple[AncillaryFile, ...], now: float) -> ClusterConfig:
    others = {other: listed for other, listed in config.cluster.hook_files.items() if other != name}
    answers = {**others, name: files} if files else others
    return with_cluster(config, replace(config.cluster, hook_files=answers), now)
