"""RTSP URIs with a user and a password in them (RFC 2326 3.2; RFC 3986 3.2.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from nvr.model.errors import FormatError

_URI = re.compile(
    r"(rtsps?|https?)://(?:([^/?#]*)@)?(\[[0-9A-Fa-f:.%]+\]|[^/?#:@\[\]]*)(?::(\d{0,5}))?(.*)", re.I | re.S
)
DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class MediaUri:
    """A media URI taken apart."""

    scheme: str
    """In lower case."""
    host: str
    """Without the brackets of an IPv6 address."""
    port: int
    uri: str
    """The URI without user and password, otherwise as written: for request lines and logs."""
    username: str | None = None
    """Percent-decoded; None where the URI has no user part."""
    password: str | None = field(default=None, repr=False)
    """Percent-decoded; empty and absent differ."""


def parse_media_uri(text: str) -> MediaUri:
    """Raises FormatError; its message never shows the password."""
    match = _URI.fullmatch(text.strip())
    if match is None or not match[3] or re.search(r"[\s\x00-\x1f\x7f]", text.strip()):
        raise FormatError(f"{redacted(text)[:200]!r} is no RTSP URI")
    scheme = match[1].lower()
    port = int(match[4]) if match[4] else DEFAULT_PORTS[scheme]
    if not 0 < port < 65_536:
        raise FormatError(f"{redacted(text)[:200]!r} has no valid port")
    username = password = None
    if match[2] is not None:
        user, colon, secret = match[2].partition(":")
        username, password = unquote(user), unquote(secret) if colon else None
    shown_port = f":{match[4]}" if match[4] else ""
    return MediaUri(
        scheme, match[3].strip("[]"), port, f"{match[1]}://{match[3]}{shown_port}{match[5]}", username, password
    )


def redacted(text: str) -> str:
    """Any text with URIs in it, for logs: what stands between `//` and the last `@` of a word is taken out.

    Rather too much than too little: a password may hold a slash that somebody forgot to encode.
    """
    return re.sub(r"//\S*@", "//", text)
