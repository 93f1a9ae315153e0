"""The head of an HTTP request (RFC 9112 2 to 5), and what it says about the connection it opens. Sans-I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from nvr.media.rtsp.headers import Headers
from nvr.model.errors import FormatError

HEAD_BYTES: Final = 8 * 1024
COOKIE: Final = "x-sessioncookie"
"""What makes a GET and a POST the halves of a tunnel."""

_METHODS: Final = (b"GET ", b"POST ")
_END: Final = re.compile(rb"\r?\n\r?\n")
_REQUEST: Final = re.compile(r"([A-Z]{1,10}) (\S{1,4096}) HTTP/(1\.[01])")


@dataclass(frozen=True, slots=True)
class HttpHead:
    """Everything before the body. `size`: its bytes, the empty line included."""

    method: str
    target: str
    version: str
    """1.0 or 1.1."""
    headers: Headers
    size: int

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class Opening(Enum):
    """What the first bytes of a connection say."""

    UNKNOWN = "more bytes are needed"
    OTHER = "no tunnel"
    DOWN = "the GET of an HTTP tunnel"
    UP = "the POST of an HTTP tunnel"
    WEBSOCKET = "a WebSocket"


def parse_head(data: bytes | bytearray) -> HttpHead | None:
    """The head at the beginning of `data`; None while it is not complete. Raises FormatError."""
    end = _END.search(data, 0, HEAD_BYTES)
    if end is None:
        if len(data) >= HEAD_BYTES:
            raise FormatError(f"the head of an HTTP request exceeds {HEAD_BYTES} bytes")
        return None
    first, *lines = bytes(data[: end.start()]).decode("latin-1").replace("\r\n", "\n").split("\n")
    match = _REQUEST.fullmatch(first)
    if match is None:
        raise FormatError(f"{first[:40]!r} is no request line of HTTP/1")
    headers = Headers()
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise FormatError("a line of an HTTP head is no header")
        try:
            headers.add(name, value.strip(" \t"))
        except ValueError as e:
            raise FormatError("a line of an HTTP head is no header") from e
    return HttpHead(match[1], match[2], match[3], headers, end.end())


def opening(data: bytes | bytearray, websocket_path: str | None) -> Opening:
    """What a connection that begins with `data` is. `websocket_path`: where a WebSocket may be opened; None: nowhere.

    What is malformed is no tunnel: whoever else reads the connection has an answer for it.
    """
    if not any(data.startswith(m[: len(data)]) for m in _METHODS):
        return Opening.OTHER
    try:
        head = parse_head(data)
    except FormatError:
        return Opening.OTHER
    if head is None:
        return Opening.UNKNOWN
    if COOKIE in head.headers:
        return Opening.DOWN if head.method == "GET" else Opening.UP
    if head.method == "GET" and head.path == websocket_path:
        return Opening.WEBSOCKET
    return Opening.OTHER


def answer(status: str, *headers: str, version: str = "1.1") -> bytes:
    """An HTTP answer without a body. `status` is code and phrase."""
    return "\r\n".join((f"HTTP/{version} {status}", "Server: nvr", *headers, "", "")).encode("latin-1")


def refusal(status: str, *headers: str) -> bytes:
    """The last answer of a connection."""
    return answer(status, "Connection: close", "Content-Length: 0", *headers)
