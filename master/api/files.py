"""Managed files: add, list, modify, remove."""

from master.api import goals
from master.core import file_list, operations
from master.core.ancillary import ManagedFile
from master.core.globs import is_glob
from master.daemon import MasterDaemon
from master.outcome import Outcome
from protocol import operator_messages as op
from protocol import paging
from protocol.bus import Handler
from protocol.errors import Refused
from protocol.messages import FileEntry
from protocol.names import is_secret


class FileVerbs:
    """`file …`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._daemon = daemon
        self._desired = daemon.desired

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {
            "file.add": (op.FileAdd, self.add),
            "file.list": (op.FileQuery, self.list_all),
            "file.modify": (op.FileModify, self.modify),
            "file.remove": (op.FileRemove, self.remove),
        }

    async def add(self, request: op.FileAdd) -> op.Changed:
        if not is_glob(request.path):
            await self._desired.managed.check([operations.checked_path(request.path)])
        outcome = await self._desired.change(
            lambda config, now: operations.add_file(config, request, surroundings=self._desired.surroundings, now=now),
            request,
            why=f"file add {request.path}",
        )
        done = [f"{request.path} is managed, scope {request.scope}.", *_problem_lines(outcome, request.path)]
        return outcome.answer(done, goal=goals.of_scopes(outcome.goal, {request.scope}))

    async def list_all(self, request: op.FileQuery) -> op.FileInfos:
        files = self._desired.files()
        known = {file.path for file in files}
        for path in request.paths:
            if path not in known:
                raise Refused(f"{path} is not managed; see: gnt-mesh file list")
        vault = self._desired.vault
        published = {
            entry.path: vault.public_entry(scope, entry)
            for scope, manifest in self._desired.manifests.items()
            for entry in manifest.files
        }
        asked = set(request.paths) or known
        rest = [file for file in files if file.path in asked and file.path > request.after]
        infos = paging.fitting(self._file_info(file, published.get(file.path)) for file in rest)
        return op.FileInfos(files=infos, is_complete=len(infos) == len(rest))

    async def modify(self, request: op.FileModify) -> op.Changed:
        outcome = await self._desired.change(
            lambda config, now: operations.modify_file(config, request, now=now),
            request,
            why=f"file modify {request.path}",
        )
        return outcome.answer([f"{request.path} modified.", *_problem_lines(outcome, request.path)])

    async def remove(self, request: op.FileRemove) -> op.Changed:
        hook = self._daemon.file_hooks.named(request.path)
        if hook:
            return await self._forget(hook, request)
        desired = self._desired
        patterns = (file for file in desired.config.cluster.ancillary_files if is_glob(file.path))
        files = [file for file in (*desired.files(), *patterns) if file.path == request.path]
        scopes = {file.scope for file in files}
        vanished = {path for path, source in desired.managed.seen.items() if source.kind == "absent"}
        outcome = await desired.change(
            lambda config, now: operations.remove_file(
                config,
                request,
                selected=desired.surroundings.matches,
                vanished=vanished,
                generation=desired.store.generation,
                now=now,
            ),
            request,
            why=f"file remove {request.path}",
        )
        is_kept = not request.purge and not any(file.secret or is_secret(file.scope) for file in files)
        kept = "each keeps a dated backup" if is_kept else "no copy is kept"
        done = f"{request.path} is no longer managed; the nodes remove it, {kept}. The source on the master stays."
        return outcome.answer([done], goal=goals.of_scopes(outcome.goal, set(scopes)))

    async def _forget(self, hook: str, request: op.FileRemove) -> op.Changed:
        outcome = await self._desired.change(
            lambda config, now: file_list.forget_hook(config, hook, now=now), request, why=f"file remove {request.path}"
        )
        done = f"What the file hook {hook} has named is no longer managed. As long as it is there it is asked again."
        return outcome.answer([done])

    def _file_info(self, file: ManagedFile, published: FileEntry | None) -> op.FileInfo:
        return op.FileInfo(
            path=file.path,
            scope=file.scope,
            optional=file.optional,
            allow_empty=file.allow_empty,
            builtin=file.is_builtin,
            secret=file.secret or is_secret(file.scope),
            rule=file.rule,
            reason=file.reason,
            published=published,
            error=" ".join(problem.reason for problem in self._desired.problems if problem.path == file.path),
        )


def _problem_lines(outcome: Outcome, path: str) -> list[str]:
    return [f"But {path} {problem.reason}." for problem in outcome.problems if problem.path == path]
