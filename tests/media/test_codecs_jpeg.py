"""JPEG: headers made from RTP/JPEG, the extension for what RTP/JPEG cannot say, losses; FFmpeg decodes."""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from functools import cache
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.codecs import UnsupportedCodec, depacketizer_for, from_sample_entry
from nvr.media.codecs.jpeg import HEADER, TABLES, JpegConfiguration, JpegPacketizer
from nvr.media.codecs.jpeg_depacketizer import MAXIMUM_UNIT, JpegDepacketizer
from nvr.media.codecs.jpeg_headers import (
    DHT,
    DQT,
    JFIF,
    SCAN,
    SOF0,
    SOF1,
    STANDARD_HUFFMAN,
    Image,
    Segment,
    frame_segment,
    huffman_segments,
    quantization_tables,
    segment,
    tables_of_quality,
)  # fmt: skip
from nvr.media.replay_extension import JPEG_FIRST, JPEG_LATER, PROFILE, JpegExtension, ReplayExtension
from nvr.media.rtp import RtpExtension
from nvr.media.unit import AccessUnit
from nvr.model.errors import FormatError
from tests.support.rtp_streams import Packet, decode_pictures, encode_pictures, feed, packets_of

SCANNED = bytes(range(200)) * 9
"""Stands for entropy coded data; nothing looks into it."""


class Wire(NamedTuple):
    """A packet with its header extension."""

    payload: bytes
    rtp_time: int
    marker: bool
    extension: tuple[int, bytes] | None = None


def wired(packetizer: JpegPacketizer, images: Sequence[tuple[int, bytes]]) -> list[Wire]:
    found = []
    for rtp_time, data in images:
        payloads = packetizer.packetize(memoryview(data))
        extensions = [(int.from_bytes(e[:2], "big"), e[4:]) for e in packetizer.extensions]
        for i, (prefix, part) in enumerate(payloads):
            extension = extensions[i] if i < len(extensions) else None
            found.append(Wire(prefix + bytes(part), rtp_time, i == len(payloads) - 1, extension))
    return found


def receive(made: JpegDepacketizer, packets: Sequence[Wire], lost: Collection[int] = ()) -> list[AccessUnit]:
    units: list[AccessUnit] = []
    for i, packet in enumerate(packets):
        if i in lost:
            made.lost(1)
            continue
        if packet.extension is not None:
            made.extension(*packet.extension)
        view = memoryview(packet.payload)
        units += made.push(view, 0, len(view), packet.rtp_time, packet.marker)
    return [*units, *made.flush()]


@cache
def encoded(
    width: int = 160, height: int = 96, pixels: str = "yuvj420p", huffman: str = "default"
) -> list[tuple[int, bytes]]:
    return encode_pictures("mjpeg", 5, {"huffman": huffman, "threads": "1"}, width, height, pixels).units


@cache
def restarting() -> list[tuple[int, bytes]]:
    """With restart markers: FFmpeg puts one behind each slice."""
    return encode_pictures("mjpeg", 3, {"huffman": "default", "threads": "2", "slices": "3"}, 160, 96, "yuvj420p").units


