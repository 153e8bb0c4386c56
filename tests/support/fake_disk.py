"""A node's disk in memory, with the behaviour of `node_agent.files` and with faults on demand."""

from collections.abc import Iterable, Mapping

from node_agent.core.reconcile import ABSENT, Found, Outcome, Plan, Remove, Write
from protocol.names import Digest, ManagedPath
from tests.support.values import found_as


class FakeDisk:
    """Files by path. What `barred` names fails alone; while `full` says why, nothing that writes is begun."""

    def __init__(self) -> None:
        self.files: dict[ManagedPath, Found] = {}
        self.backups: list[tuple[ManagedPath, Digest]] = []
        self.barred: dict[ManagedPath, str] = {}
        self.full = ""
        self.writes: list[Write] = []
        self.removals: list[Remove] = []
        self.read_afresh: set[ManagedPath] = set()

    def here(self, path: ManagedPath) -> Found:
        return self.files.get(path, ABSENT)

    def observe(self, paths: Iterable[ManagedPath], *, afresh: bool = False) -> dict[ManagedPath, Found]:
        found = {path: self.here(path) for path in paths}
        self.read_afresh |= found.keys() if afresh else set()
        return found

    def perform(self, plan: Plan, *, unavailable: Mapping[ManagedPath, str] | None = None) -> Outcome:
        """Do the whole plan, or nothing if the disk is full or a content cannot be had."""
        done: dict[ManagedPath, Found] = {}
        paths = [*(write.entry.path for write in plan.writes), *(removal.path for removal in plan.removals)]
        stops = {path: reason for path, reason in (unavailable or {}).items() if path in paths}
        if plan.writes and (self.full or stops):
            reason = self.full or next(iter(stops.values()))
            return Outcome({}, {**dict.fromkeys(paths, f"held back: {reason}"), **stops})
        errors = {path: self.barred[path] for path in paths if path in self.barred}
        for write in plan.writes:
            if write.entry.path not in errors:
                done[write.entry.path] = self.write(write)
        for removal in plan.removals:
            if removal.path not in errors:
                done[removal.path] = self.remove(removal)
        return Outcome(done, errors)

    def write(self, write: Write) -> Found:
        self.writes.append(write)
        if write.keep_backup:
            self._keep(write.entry.path)
        self.files[write.entry.path] = found_as(write.entry)
        return self.files[write.entry.path]

    def remove(self, removal: Remove) -> Found:
        self.removals.append(removal)
        if removal.keep_backup:
            self._keep(removal.path)
        if removal.purge:
            self.backups = [kept for kept in self.backups if kept[0] != removal.path]
        if not removal.is_gone:
            self.files.pop(removal.path, None)
        return ABSENT

    def _keep(self, path: ManagedPath) -> None:
        if path in self.files:
            self.backups.append((path, self.files[path].digest))
