"""What one mesh runs: nats-server, the master daemon, an agent per node; each in the way a unit file would."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from master.core.cluster import ClusterConfig
from master.up.bootstrap import server_name
from master.up.broker import Server, until_answering
from master.up.child import Program
from master.up.layout import BROKER, MASTER, Layout, Marker


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A mesh that is complete on the disk and claimed by this process."""

    layout: Layout
    marker: Marker
    config: ClusterConfig
    server: Server
    log_format: str
    environment: Mapping[str, str]


def broker_program(mesh: Mesh) -> Program:
    """Return nats-server. It has neither a notify socket nor an exit code for a configuration that it refuses."""
    return Program(
        name=BROKER,
        argv=(str(mesh.server.path), "-c", str(mesh.layout.broker_config)),
        log=mesh.layout.log(BROKER),
        pid_file=mesh.layout.pid_file(BROKER),
        probe=lambda: until_answering(mesh.marker.port, server_name(mesh.marker), mesh.layout.authority),
        gives_up_early=True,
        is_vital=True,
    )


def master_program(mesh: Mesh) -> Program:
    """Return the master daemon."""
    return Program(
        name=MASTER,
        argv=_daemon(mesh, "master", mesh.layout.settings(mesh.marker.master, "master")),
        log=mesh.layout.log(MASTER),
        pid_file=mesh.layout.pid_file(MASTER),
        is_vital=True,
    )


def agent_program(mesh: Mesh, node: str) -> Program:
    """Return the agent of one node, by the node's name."""
    return Program(
        name=node,
        argv=_daemon(mesh, "node_agent", mesh.layout.settings(node, "agent")),
        log=mesh.layout.log(node),
        pid_file=mesh.layout.pid_file(node),
    )


def _daemon(mesh: Mesh, module: str, settings: Path) -> tuple[str, ...]:
    # -P: a directory that happens to be the current one must not be imported from.
    return (sys.executable, "-P", "-m", module, "--settings", str(settings), "--log-format", mesh.log_format)
