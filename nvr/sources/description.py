"""What a camera says of itself, and where it is asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from nvr.model.recording import RecordingSourceInformation

SERVICE_PATH = "/onvif/device_service"
"""Where every ONVIF device has its device service (ONVIF Core 5.1.1)."""
SCOPE_ROOT = "onvif://www.onvif.org/"
MAX_NAME = 64
MAX_ADDRESS = 128
MAX_TEXT = 200
"""Characters: what is longer is cut. The first two are those of the schema's types."""


@dataclass(frozen=True, slots=True)
class CameraDescription:
    """Empty is what the camera has not said. `address` is that of its device service."""

    address: str
    manufacturer: str = ""
    model: str = ""
    name: str = ""
    location: str = ""

    @classmethod
    def of(cls, address: str, manufacturer: str, model: str, scopes: Iterable[str]) -> CameraDescription:
        """Scopes are those of ONVIF Core 7.3.2.2: a name, and any number of locations."""
        told = list(scopes)
        return cls(
            address[:MAX_ADDRESS],
            _plain(manufacturer, MAX_NAME),
            _plain(model, MAX_NAME),
            _plain(next(_scopes(told, "name"), ""), MAX_NAME),
            _plain(", ".join(dict.fromkeys(_scopes(told, "location"))), MAX_TEXT),
        )

    @property
    def make(self) -> str:
        """Manufacturer and model."""
        return f"{self.manufacturer} {self.model}".strip()

    def completed(self, configured: RecordingSourceInformation) -> RecordingSourceInformation:
        """What the client has configured, and in what it has left empty what the camera says."""
        return replace(
            configured,
            name=configured.name or self.name or self.make[:MAX_NAME],
            location=configured.location or self.location,
            description=configured.description or self.make,
            address=configured.address or self.address,
        )


def _scopes(scopes: Iterable[str], kind: str) -> Iterator[str]:
    prefix = f"{SCOPE_ROOT}{kind}/"
    return (unquote(scope.removeprefix(prefix)) for scope in scopes if scope.startswith(prefix))


def _plain(text: str, longest: int) -> str:
    """Without control characters, which percent-encoding lets through and XML does not."""
    return "".join(c for c in text if c.isprintable()).strip()[:longest]


@dataclass(frozen=True, slots=True)
class Camera:
    """Where a receiver's camera is, and who it knows."""

    host: str
    """As in a URI, an IPv6 address in brackets."""
    port: int | None
    tls: bool
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, media_uri: str) -> Camera | None:
        """None where the URI names no camera."""
        try:
            parts = urlsplit(media_uri)
            port, host = parts.port, parts.hostname
        except ValueError:
            return None
        if not host or parts.scheme.lower() not in ("rtsp", "rtsps", "http", "https"):
            return None
        tls = parts.scheme.lower() in ("rtsps", "https")
        shown = f"[{host}]" if ":" in host else host
        return cls(shown, port, tls, unquote(parts.username or ""), unquote(parts.password or ""))

    def addresses(self, ports: Sequence[int], tls_ports: Sequence[int]) -> tuple[str, ...]:
        """Of the device service, in the order in which they are tried: where the stream is encrypted only those that
        are encrypted too.
        """
        scheme, usual, tried = ("https", 443, tls_ports) if self.tls else ("http", 80, ports)
        return tuple(f"{scheme}://{self.host}{'' if port == usual else f':{port}'}{SERVICE_PATH}" for port in tried)
