"""Limits and certificates of the HTTP listener."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nvr.model.errors import OperatorError
from nvr.model.time import NS


class Observers(StrEnum):
    """Who may read metrics and the details of health, which name directories and receivers."""

    LOOPBACK = "loopback"
    ANYONE = "anyone"


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Zero is no value for "unlimited": every limit holds."""

    body_bytes: int = 256 * 1024
    """Largest request body; a larger one is answered with 413."""
    header_bytes: int = 8 * 1024
    """Longest request line, and longest header field."""
    connections: int = 512
    """Connections open at once over all addresses, TLS handshakes included; one more is answered with 503 and closed,
    or with TLS only closed."""
    connections_per_client: int = 256
    """How many of them one IPv4 address, or one IPv6 network of 64 bits, may hold. Behind a reverse proxy every client
    has the address of the proxy."""
    idle_ns: int = 60 * NS
    """How long a connection may take to bring its next complete header."""
    body_timeout_ns: int = 20 * NS
    """How long a request may take to bring its body, and a client to take a piece of a large answer."""
    stop_timeout_ns: int = 5 * NS
    """How long requests that are being answered may take to end when the daemon stops."""
    observers: Observers = Observers.LOOPBACK
    """Others are told by /healthz whether the daemon is well, not why, and nothing by /metrics."""
    certificate: Path | None = None
    """PEM file with the server's certificate, followed by the intermediate ones. It serves RTSPS as well.

    Without it the daemon makes a self-signed one when it is to speak TLS.
    """
    key: Path | None = None
    """PEM file with the private key."""
    certificate_names: tuple[str, ...] = ()
    """Names and addresses for the self-signed certificate, besides those of the host."""

    def __post_init__(self) -> None:
        for name in (
            "body_bytes",
            "header_bytes",
            "connections",
            "connections_per_client",
            "idle_ns",
            "body_timeout_ns",
            "stop_timeout_ns",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name.removesuffix('_bytes').removesuffix('_ns')} must be more than zero")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: one of them is missing")


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context, TLS 1.2 or newer. Raises OperatorError naming the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path in (certificate, key):
        if not path.is_file():
            raise OperatorError(f"TLS: there is no file {path}")
    try:
        # The empty password stops OpenSSL from asking for one on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as e:
        raise OperatorError(
            f"TLS: {certificate} and {key} are no certificate with its unencrypted private key: {e}"
        ) from e
    return context