def plain(
    kind: int = 1,
    q: int = 60,
    width: int = 160,
    height: int = 96,
    more: bytes = b"",
    offset: int = 0,
    data: bytes = SCANNED,
) -> bytes:
    """The payload of one RTP/JPEG packet."""
    return HEADER.pack(0, offset >> 16, offset & 0xFFFF, kind, q, width // 8, height // 8) + more + data


def one(payload: bytes, extension: tuple[int, bytes] | None = None, size: tuple[int, int] | None = None) -> Image:
    """The headers made of an image in one packet."""
    made = JpegDepacketizer(size)
    [unit] = receive(made, [Wire(payload, 0, True, extension)])
    return Image.parse(unit.data)


def segments(image: Image, marker: int) -> list[bytes]:
    return [s.content for s in image.segments if s.marker == marker]


# -- images that RFC 2435 can tell


@pytest.mark.parametrize("maximum", [256, 1400, 60_000])
def test_pictures_come_back_as_they_were(maximum: int) -> None:
    images = [(t, data.replace(comment(data), b"")) for t, data in encoded()]
    packets = wired(JpegPacketizer(maximum), images)
    assert max(len(p.payload) for p in packets) <= maximum
    assert not any(p.extension for p in packets)
    assert {p.payload[4] for p in packets} == {1}
    made = JpegDepacketizer()
    units = receive(made, packets)
    assert (made.dropped, made.last_error) == (0, None)
    assert all(u.clean_point and not u.damaged for u in units)
    assert units[0].configuration == JpegConfiguration(160, 96)
    assert decode_pictures("mjpeg", [u.data for u in units]) == decode_pictures("mjpeg", [d for _, d in images])


def comment(data: bytes) -> bytes:
    return next(bytes(s) for s in Image.parse(data).segments if s.marker == 0xFE)


@pytest.mark.parametrize("kind", [0, 1, 64, 65])
def test_what_came_by_rtp_goes_out_and_comes_back_byte_for_byte(kind: int) -> None:
    more = struct.pack(">HH", 7, 0xFFFF) if kind >= 64 else b""
    first = receive(JpegDepacketizer(), [Wire(plain(kind, q, more=more), q, True) for q in (1, 40, 99)])
    again = receive(JpegDepacketizer(), wired(JpegPacketizer(300), [(u.rtp_time, u.data) for u in first]))
    assert [(u.rtp_time, u.data) for u in again] == [(u.rtp_time, u.data) for u in first]


def test_restart_markers_are_told_and_come_back() -> None:
    packets = wired(JpegPacketizer(300), restarting())
    assert {p.payload[4] for p in packets} == {65}
    interval = Image.parse(restarting()[0][1]).restart_interval
    assert interval > 0
    assert all(struct.unpack_from(">HH", p.payload, 8) == (interval, 0xFFFF) for p in packets)
    units = receive(JpegDepacketizer(), packets)
    assert [Image.parse(u.data).restart_interval for u in units] == [interval] * 3
    assert decode_pictures("mjpeg", [u.data for u in units]) == decode_pictures("mjpeg", [d for _, d in restarting()])


@pytest.mark.parametrize("kind", [0, 1, 64, 65])
def test_headers_of_each_type(kind: int) -> None:
    image = one(plain(kind, more=struct.pack(">HH", 7, 0xFFFF) if kind >= 64 else b""))
    assert (image.width, image.height) == (160, 96)
    assert image.frame == Segment(
        SOF0, struct.pack(">BHHB", 8, 96, 160, 3) + bytes((1, 0x21 + kind % 64, 0, 2, 17, 1, 3, 17, 1))
    )
    assert image.restart_interval == (7 if kind >= 64 else 0)
    assert bytes(image.segments[-1]) == SCAN
    assert b"".join(segments(image, DHT)) == b"".join(bytes((k,)) + v for k, v in STANDARD_HUFFMAN.items())


def test_the_tables_of_q_are_those_of_annex_k_scaled() -> None:
    luma = [16, 11, 12, 14, 12, 10, 16, 14]  # table K.1 in zigzag order
    assert list(tables_of_quality(50)[:8]) == luma
    assert list(tables_of_quality(25)[:8]) == [2 * v for v in luma]
    assert list(tables_of_quality(75)[:8]) == [(v + 1) // 2 for v in luma]
    assert list(tables_of_quality(50)[64:68]) == [17, 18, 18, 24]
    assert set(tables_of_quality(1)) == {255}
    assert max(tables_of_quality(99)) < 4
    for q in (1, 50, 99):
        tables = quantization_tables(one(plain(q=q)).segments)
        assert tables[0] + tables[1] == tables_of_quality(q)


@pytest.mark.parametrize("q", [128, 254, 255])
def test_tables_in_band_serve_later_images_of_the_same_q(q: int) -> None:
    tables = bytes(range(1, 129))
    made = JpegDepacketizer()
    units = receive(
        made,
        [
            Wire(plain(q=q, more=TABLES.pack(0, 0, 128) + tables), 0, True),
            Wire(plain(q=q, more=TABLES.pack(0, 0, 0)), 1, True),
            Wire(plain(q=99), 2, True),
            Wire(plain(q=q, more=TABLES.pack(0, 0, 0)), 3, True),
            Wire(plain(q=q - 1, more=TABLES.pack(0, 0, 0)), 4, True),
        ],
    )
    found = [quantization_tables(Image.parse(u.data).segments) for u in units]
    assert [u.rtp_time for u in units] == [0, 1, 2, 3]
    assert found[0] == found[1] == found[3] == {0: tables[:64], 1: tables[64:]}
    assert (made.dropped, made.last_error) == (
        1,
        f"RTP/JPEG with Q {q - 1}, whose quantization tables have not come"
        if q > 128
        else "RTP/JPEG with Q 127, which is reserved",
    )


def test_one_table_serves_all_components_and_wide_ones_are_not_baseline() -> None:
    single = one(plain(q=255, more=TABLES.pack(0, 0, 64) + bytes(range(64))))
    assert single.frame.content[6:] == bytes((1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0))
    wide = one(plain(q=255, more=TABLES.pack(0, 2, 64 + 128) + bytes(192)))
    assert set(quantization_tables(wide.segments)) == {0x00, 0x11}
    assert wide.frame.marker == SOF1


def test_an_end_of_image_is_added_where_there_is_none() -> None:
    for data, end in (
        (b"scan", b"scan\xff\xd9"),
        (b"scan\xff\xd9", b"scan\xff\xd9"),
        (b"s\xff\xd9\0\0", b"s\xff\xd9\0\0"),
    ):
        [unit] = receive(JpegDepacketizer(), [Wire(plain(data=data), 0, True)])
        assert unit.data.endswith(SCAN + end)


def test_two_fields_of_one_time_are_two_images() -> None:
    packets = [
        Wire(plain(data=b"top"), 5, False),
        Wire(plain(data=b"more", offset=3), 5, False),
        Wire(plain(data=b"bottom"), 5, True),
    ]
    units = receive(JpegDepacketizer(), packets)
    assert [(u.rtp_time, u.data[-9:]) for u in units] == [
        (5, b"opmore\xff\xd9"[-9:].rjust(9, b"t")),
        (5, b"?\0bottom\xff\xd9"[-9:]),
    ]


def test_a_stream_without_markers_is_told_apart_by_its_times() -> None:
    packets = [p._replace(marker=False) for p in wired(JpegPacketizer(400), encoded())]
    assert len(receive(JpegDepacketizer(), packets)) == 5


def test_a_size_that_changes_is_another_configuration() -> None:
    packets = [Wire(plain(), 0, True), Wire(plain(width=320), 1, True), Wire(plain(width=320), 2, True)]
    units = receive(JpegDepacketizer(), packets)
    assert [u.configuration for u in units] == [JpegConfiguration(160, 96), *[JpegConfiguration(320, 96)] * 2]
    assert units[1].configuration is units[2].configuration


def test_the_configuration_survives_the_sample_entry() -> None:
    configuration = JpegConfiguration(2560, 1920)
    assert from_sample_entry(configuration.sample_entry()) == configuration
    assert configuration.fmtp() is None
    assert (configuration.rtpmap(), configuration.in_band()) == ("JPEG/90000", b"")


# -- the extension of ONVIF


LARGE = frame_segment(2560, 1920, 2, 2, False)
OTHER_HUFFMAN = {**STANDARD_HUFFMAN, 0x00: bytes(15) + b"\x02\x07\x08"}


def ext(data: bytes, *, first: bool = True) -> tuple[int, bytes]:
    return (JPEG_FIRST if first else JPEG_LATER), data + b"\xff" * (-len(data) % 4)


@pytest.mark.parametrize(
    ("width", "height", "pixels", "huffman"),
    [
        (2560, 64, "yuvj420p", "default"),
        (64, 2048, "yuvj422p", "default"),
        (100, 52, "yuvj420p", "default"),
        (160, 96, "yuvj444p", "default"),
        (160, 96, "yuvj420p", "optimal"),
    ],
)
def test_what_rtp_jpeg_cannot_tell_goes_into_the_extension(width: int, height: int, pixels: str, huffman: str) -> None:
    images = encoded(width, height, pixels, huffman)
    packets = wired(JpegPacketizer(700), images)
    firsts = [p for p in packets if p.extension is not None and p.extension[0] == JPEG_FIRST]
    assert len(firsts) == 5
    assert all(len(p.payload) + (4 + len(p.extension[1]) if p.extension else 0) <= 700 for p in packets)
    large = width > 2040 or height > 2040
    assert [p.payload[6:8] == b"\0\0" for p in packets if p.payload] == [large] * len([p for p in packets if p.payload])
    made = JpegDepacketizer()
    units = receive(made, packets)
    assert (made.dropped, made.last_error) == (0, None)
    assert units[0].configuration == JpegConfiguration(width, height)
    assert decode_pictures("mjpeg", [u.data for u in units]) == decode_pictures("mjpeg", [d for _, d in images])
    again = receive(JpegDepacketizer(), wired(JpegPacketizer(1400), [(u.rtp_time, u.data) for u in units]))
    assert [u.data for u in again] == [u.data for u in units]
    assert comment(images[0][1]) in units[0].data  # what the camera wrote beside is kept


@pytest.mark.requirement("PB-8.3.3-05", "PB-8.3.3-06")
def test_an_extension_longer_than_a_packet_goes_over_several() -> None:
    note = segment(0xFE, b"a signature of the camera" * 40)
    [(_, data), *_] = encoded()
    image = data[:2] + note + data[2:]
    packets = wired(JpegPacketizer(300), [(0, image)])
    extended = [p.extension for p in packets if p.extension is not None]
    assert [profile for profile, _ in extended] == [JPEG_FIRST] + [JPEG_LATER] * (len(extended) - 1)
    assert len(extended) > 3
    assert all(len(content) % 4 == 0 for _, content in extended)
    content = b"".join(content for _, content in extended)
    told = note + comment(data)
    assert content == told + b"\xff" * (len(content) - len(told))
    [unit] = receive(JpegDepacketizer(), packets)
    assert note in unit.data
    assert decode_pictures("mjpeg", [unit.data]) == decode_pictures("mjpeg", [data])


def test_greyscale_goes_through_the_extension() -> None:
    """RTP/JPEG has three components; frame and scan header tell that there is one."""
    frame = segment(SOF0, struct.pack(">BHHB", 8, 96, 160, 1) + bytes((1, 0x11, 0)))
    scan = segment(0xDA, bytes((1, 1, 0, 0, 63, 0)))
    table = segment(DQT, b"\0" + bytes(range(1, 65)))
    image = b"\xff\xd8" + table + frame + huffman_segments(STANDARD_HUFFMAN) + scan + b"data\xff\xd9"
    [unit] = receive(JpegDepacketizer(), wired(JpegPacketizer(1400), [(0, image)]))
    assert sorted(Image.parse(unit.data).segments) == sorted(Image.parse(image).segments)
    assert unit.data.endswith(scan + b"data\xff\xd9")


@pytest.mark.parametrize("lost", range(6))
def test_no_image_is_made_of_a_part_of_its_extension(lost: int) -> None:
    """The first packet with entropy coded data looks like the beginning of an image, but for what is missing."""
    note = segment(0xFE, b"a signature of the camera" * 40)
    images = [(n, data[:2] + note + data[2:]) for n, (_, data) in enumerate(encoded()[:3])]
    packets = wired(JpegPacketizer(300), images)
    second = next(i for i, p in enumerate(packets) if p.rtp_time == 1)
    made = JpegDepacketizer()
    units = receive(made, packets, set(range(second, second + lost)))
    assert [u.rtp_time for u in units] == ([0, 2] if lost else [0, 1, 2])
    assert all(note in u.data for u in units)
    bare = Wire(plain(data=b"bare"), 9, True)
    assert [u.rtp_time for u in receive(made, [packets[0], bare], {0})] == []
    assert [u.rtp_time for u in receive(made, [bare._replace(rtp_time=8), bare._replace(rtp_time=9)])] == [9]


@pytest.mark.parametrize("large", [False, True])
def test_markers_in_the_extension_overrule_the_payload(large: bool) -> None:
    content = LARGE if large else b""
    own = bytes(range(64, 128))
    content += segment(DQT, b"\0" + own) + huffman_segments({0x00: OTHER_HUFFMAN[0]}) + segment(0xDD, b"\0\x09")
    payload = plain(65, 50, 0 if large else 160, 0 if large else 96, struct.pack(">HH", 3, 0xFFFF))
    image = one(payload, ext(content))
    assert (image.width, image.height) == ((2560, 1920) if large else (160, 96))
    assert image.restart_interval == 9
    tables = quantization_tables(image.segments)
    assert tables == {0: own, 1: tables_of_quality(50)[64:]}
    assert segments(image, DHT)[-1] == b"\0" + OTHER_HUFFMAN[0]


def test_a_scan_header_in_the_extension_is_the_last_and_data_may_begin_behind_it() -> None:
    scan = segment(0xDA, bytes((3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0)))
    content = LARGE + scan + b"\x01\x02"
    [unit] = receive(JpegDepacketizer(), [Wire(plain(width=0, height=0), 0, True, (JPEG_FIRST, content))])
    image = Image.parse(unit.data)
    assert unit.data[image.scan : image.scan + 3] == b"\x01\x02" + SCANNED[:1]


def test_an_image_borrows_what_it_lacks_from_the_one_before() -> None:
    full = ext(LARGE + huffman_segments(OTHER_HUFFMAN) + segment(DQT, b"\0" + bytes(64) + b"\1" + bytes(64)))
    small = plain(width=0, height=0, q=0)
    made = JpegDepacketizer()
    units = receive(made, [Wire(small, 0, True, full), Wire(small, 1, True, ext(b"")), Wire(small, 2, True, ext(b""))])
    images = [Image.parse(u.data) for u in units]
    assert [(i.width, i.height) for i in images] == [(2560, 1920)] * 3
    assert quantization_tables(images[2].segments) == {0: bytes(64), 1: bytes(64)}
    assert OTHER_HUFFMAN[0] in units[2].data
    assert not any(u.damaged for u in units)


def test_behind_a_loss_what_is_borrowed_may_be_stale_and_says_so() -> None:
    full = ext(LARGE + huffman_segments(STANDARD_HUFFMAN) + segment(DQT, b"\0" + bytes(64) + b"\1" + bytes(64)))
    small = plain(width=0, height=0, q=0)
    packets = [Wire(small, n, True, full if n in (0, 4) else ext(b"")) for n in range(6)]
    units = receive(JpegDepacketizer(), packets, lost={2})
    assert [(u.rtp_time, u.damaged) for u in units] == [(0, False), (1, False), (3, True), (4, False), (5, False)]


@pytest.mark.requirement("PB-8.3.3-04")
@pytest.mark.parametrize("words", [0, 1, 20])
def test_the_jpeg_part_of_a_replay_extension_is_found_behind_its_three_words(words: int) -> None:
    content = segment(0xFE, b"x" * (4 * words - 4)) if words else b""
    extension = ReplayExtension(99, jpeg=JpegExtension(True, LARGE + content)).extension()
    image = one(plain(width=0, height=0), (extension.profile, extension.data))
    assert (image.width, image.height) == (2560, 1920)
    without = ReplayExtension(99).extension()
    assert one(plain(), (without.profile, without.data)).width == 160


def test_other_extensions_are_passed_over() -> None:
    assert one(plain(), (0xBEDE, b"\x10\xff\0\0")).width == 160
    made = JpegDepacketizer()
    broken = RtpExtension(PROFILE, bytes(12) + b"\xff\xd8\0\x09")
    assert receive(made, [Wire(plain(), 0, True, (PROFILE, broken.data)), Wire(plain(), 1, True)])[0].rtp_time == 1
    assert made.last_error == "a JPEG extension claims 36 of 0 bytes"


@pytest.mark.parametrize(
    "parameters", [{"x-dimensions": "2560,1920"}, {"framesize": "26 2560-1920"}, {"framesize": "2560-1920"}]
)
def test_a_session_description_may_tell_the_size_of_large_images(parameters: dict[str, str]) -> None:
    made = depacketizer_for("JPEG", 90000, None, parameters)
    assert made.configuration == JpegConfiguration(2560, 1920)
    [unit] = feed(made, [Packet(plain(width=0, height=0), 0, True)])
    assert Image.parse(unit.data).width == 2560
    [small] = feed(made, [Packet(plain(), 1, True)])
    assert small.configuration == JpegConfiguration(160, 96)


# -- what goes wrong


@settings(max_examples=40)
@given(st.integers(256, 900), st.sets(st.integers(0, 150), max_size=5), st.sampled_from(["yuvj420p", "yuvj444p"]))
def test_a_loss_costs_the_images_that_it_touches_and_no_other(maximum: int, lost: set[int], pixels: str) -> None:
    packets = wired(JpegPacketizer(maximum), encoded(160, 96, pixels))
    touched = {packets[i].rtp_time for i in lost if i < len(packets)}
    whole = {u.rtp_time: u.data for u in receive(JpegDepacketizer(), packets)}
    made = JpegDepacketizer()
    units = receive(made, packets, lost)
    assert {u.rtp_time for u in units} == {t for t, _ in encoded()} - touched
    assert all(u.data == whole[u.rtp_time] for u in units)
    assert made.dropped <= len(touched)


@pytest.mark.parametrize(
    ("payload", "extension", "why"),
    [
        (b"\0" * 7, None, "a payload of 7 bytes, shorter than the RTP/JPEG header"),
        (plain(offset=100), None, "begins at fragment offset 100"),
        (plain(2), None, "RTP/JPEG type 2, which is not known"),
        (plain(66, more=bytes(4)), None, "RTP/JPEG type 66"),
        (plain(128), None, "RTP/JPEG type 128"),
        (plain(64, data=b"\0"), None, "cut short in its restart header"),
        (plain(q=0), None, "Q 0, which is reserved"),
        (plain(q=100), None, "Q 100, which is reserved"),
        (plain(q=255, data=b"\0\0"), None, "cut short in its quantization table header"),
        (plain(q=255, more=TABLES.pack(0, 0, 128), data=b"\0"), None, "quantization tables of 128 bytes with 1 left"),
        (plain(q=255, more=TABLES.pack(0, 0, 600), data=bytes(700)), None, "quantization tables of 600 bytes"),
        (plain(q=255, more=TABLES.pack(0, 0, 100), data=bytes(100)), None, "quantization tables of 100 bytes"),
        (plain(width=0), None, "larger than RTP/JPEG can tell"),
        (plain(data=b""), None, "without entropy coded data"),
        (plain(), ext(b"\x01\x02\x03\x04"), "0x01 where a JPEG marker is expected"),
        (plain(), ext(b"\xff\xdb\x00\xff"), "JPEG marker 0xdb with a length of 255"),
        (plain(), ext(b"\xff\xd9"), "JPEG marker 0xd9 among the headers"),
        (plain(), ext(LARGE, first=False), "begins with a later part of its header extension"),
        (plain(), ext(segment(DQT, b"\0abc")), "quantization table cut short"),
        (plain(), ext(segment(DHT, b"\0" + b"\x01" * 16)), "Huffman table cut short"),
        (plain(), ext(segment(SOF0, b"abc")), "frame header cut short"),
        (plain(), ext(frame_segment(0, 9, 1, 1, False)), "a JPEG image of 0 x 9"),
    ],
)
def test_a_bad_image_costs_itself(payload: bytes, extension: tuple[int, bytes] | None, why: str) -> None:
    made = JpegDepacketizer()
    good = plain(q=70)
    units = receive(made, [Wire(good, 0, True), Wire(payload, 1, True, extension), Wire(good, 2, True)])
    assert [u.rtp_time for u in units] == [0, 2]
    assert made.dropped == 1
    assert made.last_error is not None
    assert why in made.last_error


@pytest.mark.parametrize(
    ("payload", "content", "why"),
    [
        (plain(width=0, height=0), b"", "larger than RTP/JPEG can tell"),
        (plain(q=0), LARGE, "Q 0 in an image that brings no quantization tables"),
    ],
)
def test_the_first_image_cannot_borrow(payload: bytes, content: bytes, why: str) -> None:
    made = JpegDepacketizer()
    assert receive(made, [Wire(payload, 1, True, ext(content))]) == []
    assert made.last_error is not None
    assert why in made.last_error


def test_an_image_that_never_ends_does_not_take_the_memory() -> None:
    made = JpegDepacketizer()
    first, more = memoryview(plain()), memoryview(plain(offset=5, data=bytes(1 << 20)))
    made.push(first, 0, len(first), 5, False)
    for _ in range(40):
        assert not made.push(more, 0, len(more), 5, False)
    assert (made.dropped, made.last_error) == (1, f"an image of more than {MAXIMUM_UNIT} bytes")
    for n in range(40):
        made.extension(*ext(bytes(60_000), first=n == 0))
        assert not made.push(first, 0, 8 if n == 0 else 0, 6, False)
    assert made.dropped == 2
    assert made.last_error == "JPEG header extensions of more than 65536 bytes"


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=40),
            st.sampled_from([0, 1, 2]),
            st.booleans(),
            st.none() | st.tuples(st.sampled_from([JPEG_FIRST, JPEG_LATER, PROFILE]), st.binary(max_size=40)),
            st.booleans(),
        ),
        max_size=10,
    )
)
def test_any_packets_are_taken_or_counted(
    packets: list[tuple[bytes, int, bool, tuple[int, bytes] | None, bool]],
) -> None:
    made = JpegDepacketizer()
    wires = [
        Wire(plain(more=data, data=b"") if usual else data, n, marker, extension)
        for data, n, marker, extension, usual in packets
    ]
    for unit in receive(made, wires):
        assert Image.parse(unit.data).width == unit.configuration.width  # type: ignore[attr-defined]


