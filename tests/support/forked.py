"""Runs a function in a forked child, where it may lose privileges, mount file systems and lower limits."""

import ctypes
import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
CAPABILITY_VERSION_3 = 0x20080522


def in_child(function: Callable[[], T]) -> T:
    """Return what `function` returns in a child of this process; its failure fails and its skip skips the test."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _report(function, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        report = pipe.read()
    _, status = os.waitpid(child, 0)
    assert report, f"the child ended without a word, status {status}"
    kind, value = pickle.loads(report)
    if kind == "skipped":
        pytest.skip(value)
    assert kind == "returned", value
    result: T = value
    return result


def enter_mount_namespace() -> None:
    """From here on, mounts of this child are its own; skips where the kernel does not let it."""
    uid, gid = os.geteuid(), os.getegid()
    flags = CLONE_NEWNS if uid == 0 else CLONE_NEWNS | CLONE_NEWUSER
    if _libc().unshare(flags) != 0:
        pytest.skip(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    if flags & CLONE_NEWUSER:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    mount("none", Path("/"), flags=MS_REC | MS_PRIVATE)


def mount(source: str | Path, target: Path, *, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount in the child's own namespace; skips where the kernel does not let it."""
    made = _libc().mount(str(source).encode(), str(target).encode(), kind.encode(), flags, options.encode())
    if made != 0:
        pytest.skip(f"cannot mount {kind or source} on {target}: {os.strerror(ctypes.get_errno())}")


def mount_tmpfs(target: Path, *, size: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    mount("tmpfs", target, kind="tmpfs", options=f"size={size},mode=0755")


def make_read_only(target: Path) -> None:
    """Bind a file or directory over itself, read-only."""
    mount(target, target, flags=MS_BIND)
    mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def drop_capabilities() -> None:
    """Be an ordinary owner of one's files from here on, also as root: permission bits count."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    assert _libc().capset(header, none) == 0, os.strerror(ctypes.get_errno())


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _report(function: Callable[[], object], writer: int) -> None:
    """Never returns: whatever happens, the child ends here and not in pytest's own stack."""
    try:
        try:
            report: tuple[str, object] = ("returned", function())
        except pytest.skip.Exception as skipped:
            report = ("skipped", str(skipped))
        except BaseException:
            report = ("failed", traceback.format_exc())
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(pickle.dumps(report))
    finally:
        os._exit(0)
