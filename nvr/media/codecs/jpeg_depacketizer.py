"""JPEG images put together from RTP packets (RFC 2435; header extension of ONVIF Streaming 5.1.4).

RFC 2435 leaves out the headers of an image: they are made here from types 0, 1, 64 and 65, quantization tables of Q 1
to 99 or in band, and restart intervals. Marker segments in the header extension overrule what the payload says, and an
image that lacks one takes it from the image before.
"""

from __future__ import annotations

from nvr.media.codecs import jpeg_headers as jpeg
from nvr.media.codecs.assembly import UnitAssembly
from nvr.media.codecs.jpeg import HEADER, RESTART, TABLES, JpegConfiguration
from nvr.media.codecs.jpeg_headers import Segment
from nvr.media.replay_extension import JPEG_FIRST, JPEG_LATER, PROFILE, jpeg_part
from nvr.media.unit import AccessUnit
from nvr.model.errors import FormatError

MAXIMUM_UNIT = 16 << 20
"""Bytes of one image; a camera that never ends its images cannot take the memory."""
MAXIMUM_EXTENSION = 1 << 16
"""Bytes of marker segments in the header extensions of one image."""
MAXIMUM_TABLES = 512
"""Bytes of quantization tables: four of 16 bits a value."""


class _Borrowed:
    """What images take from the one before (ONVIF Streaming 5.1.4.2): frame header, quantization and Huffman tables.
    Behind a loss it is stale: the image that defined it anew may be the one that is missing."""

    __slots__ = ("frame", "huffman", "quantization", "stale")

    def __init__(self) -> None:
        self.frame: Segment | None = None
        self.quantization: dict[int, bytes] = {}
        self.huffman: dict[int, bytes] = dict(jpeg.STANDARD_HUFFMAN)
        self.stale: set[str] = set()

    def lost(self) -> None:
        self.stale = {"frame", "quantization", "huffman"}


