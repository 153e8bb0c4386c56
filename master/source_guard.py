"""Holds back on the master what looks like an accident; `core/guards` decides, what it must know is found out here."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from master.core import guards
from master.core.ancillary import ManagedFile
from master.core.cluster import ClusterConfig
from master.core.plan import Source
from master.store import Store
from protocol.messages import Manifest
from protocol.names import Digest, ManagedPath, ScopeName

REMEMBERED_MAX: Final = 100


class SourceGuard:
    """Knows which sources are the beginning of what is published; each is found out once, for it may be long."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begins: dict[tuple[Digest, Digest], bool] = {}

    async def hold(
        self,
        config: ClusterConfig,
        files: Sequence[ManagedFile],
        sources: Mapping[ManagedPath, Source],
        manifests: Mapping[ScopeName, Manifest],
        *,
        made: Collection[ManagedPath],
        confirmed: guards.Confirmed,
    ) -> guards.Held:
        """Return what to plan with. What is `made` of the cluster config is as it must be."""
        entries = (entry for manifest in manifests.values() for entry in manifest.files)
        published = {entry.path: entry for entry in entries if entry.path not in made}
        beginnings = [
            path
            for path, source in sources.items()
            if path in published
            and source.kind == "ready"
            and guards.looks_truncated(published[path].size_bytes, source.size_bytes)
            and await self._is_beginning(published[path].digest, source)
        ]
        return guards.hold(config, files, sources, manifests, beginnings=beginnings, confirmed=confirmed)

    async def _is_beginning(self, published: Digest, source: Source) -> bool:
        asked = (published, source.digest)
        if asked not in self._begins:
            if len(self._begins) >= REMEMBERED_MAX:
                self._begins.clear()
            self._begins[asked] = await asyncio.to_thread(
                self._store.begins_with, published, source.digest, source.size_bytes
            )
        return self._begins[asked]
