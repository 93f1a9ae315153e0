"""Session descriptions (RFC 4566, with the RTSP attributes of RFC 2326 C.1), read tolerantly and written strictly.

Each m= line opens a section of its own, also one that is not understood, so that no attribute leaks into the section
before it. Lines that break the grammar are skipped and named in `SessionDescription.faults`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from nvr.model.errors import FormatError

MAX_SIZE = 256 * 1024
"""Bytes. A description of more than this is an attack, not a camera."""

Attribute: TypeAlias = tuple[str, str | None]
"""Name and value; None where there is no colon (a property attribute)."""


class Direction(StrEnum):
    """RFC 4566 6. In ONVIF's usage recvonly is media from server to client, sendonly the backchannel."""

    SENDRECV = "sendrecv"
    RECVONLY = "recvonly"
    SENDONLY = "sendonly"
    INACTIVE = "inactive"


@dataclass(frozen=True, slots=True)
class PayloadFormat:
    """One payload type of a section, with its a=rtpmap and a=fmtp."""

    payload_type: int
    encoding: str
    """Encoding name in upper case; empty for a dynamic type that no rtpmap explains."""
    clock_rate: int
    """Hz; 0 where `encoding` is empty."""
    channels: int | None = None
    """The third part of the rtpmap; None where it is absent (one channel, for audio)."""
    fmtp: str | None = None
    """Value of a=fmtp behind the payload type."""

    @classmethod
    def of(cls, payload_type: int, rtpmap: str, fmtp: str | None = None) -> PayloadFormat:
        """From the value of a=rtpmap behind the payload type, as a codec configuration gives it. Raises FormatError."""
        match = _RTPMAP.fullmatch(f"{payload_type} {rtpmap}")
        if match is None or not match[3]:
            raise FormatError(f"{rtpmap!r} is no rtpmap")
        return cls(payload_type, match[2].upper(), int(match[3]), int(match[4]) if match[4] else None, fmtp)

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of `fmtp`: names in lower case; an empty value where there is no equals sign."""
        found: dict[str, str] = {}
        for part in (self.fmtp or "").split(";"):
            name, _, value = part.partition("=")
            if name.strip():
                found.setdefault(name.strip().lower(), value.strip().strip('"'))
        return found

    @property
    def rtpmap(self) -> str:
        """Value of a=rtpmap behind the payload type."""
        channels = "" if self.channels is None else f"/{self.channels}"
        # Names compare without case, but strict readers look for the spelling of the registration.
        encoding = self.encoding.lower() if self.encoding in _LOWER_CASE else self.encoding
        return f"{encoding}/{self.clock_rate}{channels}"


_LOWER_CASE = {
    "MPEG4-GENERIC",
    "OPUS",
    "VND.ONVIF.METADATA",
    "VND.ONVIF.METADATA.GZIP",
    "VND.ONVIF.METADATA+GZIP",
    "VND.ONVIF.METADATA.EXI.EXT",
}

STATIC_FORMATS = {
    f.payload_type: f
    for f in (
        PayloadFormat(0, "PCMU", 8000),
        PayloadFormat(3, "GSM", 8000),
        PayloadFormat(4, "G723", 8000),
        PayloadFormat(5, "DVI4", 8000),
        PayloadFormat(6, "DVI4", 16000),
        PayloadFormat(7, "LPC", 8000),
        PayloadFormat(8, "PCMA", 8000),
        PayloadFormat(9, "G722", 8000),
        PayloadFormat(10, "L16", 44100, 2),
        PayloadFormat(11, "L16", 44100),
        PayloadFormat(12, "QCELP", 8000),
        PayloadFormat(13, "CN", 8000),
        PayloadFormat(14, "MPA", 90000),
        PayloadFormat(15, "G728", 8000),
        PayloadFormat(16, "DVI4", 11025),
        PayloadFormat(17, "DVI4", 22050),
        PayloadFormat(18, "G729", 8000),
        PayloadFormat(25, "CELB", 90000),
        PayloadFormat(26, "JPEG", 90000),
        PayloadFormat(28, "NV", 90000),
        PayloadFormat(31, "H261", 90000),
        PayloadFormat(32, "MPV", 90000),
        PayloadFormat(33, "MP2T", 90000),
        PayloadFormat(34, "H263", 90000),
    )
}
"""Payload types that need no rtpmap (RFC 3551 6)."""


_FORMERLY = {2: PayloadFormat(2, "G726-32", 8000)}
"""Payload types that RFC 1890 gave and RFC 3551 has taken back; cameras still use them, and nobody may send them."""


@dataclass(frozen=True, slots=True)
class Media:
    """One m= section. `formats` is in the order of the m= line: the first is the preferred one."""

    kind: str
    """`video`, `audio`, `application` ..."""
    formats: tuple[PayloadFormat, ...] = ()
    port: int = 0
    protocol: str = "RTP/AVP"
    control: str | None = None
    """a=control as written; `resolve_control` makes a URI of it."""
    direction: Direction | None = None
    """Of the section, or else of the session; None where neither says."""
    onvif_track: str | None = None
    """a=x-onvif-track: the track token (IEC 62676-2-32 8.2)."""
    connection: str | None = None
    bandwidth: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    """All others, in order."""

    def attribute(self, name: str) -> str | None:
        """The value of the first attribute of this name (empty for one without value), or None."""
        return _attribute(self.attributes, name)

    def format(self, payload_type: int) -> PayloadFormat | None:
        return next((f for f in self.formats if f.payload_type == payload_type), None)

    def lines(self) -> list[str]:
        types = " ".join(str(f.payload_type) for f in self.formats)
        lines = [f"m={self.kind} {self.port} {self.protocol} {types}"]
        if self.connection is not None:
            lines.append(f"c={self.connection}")
        lines += [f"b={b}" for b in self.bandwidth]
        # The preferred one last: FFmpeg plays the first type of the m= line by the last rtpmap of the section.
        for f in reversed(self.formats):
            if f.encoding:
                lines.append(f"a=rtpmap:{f.payload_type} {f.rtpmap}")
            if f.fmtp is not None:
                lines.append(f"a=fmtp:{f.payload_type} {f.fmtp}")
        if self.control is not None:
            lines.append(f"a=control:{self.control}")
        if self.direction is not None:
            lines.append(f"a={self.direction}")
        if self.onvif_track is not None:
            lines.append(f"a=x-onvif-track:{self.onvif_track}")
        return lines + _attribute_lines(self.attributes)


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A whole description. `media` are the sections carried by RTP; `other` are the lines of all other sections."""

    media: tuple[Media, ...] = ()
    origin: str = "- 0 0 IN IP4 127.0.0.1"
    name: str = "-"
    connection: str | None = None
    bandwidth: tuple[str, ...] = ()
    time: str = "0 0"
    control: str | None = None
    attributes: tuple[Attribute, ...] = ()
    other: tuple[tuple[str, ...], ...] = ()
    faults: tuple[str, ...] = field(default=(), compare=False)
    """What was wrong with it, one sentence each."""

    def attribute(self, name: str) -> str | None:
        """The value of the first session attribute of this name (empty for one without value), or None."""
        return _attribute(self.attributes, name)

    @classmethod
    def parse(cls, data: bytes) -> SessionDescription:
        """Raises FormatError where nothing of it is a session description."""
        if len(data) > MAX_SIZE:
            raise FormatError(f"a session description has {len(data)} bytes, {MAX_SIZE} are allowed")
        return _Parser().parse(data)

    def __str__(self) -> str:
        lines = ["v=0", f"o={self.origin}", f"s={self.name}"]
        if self.connection is not None:
            lines.append(f"c={self.connection}")
        lines += [f"b={b}" for b in self.bandwidth]
        lines.append(f"t={self.time}")
        if self.control is not None:
            lines.append(f"a=control:{self.control}")
        lines += _attribute_lines(self.attributes)
        for media in self.media:
            lines += media.lines()
        for section in self.other:
            lines += section
        broken = next((line for line in lines if re.search(r"[\r\n\0]", line)), None)
        if broken is not None:
            raise ValueError(f"a line of a session description holds a line end or NUL: {broken!r}")
        return "\r\n".join((*lines, ""))

    def __bytes__(self) -> bytes:
        """UTF-8, the character set of RFC 4566 5."""
        return str(self).encode()


