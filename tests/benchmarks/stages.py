"""Where the time of one change goes, seen from outside: by inotify what the disks see, by a tap what the bus carries.

The product is not instrumented. What is traced is slower by the tracing, so these repetitions count for nothing else.
"""

import asyncio
import ctypes
import os
import statistics
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from protocol.names import ALL, ManagedPath
from tests.benchmarks.converge import once, pause
from tests.benchmarks.mesh import Mesh, managed
from tests.benchmarks.results import Result
from tests.benchmarks.tap import Heard, Tap

FILE_BYTES = 16 * 1024

_CREATE, _MOVED_TO, _WRITTEN = 0x100, 0x80, 0x8
_HAPPENED = {_CREATE: "created", _MOVED_TO: "renamed", _WRITTEN: "written"}
_EVENT = struct.Struct("iIII")


@dataclass(frozen=True, slots=True)
class Seen:
    """One observation: when, and what in the words below (`disk blobs created`, `bus bell`)."""

    at_ns: int
    what: str


STAGES = (
    ("watch: until the master begins to store the content", "first disk blobs created"),
    ("read, hash, write, sync the contents", "last disk blobs renamed"),
    ("sync the directory, plan: until the generation's record is begun", "first disk history created"),
    ("write and sync the record", "first disk history renamed"),
    ("sync the directory: until the content goes to the broker", "first bus blob"),
    ("until the last content goes to the broker", "last bus blob"),
    ("until events and manifest go to the broker", "first bus manifest"),
    ("until the bell", "first bus bell"),
    ("until the last node asks for the manifest", "last bus get manifest"),
    ("verify it, decide: until the last node asks for the last content", "last bus get blob"),
    ("until the last node has noted what it is about to do", "last disk agent written"),
    ("write, sync, read back, rename: last node", "last disk node renamed"),
    ("sync the directory, report: until the last receipt", "last bus status"),
)
"""Each stage ends with the first or the last observation of its kind, and together they are the whole time."""


async def stages(mesh: Mesh, name: str, *, files: int, repetitions: int) -> list[Result]:
    """Return the stages of the way of files changed together, in ms. One of the last node may be less than nothing."""
    found: dict[str, list[float]] = {stage: [] for stage, _ in STAGES}
    await once(mesh, _contents(files))
    for _ in range(repetitions):
        await pause()
        seen: list[Seen] = []
        async with _tracing(mesh, seen):
            took_ms, _ = await once(mesh, _contents(files))
        renamed_ns = min(one.at_ns for one in seen if one.what == "disk source renamed")
        until_receipts = [one for one in seen if renamed_ns <= one.at_ns <= renamed_ns + took_ms * 1e6]
        last_ns = renamed_ns
        for stage, ends_with in STAGES:
            at_ns = _moment(until_receipts, ends_with)
            found[stage].append((at_ns - last_ns) / 1e6)
            last_ns = at_ns
    return [
        Result(name=f"{name}-{number:02}", unit="ms", values=tuple(values), facts={"stage": stage, "files": files})
        for number, (stage, values) in enumerate(found.items(), start=1)
    ]


def stage_lines(results: Sequence[Result]) -> list[str]:
    """Return the stages as text: the median of each, and what it is."""
    return [f"{statistics.median(result.values):8.2f} ms  {result.facts['stage']}" for result in results]


def _contents(files: int) -> dict[ManagedPath, bytes]:
    return {managed(number): os.urandom(FILE_BYTES) for number in range(files)}


def _moment(seen: Sequence[Seen], which: str) -> int:
    order, _, what = which.partition(" ")
    moments = [one.at_ns for one in seen if one.what == what]
    assert moments, f"nothing seen of: {what}"
    return min(moments) if order == "first" else max(moments)


@asynccontextmanager
async def _tracing(mesh: Mesh, seen: list[Seen]) -> AsyncIterator[None]:
    def hear(heard: Heard) -> None:
        if what := _on_bus(heard.subject):
            seen.append(Seen(heard.at_ns, what))

    over = ["mesh.>", "$JS.API.DIRECT.GET.>"]
    tap = Tap(mesh.endpoint, mesh.admin_seed, hear, over)
    await tap.open()
    loop = asyncio.get_running_loop()
    watched = _watched(mesh)
    fd = _watch(list(watched))
    loop.add_reader(fd, _take_events, fd, list(watched.values()), seen)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        os.close(fd)
        await tap.close()


def _watched(mesh: Mesh) -> dict[Path, str]:
    master = mesh.root(mesh.master_node)
    state = master / "var/lib/gnt-mesh/master"
    places = {master / "etc/ganeti": "source", state / "blobs": "blobs", state / "history": "history"}
    for node in mesh.receivers:
        places[mesh.root(node) / "etc/ganeti"] = "node"
        places[mesh.root(node) / "var/lib/gnt-mesh/agent"] = "agent"
    return places


def _on_bus(subject: str) -> str:
    kinds = {
        f"mesh.blob.{ALL}.": "bus blob",
        f"mesh.manifest.{ALL}": "bus manifest",
        f"mesh.bell.scope.{ALL}": "bus bell",
        f"$JS.API.DIRECT.GET.FILES_{ALL}.": "bus get manifest",
        f"$JS.API.DIRECT.GET.BLOBS_{ALL}.": "bus get blob",
        "mesh.status.": "bus status",
    }
    return next((what for prefix, what in kinds.items() if subject.startswith(prefix)), "")


def _watch(directories: Sequence[Path]) -> int:
    """Return an inotify descriptor; its watches are numbered from 1 in the order given."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    assert fd >= 0, os.strerror(ctypes.get_errno())
    for directory in directories:
        assert libc.inotify_add_watch(fd, os.fsencode(directory), sum(_HAPPENED)) > 0, directory
    return fd


def _take_events(fd: int, places: Sequence[str], seen: list[Seen]) -> None:
    at_ns = time.monotonic_ns()
    data = os.read(fd, 64 * 1024)
    offset = 0
    while offset < len(data):
        number, mask, _, length = _EVENT.unpack_from(data, offset)
        offset += _EVENT.size + length
        for kind, happened in _HAPPENED.items():
            if mask & kind:
                seen.append(Seen(at_ns, f"disk {places[number - 1]} {happened}"))
