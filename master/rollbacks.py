"""The one rollback that is under way: decided, written, tried again where it cannot be written, forgotten when done."""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import structlog

from master.core.ancillary import ManagedFile
from master.core.guards import widening
from master.core.plan import Source
from master.core.preview import Held
from master.core.rollback import Rollback, Step, steps, wanted_sources
from master.source_writer import SourceWriter
from protocol.change_messages import Objection
from protocol.errors import Refused, Unavailable
from protocol.history_messages import FileRollback
from protocol.messages import REASON_CHARS_MAX
from protocol.names import ManagedPath, is_secret

log = structlog.get_logger()


class Rollbacks:
    """Called by who holds the lock on what is desired. `pending` is what is decided and not known to be done."""

    def __init__(self, writer: SourceWriter) -> None:
        self.pending: Rollback | None = writer.pending()
        self._writer = writer

    async def steps(
        self, request: FileRollback, then: Held, files: Sequence[ManagedFile], made: Collection[ManagedPath]
    ) -> tuple[Step, ...]:
        """Return which sources are to be replaced; Refused if one of them cannot go back."""
        if self.pending:
            raise Refused("another rollback is not finished yet; see: gnt-mesh status")
        wanted = wanted_sources(then, files, request.paths, generation=request.generation, made=made)
        found = steps(wanted, await asyncio.to_thread(self._writer.now, wanted))
        await asyncio.to_thread(self._writer.check, found)
        return found

    async def begin(self, rollback: Rollback) -> None:
        """Decide, and write; Refused if nothing can be written, and then nothing was."""
        await asyncio.to_thread(self._writer.begin, rollback)
        self.pending = rollback
        log.info("rollback_decided", why=rollback.why, by=rollback.by, files=len(rollback.steps))
        try:
            await asyncio.to_thread(self._writer.perform, rollback)
        except Unavailable as error:
            if await asyncio.to_thread(self._writer.is_untouched, rollback):
                await self.end()
                raise Refused(f"{error}; nothing was rolled back") from error

    async def go_on(self) -> Mapping[ManagedPath, Source]:
        """Write what is not written yet; return what to say of its sources if that cannot be done.

        Nodes keep what they have of them until all are written.
        """
        if not self.pending:
            return {}
        try:
            await asyncio.to_thread(self._writer.perform, self.pending)
        except Unavailable as error:
            log.warning("rollback_stuck", reason=str(error))
            reason = f"is to be rolled back, which is tried again: {error}"[:REASON_CHARS_MAX]
            return {step.path: Source("unusable", reason=reason) for step in self.pending.steps}
        return {}

    async def end(self) -> None:
        await asyncio.to_thread(self._writer.end)
        self.pending = None


def objections(steps_due: Sequence[Step], then: Held, files: Sequence[ManagedFile]) -> list[Objection]:
    """What was a secret then must not go to everybody now, only because the file is for everybody now."""
    due = {step.path for step in steps_due}
    return [
        widening(file)
        for file in files
        if file.path in due and is_secret(then[file.path][0]) and not is_secret(file.scope)
    ]
