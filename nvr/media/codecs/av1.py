"""AV1 ("RTP Payload Format For AV1" 1.0 of AOM; in files `av01` with av1C, "AV1 Codec ISO Media File Format Binding").

A unit is a temporal unit: its OBUs, each with its size, without temporal delimiters. On the wire OBUs have no sizes of
their own; the aggregation header and lengths between them tell where they end. Clean points are temporal units whose
first frame is a key frame that is shown. The configuration is the sequence header, which comes in the stream only.

Behind a loss nothing but a sequence header proves that a temporal unit is whole from its beginning: a packet may begin
with any OBU of it. One unit without is passed over; those behind it are `damaged` up to the next clean point.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from nvr.media.bmff.boxes import box
from nvr.media.codecs.assembly import UnitDepacketizer
from nvr.media.codecs.av1_obu import (
    FRAME,
    FRAME_HEADER,
    HAS_SIZE,
    SEQUENCE_HEADER,
    TEMPORAL_DELIMITER,
    TILE_LIST,
    Obu,
    SequenceHeader,
    iter_obus,
    leb128,
    parse_obu,
    read_leb128,
)  # fmt: skip
from nvr.media.codecs.sample_entry import parse_sample_entry, visual_sample_entry
from nvr.media.unit import AccessUnit
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType

SAMPLE_ENTRY = b"av01"

MAXIMUM_UNIT = 16 << 20
"""Bytes of a temporal unit; a camera that never ends its units cannot take the memory."""
MAXIMUM_OBUS = 4096
"""OBUs of a temporal unit: a packet of empty ones must not become a unit of millions."""

_Z, _Y, _N = 0x80, 0x40, 0x08


@dataclass(frozen=True, slots=True)
class Av1Configuration:
    """`sequence` is the content of the sequence header OBU."""

    encoding: ClassVar[str] = "AV1"
    track_type: ClassVar[TrackType] = TrackType.VIDEO

    sequence: bytes
    picture: SequenceHeader = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "picture", SequenceHeader.parse(self.sequence))

    @property
    def clock_rate(self) -> int:
        return 90_000

    @property
    def width(self) -> int:
        return self.picture.width

    @property
    def height(self) -> int:
        return self.picture.height

    def rtpmap(self) -> str:
        return "AV1/90000"

    def fmtp(self) -> str:
        p = self.picture
        return f"profile={p.profile};level-idx={p.level};tier={p.tier}"

    def in_band(self) -> bytes:
        return bytes((SEQUENCE_HEADER << 3 | HAS_SIZE,)) + leb128(len(self.sequence)) + self.sequence

    def sample_entry(self) -> bytes:
        p = self.picture
        av1c = box(b"av1C", bytes((0x81, p.profile << 5 | p.level, p.colour, 0)), self.in_band())
        return visual_sample_entry(SAMPLE_ENTRY, p.width, p.height, av1c)

    @classmethod
    def from_sample_entry(cls, entry: bytes) -> Av1Configuration:
        """Inverse of `sample_entry`. Raises FormatError."""
        av1c = parse_sample_entry(entry, visual=True).boxes.get(b"av1C", b"")
        if len(av1c) < 4 or av1c[0] != 0x81:
            raise FormatError("a sample entry of AV1 without an av1C that is known")
        for obu in iter_obus(memoryview(av1c)[4:]):
            if obu.kind == SEQUENCE_HEADER:
                return cls(bytes(obu.content))
        raise FormatError("an av1C without a sequence header")


class Av1Depacketizer(UnitDepacketizer):
    """OBU elements put together to OBUs, OBUs to temporal units."""

    __slots__ = ("_elements", "_open", "_size")

    _elements: list[bytes]
    """Whole OBUs as they came."""
    _open: list[bytes]
    """Fragments of the OBU that goes on in the next packet."""
    _size: int

    def _clear(self) -> None:
        self._elements = []
        self._open = []
        self._size = 0

    def _take(self, buffer: memoryview, start: int, end: int) -> None:
        """The OBU elements of one packet (4.4). Raises FormatError."""
        aggregation = buffer[start]
        count = aggregation >> 4 & 3
        at, number = start + 1, 0
        if at >= end:
            raise FormatError("an AV1 packet without OBU elements")
        goes_on = bool(aggregation & _Z)
        if goes_on and not self._open:
            if self._proof and not self._elements:
                self._break_off(None)  # the rest of a unit that began before the loss: no error of the camera
                return
            raise FormatError("a fragment of an AV1 OBU whose beginning is missing")
        if self._open and not goes_on:
            raise FormatError("a fragmented AV1 OBU without its end")
        while at < end:
            number += 1
            if count and number == count:
                begin, stop = at, end
            else:
                length, begin = read_leb128(buffer[:end], at)
                stop = begin + length
            if stop > end:
                raise FormatError(f"an AV1 OBU element of {stop - begin} bytes with {end - begin} left")
            if number == 1 and goes_on:
                self._open.append(bytes(buffer[begin:stop]))
            else:
                self._finish()
                self._open = [bytes(buffer[begin:stop])]
            self._size += stop - begin
            at = stop
        if count and number < count:
            raise FormatError(f"an AV1 packet of {number} OBU elements that announces {count}")
        if not aggregation & _Y:
            self._finish()
        if self._size > MAXIMUM_UNIT or len(self._elements) > MAXIMUM_OBUS:
            raise FormatError(f"an AV1 temporal unit of {self._size} bytes in {len(self._elements)} OBUs")

    def _finish(self) -> None:
        """The OBU in hand is whole; empty elements are passed over."""
        obu = b"".join(self._open)
        self._open = []
        if obu:
            self._elements.append(obu)

    def _units(self) -> list[AccessUnit]:
        if self._open:
            raise FormatError("a fragmented AV1 OBU without its end")
        parts: list[bytes] = []
        sequence = frame = None
        for element in self._elements:
            obu = parse_obu(element)
            if obu.kind in (TEMPORAL_DELIMITER, TILE_LIST):
                continue  # not for the receiver (5); a file has no delimiters either
            if not parts and self._proof and obu.kind != SEQUENCE_HEADER:
                return []
            if obu.kind == SEQUENCE_HEADER:
                sequence = bytes(obu.content)
            elif frame is None and obu.kind in (FRAME, FRAME_HEADER):
                frame = obu
            parts += (
                bytes((obu.header[0] | HAS_SIZE,)) + obu.header[1:],
                leb128(len(obu.content)),
                bytes(obu.content),
            )
        if frame is None:
            raise FormatError("an AV1 temporal unit without a frame")
        configuration = self._configured(sequence)
        clean = _is_key(frame, configuration.picture.reduced)
        if clean:
            self._damaged = False
        return [AccessUnit(self._time, b"".join(parts), clean, self._damaged, configuration)]

    def _configured(self, sequence: bytes | None) -> Av1Configuration:
        known = self.configuration
        if sequence is not None and (not isinstance(known, Av1Configuration) or sequence != known.sequence):
            known = self.configuration = Av1Configuration(sequence)
        if not isinstance(known, Av1Configuration):
            raise FormatError("no AV1 sequence header so far")
        return known


def _is_key(frame: Obu, reduced: bool) -> bool:
    """Whether this is a key frame that is shown (5.9.2): show_existing_frame 0, frame_type 0, show_frame 1."""
    return reduced or (len(frame.content) > 0 and frame.content[0] >> 4 == 0b0001)


class Av1Packetizer:
    """At most three OBU elements a packet, the last without a length; small ones share a packet."""

    marker_on_last = True

    def __init__(self, maximum: int) -> None:
        if maximum < 16:
            raise ValueError(f"a maximum payload of {maximum} bytes leaves no room for OBUs")
        self._maximum = maximum

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        """See Packetizer. Raises FormatError for what is no unit in sample form."""
        payloads: list[tuple[bytes, memoryview]] = []
        maximum = self._maximum
        first = _N
        head, count, z = b"", 0, 0  # elements in the packet in hand, with their lengths; whether it goes on an OBU
        obus = list(iter_obus(data))
        if not obus:
            raise FormatError("an AV1 temporal unit without OBUs")
        if obus[0].kind != SEQUENCE_HEADER:
            first = 0
        for number, (_, header, content) in enumerate(obus):
            element = header
            whole = leb128(len(header) + len(content))
            more = number + 1 < len(obus)
            if more and count < 2 and 1 + len(head) + len(whole) + len(header) + len(content) + 8 <= maximum:
                head += whole + header + bytes(content)  # room is left for others behind it
                count += 1
                continue
            at = 0
            while True:
                room = maximum - 1 - len(head) - len(element)
                part = content[at : at + room]
                at += len(part)
                ends = at >= len(content)
                aggregation = z | (0 if ends else _Y) | count + 1 << 4 | first
                payloads.append((bytes((aggregation,)) + head + element, part))
                head, element, count, first = b"", b"", 0, 0
                if ends:
                    z = 0
                    break
                z = _Z
        return payloads
