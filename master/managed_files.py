"""Which files are managed, and what the master's disk holds of each: what every plan is made from.

What follows from the cluster config (ssconf) is written onto the master's own disk first. As real files these are
sources like all others: hashed, watched, and in the same generation as the config.data they belong to.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from master.core.ancillary import Ancillary, Generated, ManagedFile, Surroundings, managed_files
from master.core.cluster import ClusterConfig, to_text
from master.core.plan import Source
from master.source_watch import Look, SourceWatch
from master.source_writer import SourceWriter
from master.sources import Sources
from master.store import Store
from protocol import durable
from protocol.messages import FileError
from protocol.names import ALL, Digest, ManagedPath


class ManagedFiles:
    """`read` is called by one task at a time; `surroundings` is what decides beside the cluster config."""

    def __init__(self, surroundings: Surroundings, sources: Sources, watch: SourceWatch) -> None:
        self.surroundings = surroundings
        self._sources = sources
        self._watch = watch
        self._worked_out: tuple[ClusterConfig, Surroundings, Ancillary] | None = None
        self._unwritten: dict[ManagedPath, str] = {}

    @property
    def seen(self) -> Mapping[ManagedPath, Source]:
        """What each managed file held when it was last looked at."""
        return self._watch.seen

    def of(self, config: ClusterConfig) -> Ancillary:
        """Return every managed file. Worked out once for what decides it: an edit must not wait for it."""
        known = self._worked_out
        if known is None or known[0] is not config or known[1] is not self.surroundings:
            known = (config, self.surroundings, managed_files(config, self.surroundings))
            self._worked_out = known
        return known[2]

    async def read(self, config: ClusterConfig, paths: frozenset[ManagedPath] | None) -> tuple[FileError, ...]:
        """Bring `seen` up to date where it may differ (None: everywhere); return what is wrong beside the sources."""
        ancillary = self.of(config)
        mine = [file.path for file in ancillary.files]
        written = await self._write(ancillary.generated)
        await self._watch.read(mine, None if paths is None else paths | written)
        if written := await self._write(ancillary.generated):  # someone else has written them, or nobody yet
            await self._watch.read(mine, written)
        unwritten = [FileError(path=path, scope=ALL, reason=reason) for path, reason in self._unwritten.items()]
        return (*ancillary.problems, *unwritten)

    async def foresee(
        self, before: ClusterConfig, after: ClusterConfig
    ) -> tuple[tuple[ManagedFile, ...], dict[ManagedPath, Source]]:
        """Return the files there would be after a change, and what the master would hold of each. Writes nothing."""
        ancillary = managed_files(after, self.surroundings)
        sources = await self._watch.peek([file.path for file in ancillary.files])
        config_data = sources[self.surroundings.config_data]
        would_be = dict(ancillary.generated)
        if after is not before:
            would_be[self.surroundings.config_data] = Generated.of(to_text(after).encode(), config_data.mode)
        for path, file in would_be.items():
            here = sources[path] if sources[path].kind == "ready" else config_data
            size_bytes = len(file.content)
            sources[path] = replace(here, kind="ready", digest=file.digest, size_bytes=size_bytes, mode=file.mode)
        return ancillary.files, sources

    def writer(self, state_dir: Path, store: Store) -> SourceWriter:
        """Return who can put older contents back into the sources."""
        return SourceWriter(state_dir, store, self._sources)

    def forget(self, digest: Digest | None = None) -> frozenset[ManagedPath]:
        """Have contents (None: all of them) read afresh next time; return their paths."""
        return self._watch.forget(digest)

    async def run(self, look: Look) -> None:
        """Call `look` whenever a source may have changed, until cancelled."""
        await self._watch.run(look)

    async def _write(self, generated: Mapping[ManagedPath, Generated]) -> frozenset[ManagedPath]:
        """Write those generated files that were seen to hold something else; return them."""
        due = {path: file for path, file in generated.items() if path in self.seen and not file.is_in(self.seen[path])}
        self._unwritten = await asyncio.to_thread(_write_all, self._sources, due) if due else {}
        return frozenset(due)


def _write_all(sources: Sources, files: Mapping[ManagedPath, Generated]) -> dict[ManagedPath, str]:
    """Write files durably; return why not for each that could not be."""
    faults = {}
    for path, file in files.items():
        try:
            durable.write_file(sources.real(path), file.content, mode=file.mode)
        except OSError as error:
            faults[path] = f"cannot be written on the master: {error.strerror}"
    return faults
