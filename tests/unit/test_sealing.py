"""sealing: what is sealed for one key is opened with its seed and with no other."""

from pathlib import Path

import pytest

from node_agent.__main__ import unsealing
from node_agent.settings import AgentSettings
from protocol import codec, identity, sealing
from protocol.errors import Refused
from protocol.names import NodeName
from protocol.os_messages import Confidential

CONFIDENTIAL = Confidential(private={"token": "t0ken"}, secret={"password": "hush"})


def a_key(directory: Path, name: str) -> tuple[str, str]:
    return identity.ensure_seed(directory / name), identity.read_seed(directory / name)


def test_the_reader_opens_what_was_sealed_for_it(tmp_path: Path) -> None:
    public, seed = a_key(tmp_path, "node")

    sealed = sealing.seal(CONFIDENTIAL, public)

    assert b"hush" not in sealed and b"password" not in sealed
    assert sealing.unseal(sealed, seed) == CONFIDENTIAL


def test_a_node_whose_key_was_renewed_opens_what_is_sealed_for_the_new_one(tmp_path: Path) -> None:
    """Without a restart of its agent."""
    seed = tmp_path / "agent.nk"
    identity.ensure_seed(seed)
    settings = AgentSettings(
        node=NodeName("node2"), server="", ca_file=tmp_path, seed_file=seed, master_keys_file=tmp_path
    )
    unseal = unsealing(settings)
    renewed, _ = a_key(tmp_path, "next")

    (tmp_path / "next").replace(seed)

    assert unseal(sealing.seal(CONFIDENTIAL, renewed)) == CONFIDENTIAL


def test_nothing_needs_no_seal(tmp_path: Path) -> None:
    public, seed = a_key(tmp_path, "node")

    assert sealing.seal(Confidential(), public) == b""
    assert sealing.unseal(b"", seed) == Confidential()


def test_another_cannot_open_it(tmp_path: Path) -> None:
    sealed = sealing.seal(CONFIDENTIAL, a_key(tmp_path, "node")[0])

    with pytest.raises(Refused, match="another key than mine") as error:
        sealing.unseal(sealed, a_key(tmp_path, "other")[1])
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("damage", [lambda sealed: sealed[:-1], lambda sealed: b"", lambda sealed: sealed[:20]])
def test_what_was_changed_on_its_way_is_refused(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    public, seed = a_key(tmp_path, "node")

    with pytest.raises(Refused, match="changed on their way"):
        sealing.unseal(damage(sealing.seal(CONFIDENTIAL, public)) or b"x", seed)


def test_the_same_is_sealed_differently_each_time(tmp_path: Path) -> None:
    """A short password could be guessed otherwise, by whoever sees the sealed bytes and has the public key."""
    public, _ = a_key(tmp_path, "node")

    assert sealing.seal(CONFIDENTIAL, public) != sealing.seal(CONFIDENTIAL, public)
    assert len(codec.encode(CONFIDENTIAL)) < len(sealing.seal(CONFIDENTIAL, public))
