"""The JPEG extension on replay: together with the replay extension, or alone (IEC 62676-2-32 8.3.3)."""

from __future__ import annotations

import struct

import pytest

from nvr.media.codecs import packetizer_for
from nvr.media.codecs.jpeg import HEADER, JpegConfiguration
from nvr.media.codecs.jpeg_depacketizer import JpegDepacketizer
from nvr.media.codecs.jpeg_headers import SCAN, frame_segment, huffman_segments, quantization_segments, segment
from nvr.media.codecs.jpeg_headers import STANDARD_HUFFMAN as HUFFMAN
from nvr.media.codecs.l16 import L16Configuration
from nvr.media.rtp import RtpPacket, extension_of
from nvr.model.time import NS
from nvr.replay.sender import Origin, RtpStream
from nvr.replay.unit import Unit

AT = 1_800_000_000 * NS
DATA = bytes(range(200)) * 15


def image(width: int, height: int, note: bytes = b"") -> bytes:
    tables = quantization_segments(bytes(range(1, 129)), 0)
    frame = frame_segment(width, height, 2, 2, False)
    return b"\xff\xd8" + note + tables + frame + huffman_segments(HUFFMAN) + SCAN + DATA + b"\xff\xd9"


def sent(data: bytes, cseq: int | None, *, terminal: bool = False, maximum: int = 600) -> list[RtpPacket]:
    configuration = JpegConfiguration(160, 96)
    stream = RtpStream(configuration, 26, lambda c: packetizer_for(c, maximum), Origin(7, 65_530, 0), None)
    out: list[bytes | memoryview] = []
    unit = Unit(0, AT, 0, 0, data, configuration, True, discontinuity=True, end=terminal, terminal=terminal)
    stream.append(unit, 9000, cseq, out)
    assert (stream.refused, stream.packets) == (0, len(out))
    return [RtpPacket.parse(bytes(p)) for p in out]


def extensions(packets: list[RtpPacket]) -> list[tuple[int, bytes] | None]:
    return [None if p.extension is None else (p.extension.profile, p.extension.data) for p in packets]


LARGE = image(2560, 1920)
FRAME = frame_segment(2560, 1920, 2, 2, False)


@pytest.mark.requirement("PB-8.3.3-01", "PB-8.3.3-02", "PB-8.3.3-03", "PB-8.3.3-06")
def test_both_extensions_are_one_with_the_jpeg_part_behind_the_three_words() -> None:
    first, *others = extensions(sent(LARGE, 5))
    assert first is not None
    profile, data = first
    assert profile == 0xABAC
    flags, cseq, padding, code, words = struct.unpack_from(">8xBBHHH", data)
    assert (flags, cseq, padding) == (0xA0, 5, 0)
    assert (code, words) == (0xFFD8, 5)
    assert len(data) // 4 == words + 4
    assert data[16:] == FRAME + b"\xff"  # 19 octets of SOF in five words
    assert others == [None] * len(others)


@pytest.mark.requirement("PB-8.3.3-05")
@pytest.mark.parametrize("cseq", [None, 5])
def test_packets_that_need_only_the_jpeg_extension_have_it_as_in_live_streaming(cseq: int | None) -> None:
    note = segment(0xFE, b"signed" * 200)
    found = extensions(sent(image(2560, 1920, note), cseq))
    extended = [e for e in found if e is not None]
    assert len(extended) > 2
    assert [profile for profile, _ in extended] == [0xFFD8 if cseq is None else 0xABAC] + [0xFFFF] * (len(extended) - 1)
    content = (extended[0][1] if cseq is None else extended[0][1][16:]) + b"".join(data for _, data in extended[1:])
    assert content.rstrip(b"\xff") == note + FRAME
    if cseq is not None:
        assert extended[0][1][12:14] == b"\xff\xd8"


def test_the_last_packet_has_t_and_the_first_has_not() -> None:
    found = extensions(sent(LARGE, 5, terminal=True))
    assert found[0] is not None
    assert found[-1] is not None
    assert (found[0][1][8], found[-1][1][8]) == (0xE0, 0xD0)
    assert len(found[-1][1]) == 12


def test_one_packet_has_all_flags_and_the_jpeg_part() -> None:
    [only] = extensions(sent(LARGE, 5, terminal=True, maximum=8000))
    assert only is not None
    assert (only[1][8], only[1][12:14]) == (0xF0, b"\xff\xd8")


def test_an_image_that_rtp_jpeg_can_tell_has_three_words_as_stock_clients_want_them() -> None:
    first, *others = extensions(sent(image(160, 96), 5))
    assert first is not None
    assert (first[0], len(first[1])) == (0xABAC, 12)
    assert others == [(0xABAC, first[1][:8] + b"\x80" + first[1][9:])] * len(others)  # as all bare packets: no D
    assert extensions(sent(image(160, 96), None))[0] is None


@pytest.mark.requirement("PB-8.1-24")
@pytest.mark.parametrize("cseq", [None, 5])
def test_a_receiver_of_the_recorder_s_own_kind_gets_the_image_back(cseq: int | None) -> None:
    made = JpegDepacketizer()
    units = []
    packets = sent(LARGE, cseq)
    assert [p.sequence for p in packets] == [(65_530 + n) & 0xFFFF for n in range(len(packets))]
    assert [p.marker for p in packets] == [False] * (len(packets) - 1) + [True]
    for packet in packets:
        data = bytes(packet)
        if packet.extension is not None:
            made.extension(*extension_of(data, 0))
        view = memoryview(packet.payload)
        units += made.push(view, 0, len(view), packet.timestamp, packet.marker)
        assert len(packet.payload) < 8 or HEADER.unpack_from(packet.payload)[5:] == (0, 0)
    [unit] = units
    assert unit.data.endswith(SCAN + DATA + b"\xff\xd9")
    assert unit.configuration == JpegConfiguration(2560, 1920)


def test_sound_of_another_rate_than_announced_is_left_out_and_counted() -> None:
    announced, other = L16Configuration(48_000), L16Configuration(44_100)
    stream = RtpStream(announced, 97, lambda c: packetizer_for(c, 1400), Origin(7, 0, 0), None)
    out: list[bytes | memoryview] = []
    for configuration in (announced, other, L16Configuration(48_000)):
        stream.append(Unit(0, AT, 0, 0, b"ab", configuration, True), 0, None, out)
    assert (len(out), stream.refused) == (2, 1)
    assert stream.last_refusal == "L16/44100 where L16/48000 is announced"
