"""Whom a node is told to believe, against those that it believes: nobody brings back what the master once said."""

import datetime
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from master import certificates
from master.certificates import Pair
from protocol.errors import Refused, Unavailable
from protocol.nats_bus import authorities


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that is taken, and where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"tls://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "_BACKDATED", datetime.timedelta(hours=2))
        return an_authority(tmp_path, "older")


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    return an_authority(tmp_path, "newer")


def an_authority(directory: Path, name: str) -> Path:
    pair = Pair(directory / f"{name}.key", directory / f"{name}.pem")
    certificates.ensure_authority(pair, "test")
    return pair.certificate


async def test_a_node_refuses_authorities_that_are_older_than_its_own(nobody: str, older: Path, newer: Path) -> None:
    with pytest.raises(Refused, match="older than the ones that are trusted here"):
        await authorities.check(nobody, older.read_text(), former=newer)


async def test_what_is_newer_or_the_same_is_tried_on_the_server(nobody: str, older: Path, newer: Path) -> None:
    for told, former in ((newer, older), (newer, newer), (older, older)):
        with pytest.raises(Unavailable, match="with the authorities that are new"):
            await authorities.check(nobody, told.read_text(), former=former)


async def test_of_several_the_newest_counts_on_both_sides(
    nobody: str, older: Path, newer: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_text(older.read_text() + newer.read_text())

    with pytest.raises(Unavailable):
        await authorities.check(nobody, both.read_text(), former=newer)
    with pytest.raises(Refused, match="older"):
        await authorities.check(nobody, older.read_text(), former=both)
