"""Certificates: the server's own, and which clients' may connect.

pki/own/       the server's own pair, if it was made here
pki/trusted/   clients that may connect: *.der, *.pem, *.crt, *.cer. Read again for each connection.
pki/rejected/  clients that were refused, for an engineer to look at and move over; the newest few.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.errors import GatewayError
from edge.gateways.settings import OpcUaSettings
from edge.logs import log_event

KEPT_REJECTED = 20
LARGEST_BYTES = 65_536
ENDINGS = frozenset({".der", ".pem", ".crt", ".cer"})
LIFETIME = datetime.timedelta(days=3650)
SMALLEST_KEY = 2048
DER_SEQUENCE, DER_LONG = 0x30, 0x80
PEM_MARK = b"-----BEGIN"
_LOG = logging.getLogger("linegate.gateway.opcua")


@dataclass(frozen=True)
class OwnPair:
    """The server's certificate and private key, and the application URI that the certificate names."""

    certificate: x509.Certificate
    private_key: rsa.RSAPrivateKey
    application_uri: str


class CertificateRefused(Exception):  # noqa: N818 - what has happened
    """A client's certificate is not to be trusted; `is_expired` if its time is all that is wrong with it."""

    def __init__(self, why: str, *, is_expired: bool = False) -> None:
        super().__init__(why)
        self.is_expired = is_expired


class TrustFolder:
    """Decides on clients' certificates. A certificate is trusted if exactly it lies in `trusted/`."""

    def __init__(self, pki: Path) -> None:
        self._trusted, self._rejected = pki / "trusted", pki / "rejected"
        for folder in (self._trusted, self._rejected):
            _make_folder(folder)

    def check(self, der: bytes) -> None:
        """Return if the client may connect.

        Raises:
            CertificateRefused: it may not.
        """
        thumbprint = hashlib.sha1(der).hexdigest()  # noqa: S324 - OPC UA's thumbprint, a name
        try:
            self._check(der)
        except CertificateRefused as refused:
            kept = self._keep(der, thumbprint)
            log_event(_LOG, "client_refused", level="warning", why=str(refused), thumbprint=thumbprint, kept=kept)
            raise

    def _check(self, der: bytes) -> None:
        try:
            certificate = x509.load_der_x509_certificate(der)
            begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        except ValueError as error:
            raise CertificateRefused("not a certificate") from error
        if der not in self._trusted_ders():
            raise CertificateRefused("unknown: it is not in pki/trusted")
        now = datetime.datetime.now(datetime.timezone.utc)
        if now > end:
            raise CertificateRefused(f"expired on {end:%Y-%m-%d}", is_expired=True)
        if now < begin:
            raise CertificateRefused(f"not valid before {begin:%Y-%m-%d %H:%M} UTC", is_expired=True)
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size < SMALLEST_KEY:
            raise CertificateRefused("its key is not RSA with 2,048 bits or more")

    def _trusted_ders(self) -> set[bytes]:
        found = set()
        with contextlib.suppress(OSError):
            for path in sorted(self._trusted.iterdir()):
                if path.suffix.lower() in ENDINGS:
                    with contextlib.suppress(OSError, ValueError):
                        found.add(_load_certificate(path).public_bytes(serialization.Encoding.DER))
        return found

    def _keep(self, der: bytes, thumbprint: str) -> bool:
        """Keep a refused certificate, and of all that were refused only the newest few."""
        if len(der) > LARGEST_BYTES:
            return False
        try:
            (self._rejected / f"{thumbprint}.der").write_bytes(der)
            kept = sorted(self._rejected.glob("*.der"), key=lambda path: path.stat().st_mtime_ns)
            for path in kept[:-KEPT_REJECTED]:
                path.unlink()
        except OSError:
            return False
        return True


def first_certificate(chain: bytes) -> bytes:
    """The first of DER certificates that follow each other: the client's own. What is none is given back as it is."""
    if len(chain) < 2 or chain[0] != DER_SEQUENCE:
        return chain
    if chain[1] < DER_LONG:
        return chain[: 2 + chain[1]]
    begin = 2 + chain[1] - DER_LONG
    return chain[: begin + int.from_bytes(chain[2:begin], "big")]