class JpegDepacketizer(UnitAssembly):
    """Packets of an image put together, its headers made.

    `extension` takes the header extension of the packet that is pushed next.
    """

    __slots__ = (
        "_before",
        "_configuration",
        "_extends",
        "_extension",
        "_fault",
        "_first",
        "_head",
        "_head_key",
        "_parts",
        "_restart",
        "_segments",
        "_size",
        "_tables",
        "_told",
    )

    _parts: list[bytes]
    _size: int
    _first: tuple[int, int, int, int, int] | None
    """Type-specific, type, Q, width and height (pixels; 0 for too large) of the first packet of the image in hand."""
    _restart: int
    _segments: bytearray | None
    """Contents of the header extensions up to the first entropy coded data; None for an image without any."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        """`size`: of images that RFC 2435 cannot tell, where the session description does."""
        super().__init__()
        if size is not None:
            self.configuration = JpegConfiguration(*size)
        self._configuration: JpegConfiguration | None = None
        self._told = size
        self._tables: dict[int, tuple[int, bytes]] = {}
        """Precision and quantization tables in band, by Q."""
        self._before = _Borrowed()
        self._extension: tuple[bool, bytes] | None = None
        self._fault: str | None = None
        """What was wrong with that extension."""
        self._extends = False
        """Whether the last whole image had a header extension."""
        self._head = b""
        self._head_key: object = None

    def extension(self, profile: int, data: bytes) -> None:
        """The RTP header extension of the packet that is pushed next; those of other kinds are passed over."""
        if profile == PROFILE:
            try:
                part = jpeg_part(data)
            except FormatError as e:
                self._fault = str(e)
            else:
                self._extension = None if part is None else (part.first, part.data)
        elif profile in (JPEG_FIRST, JPEG_LATER):
            self._extension = profile == JPEG_FIRST, data

    def push(
        self, buffer: memoryview, start: int, end: int, rtp_time: int, marker: bool
    ) -> list[AccessUnit] | tuple[()]:
        extension, self._extension = self._extension, None
        fault, self._fault = self._fault, None
        if start >= end and extension is None and (not marker or rtp_time != self._time):
            return ()  # nothing but padding
        done: list[AccessUnit] | tuple[()] = ()
        if rtp_time != self._time:
            done = self._begin(rtp_time)
        elif self._parts and end - start > 8 and bytes(buffer[start + 1 : start + 4]) == b"\0\0\0":
            # The second field of an interlaced picture has the time of the first (RFC 2435 3.1.1).
            done = self._begin(rtp_time)
        if self._skipping:
            self._gap = False
        else:
            try:
                if fault is not None:
                    raise FormatError(fault)
                self._take(buffer, start, end, extension)
            except FormatError as e:
                self._break_off(str(e))
        if not marker:
            return done
        self._markers = True
        return [*done, *self._ended()]

    def lost(self, packets: int) -> None:
        if packets > 0:
            self._before.lost()
        super().lost(packets)

    # -- the image in hand -------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        self._parts = []
        self._size = 0
        self._first = None
        self._restart = 0
        self._segments = None

    def _take(self, buffer: memoryview, start: int, end: int, extension: tuple[bool, bytes] | None) -> None:
        """One packet of the image in hand. Raises FormatError."""
        begins = self._first is None
        if begins and not self._begins_here(extension):
            return
        if end > start:
            start = self._headers(buffer, start, end, extension is not None and extension[0])
        elif begins:
            raise FormatError("an image whose first packet has no RTP/JPEG header")
        if self._skipping:
            return
        if extension is not None:
            self._extend(extension[1], begins)
        if end > start:
            self._add(bytes(buffer[start:end]))

    def _begins_here(self, extension: tuple[bool, bytes] | None) -> bool:
        """Whether the first packet that is there may be that of an image: not the second of several with extensions,
        nor one without behind a loss, where images have had one. Raises FormatError."""
        if extension is None:
            first = not (self._proof and self._extends)
        else:
            first = extension[0]
            if not first and not self._proof:
                raise FormatError("an image that begins with a later part of its header extension")
        if not first:
            self._break_off(None)
        return first

    def _add(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAXIMUM_UNIT:
            raise FormatError(f"an image of more than {MAXIMUM_UNIT} bytes")

    def _extend(self, data: bytes, begins: bool) -> None:
        if begins:
            self._segments = bytearray(data)
        elif self._parts or self._segments is None:
            # Behind the first entropy coded data it stands in their order; padding would be taken for a marker there.
            self._add(data.rstrip(b"\xff"))
        else:
            self._segments += data
            if len(self._segments) > MAXIMUM_EXTENSION:
                raise FormatError(f"JPEG header extensions of more than {MAXIMUM_EXTENSION} bytes")

    def _headers(self, buffer: memoryview, at: int, end: int, first: bool) -> int:
        """RTP/JPEG headers (3.1) of a packet; returns where its entropy coded data begin. Raises FormatError."""
        if end - at < HEADER.size:
            raise FormatError(f"a payload of {end - at} bytes, shorter than the RTP/JPEG header")
        specific, high, low, kind, q, width, height = HEADER.unpack_from(buffer, at)
        offset = high << 16 | low
        at += HEADER.size
        if self._first is None:
            if offset and not first:
                if self._proof:  # the rest of an image that began before the loss: no error of the camera
                    self._break_off(None)
                    return end
                raise FormatError(f"an image that begins at fragment offset {offset}")
            self._first = specific, kind, q, 8 * width, 8 * height
        elif kind != self._first[1]:
            raise FormatError(f"RTP/JPEG type {kind} in an image of type {self._first[1]}")
        if 64 <= kind <= 127:
            if end - at < RESTART.size:
                raise FormatError("an RTP/JPEG packet cut short in its restart header")
            interval, _ = RESTART.unpack_from(buffer, at)
            at += RESTART.size
            if not self._parts:
                self._restart = interval
        if q >= 128 and offset == 0:
            at = self._quantization(buffer, at, end, q)
        return at

    def _quantization(self, buffer: memoryview, at: int, end: int, q: int) -> int:
        """The quantization table header (3.1.8); its tables serve all later images of the same Q."""
        if end - at < TABLES.size:
            raise FormatError("an RTP/JPEG packet cut short in its quantization table header")
        _, precision, length = TABLES.unpack_from(buffer, at)
        at += TABLES.size
        if length > MAXIMUM_TABLES or length > end - at:
            raise FormatError(f"RTP/JPEG quantization tables of {length} bytes with {end - at} left")
        if length:
            self._tables[q] = precision, bytes(buffer[at : at + length])
        return at + int(length)

    def _units(self) -> list[AccessUnit]:
        try:
            return [self._unit()]
        except FormatError:
            self._before.lost()
            raise

    def _unit(self) -> AccessUnit:
        if self._first is None:
            raise FormatError("an image without an RTP/JPEG header")
        self._damaged = False
        self._extends = self._segments is not None
        head = self._plain() if self._segments is None else self._extended(bytes(self._segments))
        if not self._parts:
            raise FormatError("an image without entropy coded data")
        tail = self._parts[-1][-8:].rstrip(b"\0")
        end = b"" if tail.endswith(jpeg.EOI) else jpeg.EOI
        data = b"".join((head, *self._parts, end))
        configuration = self._configuration
        assert configuration is not None
        self.configuration = configuration
        return AccessUnit(self._time, data, True, self._damaged, configuration)

    # -- headers -----------------------------------------------------------------------------------------------------

    def _plain(self) -> bytes:
        """Headers from RFC 2435 alone. Raises FormatError."""
        assert self._first is not None
        precision, tables = self._quantized()
        key = (*self._first[1:], self._restart, precision, tables)
        if key != self._head_key:
            segments = [*jpeg.parse_segments(jpeg.quantization_segments(tables, precision))[0]]
            if self._restart:
                segments.append(Segment(jpeg.DRI, self._restart.to_bytes(2, "big")))
            segments.append(self._frame(segments))
            head = jpeg.SOI + jpeg.JFIF + b"".join(map(bytes, segments))
            self._head = head + jpeg.huffman_segments(jpeg.STANDARD_HUFFMAN) + jpeg.SCAN
            self._head_key = key
            self._remember(segments)
        self._before.stale.clear()
        self._before.huffman = dict(jpeg.STANDARD_HUFFMAN)
        return self._head

    def _extended(self, extension: bytes) -> bytes:
        """Headers from the extension and, for what it leaves out, RFC 2435 or the image before. Raises FormatError."""
        assert self._first is not None
        self._head_key = None
        given, at = jpeg.parse_segments(extension)
        scan = given.pop() if given and given[-1].marker == jpeg.SOS else None
        if scan is not None and at < len(extension):
            self._parts.insert(0, extension[at:])  # entropy coded data begin in the extension
        before = self._before
        tables = self._given_tables(given)
        huffman = jpeg.huffman_tables(given)
        if not set(before.huffman) <= set(huffman) and "huffman" in before.stale:
            self._damaged = self._damaged or before.huffman != jpeg.STANDARD_HUFFMAN
        front = [Segment(jpeg.DQT, bytes((k,)) + v) for k, v in tables.items()]
        front += [Segment(jpeg.DHT, bytes((k,)) + v) for k, v in before.huffman.items() if k not in huffman]
        if self._restart and not any(s.marker == jpeg.DRI for s in given):
            front.append(Segment(jpeg.DRI, self._restart.to_bytes(2, "big")))
        # APPn and comments as sent and first, as JFIF and Exif ask for.
        notes = [s for s in given if jpeg.APP0 <= s.marker <= jpeg.APP15 or s.marker == jpeg.COM]
        rest = [s for s in given if s not in notes]
        segments = [*notes, *front, *rest]
        if not any(s.marker in jpeg.FRAME_HEADERS for s in given):
            segments.append(self._frame(segments))
        self._remember(segments)
        return jpeg.SOI + b"".join(map(bytes, segments)) + (jpeg.SCAN if scan is None else bytes(scan))

    def _given_tables(self, given: list[Segment]) -> dict[int, bytes]:
        """The quantization tables that the extension leaves to Q, or to the image before. Raises FormatError."""
        assert self._first is not None
        frame = next((s for s in given if s.marker in jpeg.FRAME_HEADERS), None)
        needed = {0, 1} if frame is None else set(frame.content[8::3])
        needed -= {key & 15 for key in jpeg.quantization_tables(given)}
        if not needed:
            return {}
        if self._first[2]:
            precision, tables = self._quantized()
            found = jpeg.quantization_tables(jpeg.parse_segments(jpeg.quantization_segments(tables, precision))[0])
        else:
            found = self._before.quantization
            self._damaged = self._damaged or "quantization" in self._before.stale
            if not found:
                raise FormatError("Q 0 in an image that brings no quantization tables, and none before it had any")
        return {key: table for key, table in found.items() if key & 15 in needed}

    def _quantized(self) -> tuple[int, bytes]:
        """Precision and tables of the Q of the image in hand (3.1.4, 3.1.8). Raises FormatError."""
        assert self._first is not None
        q = self._first[2]
        if 1 <= q <= 99:
            return 0, jpeg.tables_of_quality(q)
        found = self._tables.get(q)
        if found is None:
            why = "whose quantization tables have not come" if q >= 128 else "which is reserved"
            raise FormatError(f"RTP/JPEG with Q {q}, {why}")
        return found

    def _frame(self, segments: list[Segment]) -> Segment:
        """The frame header by the rules of RFC 2435, or that of the image before. Raises FormatError."""
        assert self._first is not None
        _, kind, _, width, height = self._first
        if not (width and height):
            before = self._before.frame
            if self._segments is not None and before is not None:
                self._damaged = self._damaged or "frame" in self._before.stale
                return before
            if self._told is None:
                raise FormatError("an image larger than RTP/JPEG can tell, and nothing else tells its size")
            width, height = self._told
        if kind & 63 > 1 or kind > 127:
            raise FormatError(f"RTP/JPEG type {kind}, which is not known")
        tables = jpeg.quantization_tables(segments)
        wide = any(key >> 4 for key in tables)
        return jpeg.parse_segments(jpeg.frame_segment(width, height, kind % 64 + 1, len(tables), wide))[0][0]

    def _remember(self, segments: list[Segment]) -> None:
        """What the next image may borrow; and the size of this one."""
        before = self._before
        frame = next(s for s in segments if s.marker in jpeg.FRAME_HEADERS)
        size = jpeg.dimensions(frame)
        if self._configuration is None or size != (self._configuration.width, self._configuration.height):
            self._configuration = JpegConfiguration(*size)
        if not self._damaged:
            before.stale.clear()
        before.frame = frame
        before.quantization = jpeg.quantization_tables(segments)
        before.huffman |= jpeg.huffman_tables(segments)
