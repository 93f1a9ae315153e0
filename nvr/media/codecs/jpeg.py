"""JPEG (RFC 2435, with the RTP header extension of ONVIF Streaming 5.1.4; in files `mp4v` with esds).

A unit is a whole JPEG image; every one is a clean point. RFC 2435 tells of an image only what most have in common. What
it cannot tell goes as marker segments into the header extension of the first packets: sizes above 2040 or in other
steps than 8 pixels, other Huffman tables, other sampling, comments. Images that need none are sent without, for stock
clients overlook the replay extension of a packet that has a JPEG part.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from nvr.media.codecs import jpeg_headers as jpeg
from nvr.media.codecs.esds import JPEG, STREAM_VISUAL, esds_box
from nvr.media.codecs.jpeg_headers import Image, Segment
from nvr.media.codecs.sample_entry import parse_sample_entry, visual_sample_entry
from nvr.media.replay_extension import JpegExtension
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType

SAMPLE_ENTRY = b"mp4v"
LARGEST_SIDE = 2040
"""Pixels; what 8 bits can tell in units of 8 (RFC 2435 3.1.5)."""

HEADER = struct.Struct(">BBHBBBB")
"""Type-specific, fragment offset in 24 bits, type, Q, width and height in units of 8 (RFC 2435 3.1)."""
RESTART = struct.Struct(">HH")
"""Interval; F, L and count (3.1.7)."""
TABLES = struct.Struct(">BBH")
"""MBZ, precision, length (3.1.8)."""

_WHOLE = 0xFFFF
"""F and L set, count 0x3FFF: the image is to be put together before it is decoded (3.1.7)."""
_IN_BAND = 255
"""Q of tables that come with every image (3.1.8)."""
_OVERRULED = 99
"""Q where the extension brings the tables."""


@dataclass(frozen=True, slots=True)
class JpegConfiguration:
    """Pixels of an image. All else stands in every image."""

    encoding: ClassVar[str] = "JPEG"
    track_type: ClassVar[TrackType] = TrackType.VIDEO

    width: int
    height: int

    @property
    def clock_rate(self) -> int:
        return 90_000

    @property
    def told_by_rtp(self) -> bool:
        """Whether the RTP/JPEG header has room for the size."""
        return self.width <= LARGEST_SIDE and self.height <= LARGEST_SIDE

    def rtpmap(self) -> str:
        return "JPEG/90000"

    def fmtp(self) -> str | None:
        return None

    def in_band(self) -> bytes:
        return b""

    def sample_entry(self) -> bytes:
        return visual_sample_entry(SAMPLE_ENTRY, self.width, self.height, esds_box(JPEG, STREAM_VISUAL))

    @classmethod
    def from_sample_entry(cls, entry: bytes) -> JpegConfiguration:
        """Inverse of `sample_entry`. Raises FormatError."""
        found = parse_sample_entry(entry, visual=True)
        if not found.width or not found.height:
            raise FormatError(f"a sample entry of JPEG for images of {found.width} x {found.height}")
        return cls(found.width, found.height)


def told_size(parameters: Mapping[str, str | None]) -> tuple[int, int] | None:
    """Width and height from the attributes x-dimensions (`W,H`) or framesize (`W-H`) of a session description, given
    as parameters; None where there are none that make sense."""
    for name, between in (("x-dimensions", ","), ("framesize", "-")):
        width, _, height = (parameters.get(name) or "").rpartition(" ")[2].partition(between)
        if width.strip().isdecimal() and height.strip().isdecimal():
            size = int(width[:6]), int(height.strip()[:6])
            if all(0 < side <= 0xFFFF for side in size):
                return size
    return None


class _Wire(NamedTuple):
    """How an image is sent, but for its entropy coded data."""

    kind: int
    q: int
    width: int
    """In units of 8 pixels; 0 where the extension tells it."""
    height: int
    more: bytes
    """Restart header and quantization tables, behind the header of the first packet."""
    restart: bytes
    """Restart header, behind those of all others."""
    extension: bytes
    """Marker segments for the header extension."""


def _wire(image: Image) -> _Wire:
    """Raises FormatError for an image that no decoder takes by itself."""
    frame, scan = image.frame, image.segments[-1]
    count = frame.content[5]
    if len(frame.content) != 6 + 3 * count or not 1 <= count <= 4:
        raise FormatError(f"a JPEG frame header of {count} components in {len(frame.content)} bytes")
    ids, samplings, selectors = (frame.content[6 + i :: 3] for i in range(3))
    usual_frame = (
        frame.marker == jpeg.SOF0
        and frame.content[0] == 8
        and ids in (b"\1\2\3", b"\0\1\2")
        and samplings in (b"\x21\x11\x11", b"\x22\x11\x11")
        and selectors[1:2] == selectors[2:]
    )
    expected = bytes((3, *(v for pair in zip(ids, (0x00, 0x11, 0x11), strict=False) for v in pair), 0, 63, 0))
    usual_scan = scan.content == expected
    small = image.width <= LARGEST_SIDE and image.height <= LARGEST_SIDE
    told_frame = usual_frame and small and image.width % 8 == 0 and image.height % 8 == 0
    told: list[Segment] = [s for s in image.segments if _is_note(s)]
    tables = jpeg.quantization_tables(image.segments)
    in_band = None
    if (usual_frame or len(selectors) == 1) and (told_frame or selectors in (b"\0\1\1", b"\0\0\0", b"\0")):
        luma, chroma = tables.get(selectors[0]), tables.get(selectors[-1])
        in_band = luma + chroma if luma is not None and chroma is not None else None
    if in_band is None:
        told += [s for s in image.segments if s.marker == jpeg.DQT]
    huffman = jpeg.huffman_tables(image.segments)
    if any(jpeg.STANDARD_HUFFMAN.get(slot) != table for slot, table in huffman.items()):
        told += [s for s in image.segments if s.marker == jpeg.DHT]
    if not told_frame:
        told.append(frame)
    extension = b"".join(map(bytes, told))
    if not usual_scan:  # the last one, with padding before and not behind it
        extension += b"\xff" * (-(len(extension) + len(bytes(scan))) % 4) + bytes(scan)
    interval = image.restart_interval
    restart = RESTART.pack(interval, _WHOLE) if interval else b""
    kind = (1 if samplings[:1] != b"\x21" else 0) + (64 if interval else 0)
    more = restart + (TABLES.pack(0, 0, len(in_band)) + in_band if in_band is not None else b"")
    return _Wire(
        kind,
        _OVERRULED if in_band is None else _IN_BAND,
        (image.width + 7) // 8 if small else 0,
        (image.height + 7) // 8 if small else 0,
        more,
        restart,
        extension,
    )


def _is_note(s: Segment) -> bool:
    """Whether it is none of the segments that are told otherwise."""
    told = s.marker in jpeg.FRAME_HEADERS or s.marker in (jpeg.DHT, jpeg.DQT, jpeg.DRI, jpeg.SOS)
    return not told and bytes(s) != jpeg.JFIF


class JpegPacketizer:
    """RTP/JPEG packets with the quantization tables in the first one, so that a client may begin at any image."""

    marker_on_last = True

    def __init__(self, maximum: int) -> None:
        if maximum < 256:
            raise ValueError(f"a maximum payload of {maximum} bytes leaves no room for quantization tables")
        self.extensions: tuple[bytes, ...] = ()
        """Of the unit packetized last: RTP header extensions of its first packets, each whole, 0xFFD8 or 0xFFFF
        first."""
        self._maximum = maximum
        self._head = b""
        self._known: _Wire | None = None

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        """See Packetizer; header extensions count as a part of the payload. Raises FormatError for what is no image."""
        wire = self._known
        if wire is None or data[: len(self._head)] != self._head:
            image = Image.parse(data)
            wire = self._known = _wire(image)
            self._head = bytes(data[: image.scan])
        at, end = len(self._head), _end(data)
        if at >= end:
            raise FormatError("a JPEG image without entropy coded data")
        room = (self._maximum - HEADER.size - len(wire.more) - 8) & ~3
        chunks = [wire.extension[i : i + room] for i in range(0, len(wire.extension), room)]
        self.extensions = tuple(bytes(JpegExtension(i == 0, chunk)) for i, chunk in enumerate(chunks))
        head = HEADER.pack(0, 0, 0, wire.kind, wire.q, wire.width, wire.height)
        payloads = []
        if len(chunks) > 1:
            # Entropy coded data begin with the last chunk; of the packets before it only the first needs a header.
            payloads = [(head + wire.more, data[at:at]), *[(b"", data[at:at])] * (len(chunks) - 2)]
        step = self._maximum - len(head) - len(wire.more) - len(self.extensions[-1] if chunks else b"")
        payloads.append((head + wire.more, data[at : (at := min(at + step, end))]))
        step = self._maximum - HEADER.size - len(wire.restart)
        begin = len(self._head)
        for start in range(at, end, step):
            offset = start - begin
            head = HEADER.pack(0, offset >> 16 & 0xFF, offset & 0xFFFF, wire.kind, wire.q, wire.width, wire.height)
            payloads.append((head + wire.restart, data[start : min(start + step, end)]))
        return payloads


def _end(data: memoryview) -> int:
    """Where the entropy coded data end: before EOI and the zero octets that some cameras leave behind it."""
    tail = bytes(data[-16:]).rstrip(b"\0")
    if tail.endswith(jpeg.EOI):
        return len(data) - len(bytes(data[-16:])) + len(tail) - 2
    return len(data)
