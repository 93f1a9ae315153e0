"""Which certificates of cameras are believed (rtsps, https)."""

from __future__ import annotations

import hashlib
import re
import ssl
from dataclasses import dataclass

from nvr.ingest.settings import IngestSettings
from nvr.model.errors import OperatorError

_NO_CHECK_TIME = ssl.VerifyFlags(0x20_0000)
"""X509_V_FLAG_NO_CHECK_TIME, for which the module has no name."""
_HEX_64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Trust:
    """A certificate is believed when `context` verifies it, or when its fingerprint is named."""

    context: ssl.SSLContext
    unverified: ssl.SSLContext
    fingerprints: frozenset[str] = frozenset()
    """SHA-256 of the certificate in DER, in hexadecimal, small letters without colons."""

    @classmethod
    def of(cls, settings: IngestSettings) -> Trust:
        """Blocking. Raises OperatorError."""
        context = ssl.create_default_context()
        if settings.tls_ca_file is not None:
            try:
                context.load_verify_locations(settings.tls_ca_file)
            except OSError as e:
                raise OperatorError(f"the certificates in {settings.tls_ca_file} cannot be used: {e}") from e
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        fingerprints = frozenset(map(parse_fingerprint, settings.tls_fingerprints))
        return cls(context if settings.tls_verify else unverified, unverified, fingerprints)

    def pinned(self, certificate: bytes) -> ssl.SSLContext:
        """Believes this one certificate, given in DER, whatever it says of host, dates and issuer."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
        return context


def parse_fingerprint(text: str) -> str:
    """`AB:CD:...` or `abcd...`, as openssl and browsers show it. Raises OperatorError."""
    plain = text.strip().replace(":", "").replace(" ", "").lower()
    if not _HEX_64.fullmatch(plain):
        raise OperatorError(f"tls_fingerprints: {text[:100]!r} is no SHA-256 fingerprint (64 hexadecimal digits)")
    return plain


def fingerprint_of(certificate: bytes) -> str:
    """Of a certificate in DER."""
    return hashlib.sha256(certificate).hexdigest()


def shown(fingerprint: str) -> str:
    """With colons, as openssl shows it."""
    return ":".join(fingerprint[i : i + 2] for i in range(0, len(fingerprint), 2)).upper()