def own_pair(settings: OpcUaSettings, name: str) -> OwnPair:
    """The server's own certificate: the given one, or one that is made once and kept.

    Raises:
        GatewayError: a file is missing or malformed, the two do not belong together, it is not their time, the key is too
            short, or the folder cannot be written.
    """
    if bool(settings.certificate) != bool(settings.private_key):
        raise GatewayError("opcua.certificate and opcua.private_key belong together", "Name both, or neither.")
    if settings.certificate:
        pair = _load_pair(Path(settings.certificate), Path(settings.private_key))
    else:
        folder = Path(settings.pki) / "own"
        certificate, key = folder / "certificate.der", folder / "private_key.pem"
        if not certificate.exists() or not key.exists():
            _make_folder(folder)
            _make_pair(certificate, key, name, settings.host)
        pair = _load_pair(certificate, key)
    now = datetime.datetime.now(datetime.timezone.utc)
    begin, end = pair.certificate.not_valid_before_utc, pair.certificate.not_valid_after_utc
    remedy = "Set the clock, or give it another; one that was made here is made again if it is deleted."
    if end < now:
        raise GatewayError(f"the server's certificate has expired on {end:%Y-%m-%d}", remedy)
    if begin > now:
        raise GatewayError(f"the server's certificate is not valid before {begin:%Y-%m-%d %H:%M} UTC", remedy)
    if pair.private_key.key_size < SMALLEST_KEY:
        raise GatewayError(
            f"the server's key has only {pair.private_key.key_size} bits", "Give it one of RSA with 2,048 bits or more."
        )
    return pair


def _load_pair(certificate_file: Path, key_file: Path) -> OwnPair:
    try:
        certificate = _load_certificate(certificate_file)
        text = key_file.read_bytes()
        mode = key_file.stat().st_mode
        load = serialization.load_pem_private_key if PEM_MARK in text else serialization.load_der_private_key
        key = load(text, None)
    except OSError as error:
        raise GatewayError(
            f"{error.filename} cannot be read ({error.strerror})", "Name the server's certificate."
        ) from error
    except (ValueError, TypeError) as error:
        raise GatewayError(
            f"{certificate_file} and {key_file} are no certificate with an open private key ({error})",
            "Use DER or PEM.",
        ) from error
    if mode & 0o077:
        raise GatewayError(f"others can read {key_file}, a private key", f"Run `chmod 600 {key_file}`.")
    if not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != certificate.public_key():
        raise GatewayError(f"{key_file} is not the RSA key of {certificate_file}", "Name two that belong together.")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        uris = []
    if not uris:
        raise GatewayError(
            f"{certificate_file} names no application URI", "An OPC UA certificate has a URI in its subjectAltName."
        )
    return OwnPair(certificate, key, uris[0])


def _make_pair(certificate_file: Path, key_file: Path, name: str, host: str) -> None:
    """A self-signed pair with the application URI and the machine's names, as OPC UA wants them."""
    machine = socket.gethostname() or "localhost"
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Linegate"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{name} gateway"),
        ]
    )
    alternative: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(f"urn:{machine}:linegate:{name}"),
        *(x509.DNSName(known) for known in sorted({machine, "localhost"})),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if not address.is_unspecified and not address.is_loopback:
            alternative.append(x509.IPAddress(address))
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        handle = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secret)
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    except OSError as error:
        raise GatewayError(
            f"{key_file.parent} cannot be written ({error.strerror})", "Choose another opcua.pki."
        ) from error
    log_event(_LOG, "certificate_made", certificate=certificate_file)


def _load_certificate(path: Path) -> x509.Certificate:
    with path.open("rb") as file:
        data = file.read(LARGEST_BYTES)
    return x509.load_pem_x509_certificate(data) if PEM_MARK in data else x509.load_der_x509_certificate(data)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GatewayError(f"{folder} cannot be made ({error.strerror})", "Choose another opcua.pki.") from error
