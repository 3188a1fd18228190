"""The site's CA and the certificates it gives out; pure but for the random source it is given.

Keys are ECDSA P-256: every program of the stack reads them and they are made in no time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from perimeter_bundle.model.errors import InputError

RandomBytes = Callable[[int], bytes]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

CA_LIFETIME = timedelta(days=3652)
SERVER_LIFETIME = timedelta(days=825)
# A certificate is made anew when less than this is left: sites are touched a few times a year.
RENEW_BEFORE = timedelta(days=180)
# Clocks of a site without time servers differ; a certificate must be valid on all of them.
VALID_SINCE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: str
    key: str = field(repr=False)


def make_ca(site_name: str, now: datetime, random: RandomBytes) -> KeyPair:
    """A CA of its own for one site."""
    key = _new_key(random)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"perimeter CA of {site_name}")])
    builder = (
        _builder(name, name, key.public_key(), now, CA_LIFETIME, random)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def make_server_certificate(
    ca: KeyPair, names: tuple[str, ...], now: datetime, random: RandomBytes
) -> KeyPair:
    """A server certificate for ``names`` (addresses and DNS names), signed by ``ca``."""
    issuer, issuer_key = read_certificate(ca.certificate), _read_key(ca.key)
    key = _new_key(random)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    until = min(now + SERVER_LIFETIME, issuer.not_valid_after_utc)
    builder = (
        _builder(issuer.subject, subject, key.public_key(), now, until - now, random)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        .add_extension(_authority(issuer), critical=False)
    )
    return _pair(builder.sign(issuer_key, hashes.SHA256()), key)


def needs_renewal(pair: KeyPair, ca: KeyPair, names: tuple[str, ...], now: datetime) -> str:
    """Why a server certificate must be made anew; empty when it is good."""
    certificate = read_certificate(pair.certificate)
    issuer = read_certificate(ca.certificate)
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return "another CA signed it"
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    if set(extension.value) != {_general(name) for name in names}:
        return "the host's names or addresses changed"
    left = certificate.not_valid_after_utc - now
    bounded_by_ca = certificate.not_valid_after_utc == issuer.not_valid_after_utc
    if left < RENEW_BEFORE and not (bounded_by_ca and left > timedelta(0)):
        return f"it ends on {certificate.not_valid_after_utc:%Y-%m-%d}"
    return ""


def check_ca(ca: KeyPair, now: datetime) -> None:
    """Raises InputError[bad-ca] unless ``ca`` can sign certificates for a site now."""
    certificate = read_certificate(ca.certificate)
    problems = []
    try:
        key = _read_key(ca.key)
    except InputError as error:
        problems.append(error.message)
    else:
        if key.public_key() != certificate.public_key():
            problems.append("the private key does not belong to the certificate")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        problems.append("it is not a CA: it has no basic constraints")
    else:
        if not constraints.value.ca:
            problems.append("it is not a CA: its basic constraints say so")
    if certificate.not_valid_after_utc <= now:
        problems.append(f"it ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if certificate.not_valid_before_utc > now:
        problems.append(f"it begins on {certificate.not_valid_before_utc:%Y-%m-%d}")
    if problems:
        raise InputError(
            "bad-ca",
            "the site's CA cannot be used",
            problems=problems,
            hint="look at ca in site.yaml, and at this machine's clock",
        )


def read_certificate(pem: str) -> x509.Certificate:
    """The certificate in ``pem``; raises InputError[bad-certificate]."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise InputError("bad-certificate", f"not a PEM certificate: {error}") from error


def _read_key(pem: str) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise InputError(
            "bad-key", "not a PEM private key without a password", hint="remove its password first"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InputError("bad-key", "the CA's key is neither ECDSA nor RSA")
    return key


def _new_key(random: RandomBytes) -> ec.EllipticCurvePrivateKey:
    """P-256 with 384 random bits reduced to the group's order: bias below 2**-128."""
    curve = ec.SECP256R1()
    order = curve.group_order
    return ec.derive_private_key(1 + int.from_bytes(random(48), "big") % (order - 1), curve)


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
    random: RandomBytes,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(1 + int.from_bytes(random(16), "big"))
        .not_valid_before(now - VALID_SINCE)
        .not_valid_after(now + lifetime)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)  # noqa: S101
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(IPv4Address(name))
    except ValueError:
        return x509.DNSName(name)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )
