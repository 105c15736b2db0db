"""X.509 through `cryptography` (the extra `agent`): an authority, what it issues, what it revokes.

Keys are ECDSA on P-256: every TLS library has it. A certificate says in its extended key usage
whether it may serve (agents) or only ask (clients), and TLS of both ends checks that; the first
subject alternative name is its identity (`wherry.serve.identity`).
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct

from wherry.base.errors import CorruptError, InputError
from wherry.serve.identity import Identity, Revoked, Role, identity_of
from wherry.serve.peer import Forbidden

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:  # pragma: no cover
    raise InputError(
        "certificates need the package cryptography: pip install 'wherry[agent]'"
    ) from None

BACKDATED_S: Final = 3600
"""A certificate holds from an hour before it is issued: clocks of hosts may differ by that."""
DAY_S: Final = 86_400
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]|\.(?=[A-Za-z0-9_]))*")
_HOST_CHARACTERS_MAX: Final = 253


class Authority(Struct, frozen=True):
    """Who signs: its certificate and its key, as cryptography has them."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Made(Struct, frozen=True):
    """A certificate and the key that belongs to it, as PEM."""

    certificate: bytes
    key: bytes


class Issued(Struct, frozen=True):
    """What a certificate says: whose it is, from when (Unix s), and where it serves."""

    identity: Identity
    since_s: int
    addresses: tuple[str, ...]


def new_authority(now_s: int, days: int) -> Made:
    """Make a key and a certificate that signs certificates of agents and clients."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities of the same name would be taken for one by a TLS library that has both.
    name = _named(f"wherry authority {secrets.token_hex(8)}")
    builder = _begun(
        name, name, key.public_key(), secrets.randbits(128) | 1, now_s=now_s, days=days
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    )
    return Made(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def read_pair(made: Made, label: str) -> Authority:
    """Read a certificate and the key that belongs to it.

    Raises
    ------
    CorruptError
        If they cannot be read, or do not belong together.
    """
    certificate = _read(made.certificate, f"{label}: certificate")
    try:
        key = serialization.load_pem_private_key(made.key, None)
    except (ValueError, TypeError) as problem:
        raise CorruptError(f"{label}: key: {problem}") from None
    if (
        not isinstance(key, ec.EllipticCurvePrivateKey)
        or key.public_key() != certificate.public_key()
    ):
        raise CorruptError(f"{label}: the key does not belong to the certificate")
    return Authority(certificate, key)


def new_certificate(
    authority: Authority, role: Role, name: str, addresses: Sequence[str], *, now_s: int, days: int
) -> Made:
    """Make a key and a certificate of an agent or a client.

    Parameters
    ----------
    addresses : sequence of str
        DNS names and IP addresses at which an agent serves; its name is always one of them.

    Raises
    ------
    InputError
        If it would outlive the authority, or an address is neither.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    serial = secrets.randbits(128) | 1
    until_s = now_s + days * DAY_S
    end = authority.certificate.not_valid_after_utc
    if until_s > end.timestamp():
        raise InputError(
            f"{days} days from now is later than the authority's own end, {end:%Y-%m-%d %H:%M} UTC"
        )
    serves = role == "agent"
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(Identity(role, name, serial, until_s).text())
    ]
    if serves:
        names += [_address(one) for one in dict.fromkeys((name, *addresses))]
    elif addresses:
        raise InputError(f"{name!r} is a client: it serves at no address")
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    usages += [ExtendedKeyUsageOID.SERVER_AUTH] if serves else []
    signer = authority.certificate
    builder = _begun(_named(name), signer.subject, key.public_key(), serial, now_s=now_s, days=days)
    public = authority.key.public_key()
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs=False), True),
        (x509.ExtendedKeyUsage(usages), True),
        (x509.SubjectAlternativeName(names), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return Made(_pem(builder.sign(authority.key, hashes.SHA256())), _key_pem(key))


def read_certificate(pem: bytes, label: str) -> Issued:
    """Give what a certificate says that `new_certificate` made; its signature is not checked.

    Raises
    ------
    CorruptError
        If it is none.
    """
    certificate = _read(pem, label)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        first, *others = list(names)
        identity = identity_of(str(first.value))
    except (x509.ExtensionNotFound, ValueError, Forbidden) as problem:
        raise CorruptError(f"{label}: {problem}") from None
    if identity.serial != certificate.serial_number:
        raise CorruptError(f"{label}: serial {certificate.serial_number:x}, not as its name says")
    since = int(certificate.not_valid_before_utc.timestamp())
    return Issued(identity, since, tuple(str(one.value) for one in others))


def check_issued(pem: bytes, root: bytes, label: str) -> None:
    """Check that an authority signed a certificate.

    Raises
    ------
    CorruptError
        If it did not, or one of them is no certificate.
    """
    try:
        _read(pem, label).verify_directly_issued_by(_read(root, f"{label}: authority"))
    except (ValueError, TypeError, InvalidSignature) as problem:
        raise CorruptError(f"{label}: not issued by its authority: {problem}") from None


def new_revocations(authority: Authority, revoked: Revoked) -> bytes:
    """Give a signed list of revoked certificates (an X.509 CRL, as PEM).

    Its number stands in it, so that who has read a later one takes no earlier one. It does not end
    before the authority does.
    """
    begun = authority.certificate.not_valid_before_utc
    last = max((*revoked.since_s.values(), int(begun.timestamp())))
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(_time(last))
        .next_update(max(authority.certificate.not_valid_after_utc, _time(last + DAY_S)))
        .add_extension(x509.CRLNumber(revoked.number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    for serial, since in sorted(revoked.since_s.items()):
        one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_time(since))
        builder = builder.add_revoked_certificate(one.build())
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def read_revocations(pem: bytes, authority: bytes, label: str) -> Revoked:
    """Read a list of revoked certificates, and check that the authority signed it.

    Raises
    ------
    CorruptError
        If it is none, or another authority's.
    """
    signer = _read(authority, f"{label}: authority")
    public = signer.public_key()
    try:
        found = x509.load_pem_x509_crl(pem)
        if not isinstance(public, ec.EllipticCurvePublicKey) or found.issuer != signer.subject:
            raise CorruptError(f"{label}: not a list of this authority")
        public.verify(found.signature, found.tbs_certlist_bytes, ec.ECDSA(hashes.SHA256()))
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        since = {one.serial_number: int(one.revocation_date_utc.timestamp()) for one in found}
    except InvalidSignature:
        raise CorruptError(f"{label}: its signature is not the authority's") from None
    except (ValueError, x509.ExtensionNotFound) as problem:
        raise CorruptError(f"{label}: no list of revoked certificates: {problem}") from None
    return Revoked(number, since)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: Any, serial: int, *, now_s: int, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(_time(now_s - BACKDATED_S))
        .not_valid_after(_time(now_s + days * DAY_S))
    )


def _read(pem: bytes, label: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as problem:
        raise CorruptError(f"{label}: not a certificate: {problem}") from None


def _address(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if not _HOST.fullmatch(text) or len(text) > _HOST_CHARACTERS_MAX:
        raise InputError(f"{text!r} is no address; possible: 10.0.0.7, ::1, csd0.example.com")
    return x509.DNSName(text)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _time(unix_s: int) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
