"""identity: a seed is made once, for its owner alone, and nothing else passes for one."""

from pathlib import Path

import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import identity
from protocol.errors import Refused


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "node.seed"


def test_a_seed_is_made_once(path: Path) -> None:
    first = identity.ensure_seed(path)

    assert identity.ensure_seed(path) == first == identity.read_public_key(path)
    assert identity.public_key(first) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_two_seeds_differ(path: Path) -> None:
    assert identity.ensure_seed(path) != identity.ensure_seed(path.with_name("other"))


def test_a_seed_signs_for_its_public_key(path: Path) -> None:
    public = identity.ensure_seed(path)
    pair = nkeys.from_seed(bytearray(identity.read_seed(path).encode()))

    assert pair.public_key.decode() == public
    assert pair.verify(b"nonce", pair.sign(b"nonce"))


def test_a_credential_of_systemd_may_show_the_mask_of_its_acl(path: Path) -> None:
    identity.ensure_seed(path)
    path.chmod(0o440)
    if path.stat().st_uid == path.stat().st_gid == 0:
        assert identity.read_seed(path)
    else:
        with pytest.raises(Refused, match="chmod 600"):
            identity.read_seed(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_seed_that_others_can_touch_is_refused(path: Path, mode: int) -> None:
    identity.ensure_seed(path)
    path.chmod(mode)

    for read in (identity.read_seed, identity.read_public_key, identity.ensure_seed):
        with pytest.raises(Refused, match="chmod 600"):
            read(path)


def test_a_seed_that_is_not_there_is_refused_by_name(path: Path) -> None:
    with pytest.raises(Refused, match=f"{path}.*No such file"):
        identity.read_seed(path)


def a_file(directory: Path, content: bytes) -> Path:
    path = directory / "seed"
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def a_seed(prefix: int = nkeys.PREFIX_BYTE_USER, secret: bytes = bytes(32)) -> bytes:
    return bytes(nkeys.encode_seed(secret, prefix))


def test_white_space_around_a_seed_does_no_harm(tmp_path: Path) -> None:
    assert identity.read_seed(a_file(tmp_path, b"  " + a_seed() + b"\r\n")) == a_seed().decode()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\n", b"SU", b"nonsense", b"\xff" * 58, "é".encode() * 29),
        *(a_seed()[:-1], a_seed() + b"A", a_seed().lower(), a_seed() + b"\n" + a_seed()),
        *(a_seed(nkeys.PREFIX_BYTE_ACCOUNT), a_seed(nkeys.PREFIX_BYTE_OPERATOR)),
    ],
)
def test_what_is_no_users_seed_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Refused, match="not the nkey seed of a user"):
        identity.read_seed(a_file(tmp_path, content))


def test_a_mistyped_seed_is_refused(tmp_path: Path) -> None:
    """It would be a valid key, of somebody whom the server does not know."""
    seed = a_seed()
    mistyped = seed[:20] + (b"A" if seed[20:21] != b"A" else b"B") + seed[21:]

    with pytest.raises(Refused):
        identity.read_seed(a_file(tmp_path, mistyped))


@given(content=st.binary(max_size=100))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    with pytest.raises(Refused):
        identity.read_seed(a_file(tmp_path_factory.mktemp("seeds"), content))


def test_public_keys_are_read_as_they_were_written(path: Path) -> None:
    keys = {identity.ensure_seed(path), identity.ensure_seed(path.with_name("other"))}
    file = path.with_name("master.pub")
    file.write_bytes(identity.public_keys_text(keys))

    assert identity.read_public_keys(file) == keys


@pytest.mark.parametrize("content", [b"", b"\n \n", b"UABC\n", b"\xff\n", b"SUAIBDPB\n"])
def test_a_file_without_public_keys_is_refused_by_name(path: Path, content: bytes) -> None:
    """An agent that believes nobody would look as if it were only waiting."""
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(Refused, match=r"node\.seed: "):
        identity.read_public_keys(path)


def test_a_missing_file_of_public_keys_is_refused_by_name(path: Path) -> None:
    with pytest.raises(Refused, match=r"node\.seed: cannot read the master's public keys"):
        identity.read_public_keys(path)
