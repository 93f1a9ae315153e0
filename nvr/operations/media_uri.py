"""The media URI of a camera as operators give it: whole, or an address here and a password there. Pure.

What stands between `//` and `@` is kept as it was written, since `any_uri` has found it good.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from nvr.ingest.offer import without_credentials
from nvr.model.errors import BadConfiguration, FormatError
from nvr.model.receiver import TransportProtocol
from nvr.soap.values import any_uri

TRANSPORTS = {"tcp": TransportProtocol.RTSP, "udp": TransportProtocol.UDP, "http": TransportProtocol.HTTP}
"""What operators call them."""
_USER_INFO = re.compile(r"(?<=://)[^/?#]*@")


def transport(name: str) -> TransportProtocol:
    """Raises BadConfiguration."""
    try:
        return TRANSPORTS[name]
    except KeyError:
        raise BadConfiguration(f"Transport: {name[:64]!r} is none of {', '.join(TRANSPORTS)}") from None


def name_of(protocol: TransportProtocol) -> str:
    """The counterpart of `transport`."""
    return next((name for name, p in TRANSPORTS.items() if p is protocol), protocol.value.lower())


def checked(uri: str, protocol: TransportProtocol) -> str:
    """A URI that may be given to a receiver, as far as its scheme and its characters tell. Raises BadConfiguration,
    without the credentials in its message."""
    if not uri:  # to a receiver it means "not configured yet", and nothing would ever be recorded
        raise BadConfiguration("MediaUri: is empty")
    if uri.lower().startswith(("http://", "https://")) and protocol is not TransportProtocol.HTTP:
        raise BadConfiguration(
            f"{without_credentials(uri)} is no rtsp:// or rtsps:// URI; http:// needs --transport http"
        )
    if "://" not in uri:
        raise BadConfiguration("MediaUri: does not begin with rtsp:// or rtsps://")
    # MediaUri is an xs:anyURI: what is none would spoil every later answer that holds it.
    try:
        return str(any_uri().parse(uri))
    except FormatError as e:
        raise BadConfiguration("MediaUri: is no URI; in a user or password, @ is %40, : is %3A, % is %25") from e


def credentials(uri: str) -> str:
    """User and password as they stand in it, `user:p%40ss`; empty without."""
    found = _USER_INFO.search(uri)
    return "" if found is None else found[0][:-1]


def with_credentials(uri: str, user_info: str) -> str:
    """The URI with these instead of its own; without any for an empty text."""
    bare = _USER_INFO.sub("", uri, count=1)
    return bare.replace("://", f"://{user_info}@", 1) if user_info else bare


def changed(
    known: str, uri: str | None = None, user: str | None = None, password: str | None = None, *, anonymous: bool = False
) -> str:
    """The URI of a camera that has moved to `uri`, or has another user or password, both as they are typed.

    A `uri` without a user keeps the one that is known, and the password, unless `anonymous`. Raises BadConfiguration
    for a password without a user.
    """
    base = known if uri is None else uri
    if anonymous:
        return with_credentials(base, "")
    info = credentials(base) or credentials(known)
    if user is not None or password is not None:
        old_user, _, old_password = info.partition(":")
        new_user = old_user if user is None else quote(user, safe="")
        if not new_user:
            raise BadConfiguration("the camera has no user that a password could belong to: give --user as well")
        new_password = old_password if password is None else quote(password, safe="")
        info = f"{new_user}:{new_password}" if new_password else new_user
    return with_credentials(base, info)


def same_stream(one: str, other: str) -> bool:
    """Whether two URIs name the same stream of the same host, whoever asks for it."""
    return _stream(one) == _stream(other)


def _stream(uri: str) -> tuple[str, str | None, int | None, str, str] | str:
    try:
        parts = urlsplit(uri)
        return parts.scheme.lower(), parts.hostname, parts.port, parts.path.rstrip("/"), parts.query
    except ValueError:
        return uri
