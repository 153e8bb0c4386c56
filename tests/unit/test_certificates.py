"""The cluster's authority and its servers' certificates: made once, kept, for their owner alone."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from master import certificates
from master.certificates import Pair
from protocol.errors import Refused

NAMES = ("127.0.0.1", "localhost")


def both(directory: Path) -> tuple[Pair, Path]:
    """Return an authority and a server of it."""
    authority, server = Pair(directory / "ca.key", directory / "ca.pem"), directory / "server.pem"
    certificates.ensure_authority(authority, "mesh")
    certificates.ensure_server(server, authority, NAMES)
    return authority, server


def key_of(path: Path) -> bytes:
    return path.read_bytes().partition(b"-----END PRIVATE KEY-----")[0]


def believes(trusted: bytes, server: Path) -> bool:
    """Whether somebody who trusts these certificates alone shakes hands with this server."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(server)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(cadata=trusted.decode())
    ways = [ssl.MemoryBIO() for _ in range(2)]
    ends = (
        trusting.wrap_bio(ways[0], ways[1], server_hostname="localhost"),
        serving.wrap_bio(ways[1], ways[0], server_side=True),
    )
    for end in (*ends, *ends):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            return False
    return True


def test_keys_are_for_their_owner_alone_and_certificates_for_everybody(tmp_path: Path) -> None:
    authority, server = both(tmp_path)
    assert [path.stat().st_mode & 0o777 for path in (authority.key, server)] == [0o600, 0o640]
    assert authority.certificate.stat().st_mode & 0o777 == 0o644
    assert b"PRIVATE" not in authority.certificate.read_bytes()


def test_what_is_there_stays(tmp_path: Path) -> None:
    both(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    both(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_server_gets_another_certificate_for_another_name_and_keeps_its_key(tmp_path: Path) -> None:
    authority, server = both(tmp_path)
    before = server.read_bytes()

    certificates.ensure_server(server, authority, [*NAMES, "broker.example.com"])

    assert key_of(server) == before.partition(b"-----END PRIVATE KEY-----")[0] and server.read_bytes() != before
    assert certificates.facts(server).names == ("127.0.0.1", "broker.example.com", "localhost")


def test_a_server_gets_another_certificate_from_another_authority(tmp_path: Path) -> None:
    authority, server = both(tmp_path)
    before = certificates.facts(server)
    authority.key.unlink()
    authority.certificate.unlink()

    _, server = both(tmp_path)

    assert certificates.facts(server).fingerprint != before.fingerprint


def test_a_certificate_that_expires_soon_is_made_anew(tmp_path: Path) -> None:
    authority, server = both(tmp_path)
    server.unlink()
    certificates.ensure_server(server, authority, NAMES, days=certificates.RENEWED_BEFORE_DAYS - 1)
    soon = certificates.facts(server)

    certificates.ensure_server(server, authority, NAMES)

    assert certificates.facts(server).expires - soon.expires > 700 * 86400


def test_an_authority_whose_key_lay_alone_stays_the_same(tmp_path: Path) -> None:
    """So it was before; and so it is if the certificate is gone."""
    authority, server = both(tmp_path)
    certificate = authority.certificate.read_bytes()
    authority.key.write_bytes(authority.key.read_bytes().replace(certificate, b""))
    both(tmp_path)
    assert authority.certificate.read_bytes() == certificate and certificate in authority.key.read_bytes()
    authority.certificate.unlink()
    both(tmp_path)
    assert authority.certificate.read_bytes() == certificate
    assert believes(certificate, server)


def test_a_renewed_server_has_another_key_and_the_same_names(tmp_path: Path) -> None:
    authority, server = both(tmp_path)
    key, names = key_of(server), certificates.facts(server).names

    certificates.renew_server(server, authority)

    assert key_of(server) != key and certificates.facts(server).names == names
    assert believes(authority.certificate.read_bytes(), server)


def test_who_knows_only_a_former_authority_believes_the_server_of_the_new_one(tmp_path: Path) -> None:
    """So nobody who was not there is locked out; who knows the new one does not believe the former any more."""
    authority, server = both(tmp_path)
    known, servers = [authority.certificate.read_bytes()], [server.read_bytes()]
    for _ in range(certificates.FORMER_KEPT):
        certificates.renew_authority(authority)
        assert authority.certificate.read_bytes() == known[-1], "nobody is shown it before the server is ready"
        both(tmp_path)
        known.append(authority.certificate.read_bytes())
        servers.append(server.read_bytes())

    assert [believes(one, server) for one in known] == [True] * len(known)
    server.write_bytes(servers[0])
    assert not believes(known[-1], server)

    certificates.renew_authority(authority)
    certificates.ensure_server(server, authority, NAMES)
    assert not believes(known[0], server) and believes(known[1], server)


def test_authorities_leave_room_for_those_that_they_vouch_for(tmp_path: Path) -> None:
    """Go counts them where OpenSSL does not, so the `nats` command would not believe the server any more."""
    authority, server = both(tmp_path)
    for _ in range(certificates.FORMER_KEPT):
        certificates.renew_authority(authority)
        both(tmp_path)
    chain = x509.load_pem_x509_certificates(server.read_bytes())[1:]
    limits = {c.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length for c in chain}
    assert len(chain) == 2 * certificates.FORMER_KEPT + 1 and limits == {certificates.FORMER_KEPT}


def test_a_renewal_that_was_cut_off_is_completed(tmp_path: Path) -> None:
    authority, server = both(tmp_path)
    former = authority.certificate.read_bytes()
    certificates.renew_authority(authority)
    assert believes(former, server)

    both(tmp_path)

    renewed = authority.certificate.read_bytes()
    assert renewed != former and believes(renewed, server) and believes(former, server)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    authority, _ = both(tmp_path)
    authority.key.chmod(0o640)
    with pytest.raises(Refused, match=r"ca\.key: a private key that others can read"):
        both(tmp_path)


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "server.pem"])
def test_what_is_damaged_is_refused_by_name(tmp_path: Path, name: str) -> None:
    both(tmp_path)
    (tmp_path / name).write_text("nonsense")
    with pytest.raises(Refused, match=name):
        both(tmp_path)
