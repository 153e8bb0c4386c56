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

_BACKDATED: Final = datetime.timedelta(hours=1)
"""A node whose clock is a little behind still believes a certificate of today."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A private key and its certificate, as two files."""

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
    key = _ensure_key(pair.key)
    if pair.certificate.exists() and _is_of(_read(pair.certificate), key):
        return
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"gnt-mesh {cluster_name}"[:64])])
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
    certificate = (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(_key_id_of(key), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(pair.certificate, certificate)


def ensure_server(pair: Pair, authority: Pair, names: Sequence[str], *, days: int = SERVER_DAYS) -> None:
    """Make a server's certificate for these names and addresses, unless there is one that serves.

    The authority's own certificate follows it: a node that has but its fingerprint gets it from the server.
    """
    key = _ensure_key(pair.key)
    issuer = _read(authority.certificate)
    if pair.certificate.exists() and _serves(_read_chain(pair.certificate), key, issuer, names):
        return
    issuer_key = _read_key(authority.key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    # A server of a cluster of servers is also a client of the others.
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(usage, critical=False)
        .add_extension(_key_id_of(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    _write(pair.certificate, certificate, issuer)


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
    chain: Sequence[x509.Certificate], key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate, names: Sequence[str]
) -> bool:
    certificate = chain[0]
    if chain[1:] != [issuer]:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=RENEWED_BEFORE_DAYS)
    if certificate.not_valid_after_utc < soon:
        return False
    return _is_of(certificate, key) and set(names) <= _names_of(certificate)


def _is_of(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def _ensure_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.exists():
        return _read_key(path)
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    durable.write_file(path, text, mode=0o600)
    return key


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        if path.stat().st_mode & 0o077:
            raise Refused(f"{path}: a private key that others can read is no secret; make a new one")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise Refused(f"{path}: cannot read the private key: {os.strerror(error.errno or 0)}") from error
    except (ValueError, TypeError) as error:
        raise Refused(f"{path}: not a private key without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused(f"{path}: not a key on an elliptic curve, as those that gnt-mesh makes")
    return key


def _read(path: Path) -> x509.Certificate:
    return _read_chain(path)[0]


def _read_chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise Refused(f"{path}: cannot read the certificate: {os.strerror(error.errno or 0)}") from error
    except ValueError as error:
        raise Refused(f"{path}: not a certificate") from error


def _write(path: Path, *chain: x509.Certificate) -> None:
    parts = [certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain]
    durable.write_file(path, parts, mode=0o644)
