"""Stops and kills a process at the lines of a piece of work, and looks at what it leaves behind.

First the work is stopped at every line: a killed process leaves on the disk just what a stopped one has there. Then
it is killed for good wherever the disk had changed, and at every so many lines between, and another process takes
over. A program of its own, so that it can fork without threads: the parent never starts any.

    python -m tests.support.crash_points DIRECTORY LINES_BETWEEN

prints one JSON object: how many lines and kills there were, what was wrong at which line, which states were seen.
"""

import asyncio
import gc
import json
import os
import re
import shutil
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from node_agent import backups, files, owners, staging, tree
from node_agent.core.reconcile import ABSENT, Known, Wanted, reconcile
from protocol import durable
from protocol.names import ALL, ManagedPath
from tests.support.node_tree import NodeTree, digest_of, mode_of

TEMPORARY = "a temporary"
DATE = re.compile(r"\.[0-9]{8}T[0-9.]+Z$")
TRACED = frozenset(str(module.__file__) for module in (backups, durable, files, owners, staging, tree))

A, B, C, GONE = (ManagedPath(path) for path in ("/etc/a", "/etc/b", "/etc/new/dir/c", "/etc/gone"))
OLD_A, OLD_B, OLD_GONE = (b"old a", 0o600), (b"old b" * 1000, 0o644), (b"old gone", 0o644)
NEW_A, NEW_B, NEW_C = (b"new a" * 1000, 0o640), (b"new b", 0o600), (b"new c", 0o644)
ADMINISTRATORS = digest_of(b"what the mesh wrote, before an administrator changed it")
KNOWN = {A: Known(ALL, ADMINISTRATORS), B: Known(ALL, digest_of(OLD_B[0])), GONE: Known(ALL, digest_of(OLD_GONE[0]))}


def before(directory: Path) -> NodeTree:
    """Return a node with two files to be replaced, one of them with a backup, and one to be removed with a backup."""
    node = NodeTree(directory)
    for path, (content, mode) in ((A, OLD_A), (B, OLD_B), (GONE, OLD_GONE)):
        node.put(path, content, mode=mode)
    return node


def converge(node: NodeTree) -> bool:
    """Do what is to be done, as the agent does; False if there was nothing."""
    wanted = {
        path: Wanted(ALL, node.entry(path, content, mode=mode))
        for path, (content, mode) in ((A, NEW_A), (B, NEW_B), (C, NEW_C))
    }
    plan = reconcile(wanted, node.files.observe(wanted.keys() | KNOWN.keys()), KNOWN, {})
    outcome = asyncio.run(node.files.perform(plan, node.fetch))
    assert not outcome.errors, outcome.errors
    return not plan.is_empty


def faults_after_a_crash(node: NodeTree) -> list[str]:
    """Return what must not be, wherever the work broke off."""
    state = state_of(node)
    faults = [f"{path} is {seen}" for path, seen in zip((A, B, C, GONE), state, strict=True) if seen.startswith("?")]
    kept = sorted(path.read_bytes() for path in backups_of(node))
    if any(content not in (OLD_A[0], OLD_GONE[0]) for content in kept):
        faults.append(f"a backup holds {kept}")
    if state[0] == "new" and OLD_A[0] not in kept:
        faults.append(f"{A} was replaced before its backup was there")
    if state[3] == "absent" and OLD_GONE[0] not in kept:
        faults.append(f"{GONE} was removed before its backup was there")
    strangers = {path for path in node.root.rglob("*") if path.is_file() and not durable.is_temporary(path.name)}
    strangers -= {node.real(path) for path in (A, B, C, GONE)}
    return [*faults, *(f"{path} is nobody's" for path in strangers)]


def state_of(node: NodeTree) -> tuple[str, ...]:
    return (
        seen_as(node, A, old=OLD_A, new=NEW_A),
        seen_as(node, B, old=OLD_B, new=NEW_B),
        seen_as(node, C, old=None, new=NEW_C),
        seen_as(node, GONE, old=OLD_GONE, new=None),
    )


def seen_as(node: NodeTree, path: ManagedPath, *, old: tuple[bytes, int] | None, new: tuple[bytes, int] | None) -> str:
    real = node.real(path)
    here = (real.read_bytes(), mode_of(real)) if real.exists() else None
    if here == old:
        return "absent" if old is None else "old"
    if here == new:
        return "absent" if new is None else "new"
    return "? absent" if here is None else f"? {len(here[0])} bytes, mode {here[1]:o}"


