"""Asks the file hooks which files there are: when it may matter, one after the other, and never in anybody's way.

A hook is an executable in one directory on the master. What it answered last lies in the cluster config, so that it
outlives a restart; a hook that fails, hangs, answers nonsense or is gone changes nothing and is shown.
"""

import asyncio
import os
import random
import stat
from pathlib import Path
from typing import Final

import structlog

from master.core import file_list, hook_answers
from master.desired import Desired
from master.hook_process import HookFailed, HookProcess
from master.settings import MasterSettings
from protocol.change_messages import ChangeRequest
from protocol.errors import Refused, Unavailable
from protocol.messages import REASON_CHARS_MAX, FileError
from protocol.names import ManagedPath

LEFTOVERS: Final = ("~", ".bak", ".orig", ".rej", ".swp", ".dpkg-dist", ".dpkg-new", ".dpkg-old", ".rpmnew", ".rpmsave")
"""What editors and package managers leave beside a program is none."""

NAME_CHARS_MAX: Final = 100

log = structlog.get_logger()


class FileHooks:
    """`run` asks whenever `desired.managed.hooks_due` is set. One hook at a time: each occupies a thread while it runs,
    and the disk needs threads as well."""

    def __init__(self, settings: MasterSettings, desired: Desired) -> None:
        self._desired = desired
        self._root = settings.root
        self._directory = ManagedPath(str(settings.file_hooks_dir))
        self._rescan_interval_s = settings.rescan_interval_s
        self._process = HookProcess(
            timeout_s=settings.file_hook_timeout_s, output_bytes_max=settings.file_hook_output_bytes_max
        )
        self._waiting: list[asyncio.Future[None]] = []

    async def run(self) -> None:
        """Ask at the start, when due and from time to time, until cancelled; a hook under way is then ended."""
        self._desired.managed.hooks_due.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ask_when_due())
                tasks.create_task(self._rescan())
        finally:
            self._process.abandon()

    async def ask(self, *, patience_s: float) -> None:
        """Have every hook asked from now on, and return when that is done or patience ends."""
        asked = asyncio.get_running_loop().create_future()
        self._waiting.append(asked)
        self._desired.managed.hooks_due.set()
        await asyncio.wait({asked}, timeout=patience_s)

    def named(self, path: str) -> str:
        """Return which hook's place a path is, if that hook has named files; empty for any other path."""
        directory, _, name = path.rpartition("/")
        return name if directory == self._directory and name in self._desired.config.cluster.hook_files else ""

    async def _ask_when_due(self) -> None:
        due = self._desired.managed.hooks_due
        while True:
            await due.wait()
            due.clear()
            waiting, self._waiting = self._waiting, []
            await self._ask_all()
            for asked in waiting:
                if not asked.done():
                    asked.set_result(None)

    async def _rescan(self) -> None:
        while True:
            await asyncio.sleep(self._rescan_interval_s * random.uniform(1.0, 1.2))
            self._desired.managed.hooks_due.set()

    async def _ask_all(self) -> None:
        faults: dict[str, str] = {}
        if self._desired.config.cluster.file_hooks:
            hooks = await asyncio.to_thread(hooks_in, self._root / self._directory[1:])
            for name, fault in hooks.items():
                try:
                    if fault:
                        raise HookFailed(fault)
                    await self._ask(name)
                except (HookFailed, Refused, Unavailable) as error:
                    faults[name] = self._still_counts(name, str(error))
            for name in self._desired.config.cluster.hook_files.keys() - hooks.keys():
                faults[name] = self._gone(name)
        found = tuple(
            FileError(path=f"{self._directory}/{name}", reason=reason[:REASON_CHARS_MAX])
            for name, reason in sorted(faults.items())
        )
        if found != self._desired.managed.hook_faults:
            self._desired.managed.hook_faults = found
            await self._desired.refresh(frozenset(), "file hooks were asked")

    async def _ask(self, name: str) -> None:
        config = self._desired.config
        told, environment = hook_answers.told(config, root=str(self._root))
        program = self._root / self._directory[1:] / name
        output = await asyncio.to_thread(self._process.run, program, told, environment)
        try:
            files = hook_answers.read_answer(output, config)
        except ValueError as error:
            raise HookFailed(str(error)) from error
        if files != config.cluster.hook_files.get(name, ()):
            await self._desired.managed.check(file.path for file in files)
            log.info("file_hook_answered", hook=name, files=len(files))
            await self._desired.change(
                lambda now_config, now: file_list.hook_answered(now_config, name, files, now=now),
                ChangeRequest(by=f"file hook {name}"),
                why=f"file hook {name}",
            )

    def _still_counts(self, name: str, reason: str) -> str:
        before = len(self._desired.config.cluster.hook_files.get(name, ()))
        if not before:
            return f"{reason}; it adds no files"
        withdraw = f"gnt-mesh file remove {self._directory}/{name}"
        return f"{reason}; the {before} files of its last answer stay. To withdraw them: {withdraw}"

    def _gone(self, name: str) -> str:
        return self._still_counts(name, "is gone")


def hooks_in(directory: Path) -> dict[str, str]:
    """Return the hooks by name, in order, each with the reason why it cannot be run, if there is one."""
    try:
        with os.scandir(directory) as entries:
            found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries if _is_hook(entry.name)}
        whole = directory.stat()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Unavailable(f"{directory}: {error.strerror}") from error
    open_to_others = "is in a directory that others may write" if _open_to_others(whole) else ""
    return {
        _shown(name): open_to_others or _why_not_called(name) or _why_not_run(status)
        for name, status in sorted(found.items())
    }


def _is_hook(name: str) -> bool:
    return not name.startswith(".") and not name.endswith(LEFTOVERS)


def _why_not_called(name: str) -> str:
    """Who named a file is part of the history, so a hook has a name that can be told."""
    if name.isprintable() and len(name) <= NAME_CHARS_MAX:
        return ""
    return f"has a name that is not printable UTF-8 of at most {NAME_CHARS_MAX} characters; rename it"


def _shown(name: str) -> str:
    return ascii(name)[1:-1] if _why_not_called(name) else name


def _why_not_run(status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if _open_to_others(status):
        return "may be changed by others than its owner, or belongs to somebody else"
    return "" if status.st_mode & 0o111 else "is not executable"


def _open_to_others(status: os.stat_result) -> bool:
    """True if somebody else than root and this user decides what would run."""
    return status.st_uid not in (0, os.geteuid()) or bool(status.st_mode & 0o022)
