"""The cluster's defaults of OS parameters, by OS or OS+variant: what `os modify` changes. Pure."""

from dataclasses import replace

from master.core.cluster import ClusterConfig, with_cluster
from master.core.os_params import modified_defaults
from protocol.errors import Refused
from protocol.operator_os_messages import OsModify
from protocol.os_names import split_os


def modify_os(config: ClusterConfig, request: OsModify, *, now: float) -> ClusterConfig:
    """Change defaults; the value `default` removes one. The OS need not exist yet, as in Ganeti.

    No instance changes: it has what its last install got.
    """
    try:
        split_os(request.name)
    except ValueError as error:
        raise Refused(str(error)) from error
    if not request.parameters:
        raise Refused(f"OS {request.name}: nothing to change was given; give -O NAME=VALUE")
    before = config.cluster.osparams
    after = modified_defaults(before.get(request.name, {}), request.parameters)
    osparams = {**before, request.name: after} if after else {key: before[key] for key in before if key != request.name}
    if osparams == before:
        return config
    return with_cluster(config, replace(config.cluster, osparams=osparams), now)