def backups_of(node: NodeTree) -> Collection[Path]:
    there = node.backups.iterdir() if node.backups.exists() else ()
    return [path for path in there if not durable.is_temporary(path.name)]


def recover(directory: Path) -> None:
    """What the next agent does on the same disk. Asserts that it gets everywhere, and leaves nothing."""
    node = NodeTree(directory)
    node.files.sweep((A, B, C, GONE))
    assert node.leftovers() == [], "the sweep left temporaries"
    converge(node)
    assert not converge(node), "the second plan is not empty"
    assert state_of(node) == ("new", "new", "new", "absent"), state_of(node)
    assert {OLD_A[0], OLD_GONE[0]} <= {path.read_bytes() for path in backups_of(node)}, "a backup is missing"
    assert node.files.observe([GONE])[GONE] == ABSENT
    assert node.leftovers() == [], "temporaries are left"


@contextmanager
def every_line(at: Callable[[int], None]) -> Iterator[None]:
    """Count the traced lines, in this thread and in those that begin meanwhile, and call `at` before each."""
    count = 0

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return step if frame.f_code.co_filename in TRACED else None

    def step(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            at(count)
        return step

    threading.settrace(enter)
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]


def in_fork(function: Callable[[], object]) -> str:
    """Return "" if the child finished, "killed" if it was killed, else its traceback."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        report = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(status) else report


def stop_at_every_line(node: NodeTree, stopped: int, go_on: int) -> None:
    """Tell by one pipe that a line is about to be executed, and wait at the other one for leave to do so."""

    def at(count: int) -> None:
        os.write(stopped, b".")
        os.read(go_on, 1)

    with every_line(at):
        converge(node)


def die_at_line(node: NodeTree, line: int) -> None:
    with every_line(lambda count: os.kill(os.getpid(), signal.SIGKILL) if count == line else None):
        converge(node)


def watch_every_line(directory: Path, faults: dict[int, list[str]], states: Counter[str]) -> list[str]:
    """Return what was on the disk at each line."""
    node, disks = before(directory), []
    (stopped, at_stop), (leave, go_on) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(stopped)
        stop_at_every_line(node, at_stop, leave)
        os._exit(0)
    os.close(at_stop)
    while os.read(stopped, 1):
        disks.append(what_is_on_disk(directory))
        if found := faults_after_a_crash(node):
            faults[len(disks)] = found
        states[" ".join(state_of(node))] += 1
        os.write(go_on, b".")
    os.waitpid(child, 0)
    return disks


def kill_and_recover(directory: Path, line: int) -> list[str]:
    node = before(directory)
    ending = in_fork(partial(die_at_line, node, line))
    found = faults_after_a_crash(node)
    if ending != "killed":
        found.append(f"the work got through: {ending}")
    if report := in_fork(partial(recover, directory)):
        found.append(report)
    return found


def main(directory: Path, lines_between: int) -> None:
    warm_up(directory / "warm-up")
    faults: dict[int, list[str]] = {}
    states: Counter[str] = Counter()
    disks = watch_every_line(directory / "watched", faults, states)
    changed = [line for line in range(2, len(disks) + 1) if disks[line - 1] != disks[line - 2]]
    kills = {*changed, *range(1, len(disks), lines_between)}
    for line in sorted(kills):
        if found := kill_and_recover(directory / str(line), line):
            faults.setdefault(line, []).extend(found)
        shutil.rmtree(directory / str(line))
    report = {"lines": len(disks), "kills": len(kills), "faults": faults, "states": states}
    json.dump(report, sys.stdout)


def warm_up(directory: Path) -> None:
    """Have loaded what every child needs (the tables of users, above all), and keep the collector off the pages."""
    node = before(directory)
    node.entry(A)
    node.files.observe([A, B, C])
    shutil.rmtree(directory)
    gc.freeze()


def what_is_on_disk(directory: Path) -> str:
    """Return all that a recovery can see."""
    seen = []
    for path in directory.rglob("*"):
        name = TEMPORARY if durable.is_temporary(path.name) else path.name
        content = path.read_bytes() if path.is_file() else b""
        seen.append((str(path.parent.relative_to(directory)), DATE.sub("", name), path.lstat().st_mode, content))
    return repr(sorted(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
