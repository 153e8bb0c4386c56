"""What a file hook is told, and what its answer means: one JSON object per line, `{"path": …, "scope": …}`.

The design text: "a hook to calculate them". A hook is an executable of the administrator's; everything it prints is
checked before any of it counts.
"""

import msgspec

from master.core.cluster import AncillaryFile, ClusterConfig, to_text
from protocol.names import managed_path, scope_name


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    scope: str
    optional: bool = False


_DECODER = msgspec.json.Decoder(_Line)


def told(config: ClusterConfig, *, root: str) -> tuple[bytes, dict[str, str]]:
    """Return what a hook gets on its standard input, the text of config.data, and its whole environment.

    `root` is where the master's files lie: "/", but for a mesh whose nodes share one machine.
    """
    nodes = config.sorted_nodes()
    groups = sorted(group.name for group in config.nodegroups.values())
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "GNT_MESH_ROOT": root,
        "GNT_MESH_CLUSTER": config.cluster.cluster_name,
        "GNT_MESH_MASTER": config.master.name,
        "GNT_MESH_SERIAL_NO": str(config.serial_no),
        "GNT_MESH_NODES": " ".join(node.name for node in nodes),
        "GNT_MESH_MASTER_CANDIDATES": " ".join(node.name for node in nodes if node.master_candidate),
        "GNT_MESH_VM_CAPABLE": " ".join(node.name for node in nodes if node.vm_capable),
        "GNT_MESH_GROUPS": " ".join(groups),
        "GNT_MESH_SCOPES": " ".join(config.scopes()),
        "GNT_MESH_HYPERVISORS": " ".join(config.cluster.enabled_hypervisors),
    }
    return to_text(config).encode(), environment


def read_answer(output: bytes, config: ClusterConfig) -> tuple[AncillaryFile, ...]:
    """Return the files that a hook names, in path order; ValueError says at which line it makes no sense."""
    found: dict[str, AncillaryFile] = {}
    for number, line in enumerate(output.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            file = _file(line, config)
            if found.setdefault(file.path, file) != file:
                raise ValueError(f"{file.path} is named twice, differently")
        except (ValueError, msgspec.DecodeError) as error:
            raise ValueError(f"line {number} of its answer: {error}") from None
    return tuple(sorted(found.values(), key=lambda file: file.path))


def _file(line: bytes, config: ClusterConfig) -> AncillaryFile:
    said = _DECODER.decode(line)
    scope = scope_name(said.scope)
    if scope not in config.scopes():
        raise ValueError(f"scope {scope} does not exist; there are {', '.join(config.scopes())}")
    return AncillaryFile(path=managed_path(said.path), scope=scope, optional=said.optional)
