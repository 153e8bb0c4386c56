"""Carries what should be true from the master's disk to the bus, and finds out where the bus says something else.

Everything here may be repeated at any time: what is on the bus already is left alone, what is missing or different is
stored again. Unavailable travels up; the daemon then calls `restore` until it succeeds.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from master.core import broker_config
from master.core.cluster import ClusterConfig, Node
from master.core.plan import Publication
from master.store import Store
from protocol import codec, durable
from protocol.bus import MasterBus
from protocol.errors import DecodeError, Unavailable
from protocol.messages import Assignment, FileEntry, FileEvent, Manifest, ManifestHead, NodeBell, ScopeBell
from protocol.names import Digest, NodeName, ScopeName

Manifests = Mapping[ScopeName, Manifest]

PUTS_MAX: Final = 4
"""Contents on their way to the broker at the same time."""

log = structlog.get_logger()


class Publisher:
    """The master's hand on the bus. `refuse` is told of messages on the bus that are not the master's."""

    def __init__(
        self, bus: MasterBus, store: Store, broker_nodes_file: Path, *, refuse: Callable[[str, str], None]
    ) -> None:
        self._bus = bus
        self._store = store
        self._broker_nodes_file = broker_nodes_file
        self._refuse = refuse
        self._enforced: tuple[bytes, bytes] | None = None
        """The lists of nodes and of access that the broker is known to act on; None while that is not known."""
        self._previous: dict[ScopeName, Manifest] = {}
        self._digests: dict[ScopeName, tuple[Manifest, str]] = {}
        self._swept: dict[ScopeName, tuple[int, int]] = {}

    async def restore(self, config: ClusterConfig, manifests: Manifests, *, afresh: bool) -> tuple[int, int]:
        """Make the bus say what the disk says. Return the highest generation and assignment serial found ahead of it.

        (0, 0) means that nothing on the bus was ahead, as it should be; otherwise the caller must go beyond both.
        """
        await self._bus.prepare(config.scopes(), afresh=afresh)
        self._enforced = None  # it may be another broker, or one that was started with an older file
        await self.let_in(config)
        ahead = [await self._restore_scope(manifest) for manifest in manifests.values()]
        serials = [await self._restore_assignment(config, node) for node in config.nodes.values()]
        for manifest in manifests.values():
            await self.ring(manifest)
        await self._bus.ring_cluster()
        return max(ahead, default=0), max(serials, default=0)

    async def publish(self, publication: Publication, before: Manifests) -> None:
        """Store contents, then events and manifests, then ring: nobody hears of what cannot be fetched yet.

        Nothing new goes out before the broker has shut out whom it should: Unavailable if that is not known.
        """
        if self._enforced is None:
            raise Unavailable("the broker does not act on its list of nodes yet; nothing is published before it does")
        for manifest in publication.manifests:
            if manifest.scope in before:
                self._previous[manifest.scope] = before[manifest.scope]
            await self._put_blobs(manifest.scope, [e.entry for e in _events_of(manifest, publication) if e.entry])
        for manifest in publication.manifests:
            await self._bus.publish(manifest, _events_of(manifest, publication))
            await self.ring(manifest)

    async def patrol(self, config: ClusterConfig, manifests: Manifests) -> bool:
        """Return whether the bus still says what it should; remove contents that nobody needs any more.

        Unavailable if a stream is not as it should be: a store whose files are gone says so only when it is asked to
        make sure of its streams.
        """
        await self._bus.prepare(config.scopes())
        for scope in config.scopes():
            head = await self._head(scope)
            if scope not in manifests or head is None or not self._is_head_of(head, manifests[scope]):
                return False
            if self._swept.get(scope) != head.version:
                await self._bus.keep_blobs(scope, self._needed(manifests[scope]) | {head.digest})
                self._swept[scope] = head.version
        return True

    async def assign(self, config: ClusterConfig, nodes: Collection[Node]) -> None:
        """Store the assignments of these nodes and ring each of them."""
        for node in nodes:
            await self._bus.assign(assignment_of(config, node))
        for node in nodes:
            await self.ring_node(config, node)

    async def dismiss(self, config: ClusterConfig, node: Node, *, serial: int) -> None:
        """Tell a node that it is in no scope any more, and so must give back whatever it holds."""
        await self._bus.assign(replace(assignment_of(config, replace(node, serial_no=serial)), scopes=()))
        await self.ring_node(config, replace(node, serial_no=serial))

    async def unassign(self, name: NodeName) -> None:
        await self._bus.unassign(name)

    async def open_scopes(self, scopes: Sequence[ScopeName]) -> None:
        """Make the streams of scopes that are new."""
        await self._bus.prepare(scopes)

    async def drop_scope(self, scope: ScopeName) -> None:
        self._previous.pop(scope, None)
        await self._bus.drop_scope(scope)

    async def let_in(self, config: ClusterConfig) -> None:
        """Have the broker enforce the config's nodes and scopes; when this returns it does."""
        nodes, access = broker_config.lists(config)
        if (nodes, access) == self._enforced:
            return
        self._enforced = None
        _write_list(self._broker_nodes_file, nodes)
        _write_list(self._broker_nodes_file.with_name(broker_config.ACCESS_FILE), access)
        await self._bus.reload_broker()
        self._enforced = (nodes, access)

    @property
    def is_enforced(self) -> bool:
        """True if the broker is known to act on the list of nodes that it was given last."""
        return self._enforced is not None

    async def ring(self, manifest: Manifest, *, is_beat: bool = False) -> None:
        bell = ScopeBell(scope=manifest.scope, epoch=manifest.epoch, generation=manifest.generation, is_beat=is_beat)
        await self._bus.ring(bell)

    async def ring_node(self, config: ClusterConfig, node: Node, *, look: str = "") -> None:
        await self._bus.ring(NodeBell(node=node.name, epoch=config.cluster.epoch, serial=node.serial_no, look=look))

    async def restore_blob(self, manifest: Manifest, digest: Digest) -> None:
        """Store one content of a scope again, from scratch, that a node could not get; then ring.

        A manifest too large to travel inline is such a content too.
        """
        entries = [entry for entry in manifest.files if entry.digest == digest]
        is_manifest = digest == self._digest_of(manifest)
        if not entries and not is_manifest:
            return
        await self._bus.prepare([manifest.scope])
        await self._bus.drop_blob(manifest.scope, digest)
        await self._put_blobs(manifest.scope, entries[:1])
        if is_manifest:
            await self._bus.publish(manifest, [])
        await self.ring(manifest)

    async def _restore_scope(self, manifest: Manifest) -> int:
        """Publish a scope again unless it is there; return the generation on the bus if that is ahead, else 0."""
        head = await self._head(manifest.scope)
        if head and head.version > manifest.version:
            return head.generation
        await self._put_blobs(manifest.scope, manifest.files)
        if head is None or not self._is_head_of(head, manifest):
            events = [
                FileEvent(
                    scope=manifest.scope,
                    epoch=manifest.epoch,
                    generation=entry.generation,
                    path=entry.path,
                    change="changed",
                    entry=entry,
                )
                for entry in manifest.files
            ]
            await self._bus.publish(manifest, events)
            log.info("scope_restored", scope=manifest.scope, generation=manifest.generation, files=len(events))
        return 0

    async def _restore_assignment(self, config: ClusterConfig, node: Node) -> int:
        try:
            stored = await self._bus.assignment(node.name)
        except DecodeError as error:
            self._refuse(f"assignment of {node.name}", str(error))
            stored = None
        wanted = assignment_of(config, node)
        if stored and stored.version > wanted.version:
            return stored.serial
        if stored != wanted:
            await self._bus.assign(wanted)
        await self.ring_node(config, node)
        return 0

    async def _head(self, scope: ScopeName) -> ManifestHead | None:
        try:
            return await self._bus.head(scope)
        except DecodeError as error:
            self._refuse(f"manifest of {scope}", str(error))
            return None

    def _is_head_of(self, head: ManifestHead, manifest: Manifest) -> bool:
        return head.version == manifest.version and head.digest == self._digest_of(manifest)

    def _digest_of(self, manifest: Manifest) -> str:
        """Return the digest of the encoded manifest, computed once for each."""
        known = self._digests.get(manifest.scope)
        if known is None or known[0] is not manifest:
            known = (manifest, hashlib.sha256(codec.encode(manifest)).hexdigest())
            self._digests[manifest.scope] = known
        return known[1]

    def _needed(self, manifest: Manifest) -> set[Digest]:
        """Contents of this generation and the one before, which some node may be fetching."""
        before = self._previous.get(manifest.scope)
        return {entry.digest for entry in (*manifest.files, *(before.files if before else ()))}

    async def _put_blobs(self, scope: ScopeName, entries: Sequence[FileEntry]) -> None:
        contents = {entry.digest: entry.size_bytes for entry in entries}
        slots = asyncio.Semaphore(PUTS_MAX)

        async def put(digest: Digest, size_bytes: int) -> None:
            async with slots:
                await self._bus.put_blob(scope, digest, self._store.blob_path(digest), size_bytes)

        results = await asyncio.gather(*(put(*content) for content in contents.items()), return_exceptions=True)
        for failure in results:
            if failure is not None:
                raise failure


def assignment_of(config: ClusterConfig, node: Node) -> Assignment:
    """Return what a node is told of its role."""
    return Assignment(
        node=node.name,
        epoch=config.cluster.epoch,
        serial=node.serial_no,
        scopes=config.scopes_of(node),
        is_master=node.uuid == config.cluster.master_node,
        is_offline=node.offline,
    )


def _events_of(manifest: Manifest, publication: Publication) -> list[FileEvent]:
    return [event for event in publication.events if event.scope == manifest.scope]


def _write_list(path: Path, text: bytes) -> None:
    try:
        if not path.exists() or path.read_bytes() != text:
            durable.write_file(path, text)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error
