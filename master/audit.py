"""The audit log on the master's disk: every changing request, before it is carried out, and how it ended.

One line of JSON each, chained by hashes (`core.audit`), fsynced before anything is changed. What cannot be logged is
not done.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from master.core import audit
from master.core.audit import Entry, Head, Outcome
from master.core.cluster import ClusterConfig
from protocol import durable, permissions
from protocol.bus import Asker, Handler
from protocol.errors import DecodeError, Refused, Unavailable

LOG_FILE: Final = "audit.log"
HEAD_FILE: Final = "audit.head"

log = structlog.get_logger()


def name_of(asker: Asker, config: ClusterConfig) -> str:
    """Return what the cluster calls an asker; who speaks in the master's own account is its administrator."""
    if asker.account == permissions.JOIN:
        return "a joining node"
    if not asker.account:
        return "administrator"
    return next((access.name for access in config.cluster.access if asker.key in access.keys), "somebody")


class AuditLog:
    """`who` turns an asker into the name that the cluster knows."""

    def __init__(self, directory: Path, who: Callable[[Asker], str]) -> None:
        self._log = directory / LOG_FILE
        self._head_file = directory / HEAD_FILE
        self._who = who
        self._lock = asyncio.Lock()
        self._head = Head()

    def open(self) -> None:
        """Find the end of the log. A broken chain goes on from its last line, and stays broken for all to see."""
        head, problem = self._verify()
        if problem:
            log.error("audit_log_broken", file=str(self._log), reason=problem)
            head = self._end()
        self._head = head

    async def guard(self, asker: Asker, verb: str, request: object, handler: Handler) -> object:
        """Answer a request, and write down one that changes something, before it does and when it has."""
        if verb in permissions.READING_VERBS:
            return await handler(request)
        what = audit.shown(request)
        number = await self._append(asker, verb, "asked", what)
        try:
            reply = await handler(request)
        except (Refused, DecodeError) as error:
            await self._append(asker, verb, "refused", {"reason": str(error)[: audit.TEXT_CHARS_MAX]}, of=number)
            raise
        except BaseException as error:
            await self._append(asker, verb, "failed", {"reason": type(error).__name__}, of=number)
            raise
        await self._append(asker, verb, "done", {}, of=number)
        return reply

    async def verify(self) -> tuple[Head, str]:
        """Return the last sound entry, and what is wrong after it; empty if nothing is."""
        async with self._lock:
            return await asyncio.to_thread(self._verify)

    async def last(self, count: int) -> list[bytes]:
        """Return the last lines as they are there."""
        async with self._lock:
            lines = await asyncio.to_thread(self._lines)
        return lines[-count:] if count > 0 else []

    async def _append(self, asker: Asker, verb: str, outcome: Outcome, what: dict[str, object], *, of: int = 0) -> int:
        async with self._lock:
            entry = Entry(
                number=self._head.number + 1,
                time=time.time(),
                who=self._who(asker),
                key=asker.key,
                origin=asker.origin,
                verb=verb,
                outcome=outcome,
                what=what,
                of=of,
                before=self._head.digest,
            )
            line = audit.line_of(entry)
            try:
                await asyncio.to_thread(self._write, line, audit.head_of(entry, line))
            except OSError as error:
                raise Unavailable(
                    f"{self._log}: {error.strerror}; what cannot be written into the audit log is not done"
                ) from error
            self._head = audit.head_of(entry, line)
            return entry.number

    def _write(self, line: bytes, head: Head) -> None:
        is_new = not self._log.exists()
        fd = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size_bytes = os.fstat(fd).st_size
            try:
                durable.write_all(fd, line)
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, size_bytes)  # half a line would break the chain for ever
                raise
        finally:
            os.close(fd)
        if is_new:
            durable.sync_directory(self._log.parent)
        durable.write_file(self._head_file, msgspec.json.encode(head))

    def _verify(self) -> tuple[Head, str]:
        return audit.follow(self._lines(), self._noted())

    def _noted(self) -> Head | None:
        try:
            return msgspec.json.decode(self._head_file.read_bytes(), type=Head)
        except (OSError, msgspec.DecodeError):
            return None

    def _lines(self) -> list[bytes]:
        try:
            return self._log.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unavailable(f"{self._log}: {error.strerror}") from error

    def _end(self) -> Head:
        """Return the head of whatever the last readable line is."""
        for line in reversed(self._lines()):
            try:
                return audit.head_of(audit.entry_of(line), line)
            except ValueError:
                continue
        return Head()
