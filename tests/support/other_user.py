"""Starting a program as a user without rights, also if the interpreter lies where only root may enter."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OTHER = "nobody"

_REVEAL = """
aside=$(mktemp -d)
mount --bind "$1" "$aside"
mount -t tmpfs -o mode=0755 tmpfs "$2"
mkdir -p "$1"
mount --move "$aside" "$1"
rmdir "$aside"
shift 2
exec "$@"
"""
"""In a mount namespace of its own: shows a directory that lies below one which is closed to others."""


def as_other_user() -> tuple[str, ...]:
    """Return a command that becomes another one, as `nobody` and without capabilities; skips where that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("to be two users takes root")
    if not shutil.which("setpriv"):
        pytest.skip("there is no setpriv here (util-linux)")
    here, interpreter = Path(__file__).parents[2], Path(sys.executable).resolve().parents[1]
    if _closed_above(here) or _closed_above(Path(sys.prefix)):
        pytest.skip(f"{here} lies in a directory that others may not enter")
    user = pwd.getpwnam(OTHER)
    drop = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    drop += ("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    closed = _closed_above(interpreter)
    if closed is None:
        return drop
    return (
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        _REVEAL,
        "sh",
        str(interpreter),
        str(closed),
        *drop,
    )


@contextmanager
def open_directory() -> Iterator[Path]:
    """Yield a directory that others may enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="gnt-mesh-split-"))
    try:
        path.chmod(0o755)
        yield path
    finally:
        subprocess.run(["rm", "-rf", str(path)], check=True)


def _closed_above(path: Path) -> Path | None:
    """Return the topmost directory on the way to a path that others may not enter."""
    return next((above for above in reversed((path, *path.parents)) if not above.stat().st_mode & 0o001), None)
