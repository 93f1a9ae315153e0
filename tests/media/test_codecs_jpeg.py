"""JPEG: headers made from RTP/JPEG, the extension for what RTP/JPEG cannot say, losses; FFmpeg decodes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.codecs import UnsupportedCodec, depacketizer_for, from_sample_entry
from nvr.media.codecs.jpeg import TABLES, JpegConfiguration, JpegPacketizer
from nvr.media.codecs.jpeg_depacketizer import JpegDepacketizer
from nvr.media.codecs.jpeg_headers import (
    DHT,
    JFIF,
    SCAN,
    SOF0,
    SOF1,
    STANDARD_HUFFMAN,
    Image,
    Segment,
    quantization_tables,
    tables_of_quality,
)
from nvr.model.errors import FormatError
from tests.support.jpeg import LARGE, Wire, comment, encoded, one, plain, receive, restarting, segments, wired
from tests.support.rtp_streams import decode_pictures, packets_of


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
