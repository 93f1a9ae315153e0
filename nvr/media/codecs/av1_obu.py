"""OBUs of AV1 (AV1 Bitstream & Decoding Process Specification 5.3 to 5.5) taken apart; the sequence header read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from nvr.media.codecs.bits import Bits
from nvr.model.errors import FormatError

SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME_HEADER, FRAME, TILE_LIST = 1, 2, 3, 6, 8
HAS_SIZE, HAS_EXTENSION = 0x02, 0x04

_SELECT, _IDENTITY, _SRGB, _BT709 = 2, 0, 13, 1


def leb128(value: int) -> bytes:
    """Little endian groups of seven bits (4.10.5)."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_leb128(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """The value at `at`, and where the next octet stands. Raises FormatError."""
    value = 0
    for i in range(8):
        if at + i >= len(data):
            break
        octet = data[at + i]
        value |= (octet & 0x7F) << 7 * i
        if not octet & 0x80:
            return value, at + i + 1
    raise FormatError("an AV1 length that does not end")


class Obu(NamedTuple):
    kind: int
    header: bytes
    """One octet, or two with the extension; has_size_field cleared."""
    content: memoryview


def iter_obus(data: memoryview) -> Iterator[Obu]:
    """The OBUs of a unit in sample form. Raises FormatError."""
    at, end = 0, len(data)
    while at < end:
        first = data[at]
        size = 2 if first & HAS_EXTENSION else 1
        if first & 0x80 or not first & HAS_SIZE or at + size > end:
            raise FormatError(f"an AV1 OBU that begins with {first:#04x}")
        length, begin = read_leb128(data, at + size)
        if begin + length > end:
            raise FormatError(f"an AV1 OBU of {length} bytes with {end - begin} left")
        header = bytes((first & ~HAS_SIZE & 0xFF,)) + bytes(data[at + 1 : at + size])
        yield Obu(first >> 3 & 15, header, data[begin : begin + length])
        at = begin + length


def parse_obu(element: bytes) -> Obu:
    """An OBU as it came: without a size, as it should be, or with one. Raises FormatError."""
    first = element[0]
    size = 2 if first & HAS_EXTENSION else 1
    if first & 0x80 or len(element) < size:
        raise FormatError(f"an AV1 OBU that begins with {first:#04x}")
    begin, stop = size, len(element)
    if first & HAS_SIZE:
        length, begin = read_leb128(element, size)
        stop = begin + length
        if stop > len(element):
            raise FormatError(f"an AV1 OBU of {length} bytes with {len(element) - begin} left")
    header = bytes((first & ~HAS_SIZE & 0xFF,)) + element[1:size]
    return Obu(first >> 3 & 15, header, memoryview(element)[begin:stop])


@dataclass(frozen=True, slots=True)
class SequenceHeader:
    """What the recorder needs of a sequence header OBU (AV1 specification 5.5)."""

    profile: int
    level: int
    tier: int
    width: int
    height: int
    reduced: bool
    """reduced_still_picture_header: its frames say nothing of their type."""
    colour: int
    """The third octet of av1C: tier, bit depth, monochrome, subsampling, sample position."""

    @classmethod
    def parse(cls, data: bytes) -> SequenceHeader:
        """From the contents of the OBU. Raises FormatError."""
        bits = Bits(data[:256], "AV1 sequence header")
        profile = bits.u(3)
        if profile > 2:
            raise FormatError(f"an AV1 sequence header of profile {profile}")
        bits.skip(1)  # still_picture
        reduced = bits.flag()
        level, tier = (bits.u(5), 0) if reduced else _operating_point(bits)
        wide, high = bits.u(4) + 1, bits.u(4) + 1
        width, height = bits.u(wide) + 1, bits.u(high) + 1
        _skip_tools(bits, reduced)
        return cls(profile, level, tier, width, height, reduced, tier << 7 | _colour(bits, profile))


def _operating_point(bits: Bits) -> tuple[int, int]:
    """Level and tier of the first operating point; what stands before and between them is passed over."""
    delay = 0
    if bits.flag():  # timing_info
        bits.skip(64)
        if bits.flag():
            bits.ue()  # uvlc (4.10.3) is ue(v)
        if bits.flag():  # decoder_model_info
            delay = bits.u(5) + 1
            bits.skip(32 + 5 + 5)
    display_delay = bits.flag()
    first = None
    for _ in range(bits.u(5) + 1):
        bits.skip(12)
        level = bits.u(5)
        tier = bits.u(1) if level > 7 else 0
        first = first or (level, tier)
        if delay and bits.flag():
            bits.skip(2 * delay + 1)
        if display_delay and bits.flag():
            bits.skip(4)
    assert first is not None
    return first


def _skip_tools(bits: Bits, reduced: bool) -> None:
    if not reduced and bits.flag():  # frame_id_numbers_present_flag
        bits.skip(4 + 3)
    bits.skip(3)  # 128x128 superblocks, filter intra, intra edge filter
    if not reduced:
        bits.skip(4)  # interintra and masked compound, warped motion, dual filter
        order_hint = bits.flag()
        if order_hint:
            bits.skip(2)  # joint compound, reference frame motion vectors
        screen_content = _SELECT if bits.flag() else bits.u(1)
        if screen_content and not bits.flag():
            bits.skip(1)  # seq_force_integer_mv
        if order_hint:
            bits.skip(3)
    bits.skip(3)  # superres, cdef, restoration


def _colour(bits: Bits, profile: int) -> int:
    """color_config (5.5.2) as the lower seven bits of the third octet of av1C."""
    high = bits.u(1)
    twelve = bits.u(1) if profile == 2 and high else 0
    mono = 0 if profile == 1 else bits.u(1)
    description = (bits.u(8), bits.u(8), bits.u(8)) if bits.flag() else (2, 2, 2)
    position = 0
    if mono:
        bits.skip(1)
        x = y = 1
    elif description == (_BT709, _SRGB, _IDENTITY):
        x = y = 0
    else:
        bits.skip(1)
        if profile == 0:
            x = y = 1
        elif profile == 1:
            x = y = 0
        elif twelve:
            x = bits.u(1)
            y = bits.u(1) if x else 0
        else:
            x, y = 1, 0
        if x and y:
            position = bits.u(2)
    return high << 6 | twelve << 5 | mono << 4 | x << 3 | y << 2 | position
