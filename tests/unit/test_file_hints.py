"""Hints on real directories: what changed is told, and what cannot be watched is looked at instead."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from protocol.file_hints import FileHints


@asynccontextmanager
async def watching(*directories: Path) -> AsyncIterator[FileHints]:
    hints = FileHints(step_ms=10, debounce_ms=50)
    hints.watch(directories)
    task = asyncio.create_task(hints.run())
    try:
        yield hints
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def told(hints: FileHints, path: Path | None) -> None:
    """Return once this path (None: everything) has been told."""
    async with asyncio.timeout(20):
        while True:
            hint = await hints.next()
            if hint is None if path is None else hint is not None and path in hint:
                return


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """As when the kernel's limit of watches is reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_everything_is_to_be_looked_at_once_the_watch_is_in_place(tmp_path: Path) -> None:
    async with watching(tmp_path) as hints:
        await told(hints, None)
        (tmp_path / "file").write_text("x")
        await told(hints, tmp_path / "file")


async def test_another_set_of_directories_is_another_look(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with watching(tmp_path) as hints:
        await told(hints, None)
        hints.watch([tmp_path / "other"])
        await told(hints, None)
        (tmp_path / "other/file").write_text("x")
        await told(hints, tmp_path / "other/file")


async def test_a_directory_that_goes_is_a_look_and_is_watched_again_when_it_is_back(tmp_path: Path) -> None:
    directory = tmp_path / "conf.d"
    directory.mkdir()
    async with watching(directory) as hints:
        await told(hints, None)
        directory.rmdir()
        await told(hints, None)
        directory.mkdir()
        await told(hints, None)


async def test_a_kernel_that_allows_no_more_watches_ends_nobody(tmp_path: Path) -> None:
    """128 inotify instances for a user is a common limit: the hundredth daemon on a machine meets it."""
    with no_more_descriptors():
        async with watching(tmp_path) as hints:
            await told(hints, None)
            await told(hints, None)
    async with watching(tmp_path) as hints:
        await told(hints, None)
        (tmp_path / "file").write_text("x")
        await told(hints, tmp_path / "file")


async def test_a_name_that_is_no_text_is_a_look_and_ends_nobody(tmp_path: Path) -> None:
    """Anybody may make such a name beside a managed file; watchfiles cannot say it, and raises instead."""
    async with watching(tmp_path) as hints:
        await told(hints, None)
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/no text \xff")).touch()
        await told(hints, None)
        await told(hints, None)
        (tmp_path / "file").write_text("x")
        await told(hints, tmp_path / "file")


async def test_a_directory_whose_name_is_no_text_is_not_watched_and_the_others_are(tmp_path: Path) -> None:
    """As a directory below an OS search path may be called; who looks from time to time looks there too."""
    unsayable = Path(os.fsdecode(os.fsencode(tmp_path) + b"/no text \xff"))
    unsayable.mkdir()
    async with watching(tmp_path, unsayable) as hints:
        await told(hints, None)
        (tmp_path / "file").write_text("x")
        await told(hints, tmp_path / "file")
