"""What RTP/JPEG cannot tell goes into the header extension: large pictures, tables and markers of their own."""

from __future__ import annotations

import struct

import pytest

from nvr.media.codecs import depacketizer_for
from nvr.media.codecs.jpeg import JpegConfiguration, JpegPacketizer
from nvr.media.codecs.jpeg_depacketizer import JpegDepacketizer
from nvr.media.codecs.jpeg_headers import (
    DHT,
    DQT,
    SOF0,
    STANDARD_HUFFMAN,
    Image,
    huffman_segments,
    quantization_tables,
    segment,
    tables_of_quality,
)
from nvr.media.replay_extension import JPEG_FIRST, JPEG_LATER, PROFILE, JpegExtension, ReplayExtension
from nvr.media.rtp import RtpExtension
from tests.support.jpeg import LARGE, SCANNED, Wire, comment, encoded, ext, one, plain, receive, segments, wired
from tests.support.rtp_streams import Packet, decode_pictures, feed

OTHER_HUFFMAN = {**STANDARD_HUFFMAN, 0x00: bytes(15) + b"\x02\x07\x08"}


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
