"""An authority of the tests' own, which certifies servers on this machine."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kit.requirements import require

require("cryptography")

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

_PEM = serialization.Encoding.PEM
_NAME = "registry-wsgi-tests"


class Authority:
    """
    A private authority for certificates, which no system trusts.

    Args:
        folder: Where its files are.

    Attributes:
        file: Its certificate, which makes clients trust it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._certify("authority", self._key, lasting=timedelta(days=1)))

    def server(
        self, address: str = "127.0.0.1", lasting: timedelta = timedelta(days=1)
    ) -> ssl.SSLContext:
        """What a server at *address* shows, which is valid for so *lasting* a time from now on."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = serialization.PrivateFormat.PKCS8
        secret = key.private_bytes(_PEM, private, serialization.NoEncryption())
        file = self._folder / "server.pem"
        file.write_bytes(secret + self._certify(address, key, lasting=lasting))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _certify(self, name: str, key: ec.EllipticCurvePrivateKey, *, lasting: timedelta) -> bytes:
        now = datetime.now(UTC)
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
        made = (
            x509.CertificateBuilder()
            .issuer_name(issuer)
            .subject_name(issuer if key is self._key else x509.Name([]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=9))
            .not_valid_after(now + lasting)
            .add_extension(x509.BasicConstraints(key is self._key, None), critical=True)
        )
        if key is not self._key:
            address = x509.IPAddress(ipaddress.ip_address(name))
            names = x509.SubjectAlternativeName([address])
            made = made.add_extension(names, critical=True)
        return made.sign(self._key, hashes.SHA256()).public_bytes(_PEM)
