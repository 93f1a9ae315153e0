"""Where a media URI points, with credentials kept apart from what is sent and logged."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from nvr.model.errors import SourceError

PORTS = {"rtsp": 554, "rtsps": 322}


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

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, media_uri: str) -> Endpoint:
        """Raises SourceError; no part of the URI that may hold a password stands in the message."""
        parts, port = _split(media_uri)
        scheme = parts.scheme.lower()
        if scheme not in PORTS:
            raise SourceError(f"the media URI has the scheme {parts.scheme!r}; rtsp and rtsps are understood")
        if not parts.hostname:
            raise SourceError("the media URI names no host")
        host = parts.hostname
        shown = f"[{host}]" if ":" in host else host
        authority = shown if port is None else f"{shown}:{port}"
        query = f"?{parts.query}" if parts.query else ""
        return cls(
            uri=f"{scheme}://{authority}{parts.path}{query}",
            host=host,
            port=port or PORTS[scheme],
            tls=scheme == "rtsps",
            username=None if parts.username is None else unquote(parts.username),
            password=unquote(parts.password or ""),
        )

    def redirected(self, location: str) -> Endpoint:
        """The endpoint behind a Location header (RFC 2326 11.3).

        Credentials go along to the same host only, and never from rtsps to rtsp: a redirect shall not fish for them.
        """
        target = Endpoint.parse(location)
        if self.tls and not target.tls:
            raise SourceError(f"{self} redirects from rtsps to rtsp, which is refused")
        if target.username is not None or target.host.lower() != self.host.lower():
            return target
        return Endpoint(target.uri, target.host, target.port, target.tls, self.username, self.password)


def _split(media_uri: str) -> tuple[SplitResult, int | None]:
    if any(c <= " " or c == "\x7f" for c in media_uri):
        raise SourceError("the media URI holds blanks or control characters")
    try:
        parts = urlsplit(media_uri)
        return parts, parts.port
    except ValueError:
        # The cause would quote the URI, and with it the password.
        raise SourceError("the media URI cannot be taken apart; blanks and `#/?@:` in a password need %XX") from None
