"""The generations that are kept: what changed, in what, the way back, and what is held back."""

import asyncio
from dataclasses import replace

from master.api import goals
from master.core import history
from master.core.preview import held
from master.daemon import MasterDaemon
from protocol import operator_messages as op
from protocol.bus import Handler
from protocol.errors import Refused, Unavailable
from protocol.history_messages import (
    CONTENT_BYTES_MAX,
    ContentPart,
    ContentQuery,
    DiffQuery,
    DiffReply,
    FileConfirm,
    FileRollback,
    LogQuery,
    LogReply,
)
from protocol.names import Digest, ManagedPath

SENTENCES_MAX = 20


class HistoryVerbs:
    """`file log`, `file diff` with the contents that it compares, `file rollback`, `file confirm`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._desired = daemon.desired
        self._store = daemon.desired.store

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {
            "file.log": (LogQuery, self.log),
            "file.diff": (DiffQuery, self.diff),
            "file.content": (ContentQuery, self.content),
            "file.confirm": (FileConfirm, self.confirm),
            "file.rollback": (FileRollback, self.rollback),
        }

    async def log(self, request: LogQuery) -> LogReply:
        kept = self._store.history()
        reply = history.log(kept, path=request.path, before=request.before, limit=request.limit)
        is_known = not request.path or any(file.path == request.path for file in self._desired.files())
        if not reply.entries and not request.before and not is_known:
            raise Refused(f"{request.path} is not managed, and no generation that is kept has changed it")
        return reply

    async def diff(self, request: DiffQuery) -> DiffReply:
        """A hash lets a short password be guessed, so of a secret it is told as little as its content."""
        reply = history.diff(self._store.history(), request.before, request.after, request.paths)
        return replace(reply, files=tuple(map(self._desired.vault.public_diff, reply.files)))

    async def content(self, request: ContentQuery) -> ContentPart:
        """A secret's content is given only to who says that secrets may be shown."""
        kept = self._store.history()
        found = history.snapshot(kept, request.generation).get(ManagedPath(request.path))
        if found is None:
            raise Refused(f"{request.path} was not published in generation {request.generation}")
        if request.path in history.secrets(kept) and not request.show_secrets:
            raise Refused(f"{request.path} is a secret of master-candidates; to have it shown: --show-secrets")
        return ContentPart(data=await asyncio.to_thread(self._part, found[1].digest, request.offset))

    async def rollback(self, request: FileRollback) -> op.Changed:
        outcome, steps = await self._desired.rollback(request)
        if not steps:
            return outcome.answer([f"Every file is as it was in generation {request.generation} already."])
        done = [f"{step.path} is again what it was in generation {request.generation}." for step in steps]
        if len(done) > SENTENCES_MAX:
            done = [*done[:SENTENCES_MAX], f"And {len(done) - SENTENCES_MAX} more."]
        paths = {step.path for step in steps}
        scopes = {str(file.scope) for file in self._desired.files() if file.path in paths}
        return outcome.answer(done, goal=goals.of_scopes(outcome.goal, scopes))

    async def confirm(self, request: FileConfirm) -> op.Changed:
        before = {path: entry for path, (_, entry) in held(self._desired.manifests, self._desired.manifests).items()}
        outcome = await self._desired.confirm(request)
        if outcome.preview:
            return outcome.answer(["What is held back would be shipped."])
        after = {path: entry for path, (_, entry) in held(self._desired.manifests, self._desired.manifests).items()}
        done = [
            f"{path} is shipped as it is." if before.get(path) != after.get(path) else f"{path} was not held back."
            for path in map(ManagedPath, request.paths)
        ]
        withdrawn = len(before.keys() - after.keys())
        if request.removals:
            told = f"{withdrawn} files are withdrawn from the nodes." if withdrawn else "No removal was held back."
            done.append(told)
        return outcome.answer(done)

    def _part(self, digest: Digest, offset: int) -> bytes:
        try:
            with self._store.blob_path(digest).open("rb") as content:
                content.seek(max(offset, 0))
                return content.read(CONTENT_BYTES_MAX)
        except OSError as error:
            raise Unavailable(f"content {digest[:12]}: {error.strerror}") from error
