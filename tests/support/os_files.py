"""OS definitions for tests, written onto a real disk."""

from pathlib import Path

OS_PLACE = "srv/ganeti/os"
SCRIPTS = ("create", "import", "export", "rename", "verify")


def write_os(
    place: Path, name: str = "tiny", *, versions: str = "20\n15\n10\n", script: str = "", **texts: str
) -> Path:
    """Write a usable OS definition; `texts` by file name, with a dot written as `__`."""
    directory = place / name
    directory.mkdir(parents=True)
    for file in SCRIPTS:
        (directory / file).write_text("#!/bin/sh\n")
        (directory / file).chmod(0o755)
    (directory / "ganeti_api_version").write_text(versions)
    (directory / "parameters.list").write_text("")
    for file, text in texts.items():
        (directory / file.replace("__", ".")).write_text(text)
    return directory
