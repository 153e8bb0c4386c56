"""Which files are managed, and what the master's disk holds of each: what every plan is made from.

What follows from the cluster config (ssconf) is written onto the master's own disk first. As real files these are
sources like all others: hashed, watched, and in the same generation as the config.data they belong to.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from master.core.ancillary import Ancillary, Generated, ManagedFile, Surroundings, held_files, managed_files
from master.core.cluster import ClusterConfig, to_text
from master.core.file_list import sees_a_difference
from master.core.globs import directory_of, is_glob, select, selects
from master.core.plan import Source
from master.rollback_helper import AskingWriter
from master.settings import NO_HELPER, MasterSettings
from master.source_watch import Look, SourceWatch
from master.source_writer import SourceWriter
from master.sources import Sources
from master.store import Store
from protocol import durable
from protocol.errors import Refused, Unavailable
from protocol.messages import FileError, Manifest
from protocol.names import ALL, Digest, ManagedPath, ScopeName


class ManagedFiles:
    """`read` is called by one task at a time; `surroundings` is what decides beside the cluster config."""

    def __init__(self, surroundings: Surroundings, sources: Sources, watch: SourceWatch) -> None:
        self.surroundings = surroundings
        self._sources = sources
        self._watch = watch
        self._worked_out: tuple[ClusterConfig, Surroundings, Ancillary] | None = None
        self._unwritten: dict[ManagedPath, str] = {}
        self.hook_faults: tuple[FileError, ...] = ()
        """What `file_hooks` found wrong."""

    @property
    def seen(self) -> Mapping[ManagedPath, Source]:
        """What each managed file held when it was last looked at."""
        return self._watch.seen

    @property
    def hooks_due(self) -> asyncio.Event:
        """Set when the file hooks may have something else to say."""
        return self._watch.hooks_due

    def of(self, config: ClusterConfig) -> Ancillary:
        """Return every managed file. Worked out once for what decides it: an edit must not wait for it."""
        known = self._worked_out
        if known is None or known[0] is not config or known[1] is not self.surroundings:
            known = (config, self.surroundings, managed_files(config, self.surroundings))
            self._worked_out = known
        return known[2]

    async def around(
        self,
        config: ClusterConfig,
        manifests: Mapping[ScopeName, Manifest],
        paths: frozenset[ManagedPath] | None = None,
    ) -> Surroundings:
        """Return what decides beside a config, which need not be the one in force: what patterns of its list select.

        The disk is looked at if `paths` (None: any) may have to do with a pattern.
        """
        known = self.surroundings
        held = held_files(config, known.hypervisors, manifests)
        found = known if held == known.held else replace(known, held=held)
        patterns = _patterns(config)
        if not patterns and not known.matches:
            return found
        is_new = patterns != known.matches.keys()
        if paths is None or is_new or any(selects(pattern, path) for pattern in patterns for path in paths):
            there = await asyncio.to_thread(self._names, {directory_of(pattern) for pattern in patterns})
            matches, faults = select(config, patterns, *there, manifests.values())
            if (matches, faults) != (known.matches, known.pattern_faults):
                return replace(found, matches=matches, pattern_faults=faults)
        return found

    async def read(
        self, config: ClusterConfig, manifests: Mapping[ScopeName, Manifest], paths: frozenset[ManagedPath] | None
    ) -> tuple[FileError, ...]:
        """Bring `seen` up to date where it may differ (None: everywhere); return what is wrong beside the sources.

        `manifests` are those published: a file that a pattern selected then is still managed if it has vanished.
        """
        self.surroundings = await self.around(config, manifests, paths)
        ancillary, patterns = self.of(config), _patterns(config)
        mine = [file.path for file in ancillary.files]
        written = await self._write(ancillary.generated)
        await self._watch.read(mine, None if paths is None else paths | written, patterns=patterns)
        if written := await self._write(ancillary.generated):  # someone else has written them, or nobody yet
            await self._watch.read(mine, written, patterns=patterns)
        unwritten = [FileError(path=path, scope=ALL, reason=reason) for path, reason in self._unwritten.items()]
        return (*ancillary.problems, *unwritten, *self.hook_faults)

    async def foresee(
        self, before: ClusterConfig, after: ClusterConfig, manifests: Mapping[ScopeName, Manifest]
    ) -> tuple[tuple[ManagedFile, ...], dict[ManagedPath, Source]]:
        """Return the files there would be after a change, and what the master would hold of each. Writes nothing."""
        ancillary = managed_files(after, await self.around(after, manifests))
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

    def writer(self, settings: MasterSettings, store: Store) -> SourceWriter:
        """Return who can put older contents back into the sources."""
        if settings.rollback_socket != NO_HELPER:
            return AskingWriter(settings.state_dir, store, self._sources, settings.rollback_socket)
        return SourceWriter(settings.state_dir, store, self._sources)

    def note_change(self, before: ClusterConfig, after: ClusterConfig) -> None:
        """Have the file hooks asked if they see another cluster now."""
        if sees_a_difference(before, after):
            self.hooks_due.set()

    async def glance(self, path: ManagedPath) -> Source:
        """Return what is at a path on the master, managed or not, without reading it."""
        return await self._watch.glance(path)

    async def check(self, paths: Iterable[ManagedPath]) -> None:
        """Refuse, by name, what lies on the master now and cannot be shipped: a directory, a device, a link."""
        for path in paths:
            source = await self.glance(path)
            if source.kind == "unusable":
                raise Refused(f"{path} {source.reason}")

    def forget(self, digest: Digest | None = None) -> frozenset[ManagedPath]:
        """Have contents (None: all of them) read afresh next time; return their paths."""
        return self._watch.forget(digest)

    async def run(self, look: Look) -> None:
        """Call `look` whenever a source may have changed, until cancelled."""
        await self._watch.run(look)

    def _names(self, directories: Collection[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Return the names of the regular files in each directory, and why those of others cannot be known."""
        names, unreadable = {}, {}
        for directory in directories:
            try:
                names[directory] = self._sources.names(directory)
            except Unavailable as error:
                unreadable[directory] = str(error)
        return names, unreadable

    async def _write(self, generated: Mapping[ManagedPath, Generated]) -> frozenset[ManagedPath]:
        """Write those generated files that were seen to hold something else; return them."""
        due = {path: file for path, file in generated.items() if path in self.seen and not file.is_in(self.seen[path])}
        self._unwritten = await asyncio.to_thread(_write_all, self._sources, due) if due else {}
        return frozenset(due)


def _patterns(config: ClusterConfig) -> frozenset[ManagedPath]:
    return frozenset(file.path for file in config.cluster.ancillary_files if is_glob(file.path))


def _write_all(sources: Sources, files: Mapping[ManagedPath, Generated]) -> dict[ManagedPath, str]:
    """Write files durably; return why not for each that could not be."""
    faults = {}
    for path, file in files.items():
        try:
            durable.write_file(sources.real(path), file.content, mode=file.mode)
        except OSError as error:
            faults[path] = f"cannot be written on the master: {error.strerror}"
    return faults
