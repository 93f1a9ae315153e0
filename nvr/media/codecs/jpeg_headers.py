"""The headers of a JPEG image (ITU-T T.81 annex B): the tables of RFC 2435, writing and taking apart.

RTP carries an image without most of its headers; a file needs all of them. What stands before the entropy coded data
is called its headers here, the start of scan included.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from nvr.model.errors import FormatError

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SOF0, SOF1, DHT, SOS, DQT, DRI, APP0, APP15, COM = 0xC0, 0xC1, 0xC4, 0xDA, 0xDB, 0xDD, 0xE0, 0xEF, 0xFE
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}
"""SOF0 to SOF15: C4, C8 and CC mean other things."""

JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
"""APP0 of an image with square pixels: nothing but that its colours are YCbCr."""

# Tables K.1 and K.2 of T.81, row by row.
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, *(99,) * 32,
)  # fmt: skip
# Row by row places in the order of the zigzag (figure A.6): along diagonals, every other one upwards.
_ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8))

# Tables K.3 to K.6: class and destination, number of codes of each length, values.
_DIGITS = bytes(range(12))
STANDARD_HUFFMAN = {
    0x00: bytes.fromhex("00010501010101010100000000000000") + _DIGITS,
    0x01: bytes.fromhex("00030101010101010101010000000000") + _DIGITS,
    0x10: bytes.fromhex(
        "0002010303020403050504040000017d"
        "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738"
        "393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5"
        "a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
    ),
    0x11: bytes.fromhex(
        "00020102040403040705040400010277"
        "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a353637"
        "38393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3"
        "a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
    ),
}


@lru_cache(128)
def tables_of_quality(q: int) -> bytes:
    """Both quantization tables, 64 octets each in zigzag order, of a Q from 1 to 99 (RFC 2435 4.2, appendix A)."""
    scale = 5000 // q if q < 50 else 200 - 2 * q
    return bytes(min(max((table[i] * scale + 50) // 100, 1), 255) for table in (_LUMA, _CHROMA) for i in _ZIGZAG)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def quantization_segments(tables: bytes, precision: int) -> bytes:
    """One DQT for each table behind the other. Bit n of `precision`: table n has 16 bits a value (RFC 2435 3.1.8)."""
    out, at, number = b"", 0, 0
    while at < len(tables):
        wide = precision >> number & 1
        end = at + (128 if wide else 64)
        if end > len(tables) or number > 3:
            raise FormatError(f"quantization tables of {len(tables)} bytes with precision {precision:#04x}")
        out += segment(DQT, bytes((wide << 4 | number,)) + tables[at:end])
        at, number = end, number + 1
    return out


def huffman_segments(tables: dict[int, bytes]) -> bytes:
    return b"".join(segment(DHT, bytes((slot,)) + table) for slot, table in tables.items())


def frame_segment(width: int, height: int, vertical: int, tables: int, wide: bool) -> bytes:
    """SOF of three components (RFC 2435 4.1): 4:2:2 with `vertical` 1, 4:2:0 with 2; `tables` is the number of
    quantization tables, `wide` whether one of them has 16 bits a value, which baseline has not."""
    chroma = 1 if tables > 1 else 0
    components = bytes((1, 0x20 | vertical, 0, 2, 0x11, chroma, 3, 0x11, chroma))
    return segment(SOF1 if wide else SOF0, struct.pack(">BHHB", 8, height, width, 3) + components)


SCAN = segment(SOS, bytes((3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0)))
"""The start of scan of RFC 2435 4.1."""


class Segment(NamedTuple):
    marker: int
    content: bytes

    def __bytes__(self) -> bytes:
        return segment(self.marker, self.content)


def parse_segments(data: bytes | memoryview, at: int = 0) -> tuple[list[Segment], int]:
    """Marker segments from `at` up to the start of scan, which is the last one, or to the end; fill octets 0xFF are
    passed over. Returns where the data behind them begin. Raises FormatError."""
    found: list[Segment] = []
    end = len(data)
    while at < end:
        if data[at] != 0xFF:
            raise FormatError(f"{data[at]:#04x} where a JPEG marker is expected")
        while at < end and data[at] == 0xFF:
            at += 1
        if at == end:
            break
        marker = data[at]
        if marker in (0xD8, 0x01):  # SOI, TEM: without contents
            at += 1
            continue
        if marker == 0xD9 or 0xD0 <= marker <= 0xD7 or marker == 0:
            raise FormatError(f"JPEG marker {marker:#04x} among the headers")
        size = data[at + 1] << 8 | data[at + 2] if at + 3 <= end else 0
        if size < 2 or at + 1 + size > end:
            raise FormatError(f"JPEG marker {marker:#04x} with a length of {size}")
        found.append(Segment(marker, bytes(data[at + 3 : at + 1 + size])))
        at += 1 + size
        if marker == SOS:
            break
    return found, at


def quantization_tables(segments: list[Segment]) -> dict[int, bytes]:
    """By Pq and Tq: the values of every table, those defined later in place of those before. Raises FormatError."""
    found = {}
    for marker, content in segments:
        at = 0
        while marker == DQT and at < len(content):
            key = content[at]
            end = at + 1 + (128 if key >> 4 else 64)
            if end > len(content):
                raise FormatError("a JPEG quantization table cut short")
            found[key] = content[at + 1 : end]
            at = end
    return found


def huffman_tables(segments: list[Segment]) -> dict[int, bytes]:
    """By Tc and Th: number of codes of each length and values. Raises FormatError."""
    found = {}
    for marker, content in segments:
        at = 0
        while marker == DHT and at < len(content):
            end = at + 17 + sum(content[at + 1 : at + 17])
            if end > len(content):
                raise FormatError("a JPEG Huffman table cut short")
            found[content[at]] = content[at + 1 : end]
            at = end
    return found


@dataclass(frozen=True, slots=True)
class Image:
    """An image taken apart. The entropy coded data are `data[scan:]` of what was parsed, EOI included."""

    segments: list[Segment]
    scan: int
    frame: Segment
    width: int
    height: int

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Image:
        """Raises FormatError for what is no JPEG image with frame and scan headers."""
        if bytes(data[:2]) != SOI:
            raise FormatError(f"an image that begins with {bytes(data[:4]).hex(' ')} is no JPEG")
        segments, scan = parse_segments(data, 2)
        if not segments or segments[-1].marker != SOS:
            raise FormatError("a JPEG image without a start of scan")
        frame = next((s for s in segments if s.marker in FRAME_HEADERS), None)
        if frame is None:
            raise FormatError("a JPEG image without a frame header")
        width, height = dimensions(frame)
        return cls(segments, scan, frame, width, height)

    @property
    def restart_interval(self) -> int:
        """MCUs between restart markers; 0 where there are none."""
        return next((int.from_bytes(s.content[:2], "big") for s in self.segments if s.marker == DRI), 0)


def dimensions(frame: Segment) -> tuple[int, int]:
    """Width and height of a frame header. Raises FormatError."""
    if len(frame.content) < 6:
        raise FormatError("a JPEG frame header cut short")
    _, height, width = struct.unpack_from(">BHH", frame.content)
    if not width or not height:
        raise FormatError(f"a JPEG image of {width} x {height}")
    return width, height
