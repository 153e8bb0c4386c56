"""Values for tests of the cores. Everything has a default, so that what a test names is what matters to it."""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping

from master.core import hypervisors
from master.core.ancillary import Surroundings
from master.core.cluster import AncillaryFile, Cluster, ClusterConfig, Node, NodeGroup, WithdrawnFile
from master.core.plan import Source
from node_agent.core.reconcile import Found
from protocol.messages import (
    Assignment,
    FileEntry,
    FileError,
    Manifest,
    NodeBell,
    ScopeBell,
    ScopeReceipt,
    Status,
    Withdrawal,
)
from protocol.names import ALL, Digest, GroupName, ManagedPath, NodeName, ScopeName

PATH = ManagedPath("/etc/ganeti/x")
OTHER = ManagedPath("/etc/ganeti/y")
CONFIG_DATA = ManagedPath("/var/lib/ganeti/config.data")
SURROUNDINGS = Surroundings(config_data=CONFIG_DATA, hypervisors=hypervisors.BUILT_IN, release="0.0.1")

ROLES: Mapping[str, Mapping[str, bool]] = {
    "C": {"master_candidate": True},
    "R": {},
    "D": {"drained": True},
    "O": {"offline": True},
    "N": {"master_capable": False},
}
"""Flags by the letter of a role; N is a regular node that cannot become a candidate."""


def digest_of(content: str | bytes) -> Digest:
    raw = content.encode() if isinstance(content, str) else content
    return Digest(hashlib.sha256(raw).hexdigest())


def a_public_key(name: str) -> str:
    """Return a well-formed user key that nobody has the seed of."""
    raw = bytes([20 << 3]) + hashlib.sha256(name.encode()).digest()
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


def an_entry(
    path: str = PATH,
    content: str = "content",
    *,
    mode: int = 0o644,
    owner: str = "root",
    group: str = "root",
    generation: int = 1,
) -> FileEntry:
    return FileEntry(
        path=ManagedPath(path),
        digest=digest_of(content),
        size_bytes=len(content.encode()),
        mode=mode,
        owner=owner,
        group=group,
        generation=generation,
    )


def a_manifest(
    *files: FileEntry,
    scope: ScopeName = ALL,
    epoch: int = 1,
    generation: int = 1,
    withdrawn: Iterable[Withdrawal] = (),
) -> Manifest:
    ordered = tuple(sorted(files, key=lambda entry: entry.path))
    return Manifest(scope=scope, epoch=epoch, generation=generation, files=ordered, withdrawn=tuple(withdrawn))


def an_assignment(
    *scopes: ScopeName,
    node: str = "node2",
    epoch: int = 1,
    serial: int = 1,
    is_master: bool = False,
    is_offline: bool = False,
) -> Assignment:
    return Assignment(
        node=NodeName(node),
        epoch=epoch,
        serial=serial,
        scopes=scopes or (ALL,),
        is_master=is_master,
        is_offline=is_offline,
    )


def a_scope_bell(scope: ScopeName = ALL, generation: int = 1, *, epoch: int = 1, is_beat: bool = False) -> ScopeBell:
    return ScopeBell(scope=scope, epoch=epoch, generation=generation, is_beat=is_beat)


def a_node_bell(*, node: str = "node2", serial: int = 1, look: str = "") -> NodeBell:
    return NodeBell(node=NodeName(node), epoch=1, serial=serial, look=look)


def a_receipt(scope: ScopeName = ALL, generation: int = 1, *, epoch: int = 1) -> ScopeReceipt:
    return ScopeReceipt(scope=scope, epoch=epoch, generation=generation)


def an_error(path: str = PATH, scope: str = ALL, reason: str = "No space left on device") -> FileError:
    return FileError(path=path, scope=scope, reason=reason)


def a_status(
    *receipts: ScopeReceipt,
    node: str = "node2",
    boot: str = "boot1",
    sequence: int = 1,
    serial: int = 1,
    holding: Iterable[ScopeName] = (),
    errors: Iterable[FileError] = (),
    look: str = "",
) -> Status:
    return Status(
        node=NodeName(node),
        boot=boot,
        sequence=sequence,
        serial=serial,
        receipts=receipts,
        holding=tuple(holding),
        errors=tuple(errors),
        errors_count=len(tuple(errors)),
        look=look,
    )


def found_as(entry: FileEntry) -> Found:
    """Return what is found where an entry has been written."""
    return Found("file", entry.digest, entry.size_bytes, entry.mode, entry.owner, entry.group)


def found_file(content: str = "by hand", *, mode: int = 0o644, owner: str = "root", group: str = "root") -> Found:
    return Found("file", digest_of(content), len(content.encode()), mode, owner, group)


def a_source(content: str = "content", *, mode: int = 0o644, owner: str = "root", group: str = "root") -> Source:
    return Source(
        "ready", digest=digest_of(content), size_bytes=len(content.encode()), mode=mode, owner=owner, group=group
    )


def a_file(
    path: str = PATH, scope: ScopeName = ALL, *, optional: bool = False, allow_empty: bool = False
) -> AncillaryFile:
    return AncillaryFile(path=ManagedPath(path), scope=scope, optional=optional, allow_empty=allow_empty)


def a_node(
    name: str = "node2", role: str = "R", *, group: str = "default", serial_no: int = 1, vm_capable: bool = True
) -> Node:
    return Node(
        name=NodeName(name),
        uuid=f"uuid-{name}",
        group=f"uuid-group-{group}",
        public_key=a_public_key(name),
        serial_no=serial_no,
        vm_capable=vm_capable,
        **ROLES[role],
    )


def a_config(
    *nodes: Node,
    files: Iterable[AncillaryFile] = (),
    withdrawn: Iterable[WithdrawnFile] = (),
    groups: Iterable[str] = ("default",),
    pool_size: int = 10,
    epoch: int = 1,
    serial_no: int = 1,
) -> ClusterConfig:
    """Return a cluster of node1, its master, and these nodes."""
    members = {node.uuid: node for node in (a_node("node1", "C"), *nodes)}
    return ClusterConfig(
        cluster=Cluster(
            cluster_name="test",
            uuid="uuid-cluster",
            master_node="uuid-node1",
            epoch=epoch,
            candidate_pool_size=pool_size,
            ancillary_files=tuple(files),
            withdrawn_files=tuple(withdrawn),
        ),
        nodes=members,
        nodegroups={
            f"uuid-group-{name}": NodeGroup(name=GroupName(name), uuid=f"uuid-group-{name}") for name in groups
        },
        serial_no=max([serial_no, *(node.serial_no for node in members.values())]),
    )
