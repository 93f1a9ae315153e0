"""Where a media URI points, with credentials kept apart from what is sent and logged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, unquote, urlsplit

from nvr.model.errors import SourceError

PORTS = {"rtsp": 554, "rtsps": 322}
TUNNEL_PORTS = {"rtsp": 80, "http": 80, "rtsps": 443, "https": 443}
"""RTSP over HTTP goes to the web server of a camera."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A media URI, taken apart. `uri` has no credentials in it and is what requests carry."""

    uri: str
    host: str
    """Without the brackets of an IPv6 address."""
    port: int
    tls: bool
    username: str | None = None
    password: str = field(default="", repr=False)
    tunnel: bool = False
    """RTSP over HTTP."""

    @property
    def path(self) -> str:
        """Path and query, for an HTTP request line."""
        rest = self.uri.partition("://")[2]
        at = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
        return rest[at:] if rest[at:].startswith("/") else f"/{rest[at:]}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, media_uri: str, *, tunnel: bool = False) -> Endpoint:
        """`tunnel`: RTSP over HTTP, where http and https say the same as rtsp and rtsps.

        Raises SourceError; no part of the URI that may hold a password stands in the message.
        """
        parts, port = _split(media_uri)
        scheme = parts.scheme.lower()
        ports = TUNNEL_PORTS if tunnel else PORTS
        if scheme not in ports:
            raise SourceError(f"the media URI has the scheme {parts.scheme!r}; {', '.join(ports)} are understood")
        if not parts.hostname:
            raise SourceError("the media URI names no host")
        host = parts.hostname
        shown = f"[{host}]" if ":" in host else host
        authority = shown if port is None else f"{shown}:{port}"
        query = f"?{parts.query}" if parts.query else ""
        tls = scheme in ("rtsps", "https")
        return cls(
            uri=f"{'rtsps' if scheme == 'rtsps' else 'rtsp'}://{authority}{parts.path}{query}",
            host=host,
            port=port or ports[scheme],
            tls=tls,
            username=None if parts.username is None else unquote(parts.username),
            password=unquote(parts.password or ""),
            tunnel=tunnel,
        )

    def redirected(self, location: str, *, proxy: bool = False) -> Endpoint:
        """The endpoint behind a Location header (RFC 2326 11.3); for 305 that of a proxy, which is asked for the same.

        Credentials go along to the same host only, and never from rtsps to rtsp: a redirect shall not fish for them.
        A Location without a host, which the RFC does not know, is one of the same server.
        """
        if location.startswith("/") and not location.startswith("//"):
            authority = self.uri.partition("://")[2].partition("/")[0].partition("?")[0]
            location = f"{self.uri.partition('://')[0]}://{authority}{location}"
        target = Endpoint.parse(location, tunnel=self.tunnel)
        if self.tls and not target.tls:
            raise SourceError(f"{self} redirects from rtsps to rtsp, which is refused")
        if proxy:
            target = replace(target, uri=self.uri)
        if target.username is not None or target.host.lower() != self.host.lower():
            return target
        return replace(target, username=self.username, password=self.password)


def _split(media_uri: str) -> tuple[SplitResult, int | None]:
    if any(c <= " " or c == "\x7f" for c in media_uri):
        raise SourceError("the media URI holds blanks or control characters")
    try:
        parts = urlsplit(media_uri)
        return parts, parts.port
    except ValueError:
        # The cause would quote the URI, and with it the password.
        raise SourceError("the media URI cannot be taken apart; blanks and `#/?@:` in a password need %XX") from None
