"""The cluster's authority and its servers' certificates: made once, kept, for their owner alone."""

import ssl
from pathlib import Path

import pytest

from master import certificates
from master.certificates import Pair
from protocol.errors import Refused

NAMES = ("127.0.0.1", "localhost")


def pairs(directory: Path) -> tuple[Pair, Pair]:
    """Return an authority and a server of it."""
    authority = Pair(directory / "ca.key", directory / "ca.pem")
    server = Pair(directory / "server.key", directory / "server.pem")
    certificates.ensure_authority(authority, "mesh")
    certificates.ensure_server(server, authority, NAMES)
    return authority, server


def test_keys_are_for_their_owner_alone_and_certificates_for_everybody(tmp_path: Path) -> None:
    for pair in pairs(tmp_path):
        assert pair.key.stat().st_mode & 0o777 == 0o600
        assert pair.certificate.stat().st_mode & 0o777 == 0o644


def test_what_is_there_stays(tmp_path: Path) -> None:
    before = [path.read_bytes() for pair in pairs(tmp_path) for path in (pair.key, pair.certificate)]
    after = [path.read_bytes() for pair in pairs(tmp_path) for path in (pair.key, pair.certificate)]
    assert before == after


def test_a_server_gets_another_certificate_for_another_name_and_keeps_its_key(tmp_path: Path) -> None:
    authority, server = pairs(tmp_path)
    key, certificate = server.key.read_bytes(), server.certificate.read_bytes()

    certificates.ensure_server(server, authority, [*NAMES, "broker.example.com"])

    assert server.key.read_bytes() == key and server.certificate.read_bytes() != certificate
    assert certificates.facts(server.certificate).names == ("127.0.0.1", "broker.example.com", "localhost")


def test_a_server_gets_another_certificate_from_another_authority(tmp_path: Path) -> None:
    authority, server = pairs(tmp_path)
    before = certificates.facts(server.certificate)
    authority.key.unlink()
    authority.certificate.unlink()

    _, server = pairs(tmp_path)

    assert certificates.facts(server.certificate).fingerprint != before.fingerprint


def test_a_certificate_that_expires_soon_is_made_anew(tmp_path: Path) -> None:
    authority, server = pairs(tmp_path)
    server.certificate.unlink()
    certificates.ensure_server(server, authority, NAMES, days=certificates.RENEWED_BEFORE_DAYS - 1)
    soon = certificates.facts(server.certificate)

    certificates.ensure_server(server, authority, NAMES)

    assert certificates.facts(server.certificate).expires - soon.expires > 700 * 86400


def test_a_start_that_was_killed_between_key_and_certificate_is_completed(tmp_path: Path) -> None:
    authority, server = pairs(tmp_path)
    for pair in (authority, server):
        key = pair.key.read_bytes()
        pair.certificate.unlink()
        pairs(tmp_path)
        assert pair.key.read_bytes() == key
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificate, server.key)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    authority, _ = pairs(tmp_path)
    authority.key.chmod(0o640)
    with pytest.raises(Refused, match=r"ca\.key: a private key that others can read"):
        pairs(tmp_path)


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "server.key", "server.pem"])
def test_what_is_damaged_is_refused_by_name(tmp_path: Path, name: str) -> None:
    pairs(tmp_path)
    (tmp_path / name).write_text("nonsense")
    with pytest.raises(Refused, match=name):
        pairs(tmp_path)
