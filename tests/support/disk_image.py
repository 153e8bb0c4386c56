"""A disk that is a file, so that it can break, or lose its power, while a test looks on. For root's mount namespace."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.forked import enter_mount_namespace, mount_tmpfs

TORN = "noauto_da_alloc,data=writeback,commit=300"
"""ext4 without its own kindnesses: a rename does not flush the file, nor a commit of the journal its content."""


def a_disk(tmp_path: Path, *, size_bytes: int, options: str = TORN) -> tuple[Path, Path]:
    """Return the image of a new ext4 and where it is mounted, for this child alone; skips where that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk image")
    if not (shutil.which("mkfs.ext4") and shutil.which("losetup")):
        pytest.skip("no mkfs.ext4 or no losetup")
    enter_mount_namespace()
    mount_tmpfs(tmp_path / "images", size="64m")
    image, place = tmp_path / "images" / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    place.mkdir()
    mounted = subprocess.run(["mount", "-o", f"loop,{options}", image, place], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no loop device: {mounted.stderr[:200]}")
    return image, place


def sync_disk(place: Path) -> None:
    """Have this disk hold what was written on it. Not `os.sync()`, which waits for every disk of the machine."""
    subprocess.run(["sync", "--file-system", place], check=True)


def fill_up_below(image: Path) -> None:
    """Take all the room that the image has not taken yet: a thin disk whose pool is full."""
    with suppress(OSError), (image.parent / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(1 << 20)):
            pass


@contextmanager
def after_a_power_cut(image: Path, place: Path) -> Iterator[Path]:
    """Show what a machine that starts again finds on a disk: what had reached it, after the journal's replay."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
