"""RTSP messages and interleaved frames on a byte stream (RFC 2326 4 to 7, 10.12), for clients and servers alike.

Bytes in, events out. Strict in what is written, tolerant in what is read where cameras and players are known to be
sloppy: LF without CR, blank lines between messages, a missing reason phrase, bytes beyond ASCII (read as Latin-1),
folded header lines, a repeated CSeq. What is wrong in a message whose end is known raises `MessageError` once, and the
next message follows; what cannot be framed with certainty raises a fatal one: the stream is lost then, and the
connection has to be closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from nvr.media.rtsp.headers import Headers
from nvr.model.errors import FormatError

DOLLAR: Final = 0x24
FRAME_HEADER_SIZE: Final = 4
VERSION: Final = "RTSP/1.0"

REASONS: Final = {
    100: "Continue",
    200: "OK",
    201: "Created",
    250: "Low on Storage Space",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    303: "See Other",
    304: "Not Modified",
    305: "Use Proxy",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Time-out",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Large",
    415: "Unsupported Media Type",
    451: "Parameter Not Understood",
    452: "Conference Not Found",
    453: "Not Enough Bandwidth",
    454: "Session Not Found",
    455: "Method Not Valid in This State",
    456: "Header Field Not Valid for Resource",
    457: "Invalid Range",
    458: "Parameter Is Read-Only",
    459: "Aggregate operation not allowed",
    460: "Only aggregate operation allowed",
    461: "Unsupported transport",
    462: "Destination unreachable",
    463: "Key management failure",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Time-out",
    505: "RTSP Version not supported",
    551: "Option not supported",
}
"""Status codes of RFC 2326 7.1.1 and 11 (463: ONVIF Streaming) with their phrases."""


class MessageError(FormatError):
    """A message is wrong, or breaks the framing of the byte stream. `status` is what a server answers."""

    def __init__(self, message: str, status: int = 400, headers: Headers | None = None, fatal: bool = True) -> None:
        """`headers`: what could be read of them. `fatal`: nobody knows where the next message begins."""
        super().__init__(message)
        self.status = status
        self.headers = headers if headers is not None else Headers()
        self.fatal = fatal


def cseq_of(headers: Headers) -> int | None:
    """The first CSeq (RFC 2326 12.17), or None where it is missing or no number."""
    value = (headers.get("CSeq") or "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 10 else None


@dataclass(frozen=True, slots=True)
class Request:
    """RFC 2326 6. `uri` as it stood on the line. `version` other than RTSP/1.0 is for the server to refuse (505)."""

    method: str
    uri: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = field(default=b"", repr=False)
    version: str = VERSION

    @property
    def cseq(self) -> int | None:
        return cseq_of(self.headers)

    def __bytes__(self) -> bytes:
        if not _TOKEN.fullmatch(self.method) or re.search(r"[\r\n\0 ]", self.uri) or not self.uri:
            raise ValueError(f"{self.method!r} {self.uri!r} makes no request line")
        return _serialize(f"{self.method} {self.uri} {self.version}", self.headers, self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """RFC 2326 7. An empty `reason` is written as the phrase of the RFC."""

    status: int
    headers: Headers = field(default_factory=Headers)
    body: bytes = field(default=b"", repr=False)
    reason: str = ""
    version: str = VERSION

    @property
    def cseq(self) -> int | None:
        return cseq_of(self.headers)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def __bytes__(self) -> bytes:
        reason = self.reason or REASONS.get(self.status, "Unknown")
        if not 100 <= self.status <= 999 or re.search(r"[\r\n\0]", reason):
            raise ValueError(f"{self.status} {reason!r} makes no status line")
        return _serialize(f"{self.version} {self.status} {reason}", self.headers, self.body)


@dataclass(frozen=True, slots=True)
class Interleaved:
    """One frame of RFC 2326 10.12."""

    channel: int
    payload: bytes = field(repr=False)

    def __bytes__(self) -> bytes:
        return frame_header(self.channel, len(self.payload)) + self.payload


Message: TypeAlias = Request | Response
Event: TypeAlias = Request | Response | Interleaved


def frame_header(channel: int, length: int) -> bytes:
    """The four bytes before an interleaved packet. Raises ValueError beyond 255 and 65535."""
    if not (0 <= channel <= 0xFF and 0 <= length <= 0xFFFF):
        raise ValueError(f"no interleaved frame has channel {channel} and {length} bytes")
    return bytes((DOLLAR, channel, length >> 8, length & 0xFF))


@dataclass(frozen=True, slots=True)
class Limits:
    """What one message may take, in bytes and in header lines."""

    line: int = 8192
    head: int = 65_536
    headers: int = 100
    body: int = 1 << 20


_TOKEN = re.compile(r"[!#%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST_LINE = re.compile(
    r"([!#%&'*+.^_`|~0-9A-Za-z-]+)[ \t]+(\S(?:.*\S)?)[ \t]+(RTSP/\d{1,3}\.\d{1,3})[ \t]*", re.ASCII | re.I
)
_STATUS_LINE = re.compile(r"(RTSP/\d{1,3}\.\d{1,3})[ \t]+(\d{3})(?:[ \t]+(.*))?[ \t]*", re.ASCII | re.I)
_HEAD_END = re.compile(rb"\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_FIRST_BYTE = frozenset(b"!#%&'*+.^_`|~-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SPACE = " \t"  # not what str.strip() takes away: in UTF-8 read as Latin-1, 0x85 and 0xA0 are parts of letters
_BLANK_LINES = re.compile(rb"[\r\n]*")
_USERINFO = re.compile(rb"//[^\s]*@")
_Buffer: TypeAlias = bytes | bytearray | memoryview


def parse_message(
    buffer: _Buffer,
    start: int,
    end: int,
    limits: Limits = Limits(),
) -> tuple[Message, int] | None:
    """One request or response from `buffer[start:end]`, and the position behind it.

    Blank lines before it are skipped. None: more bytes are needed. For callers that keep their own buffer (the drain of
    interleaved data); others use `MessageParser`, which does not look at the same bytes twice. Raises MessageError.
    """
    start = _behind_blank_lines(buffer, start, end)
    found = _find_head(buffer, start, start, end, limits)
    if found is None:
        return None
    head, body_start = found
    parsed, length = _parse_head(head, limits)
    message = _sound(parsed)
    if end - body_start < length:
        return None
    return _with_body(message, bytes(buffer[body_start : body_start + length])), body_start + length


class MessageParser:
    """Feed bytes, take events. After a fatal MessageError every further call raises it again.

    parser.feed(data)
    for event in parser.events(): ...
    """

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._position = 0
        self._scanned = 0
        self._pending: tuple[Message | MessageError, int] | None = None
        self._error: MessageError | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        if self._position:
            del self._buffer[: self._position]
            self._scanned = max(0, self._scanned - self._position)
            self._position = 0
        self._buffer += data

    def events(self) -> Iterator[Event]:
        """All events that are complete. Raises MessageError behind the last good one; where it is not fatal, call again
        for what follows."""
        while (event := self.next_event()) is not None:
            yield event

    def next_event(self) -> Event | None:
        """The next event, or None when more bytes are needed. Raises MessageError."""
        if self._error is not None:
            raise self._error
        try:
            return self._next()
        except MessageError as e:
            if e.fatal:
                self._error = e
            raise

    def _next(self) -> Event | None:
        buffer, end = self._buffer, len(self._buffer)
        if self._pending is None:
            start = self._position = _behind_blank_lines(buffer, self._position, end)
            if start == end:
                return None
            if buffer[start] == DOLLAR:
                return self._frame(start, end)
            found = _find_head(buffer, start, max(start, self._scanned), end, self._limits)
            if found is None:
                self._scanned = end
                return None
            head, self._position = found
            self._pending = _parse_head(head, self._limits)
        message, length = self._pending
        start = self._position
        if end - start < length:
            return None
        self._pending = None
        self._position = start + length
        return _with_body(_sound(message), bytes(buffer[start : start + length]))

    def _frame(self, start: int, end: int) -> Interleaved | None:
        if end - start < FRAME_HEADER_SIZE:
            return None
        stop = start + FRAME_HEADER_SIZE + (self._buffer[start + 2] << 8 | self._buffer[start + 3])
        if stop > end:
            return None
        self._position = stop
        return Interleaved(self._buffer[start + 1], bytes(self._buffer[start + FRAME_HEADER_SIZE : stop]))


def _behind_blank_lines(buffer: _Buffer, start: int, end: int) -> int:
    found = _BLANK_LINES.match(buffer, start, end)
    assert found is not None, "it matches nothing as well"
    return found.end()


def _find_head(buffer: _Buffer, start: int, scanned: int, end: int, limits: Limits) -> tuple[bytes, int] | None:
    """The head that starts at `start`, and where the body begins. `scanned`: up to here no end was found before."""
    if start == end:
        return None
    if buffer[start] not in _FIRST_BYTE:
        raise MessageError(f"neither a message nor a frame starts with {_evidence(bytes(buffer[start : start + 32]))}")
    match = _HEAD_END.search(buffer, max(start, scanned - 3), end)
    if match is None:
        if end - start > limits.head:
            raise MessageError(f"a message head exceeds {limits.head} bytes", 413)
        if end - start > limits.line and _LINE_END.search(buffer, start, end) is None:
            raise MessageError(
                f"a first line exceeds {limits.line} bytes: {_evidence(bytes(buffer[start : start + 32]))}", 414
            )
        return None
    if match.end() - start > limits.head:
        raise MessageError(f"a message head exceeds {limits.head} bytes", 413)
    return bytes(buffer[start : match.start()]), match.end()


def _sound(message: Message | MessageError) -> Message:
    if isinstance(message, MessageError):
        raise message
    return message


def _parse_head(head: bytes, limits: Limits) -> tuple[Message | MessageError, int]:
    """The message without its body, or what is wrong with it, and the length of the body.

    Raises MessageError where that cannot be told, and for a first line that is none of RTSP without a CSeq below it:
    what follows is none of RTSP either.
    """
    first, *lines = _LINE_END.split(head.removesuffix(b"\r"))
    fields, wrong = _fields(lines, limits)
    headers = Headers(fields)
    length = _content_length(headers, limits)
    if len(lines) > limits.headers:
        wrong = f"a message has {len(lines)} header lines, {limits.headers} are allowed", 413
    elif len(first) > limits.line:
        wrong = f"a first line exceeds {limits.line} bytes: {_evidence(first)}", 414
    text = first.decode("latin-1")
    message: Message | None = None
    if "\0" in text or "\r" in text:
        wrong = wrong or (f"a first line holds CR or NUL: {_evidence(first)}", 400)
    elif match := _STATUS_LINE.fullmatch(text):
        version, status, reason = match.groups()
        message = Response(int(status), headers, b"", (reason or "").strip(_SPACE), version.upper())
    elif match := _REQUEST_LINE.fullmatch(text):
        method, uri, version = match.groups()
        message = Request(method, uri, headers, b"", version.upper())
    if wrong is not None:
        return MessageError(*wrong, headers, fatal=message is None and "CSeq" not in headers), length
    if message is None:
        why = f"{_evidence(first)} is neither a request line nor a status line"
        return MessageError(why, 400, headers, fatal="CSeq" not in headers), length
    return message, length


_Wrong: TypeAlias = tuple[str, int]
"""A sentence and a status."""


def _fields(lines: list[bytes], limits: Limits) -> tuple[list[tuple[str, str]], _Wrong | None]:
    """The header lines that can be read, and what is wrong with the first of the others.

    Raises MessageError where such a line may have told the length of the body.
    """
    fields: list[tuple[str, str]] = []
    wrong: _Wrong | None = None
    for line in lines:
        text = line.decode("latin-1")
        name, colon, value = text.partition(":")
        name = name.strip(_SPACE)
        found: _Wrong | None = None
        if len(line) > limits.line:
            found = f"a header line exceeds {limits.line} bytes: {_evidence(line[:32])}", 413
        elif "\r" in text or "\0" in text:
            found = f"a header line holds CR or NUL: {_evidence(line)}", 400
        elif text[:1] in (" ", "\t") and fields:  # a folded line (RFC 822 3.1.1) continues the one before it
            fields[-1] = fields[-1][0], f"{fields[-1][1]} {text.strip(_SPACE)}".strip(_SPACE)
            continue
        elif not colon or not name or " " in name or "\t" in name:
            found = f"{_evidence(line)} is not a header line", 400
        if found is None:
            fields.append((name, value.strip(_SPACE)))
            continue
        if b"content-length" in line.lower():
            raise MessageError(*found, Headers(fields))
        wrong = wrong or found
    return fields, wrong


def _content_length(headers: Headers, limits: Limits) -> int:
    values = {v.strip() for v in headers.get_all("Content-Length")}
    if not values:
        return 0
    value = values.pop()
    if values:
        other = values.pop()
        raise MessageError(f"two headers Content-Length contradict each other: {value} and {other}", headers=headers)
    if not (value.isascii() and value.isdigit()) or len(value) > 12:
        raise MessageError(f"Content-Length {value[:32]!r} is no length", headers=headers)
    if int(value) > limits.body:
        raise MessageError(f"a body of {value} bytes exceeds {limits.body} bytes", 413, headers)
    return int(value)


def _with_body(message: Message, body: bytes) -> Message:
    if not body:
        return message
    if isinstance(message, Request):
        return Request(message.method, message.uri, message.headers, body, message.version)
    return Response(message.status, message.headers, body, message.reason, message.version)


def _serialize(first: str, headers: Headers, body: bytes) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers)]
    stated = headers.get("Content-Length")
    if stated is None and body:
        lines.append(f"Content-Length: {len(body)}")
    elif stated is not None and stated != str(len(body)):
        raise ValueError(f"Content-Length {stated} is stated for a body of {len(body)} bytes")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def _evidence(data: bytes) -> str:
    """The first line, cut to what an error can show; credentials are taken out."""
    line = _LINE_END.split(data, maxsplit=1)[0]
    if line[:5].lower() in (b"autho", b"proxy"):
        return repr(line.partition(b":")[0][:20]) + "..."
    shown = _USERINFO.sub(b"//<hidden>@", line)
    return repr(shown[:64]) + ("..." if len(shown) > 64 or len(line) < len(data) else "")
