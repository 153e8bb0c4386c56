"""Values for tests. Everything has a default, so what a test names is what matters to it."""

import hashlib
from collections.abc import Iterable

from protocol.messages import FileEntry, FileEvent, Manifest, Status
from protocol.names import ALL, Digest, NodeName, ScopeName, managed_path

NODE1 = NodeName("node1.example.com")
NODE2 = NodeName("node2")


def a_digest(content: bytes = b"content") -> Digest:
    return Digest(hashlib.sha256(content).hexdigest())


def an_entry(path: str = "/etc/hosts", *, content: bytes = b"content", generation: int = 1) -> FileEntry:
    return FileEntry(
        path=managed_path(path),
        digest=a_digest(content),
        size_bytes=len(content),
        mode=0o644,
        owner="root",
        group="root",
        generation=generation,
    )


def a_manifest(
    *paths: str, scope: ScopeName = ALL, epoch: int = 1, generation: int = 1, content: bytes = b"content"
) -> Manifest:
    files = tuple(an_entry(path, content=content, generation=generation) for path in sorted(paths or ("/etc/hosts",)))
    return Manifest(scope=scope, epoch=epoch, generation=generation, files=files)


def events_of(manifest: Manifest) -> list[FileEvent]:
    """Return what is said when every file of a manifest has changed."""
    return [_event(manifest, entry) for entry in manifest.files]


def _event(manifest: Manifest, entry: FileEntry) -> FileEvent:
    return FileEvent(
        scope=manifest.scope,
        epoch=manifest.epoch,
        generation=manifest.generation,
        path=entry.path,
        change="changed",
        entry=entry,
    )


def many_paths(count: int) -> Iterable[str]:
    return (f"/etc/many/{number:05}.conf" for number in range(count))


def a_status(node: NodeName = NODE1, *, sequence: int = 1, serial: int = 1) -> Status:
    return Status(node=node, boot="boot-1", sequence=sequence, serial=serial)
