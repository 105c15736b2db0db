"""A certificate authority of a test's own, and folders of keys that it signed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wherry.serve.flight_keys import Tls

DAY = timedelta(days=1)


def tls_of(folder: Path) -> Tls:
    """Read what `Authority.issue` wrote."""
    return Tls(*(Path(folder, name).read_bytes() for name in ("ca.pem", "cert.pem", "key.pem")))


class Authority:
    """Signs certificates whose first alternative name is the name given."""

    def __init__(self, name: str = "root") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _named(name)
        made = self._begun(self.name, self.key, DAY)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = _pem(made.sign(self.key, hashes.SHA256()))

    def issue(self, folder: Path, name: str, ends: timedelta = DAY) -> Path:
        """Write a folder of keys for 127.0.0.1 and for `name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(name), x509.DNSName("localhost")]
        names = x509.SubjectAlternativeName([*names, x509.IPAddress(ip_address("127.0.0.1"))])
        made = self._begun(_named(name), key, ends).add_extension(names, critical=False)
        folder.mkdir(parents=True)
        (folder / "ca.pem").write_bytes(self.pem)
        (folder / "cert.pem").write_bytes(_pem(made.sign(self.key, hashes.SHA256())))
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / "key.pem").write_bytes(secret)
        return folder

    def _begun(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, ends: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder(issuer_name=self.name, subject_name=name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + ends)
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
