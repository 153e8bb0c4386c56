"""Rollbacks for a master that is not root: a process that is does them, asked over a local socket.

The question is empty. What is to be written stands in the decision that the master has made durable, so it is done once
and in full, whoever is killed. The answer is one line: `done`, or why not.
"""

import socket
from pathlib import Path
from typing import Final

from master.core.never_shipped import why_never_shipped
from master.core.rollback import Rollback
from master.settings import MasterSettings
from master.source_writer import SourceWriter
from master.sources import Sources
from master.store import Store
from protocol.errors import Refused, Unavailable

DONE: Final = "done"
ANSWER_S: Final = 120.0
ANSWER_BYTES_MAX: Final = 4096


class AskingWriter(SourceWriter):
    """Decides as every writer of sources, and has root do it."""

    def __init__(self, state_dir: Path, store: Store, sources: Sources, helper: Path) -> None:
        super().__init__(state_dir, store, sources)
        self._helper = helper

    def perform(self, rollback: Rollback) -> None:
        """Return when it is done; Unavailable says why it is not."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(ANSWER_S)
                connection.connect(str(self._helper))
                connection.shutdown(socket.SHUT_WR)
                with connection.makefile("rb") as answers:
                    answer = answers.read(ANSWER_BYTES_MAX).decode(errors="backslashreplace").strip()
        except OSError as error:
            raise Unavailable(f"{self._helper}: {error.strerror or error}; the rollback cannot be written") from error
        if answer != DONE:
            raise Unavailable(answer or "gnt-mesh-rollback said nothing; see: journalctl -u 'gnt-mesh-rollback*'")


def perform(settings: MasterSettings) -> str:
    """Write what the master has decided, and return the answer."""
    store = Store(settings.state_dir, settings.root / str(settings.config_data).lstrip("/"))
    sources = Sources(settings.root, store.blobs_dir, size_bytes_max=settings.file_size_bytes_max)
    writer = SourceWriter(settings.state_dir, store, sources)
    try:
        rollback = writer.pending()
        for step in rollback.steps if rollback else ():
            if why := why_never_shipped(step.path):
                return f"{step.path}: {why}"
        if rollback:
            writer.perform(rollback)
    except (Refused, Unavailable) as error:
        return " ".join(str(error).split())
    return DONE
