"""Carries what should be true from the master's disk to the bus, and finds out where the bus says something else.

Everything here may be repeated at any time: what is on the bus already is left alone, what is missing or different is
stored again. Unavailable travels up; the daemon then calls `restore` until it succeeds.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from master.core import broker_config
from master.core.cluster import ClusterConfig, Node
from master.core.plan import Publication
from master.store import Store
from master.vault import Vault
from protocol import codec, durable
from protocol.bus import CHUNK_BYTES, MasterBus
from protocol.errors import DecodeError, Deposed, Unavailable
from protocol.messages import Assignment, FileEntry, FileEvent, Manifest, ManifestHead, NodeBell, ScopeBell
from protocol.names import Digest, NodeName, ScopeName
from protocol.sealing.boxes import ScopeKey

Manifests = Mapping[ScopeName, Manifest]

PUTS_MAX: Final = 4
SMALL_PUTS_MAX: Final = 16
"""Contents on their way to the broker at the same time; more if each is one chunk at most."""

log = structlog.get_logger()


class Publisher:
    """The master's hand on the bus. `refuse` is told of messages on the bus that are not the master's.

    Secrets are sealed here: what goes to the bus is what everybody may see, or encrypted.
    """

    def __init__(
        self, bus: MasterBus, store: Store, vault: Vault, broker_nodes_file: Path, *, refuse: Callable[[str, str], None]
    ) -> None:
        self._bus = bus
        self._store = store
        self._vault = vault
        self._broker_nodes_file = broker_nodes_file
        self._refuse = refuse
        self.generation_seen = 0
        """The highest generation that the bus had and this disk does not: of an earlier term, or of a newer disk."""
        self._enforced: tuple[bytes, bytes] | None = None
        """The lists of nodes and of access that the broker is known to act on; None while that is not known."""
        self._previous: dict[ScopeName, Manifest] = {}
        self._digests: dict[ScopeName, tuple[Manifest, ScopeKey | None, str]] = {}
        self._swept: dict[ScopeName, tuple[int, int]] = {}
        self._sealed_with: dict[ScopeName, ScopeKey | None] = {}
        """The key under which all secrets of a scope are known to lie on the bus."""

    async def restore(self, config: ClusterConfig, manifests: Manifests, *, afresh: bool) -> tuple[int, int]:
        """Make the bus say what the disk says. Return the highest generation and assignment serial found ahead of it.

        (0, 0) means that nothing on the bus was ahead, as it should be; otherwise the caller must go beyond both.
        Deposed if the bus is of a later epoch.
        """
        await self._bus.prepare(config.scopes(), afresh=afresh)
        self._enforced = None  # it may be another broker, or one that was started with an older file
        await self.let_in(config)
        await asyncio.to_thread(self._vault.ensure, _scopes_with_secrets(manifests.values()))
        for scope in config.scopes():
            if scope not in manifests and (head := await self._seen(scope, config.cluster.epoch)):
                self.generation_seen = max(self.generation_seen, head.generation)
        serials = [await self._restore_assignment(config, node) for node in config.nodes.values()]
        ahead = [await self._restore_scope(manifest) for manifest in manifests.values()]
        for manifest in manifests.values():
            await self.ring(manifest)
        await self._bus.ring_cluster()
        return max(ahead, default=0), max(serials, default=0)

    async def publish(self, config: ClusterConfig, publication: Publication, before: Manifests) -> None:
        """Store contents, then events and manifests, then ring: nobody hears of what cannot be fetched yet.

        Nothing new goes out before the broker has shut out whom it should: Unavailable if that is not known.
        """
        if self._enforced is None:
            raise Unavailable("the broker does not act on its list of nodes yet; nothing is published before it does")
        await self.hand_out(
            config, await asyncio.to_thread(self._vault.ensure, _scopes_with_secrets(publication.manifests))
        )
        for manifest in publication.manifests:
            if manifest.scope in before:
                self._previous[manifest.scope] = before[manifest.scope]
            changed = [event.entry for event in _events_of(manifest, publication) if event.entry]
            await self._put_blobs(manifest.scope, [*changed, *self._sealed_anew(manifest)])
            self._sealed_with[manifest.scope] = self._vault.key(manifest.scope)
        for manifest in publication.manifests:
            await self._publish(manifest, _events_of(manifest, publication))
            await self.ring(manifest)
        for scope, entry in _turned_secret(publication, before):
            await self._bus.drop_blob(scope, entry.digest)

    async def hand_out(self, config: ClusterConfig, scopes: Collection[ScopeName]) -> None:
        """Give every node its keys, if it is in one of these scopes, whose keys are new."""
        for node in config.sorted_nodes() if scopes else ():
            if set(scopes) & set(config.scopes_of(node)):
                await self._bus.assign(self._with_keys(assignment_of(config, node), node))

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
            await self._bus.assign(self._with_keys(assignment_of(config, node), node))
        for node in nodes:
            await self.ring_node(config, node)

    async def dismiss(self, config: ClusterConfig, node: Node, *, serial: int) -> None:
        """Tell a node that it is in no scope any more, and so must give back whatever it holds."""
        await self._bus.assign(replace(assignment_of(config, replace(node, serial_no=serial)), scopes=()))
        await self.ring_node(config, replace(node, serial_no=serial))

    async def sign_again(self, config: ClusterConfig, manifests: Manifests) -> None:
        """Store once more what is signed, because the key to sign with is another one."""
        for manifest in manifests.values():
            await self._publish(manifest, [])
        for node in config.sorted_nodes():
            await self._bus.assign(self._with_keys(assignment_of(config, node), node))

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

    def entries_named(self, manifest: Manifest, name: Digest) -> list[FileEntry]:
        """Return the entries whose content lies on the bus under this name."""
        return [entry for entry in manifest.files if self._vault.name(manifest.scope, entry) == name]

    async def restore_blob(self, manifest: Manifest, name: Digest) -> None:
        """Store one content of a scope again, from scratch, that a node could not get; then ring.

        A manifest too large to travel inline is such a content too.
        """
        entries = self.entries_named(manifest, name)
        is_manifest = name == self._digest_of(manifest)
        if not entries and not is_manifest:
            return
        await self._bus.prepare([manifest.scope])
        await self._bus.drop_blob(manifest.scope, name)
        await self._put_blobs(manifest.scope, entries[:1])
        if is_manifest:
            await self._publish(manifest, [])
        await self.ring(manifest)

    async def _publish(self, manifest: Manifest, events: Collection[FileEvent]) -> None:
        public = [self._vault.public_event(event) for event in events]
        await self._bus.publish(self._vault.sealed(manifest), public)

    async def _restore_scope(self, manifest: Manifest) -> int:
        """Publish a scope again unless it is there; return the generation on the bus if that is ahead, else 0."""
        head = await self._seen(manifest.scope, manifest.epoch)
        if head and head.version > manifest.version:
            self.generation_seen = max(self.generation_seen, head.generation)
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
            await self._publish(manifest, events)
            log.info("scope_restored", scope=manifest.scope, generation=manifest.generation, files=len(events))
        return 0

    async def _seen(self, scope: ScopeName, epoch: int) -> ManifestHead | None:
        """Return the head of a scope's manifest on the bus, having made sure that it is not of a later term."""
        head = await self._head(scope)
        if head and head.epoch > epoch:
            raise Deposed(
                f"what is on the bus is of epoch {head.epoch}, and this master is of epoch {epoch}: another node has "
                "become the master; end this one, and see who it is with: gnt-mesh status"
            )
        return head

    async def _restore_assignment(self, config: ClusterConfig, node: Node) -> int:
        try:
            stored = await self._bus.assignment(node.name)
        except DecodeError as error:
            self._refuse(f"assignment of {node.name}", str(error))
            stored = None
        wanted = assignment_of(config, node)
        if stored and stored.version > wanted.version:
            return stored.serial
        if stored is None or not self._is_as_wanted(stored, wanted, node):
            await self._bus.assign(self._with_keys(wanted, node))
        await self.ring_node(config, node)
        return 0

    def _is_as_wanted(self, stored: Assignment, wanted: Assignment, node: Node) -> bool:
        """A key is wrapped differently each time; of the same node and serial its fingerprint tells enough."""
        keys = self._vault.key_ids(wanted.scopes) if node.public_key else set()
        return replace(stored, keys=()) == wanted and {(key.scope, key.key) for key in stored.keys} == keys

    def _with_keys(self, assignment: Assignment, node: Node) -> Assignment:
        keys = tuple(
            wrapped
            for reader in (node.public_key, node.next_public_key)
            for wrapped in self._vault.wrapped(assignment.scopes, reader)
        )
        if node.public_key and not keys and self._vault.key_ids(assignment.scopes):
            log.warning("keys_not_wrapped", node=node.name, reason="its public key is none that fits")
        return replace(assignment, keys=keys)

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
        known, key = self._digests.get(manifest.scope), self._vault.key(manifest.scope)
        if known is None or known[0] is not manifest or known[1] != key:
            encoded = codec.encode(self._vault.sealed(manifest))
            known = (manifest, key, hashlib.sha256(encoded).hexdigest())
            self._digests[manifest.scope] = known
        return known[2]

    def _needed(self, manifest: Manifest) -> set[Digest]:
        """Contents of this generation and the one before, which some node may be fetching."""
        before = self._previous.get(manifest.scope)
        entries = (*manifest.files, *(before.files if before else ()))
        return {self._vault.name(manifest.scope, entry) for entry in entries}

    def _sealed_anew(self, manifest: Manifest) -> list[FileEntry]:
        """Return the secrets that did not change, but whose key did: under it they are not on the bus yet."""
        if self._vault.key(manifest.scope) == self._sealed_with.get(manifest.scope):
            return []
        return [entry for entry in manifest.files if entry.secret]

    async def _put_blobs(self, scope: ScopeName, entries: Sequence[FileEntry]) -> None:
        contents = {self._vault.name(scope, entry): entry for entry in entries}
        are_small = all(entry.size_bytes <= CHUNK_BYTES for entry in contents.values())
        slots = asyncio.Semaphore(SMALL_PUTS_MAX if are_small else PUTS_MAX)

        async def put(entry: FileEntry) -> None:
            async with slots:
                source, box = self._store.blob_path(entry.digest), self._vault.box(scope, entry)
                await self._bus.put_blob(scope, entry.digest, source, entry.size_bytes, box=box)

        results = await asyncio.gather(*map(put, contents.values()), return_exceptions=True)
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


def _scopes_with_secrets(manifests: Iterable[Manifest]) -> set[ScopeName]:
    return {manifest.scope for manifest in manifests if any(entry.secret for entry in manifest.files)}


def _turned_secret(publication: Publication, before: Manifests) -> list[tuple[ScopeName, FileEntry]]:
    """Return entries as they were whose content lay on the bus as it is, and should not any longer."""
    found = []
    secret = {entry.path for manifest in publication.manifests for entry in manifest.files if entry.secret}
    for manifest in publication.manifests:
        plain = {entry.digest for entry in manifest.files if not entry.secret}
        old = before[manifest.scope].files if manifest.scope in before else ()
        turned = (entry for entry in old if entry.path in secret and not entry.secret and entry.digest not in plain)
        found += [(manifest.scope, entry) for entry in turned]
    return found


def _events_of(manifest: Manifest, publication: Publication) -> list[FileEvent]:
    return [event for event in publication.events if event.scope == manifest.scope]


def _write_list(path: Path, text: bytes) -> None:
    try:
        if not path.exists() or path.read_bytes() != text:
            durable.write_file(path, text, mode=0o644)  # its directory says who gets there
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error
