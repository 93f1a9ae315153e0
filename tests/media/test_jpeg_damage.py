"""JPEG by RTP that is lost, broken or made up: it costs the images that it touches."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.codecs.jpeg import TABLES, JpegPacketizer
from nvr.media.codecs.jpeg_depacketizer import MAXIMUM_UNIT, JpegDepacketizer
from nvr.media.codecs.jpeg_headers import (
    DHT,
    DQT,
    SOF0,
    Image,
    frame_segment,
    segment,
)
from nvr.media.replay_extension import JPEG_FIRST, JPEG_LATER, PROFILE
from tests.support.jpeg import LARGE, Wire, encoded, ext, plain, receive, wired


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
