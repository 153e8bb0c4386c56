"""The cluster's own certificate authority, and the certificates of its servers. The only importer of cryptography.

A private key is made on the machine that uses it and stays there, in a file only its owner can read (design, D6).
Who connects knows the authority by its certificate alone, which is public.
"""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol import durable
from protocol.errors import Refused

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 825
RENEWED_BEFORE_DAYS: Final = 30
"""A server's certificate that expires sooner is made anew when the server is set up."""
SERVER_MODE: Final = 0o640
"""The server may be another user than who renews its certificate: its group then reads the file."""

FORMER_KEPT: Final = 4
"""Who was not told of so many renewals of the authority can still come back."""

_BACKDATED: Final = datetime.timedelta(hours=1)
"""A node whose clock is a little behind still believes a certificate of today."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An authority as two files: what it signs with, for its owner alone, and what everybody may see.

    The first one decides, and is replaced at once: it holds the private key, its certificate, the same vouched for by
    the authorities before it, and their certificates.
    """

    key: Path
    certificate: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a certificate says of itself, in seconds since 1970."""

    name: str
    fingerprint: str
    """SHA-256 of the certificate, 64 lower-case hexadecimal digits."""
    made: float
    expires: float
    names: tuple[str, ...] = ()


def ensure_authority(pair: Pair, cluster_name: str) -> None:
    """Make the cluster's certificate authority, or as much of it as is missing."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"gnt-mesh {cluster_name}"[:64])])
    if not pair.key.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        _write_secret(pair.key, key, [_authority_certificate(name, key, name, key, AUTHORITY_DAYS)])
    key, chain = _read_secret(pair.key)
    if not chain:  # made when the key lay there alone
        own = _read(pair.certificate) if pair.certificate.exists() else None
        fits = own is not None and _is_of(own, key)
        chain = [own if own and fits else _authority_certificate(name, key, name, key, AUTHORITY_DAYS)]
        _write_secret(pair.key, key, chain)
    show_authority(pair)


def show_authority(pair: Pair) -> None:
    """Have everybody here believe the authority of now, and nobody else. The servers have to be vouched for by it."""
    _, chain = _read_secret(pair.key)
    text = chain[0].public_bytes(serialization.Encoding.PEM)
    if not pair.certificate.exists() or (_read(pair.certificate), pair.certificate.read_bytes()) != (chain[0], text):
        durable.write_file(pair.certificate, text, mode=0o644)


def renew_authority(pair: Pair) -> None:
    """Give the cluster another authority, for which the one before vouches: whoever knows only that believes it too.

    That way it stays for those who have not been told of the new one: for as long as the certificates before are good.
    Nobody is shown the new one before its servers are vouched for by it.
    """
    former, chain = _read_secret(pair.key)
    name, now = chain[0].subject, datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    days = max((chain[0].not_valid_after_utc - now).days, 1)
    own = _authority_certificate(name, key, name, key, AUTHORITY_DAYS)
    # The certificate that the former vouches for comes before all that vouch for themselves: OpenSSL takes the first.
    bridges = [_authority_certificate(name, key, name, former, days), *(c for c in chain[1:] if not _is_root(c))]
    roots = [c for c in chain if _is_root(c)]
    kept = [[c for c in group if c.not_valid_after_utc > now][:FORMER_KEPT] for group in (bridges, roots)]
    _write_secret(pair.key, key, [own, *kept[0], *kept[1]])


def ensure_server(path: Path, authority: Pair, names: Sequence[str], *, days: int = SERVER_DAYS) -> None:
    """Make a server's key and certificate for these names and addresses, in one file, unless what is there serves.

    What vouches for it follows, the authority's own certificate at the end: who has but its fingerprint gets it there.
    """
    found = _read_secret(path, mode=SERVER_MODE) if path.exists() else None
    if found is None or not _serves(found[1], found[0], _vouching(authority), names):
        key = found[0] if found else ec.generate_private_key(ec.SECP256R1())
        _write_server(path, key, authority, names, days)


