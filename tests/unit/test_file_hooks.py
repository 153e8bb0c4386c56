"""master/file_hooks.py: which programs in the directory are hooks, and which of them are run."""

import os
from pathlib import Path

import pytest

from master.file_hooks import hooks_in


def a_program(directory: Path, name: str, mode: int = 0o755) -> Path:
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_without_a_directory_there_are_none(tmp_path: Path) -> None:
    assert hooks_in(tmp_path / "none") == {}
    assert hooks_in(tmp_path) == {}


def test_hooks_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("20-b", "10-a", "site.py"):
        a_program(tmp_path, name)

    assert list(hooks_in(tmp_path).items()) == [("10-a", ""), ("20-b", ""), ("site.py", "")]


@pytest.mark.parametrize("name", [".hidden", "site~", "site.bak", "site.dpkg-new", "site.rpmsave", ".site.swp"])
def test_what_editors_and_package_managers_leave_is_no_hook(tmp_path: Path, name: str) -> None:
    a_program(tmp_path, name)

    assert hooks_in(tmp_path) == {}


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (0o644, "is not executable"),
        (0o775, "may be changed by others"),
        (0o757, "may be changed by others"),
        (0o700, ""),
        (0o555, ""),
    ],
)
def test_only_what_its_owner_alone_may_change_is_run(tmp_path: Path, mode: int, reason: str) -> None:
    a_program(tmp_path, "site", mode)

    assert hooks_in(tmp_path)["site"].startswith(reason)
    assert bool(hooks_in(tmp_path)["site"]) == bool(reason)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another owner")
def test_somebody_elses_program_is_not_run(tmp_path: Path) -> None:
    os.chown(a_program(tmp_path, "site"), 12345, 12345)

    assert "belongs to somebody else" in hooks_in(tmp_path)["site"]


def test_a_directory_that_others_may_write_runs_nothing(tmp_path: Path) -> None:
    a_program(tmp_path, "site")
    tmp_path.chmod(0o777)

    assert hooks_in(tmp_path) == {"site": "is in a directory that others may write"}


def test_links_and_directories_are_shown_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("/bin/true")

    assert hooks_in(tmp_path) == dict.fromkeys(("directory", "link"), "is not a regular file")


@pytest.mark.parametrize("name", ["two\nlines", "no text \udcff", "n" * 101], ids=["a line", "no text", "long"])
def test_a_name_that_could_not_be_told_is_shown_in_other_characters_and_not_run(tmp_path: Path, name: str) -> None:
    """Who named a file is kept in the history, and an error is sent to operators."""
    a_program(tmp_path, name)
    a_program(tmp_path, "site")

    found = hooks_in(tmp_path)

    (shown,) = found.keys() - {"site"}
    assert shown.isprintable() and shown.encode()
    assert found[shown].startswith("has a name that") and found["site"] == ""
