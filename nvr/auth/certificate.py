"""The certificate that the daemon makes for itself where TLS is asked for and the operator gives none (RFC 5280).

Self-signed: it hides passwords and footage from those who listen, and proves who the recorder is only to a client
that has been told its fingerprint or key. The key stays the same when the certificate is renewed.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import socket
import stat
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nvr.model.errors import OperatorError
from nvr.model.time import UtcNs, datetime_from_utc

log = logging.getLogger(__name__)

DIRECTORY: Final = "tls"
"""Below the data directory."""
VALID: Final = timedelta(days=825)
"""What clients take at most of a certificate that somebody trusts by hand."""
RENEW: Final = timedelta(days=30)
"""So long before its end a certificate is made anew, or complained about where it is the operator's."""
BACKDATED: Final = timedelta(days=1)
"""Clients' clocks are wrong."""
MAX_COMMON_NAME: Final = 64


class SelfSigned:
    """Certificate and key in the data directory. All methods block."""

    def __init__(self, data: Path, names: Iterable[str]) -> None:
        """`names`: host names and literal addresses by which clients reach the daemon; the first is the common name."""
        self.certificate = data / DIRECTORY / "certificate.pem"
        self.key = data / DIRECTORY / "key.pem"
        self._names = tuple(dict.fromkeys(names)) or ("localhost",)

    def ensure(self, now_ns: UtcNs) -> bool:
        """Make what is missing, about to expire, or made for other names or another key. True: the certificate is new.

        Raises OperatorError for files that cannot be read or written, and a key that others can read.
        """
        try:
            self.key.parent.mkdir(mode=0o700, exist_ok=True)
            key = self._load_key()
            if key is None:
                key = self._make_key()
            why = self._outdated(key, now_ns)
            if why is None:
                return False
            made = _certificate(key, self._names, now_ns)
            _write(self.certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)
        except OSError as e:
            raise OperatorError(f"TLS: {self.key.parent} cannot be used: {e.strerror or e}") from e
        log.info(
            "a self-signed certificate has been made for %s (%s); SHA-256 fingerprint %s, valid until %s",
            ", ".join(self._names),
            why,
            made.fingerprint(hashes.SHA256()).hex(":"),
            made.not_valid_after_utc.date(),
        )
        return True

    def _load_key(self) -> ec.EllipticCurvePrivateKey | None:
        try:
            mode = stat.S_IMODE(self.key.stat().st_mode)
            pem = self.key.read_bytes()
        except FileNotFoundError:
            return None
        if mode & 0o077:
            raise OperatorError(f"TLS: {self.key} has mode {mode:04o} and is open to others: chmod 600 {self.key}")
        try:
            key = serialization.load_pem_private_key(pem, None)
        except (ValueError, TypeError) as e:
            raise OperatorError(f"TLS: {self.key} is damaged; remove it and a new one is made: {e}") from e
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise OperatorError(f"TLS: {self.key} is no key of this daemon; name your own in http.key instead")
        return key

    def _make_key(self) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(self.key, pem, 0o600)
        return key

    def _outdated(self, key: ec.EllipticCurvePrivateKey, now_ns: UtcNs) -> str | None:
        """Why the certificate has to be made, or None."""
        try:
            there = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        except FileNotFoundError:
            return "the first one"
        except ValueError:
            return "the old one was damaged"
        if there.public_key() != key.public_key():
            return "the old one was for another key"
        if not _alternative_names(self._names) <= _names_of(there):
            return "the host's names or addresses have changed"
        now = datetime_from_utc(now_ns)
        if there.not_valid_after_utc - now < RENEW or now < there.not_valid_before_utc:
            return (
                f"the old one is valid from {there.not_valid_before_utc.date()} to {there.not_valid_after_utc.date()}"
            )
        return None


def expiry_warning(certificate: Path, now_ns: UtcNs) -> str | None:
    """What is to be said of the end of an operator's certificate; None while there is time. Blocking.

    Raises OperatorError where the file holds no certificate.
    """
    try:
        end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as e:
        raise OperatorError(f"TLS: {certificate} holds no certificate: {e}") from e
    left = end - datetime_from_utc(now_ns)
    if left >= RENEW:
        return None
    return f"the certificate {certificate} {'has expired' if left <= timedelta() else 'expires'} on {end.date()}"


def host_names(extra: Sequence[str]) -> tuple[str, ...]:
    """`extra`, the names of this host, its loopback and the addresses of its default routes. Asks no DNS."""
    names = [*extra, socket.gethostname(), "localhost", "127.0.0.1", "::1"]
    # connect() on a UDP socket sends nothing; it only chooses the address that packets would bear
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                names.append(str(probe.getsockname()[0]))
        except OSError as e:
            log.debug("no default route for %s: %s", family.name, e)
    return tuple(dict.fromkeys(name for name in names if name and _general_name(name) is not None))


def _certificate(key: ec.EllipticCurvePrivateKey, names: Sequence[str], now_ns: UtcNs) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:MAX_COMMON_NAME])])
    now = datetime_from_utc(now_ns)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now - BACKDATED + VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    return [found for name in names if (found := _general_name(name)) is not None]


def _general_name(name: str) -> x509.GeneralName | None:
    """None for what can stand in no certificate, such as a host name with an underscore beyond ASCII."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        pass
    try:
        return x509.DNSName(name.encode("idna").decode("ascii").lower())
    except (UnicodeError, ValueError) as e:
        log.warning("the name %r cannot stand in a certificate: %s", name, e)
        return None


def _alternative_names(names: Sequence[str]) -> set[str]:
    return {str(n.value) for n in _general_names(names)}


def _names_of(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(n.value) for n in names}


def _write(path: Path, content: bytes, mode: int) -> None:
    """Written beside and moved into place, so that a half-written file never stands there."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