def renew_server(path: Path, authority: Pair) -> None:
    """Give a server another key, and a certificate for the names that it has had."""
    names = sorted(_names_of(_read(path)))
    _write_server(path, ec.generate_private_key(ec.SECP256R1()), authority, names, SERVER_DAYS)


def facts(path: Path) -> Facts:
    """Return what the first certificate in a file says; Refused if there is none."""
    certificate = _read(path)
    return Facts(
        name=certificate.subject.rfc4514_string().removeprefix("CN="),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        made=certificate.not_valid_before_utc.timestamp(),
        expires=certificate.not_valid_after_utc.timestamp(),
        names=tuple(sorted(_names_of(certificate))),
    )


def _authority_certificate(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, signer: ec.EllipticCurvePrivateKey, days: int
) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder(name, issuer, key.public_key(), days)
        # Go, and so the `nats` command, counts what former authorities vouch for, though all have one name.
        .add_extension(x509.BasicConstraints(ca=True, path_length=FORMER_KEPT), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(_key_id_of(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )


def _write_server(
    path: Path, key: ec.EllipticCurvePrivateKey, authority: Pair, names: Sequence[str], days: int
) -> None:
    issuer_key, chain = _read_secret(authority.key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    # A server of a cluster of servers is also a client of the others.
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        _builder(subject, chain[0].subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(usage, critical=False)
        .add_extension(_key_id_of(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    _write_secret(path, key, [certificate, *_vouching(authority)], mode=SERVER_MODE)


def _vouching(authority: Pair) -> list[x509.Certificate]:
    """Return what a server shows after its own certificate: what others vouch for, then what vouches for itself."""
    _, chain = _read_secret(authority.key)
    return [*(c for c in chain if not _is_root(c)), *(c for c in chain if _is_root(c))]


def _is_root(certificate: x509.Certificate) -> bool:
    """All authorities of a cluster have one name, so only the signature tells who vouches."""
    try:
        certificate.verify_directly_issued_by(certificate)
    except InvalidSignature:
        return False
    return True


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _key_id_of(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name) for kind in (x509.DNSName, x509.IPAddress) for name in found.get_values_for_type(kind)}


def _serves(
    chain: Sequence[x509.Certificate],
    key: ec.EllipticCurvePrivateKey,
    vouching: Sequence[x509.Certificate],
    names: Sequence[str],
) -> bool:
    if not chain or [*chain[1:]] != [*vouching]:
        return False
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=RENEWED_BEFORE_DAYS)
    if chain[0].not_valid_after_utc < soon:
        return False
    return _is_of(chain[0], key) and set(names) <= _names_of(chain[0])


def _is_of(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def _read_secret(path: Path, *, mode: int = 0o600) -> tuple[ec.EllipticCurvePrivateKey, list[x509.Certificate]]:
    """Return the private key in a file, and the certificates that follow it."""
    try:
        if path.stat().st_mode & 0o777 & ~mode:
            raise Refused(f"{path}: a private key that others can read is no secret; make a new one")
        content = path.read_bytes()
        key = serialization.load_pem_private_key(content, password=None)
    except OSError as error:
        raise Refused(f"{path}: cannot read the private key: {os.strerror(error.errno or 0)}") from error
    except (ValueError, TypeError) as error:
        raise Refused(f"{path}: not a private key without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused(f"{path}: not a key on an elliptic curve, as those that gnt-mesh makes")
    return key, _certificates_in(path, content) if b"BEGIN CERTIFICATE" in content else []


def _read(path: Path) -> x509.Certificate:
    try:
        return _certificates_in(path, path.read_bytes())[0]
    except OSError as error:
        raise Refused(f"{path}: cannot read the certificate: {os.strerror(error.errno or 0)}") from error


def _certificates_in(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise Refused(f"{path}: not a certificate") from error


def _write_secret(
    path: Path, key: ec.EllipticCurvePrivateKey, chain: Sequence[x509.Certificate], *, mode: int = 0o600
) -> None:
    """Write a private key and the certificates that belong to it, at once."""
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    parts = [certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain]
    durable.write_file(path, [text, *parts], mode=mode)