def control_base(request_uri: str, content_base: str | None = None, content_location: str | None = None) -> str:
    """The URI that relative controls are relative to: Content-Base, Content-Location, request URI (RFC 2326 C.1.1).

    A header that is itself relative, or empty, is seen in the light of the request URI.
    """
    for value in (content_base, content_location):
        value = (value or "").strip()
        if _is_absolute(value):
            return value
        if value:
            return _join(request_uri, value)
    return request_uri


def resolve_control(control: str | None, base: str) -> str:
    """The URI for SETUP (of a section) or PLAY (of the session): absolute as it is, `*` or nothing means the base.

    A relative control is appended behind the whole base, a query string included, as cameras expect it and clients do:
    `rtsp://h/s?channel=1` and `track1` give `rtsp://h/s?channel=1/track1`. RFC 3986 would drop the query; a camera that
    names its channel in the query would then be asked for another stream.
    """
    control = (control or "").strip()
    if control in ("", "*"):
        return base
    return control if _is_absolute(control) else _join(base, control)


def _is_absolute(uri: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", uri) is not None


def _join(base: str, relative: str) -> str:
    if relative.startswith("?"):
        return base + relative
    return base.removesuffix("/") + "/" + relative.removeprefix("/")


def _attribute(attributes: tuple[Attribute, ...], name: str) -> str | None:
    return next((value or "" for n, value in attributes if n == name), None)


def _attribute_lines(attributes: tuple[Attribute, ...]) -> list[str]:
    return [f"a={name}" if value is None else f"a={name}:{value}" for name, value in attributes]


_LINE_END = re.compile(rb"\r\n|\n|\r|\0")
_MEDIA = re.compile(r"(\S+)\s+(\d{1,5})(?:/\d+)?\s+(\S+)((?:\s+\S+)*)\s*", re.ASCII)
_RTPMAP = re.compile(r"(\d{1,3})\s+([^/\s]+)\s*(?:/\s*(\d{1,10}(?!\d))?\s*(?:/\s*(\d{1,3}(?!\d)))?)?.*", re.ASCII)
_FMTP = re.compile(r"(\d{1,3})(?:\s+(.*))?", re.ASCII)
_DIRECTIONS = {d.value: d for d in Direction}
_DEFAULT_RATE = {"video": 90_000, "application": 90_000, "audio": 8_000}


class _Section:
    """What the lines of one section (or of the session) said."""

    def __init__(self, kind: str = "", port: int = 0, protocol: str = "", types: tuple[int, ...] = ()) -> None:
        self.kind = kind
        self.port = port
        self.protocol = protocol
        self.types = list(types)
        self.rtpmaps: dict[int, PayloadFormat] = {}
        self.fmtps: dict[int, str] = {}
        self.control: str | None = None
        self.direction: Direction | None = None
        self.onvif_track: str | None = None
        self.connection: str | None = None
        self.bandwidth: list[str] = []
        self.attributes: list[Attribute] = []

    def media(self, default_direction: Direction | None) -> Media:
        # Some cameras list one payload type and map another: the one that is explained is the one that is sent.
        types = self.types + [t for t in self.rtpmaps if t not in self.types]
        formats = []
        for t in types:
            known = self.rtpmaps.get(t) or STATIC_FORMATS.get(t) or _FORMERLY.get(t) or PayloadFormat(t, "", 0)
            formats.append(PayloadFormat(t, known.encoding, known.clock_rate, known.channels, self.fmtps.get(t)))
        return Media(
            self.kind,
            tuple(formats),
            self.port,
            self.protocol,
            self.control,
            self.direction or default_direction,
            self.onvif_track,
            self.connection,
            tuple(self.bandwidth),
            tuple(self.attributes),
        )


class _Parser:
    def __init__(self) -> None:
        self.session = _Section()
        self.section = self.session
        self.sections: list[_Section] = []
        self.other: list[list[str]] = []
        self.in_other = False
        self.faults: list[str] = []
        self.origin: str | None = None
        self.name: str | None = None
        self.time: str | None = None

    def parse(self, data: bytes) -> SessionDescription:
        understood = 0
        for raw in _LINE_END.split(data.removeprefix(b"\xef\xbb\xbf")):
            line = _text(raw).strip()
            if not line:
                continue
            if line[1:2] == "=" and line[0].isalpha():
                understood += line[0] in "vVmM"
                self._line(line[0].lower(), line[2:].strip(), line)
            else:
                self.faults.append(f"{line[:80]!r} is no line of a session description")
        if not understood:
            raise FormatError(f"{data[:64]!r} is no session description")
        s = self.session
        return SessionDescription(
            tuple(section.media(s.direction) for section in self.sections),
            self.origin or "- 0 0 IN IP4 127.0.0.1",
            self.name or "-",
            s.connection,
            tuple(s.bandwidth),
            self.time or "0 0",
            s.control,
            tuple(s.attributes),
            tuple(tuple(lines) for lines in self.other),
            tuple(self.faults),
        )

    def _line(self, kind: str, value: str, line: str) -> None:
        if kind == "m":
            self._open_section(value, line)
        elif self.in_other:
            self.other[-1].append(line)
        elif kind == "a":
            self._attribute(value)
        elif kind == "c":
            self.section.connection = value
        elif kind == "b":
            self.section.bandwidth.append(value)
        elif self.section is self.session:
            if kind == "o":
                self.origin = value
            elif kind == "s":
                self.name = value
            elif kind == "t" and self.time is None:
                self.time = value

    def _open_section(self, value: str, line: str) -> None:
        match = _MEDIA.fullmatch(value)
        # `TCP/RTP/AVP` and `RTP/AVP/TCP` are both written for RTP on the RTSP connection.
        self.in_other = match is None or "RTP/" not in match[3].upper()
        if match is None or self.in_other:
            self.other.append([line])
            if match is None:
                self.faults.append(f"{line[:80]!r} is no m= line")
            return
        types = []
        for t in match[4].split():
            if t.isascii() and t.isdigit() and len(t) < 4 and int(t) < 128:
                types.append(int(t))
            else:
                self.faults.append(f"{t[:16]!r} is no RTP payload type in {line[:80]!r}")
        self.section = _Section(match[1].lower(), int(match[2]), match[3], tuple(dict.fromkeys(types)))
        self.sections.append(self.section)

    def _attribute(self, text: str) -> None:
        section = self.section
        name, colon, value = text.partition(":")
        name, value = name.strip(), value.strip()
        key = name.lower()
        if key in _DIRECTIONS:
            section.direction = _DIRECTIONS[key]
        elif key == "control" and colon:
            section.control = section.control or value
        elif key == "rtpmap" and section is not self.session:
            self._rtpmap(section, value)
        elif key == "fmtp" and section is not self.session:
            self._fmtp(section, value)
        elif key == "x-onvif-track" and colon:
            section.onvif_track = value
        elif name:
            section.attributes.append((name, value if colon else None))

    def _rtpmap(self, section: _Section, value: str) -> None:
        match = _RTPMAP.fullmatch(value)
        if match is None or int(match[1]) > 127:
            self.faults.append(f"{value[:80]!r} is no rtpmap")
            return
        payload_type, encoding = int(match[1]), match[2].upper()
        rate = int(match[3] or 0)
        if not 0 < rate < 1 << 32:
            static = STATIC_FORMATS.get(payload_type)
            rate = static.clock_rate if static else _DEFAULT_RATE.get(section.kind, 90_000)
            self.faults.append(f"{value[:80]!r} has no clock rate, {rate} is assumed")
        channels = int(match[4]) if match[4] and 0 < int(match[4]) < 256 else None
        section.rtpmaps.setdefault(payload_type, PayloadFormat(payload_type, encoding, rate, channels))

    def _fmtp(self, section: _Section, value: str) -> None:
        match = _FMTP.fullmatch(value)
        if match is None or int(match[1]) > 127:
            self.faults.append(f"{value[:80]!r} is no fmtp")
            return
        payload_type, parameters = int(match[1]), match[2] or ""
        before = section.fmtps.get(payload_type)
        section.fmtps[payload_type] = parameters if before is None else f"{before};{parameters}"


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