@given(st.binary(max_size=200), st.integers(0, 700))
def test_any_image_is_sent_or_refused(noise: bytes, at: int) -> None:
    data = bytearray(encoded()[0][1][:1200])
    data[at : at + len(noise)] = noise
    try:
        payloads = JpegPacketizer(500).packetize(memoryview(data))
    except FormatError:
        return
    assert payloads


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is no JPEG"),
        (b"\xff\xd8\xff\xd9", "JPEG marker 0xd9 among the headers"),
        (b"\xff\xd8" + JFIF, "without a start of scan"),
        (b"\xff\xd8" + SCAN + b"data", "without a frame header"),
        (b"\xff\xd8" + LARGE + SCAN + b"\xff\xd9", "without entropy coded data"),
    ],
)
def test_what_is_no_image_is_not_sent(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        JpegPacketizer(1400).packetize(memoryview(data))


def test_another_clock_rate_is_refused() -> None:
    with pytest.raises(UnsupportedCodec, match="8000 Hz"):
        depacketizer_for("JPEG", 8000)


def test_a_packetizer_serves_images_of_different_headers() -> None:
    images = [encoded()[0], encoded(2560, 64)[1], encoded()[2]]
    packetizer = JpegPacketizer(1400)
    units = receive(JpegDepacketizer(), wired(packetizer, images))
    assert [u.configuration.width for u in units] == [160, 2560, 160]  # type: ignore[attr-defined]
    assert packets_of(packetizer, []) == []
