"""What should be true: cluster config and manifests, durable on disk and carried to the bus, one change at a time.

A change is decided in core, made durable, then carried. If the bus fails in the middle the disk is right all the same,
and `upkeep` carries everything again.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

import structlog

from master import members, rollbacks
from master.core import guards
from master.core.ancillary import ManagedFile, Surroundings, check_change, managed_files
from master.core.cluster import ClusterConfig, Node, with_nodes
from master.core.fleet import Fleet
from master.core.guards import Confirmed
from master.core.history import Generation, secrets, snapshot
from master.core.plan import Publication, Source, plan
from master.core.preview import preview
from master.core.rollback import Rollback, Step, named
from master.managed_files import ManagedFiles
from master.outcome import Cause, Outcome
from master.progress import Progress
from master.publisher import Publisher
from master.rollbacks import Rollbacks
from master.settings import MasterSettings
from master.source_guard import SourceGuard
from master.store import CHANGED_BY_HAND, Store
from master.vault import open_vault
from protocol.change_messages import ChangeRequest, Objection
from protocol.errors import Refused, Unavailable
from protocol.history_messages import FileConfirm, FileRollback
from protocol.messages import FileError, Manifest
from protocol.names import Digest, ManagedPath, ScopeName, is_secret
from protocol.operator_messages import Goal

Make = Callable[[ClusterConfig, float], ClusterConfig]

log = structlog.get_logger()


class Desired:
    """The state of record. `config`, `manifests` and `problems` are for reading; who changes anything holds `lock`.

    `restore_due` is set when the bus may no longer say what the disk says.
    """

    def __init__(
        self,
        settings: MasterSettings,
        config: ClusterConfig,
        store: Store,
        managed: ManagedFiles,
        *,
        fleet: Fleet,
        progress: Progress,
    ) -> None:
        self.config = config
        self.store = store
        self.managed = managed
        self.vault = open_vault(settings.state_dir)
        self.manifests: dict[ScopeName, Manifest] = store.manifests()
        self.problems: tuple[FileError, ...] = ()
        self._own_problems: tuple[FileError, ...] = ()
        self._foreign_problems: tuple[FileError, ...] = ()
        self.lock = asyncio.Lock()
        self.restore_due = asyncio.Event()
        self.publisher: Publisher
        self._fleet = fleet
        self._progress = progress
        self._config_data = ManagedPath(str(settings.config_data))
        self._rollbacks = Rollbacks(managed.writer(settings, store))
        self._held_moves: frozenset[ManagedPath] = frozenset()
        self._guard = SourceGuard(store)

    async def watch(self) -> None:
        """Publish what changes on the master's disk, until cancelled."""
        await self.managed.run(self.refresh)

    async def change(
        self, make: Make, request: ChangeRequest, *, why: str, renew: Collection[ScopeName] = ()
    ) -> Outcome:
        """Have the cluster config changed by `make`, durably, and carried to the bus. Refused leaves all as it was.

        Scopes to `renew` get a new key. The outcome's goal proves that the change has reached the nodes: the
        generations now published, and the serials of the nodes whose role changed. A dry run ends with the decision.
        """
        async with self.lock:
            before, published = self.config, dict(self.manifests)
            after = make(before, time.time())
            around = await self.managed.around(after, self.manifests)
            check_change(before, after, around)
            listed = self.files(), managed_files(after, around).files
            found = guards.objections(after, *listed, self.manifests, self._secrets())
            objections = guards.unconfirmed(found, request.confirm)
            confirmed = Confirmed(moves=guards.moves_of(*listed))
            if request.dry_run:
                return await self._foreseen(before, after, confirmed=confirmed, objections=objections)
            guards.refuse(objections)
            renewed = await asyncio.to_thread(self.vault.renew, members.scopes_that_lost(before, after) | {*renew})
            await asyncio.to_thread(self.store.save_config, after)
            self.config = after
            log.info("cluster_changed", why=why, serial_no=after.serial_no)
            touched = members.reassigned(before, after)
            try:
                await self._carry(before, after, touched, Cause.of(why, request), confirmed, renewed)
            except Unavailable as error:
                self.note_bus_failure("carrying a change", error)
            self.managed.note_change(before, after)
            self._progress.note()
            goal = self.goal_now(serials={node.name: node.serial_no for node in touched})
            return Outcome(before, after, published, goal, self.problems)

    async def rollback(self, request: FileRollback) -> tuple[Outcome, tuple[Step, ...]]:
        """Give sources what they were in a generation, all or none, durably, and publish that as one generation.

        From the moment the decision is on the disk a master that is killed finishes it when it starts again.
        """
        async with self.lock:
            then, files = snapshot(self.store.history(), request.generation), self.files()
            steps = await self._rollbacks.steps(request, then, files, self._made())
            found = guards.unconfirmed(rollbacks.objections(steps, then, files), request.confirm)
            confirmed = Confirmed(contents=frozenset(step.path for step in steps))
            if request.dry_run:
                wanted = {step.path: step.wanted for step in steps}
                config = self.config
                return await self._foreseen(config, config, wanted, confirmed=confirmed, objections=found), steps
            guards.refuse(found)
            published = dict(self.manifests)
            if steps:
                why = f"file rollback {request.generation} {named(request.paths)}".rstrip()
                cause = Cause.of(why, request)
                await self._rollbacks.begin(Rollback(why=why, by=cause.by, reason=cause.reason, steps=steps))
                await self._refresh_or_note(confirmed.contents, cause)
            return Outcome(self.config, self.config, published, self.goal_now(), self.problems), steps

    async def confirm(self, request: FileConfirm) -> Outcome:
        """Ship what is held back on the master, as one generation; Refused by name for what cannot be shipped."""
        async with self.lock:
            known = {file.path for file in self.files()} | self._held_moves
            paths = frozenset(path for path in known if path in request.paths)
            for path in request.paths:
                if path not in paths:
                    raise Refused(f"{path} is not managed; see: gnt-mesh file list")
            moves = paths | (self._held_moves if request.removals else frozenset())
            confirmed = Confirmed(contents=paths, moves=moves)
            foreseen = await self._foreseen(self.config, self.config, confirmed=confirmed)
            for problem in foreseen.problems:
                if problem.path in paths:
                    raise Refused(f"{problem.path} {problem.reason}")
            if request.dry_run:
                return foreseen
            published = dict(self.manifests)
            why = f"file confirm {'--removals ' if request.removals else ''}{named(request.paths)}".rstrip()
            await self._refresh_or_note(None, Cause.of(why, request), confirmed)
            return Outcome(self.config, self.config, published, self.goal_now(), self.problems)

    async def refresh(self, paths: frozenset[ManagedPath] | None, why: str) -> None:
        """Read sources again (all, or these), and publish what changed as one generation."""
        async with self.lock:
            await self._refresh_or_note(paths, Cause(why))

    async def read_everything(self, request: ChangeRequest, *, why: str) -> Outcome:
        """Read every source's content again, whether or not it looks as it did, and publish what changed."""
        async with self.lock:
            self.managed.forget()
            if request.dry_run:
                return await self._foreseen(self.config, self.config)
            await self._refresh_or_note(None, Cause.of(why, request))
            return Outcome(self.config, self.config, self.manifests, self.goal_now(), self.problems)

    async def read_lost_content(self, digest: Digest) -> None:
        """The store has lost or damaged a content: its source may still have it. The caller holds the lock."""
        entries = (entry for manifest in self.manifests.values() for entry in manifest.files)
        log.warning("content_damaged", paths=sorted({entry.path for entry in entries if entry.digest == digest}))
        self.store.blob_path(digest).unlink(missing_ok=True)
        await self._refresh(self.managed.forget(digest), Cause("a stored content was damaged"))

    def goal_now(self, *, serials: dict[str, int] | None = None, looks: str = "") -> Goal:
        """Return the goal that everything published now is on the nodes."""
        generations = {str(scope): manifest.generation for scope, manifest in self.manifests.items()}
        return Goal(epoch=self.config.cluster.epoch, generations=generations, serials=serials or {}, looks=looks)

    @property
    def surroundings(self) -> Surroundings:
        """What decides, beside the cluster config, which files there are."""
        return self.managed.surroundings

    def files(self) -> tuple[ManagedFile, ...]:
        """Return every managed file, the built-in ones included."""
        return self.managed.of(self.config).files

    def note_bus_failure(self, doing: str, error: Unavailable) -> None:
        log.warning("bus_failed", doing=doing, reason=str(error))
        self.restore_due.set()

    async def restore(self, *, afresh: bool) -> None:
        """Make the bus say what the disk says, and go beyond what is found ahead of it. The caller holds the lock."""
        generation, serial = await self.publisher.restore(self.config, self.manifests, afresh=afresh)
        if generation:
            log.warning("bus_was_ahead", generation=generation, ours=self.store.generation)
            await self._reissue()
        if serial:
            log.warning("assignments_were_ahead", serial=serial)
            await self._renumber(serial)
        self._progress.note()

    async def _foreseen(
        self,
        before: ClusterConfig,
        after: ClusterConfig,
        wanted: Mapping[ManagedPath, Source] | None = None,
        *,
        confirmed: Confirmed = guards.NOTHING,
        objections: Iterable[Objection] = (),
    ) -> Outcome:
        """Return what would happen if `after` were the config: from the same plan, of sources read now.

        `wanted` are sources that would be written.
        """
        files, sources = await self.managed.foresee(before, after, self.manifests)
        held = await self._guard.hold(
            after, files, {**sources, **(wanted or {})}, self.manifests, made=self._made(), confirmed=confirmed
        )
        publication = plan(after, held.files, held.sources, self.manifests, generation=self._next_generation())
        would_be = self.manifests | {manifest.scope: manifest for manifest in publication.manifests}
        errors = tuple(problem for problem in publication.problems if problem not in self.problems)
        foreseen = preview(before, after, self.manifests, would_be, errors=errors, objections=objections)
        return Outcome(before, after, self.manifests, Goal(epoch=after.cluster.epoch), publication.problems, foreseen)

    async def _carry(
        self,
        before: ClusterConfig,
        after: ClusterConfig,
        touched: list[Node],
        cause: Cause,
        confirmed: Confirmed,
        renewed: set[ScopeName],
    ) -> None:
        """The order matters: a demoted node is shut out before anything new is published, a promoted one let in.

        What is new is recorded first: if the bus fails, the history still says who asked for it. Those who are left
        have the `renewed` keys before anything is sealed with them.
        """
        gone = [scope for scope in before.scopes() if scope not in after.scopes()]
        for scope in gone:
            self.manifests.pop(scope, None)  # before anything that can fail: `restore` would publish it for ever
        published = dict(self.manifests)
        paths = None if before.cluster != after.cluster else frozenset({self._config_data})
        publication = await self._record(paths, cause, confirmed, renewed=renewed)
        if set(after.scopes()) - set(before.scopes()):
            await self.publisher.open_scopes(after.scopes())
        await self.publisher.let_in(after)
        await self.publisher.hand_out(after, renewed)
        await self.publisher.publish(after, publication, published)
        await self.publisher.assign(after, touched)
        for uuid in before.nodes.keys() - after.nodes.keys():
            self._fleet.forget(before.nodes[uuid].name)
            await self.publisher.unassign(before.nodes[uuid].name)
        for scope in gone:
            await self.publisher.drop_scope(scope)

    async def _refresh_or_note(
        self, paths: frozenset[ManagedPath] | None, cause: Cause, confirmed: Confirmed = guards.NOTHING
    ) -> None:
        try:
            await self._refresh(paths, cause, confirmed)
        except Unavailable as error:
            self.note_bus_failure("publishing", error)

    async def _refresh(
        self, paths: frozenset[ManagedPath] | None, cause: Cause, confirmed: Confirmed = guards.NOTHING
    ) -> None:
        before = dict(self.manifests)
        await self.publisher.publish(self.config, await self._record(paths, cause, confirmed), before)

    async def _record(
        self,
        paths: frozenset[ManagedPath] | None,
        cause: Cause,
        confirmed: Confirmed = guards.NOTHING,
        *,
        renewed: Collection[ScopeName] = (),
    ) -> Publication:
        """Read sources (None: all), plan, and make what changed a durable generation, for the caller to publish.

        A rollback that is not known to be done comes first, and is done once its generation is durable. A
        scope whose key was renewed has a new generation in any case: it is sealed anew.
        """
        stuck = await self._rollbacks.go_on()
        if rollback := self._rollbacks.pending:
            written = frozenset(step.path for step in rollback.steps)
            paths = paths if paths is None else paths | written
            confirmed = replace(confirmed, contents=confirmed.contents | written)
            cause = Cause(rollback.why, rollback.by, rollback.reason)
        problems = await self.managed.read(self.config, self.manifests, paths)
        held = await self._guard.hold(
            self.config,
            self.files(),
            {**self._sources(), **stuck},
            self.manifests,
            made=self._made(),
            confirmed=confirmed,
        )
        self._held_moves = held.moves
        publication = plan(
            self.config,
            held.files,
            held.sources,
            self.manifests,
            generation=self._next_generation(),
            renewed=renewed,
        )
        self._own_problems = (*problems, *publication.problems)
        self._note_problems()
        if publication.manifests:
            await self._add_generation(publication, cause if cause.by else replace(cause, by=_owners(publication)))
        if rollback and not stuck:
            await self._rollbacks.end()
        return publication

    def _sources(self) -> Mapping[ManagedPath, Source]:
        """Return what the sources hold. A config.data that somebody else has changed is not shipped.

        Candidates keep the good one, which may be the last there is.
        """
        seen, path = self.managed.seen, self.surroundings.config_data
        if path in seen and seen[path].kind == "ready" and not self.store.is_ours(seen[path].digest):
            return {**seen, path: Source("unusable", reason=CHANGED_BY_HAND)}
        return seen

    def _made(self) -> frozenset[ManagedPath]:
        """Return what the cluster makes itself: the operator's guards and rollbacks are not for it."""
        return frozenset((self._config_data, *self.managed.of(self.config).generated))

    def _secrets(self) -> frozenset[ManagedPath]:
        """Return what is or was for master candidates alone, as far as the config and the history know."""
        withdrawn = {file.path for file in self.config.cluster.withdrawn_files if is_secret(file.scope)}
        return secrets(self.store.history()) | withdrawn | {f.path for f in self.files() if is_secret(f.scope)}

    async def _add_generation(self, publication: Publication, cause: Cause) -> None:
        entry = Generation(
            generation=publication.generation,
            time=time.time(),
            why=cause.why,
            by=cause.by,
            reason=cause.reason,
            manifests=publication.manifests,
        )
        await asyncio.to_thread(self.store.add_generation, entry)
        self.manifests |= {manifest.scope: manifest for manifest in publication.manifests}
        scopes = [manifest.scope for manifest in publication.manifests]
        facts = {"generation": publication.generation, "scopes": scopes, "changed": len(publication.events)}
        log.info("generation_made", **facts, why=cause.why, by=cause.by)
        self._progress.note()

    def _next_generation(self) -> int:
        return max(self.store.generation, self.publisher.generation_seen) + 1

    def note_foreign(self, problems: tuple[FileError, ...]) -> None:
        """Have these shown as well: what is wrong with a Ganeti that is followed."""
        self._foreign_problems = problems
        self._note_problems()

    def _note_problems(self) -> None:
        problems = (*self._foreign_problems, *self._own_problems)
        if problems == self.problems:
            return
        for problem in problems:
            if problem not in self.problems:
                log.warning("source_problem", path=problem.path, reason=problem.reason)
        self.problems = problems
        self._progress.note()

    async def _reissue(self) -> None:
        """Publish what the disk says under a generation beyond the one found on the bus."""
        before = dict(self.manifests)
        generation = self._next_generation()
        manifests = tuple(replace(manifest, generation=generation) for manifest in before.values())
        publication = Publication(generation, manifests, (), self.problems)
        await self._add_generation(publication, Cause("the bus was ahead of the disk", by="the master"))
        await self.publisher.publish(self.config, publication, before)
        self.restore_due.set()

    async def _renumber(self, serial: int) -> None:
        """Go beyond the assignments found on the bus: this disk is an older one."""
        nodes = {uuid: replace(node, serial_no=serial + 1) for uuid, node in self.config.nodes.items()}
        config = with_nodes(self.config, nodes, time.time())
        await asyncio.to_thread(self.store.save_config, config)
        self.config = config
        self.restore_due.set()


def _owners(publication: Publication) -> str:
    """Return whose files have changed on the master: all that is known of who has edited them."""
    owners = {event.entry.owner for event in publication.events if event.entry}
    return f"{', '.join(sorted(owners))}, as owner" if owners else "the master"
