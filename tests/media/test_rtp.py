"""nvr.media.rtp: the packet and the cheap functions beside it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.rtp import HEADER, RtpExtension, RtpPacket, payload_bounds
from nvr.model.errors import FormatError

words = st.binary(max_size=40).map(lambda data: data[: len(data) // 4 * 4])
packets = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFF_FFFF),
    ssrc=st.integers(0, 0xFFFF_FFFF),
    payload=st.binary(max_size=60),
    marker=st.booleans(),
    extension=st.none() | st.builds(RtpExtension, st.integers(0, 0xFFFF), words),
    csrc=st.lists(st.integers(0, 0xFFFF_FFFF), max_size=15).map(tuple),
    padding=st.integers(0, 255),
)


@settings(max_examples=300)
@given(packets)
def test_parsing_is_the_inverse_of_writing(packet: RtpPacket) -> None:
    data = bytes(packet)
    assert RtpPacket.parse(data) == packet
    assert bytes(RtpPacket.parse(memoryview(data))) == data


@settings(max_examples=300)
@given(packets, st.binary(max_size=7), st.binary(max_size=7))
def test_payload_bounds_agree_with_the_packet_inside_a_larger_buffer(
    packet: RtpPacket, before: bytes, after: bytes
) -> None:
    data = bytes(packet)
    buffer = memoryview(before + data + after)
    start, end = payload_bounds(buffer, len(before), len(before) + len(data))
    assert bytes(buffer[start:end]) == packet.payload


@settings(max_examples=500)
@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda data: b"\x90\x60" + data))
def test_any_bytes_give_a_packet_or_a_format_error(data: bytes) -> None:
    try:
        packet = RtpPacket.parse(data)
    except FormatError:
        return
    assert len(bytes(packet)) == len(data)


PLAIN = bytes(RtpPacket(96, 1, 2, 3, b"abc"))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "shorter than its header"),
        (PLAIN[:11], "11 bytes is shorter"),
        (b"\x00" + PLAIN[1:], "version 0"),
        (b"\xc0" + PLAIN[1:], "version 3"),
        (b"\x81" + PLAIN[1:], "ends inside its header"),
        (b"\x90" + PLAIN[1:], "before its header extension"),
        (b"\x90" + PLAIN[1:12] + b"\xab\xac\x00\x03" + bytes(11), "ends inside its header"),
        (b"\xa0" + PLAIN[1:12] + b"ab\x00", "claims 0 of padding"),
        (b"\xa0" + PLAIN[1:12] + b"ab\x04", "payload of 3 bytes claims 4"),
        (b"\xa0" + PLAIN[1:12], "payload of 0 bytes"),
    ],
)
def test_malformed_packets_are_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        RtpPacket.parse(data)


def test_a_packet_of_padding_alone_has_an_empty_payload() -> None:
    data = b"\xa0" + PLAIN[1:12] + b"\x00\x00\x03"
    assert RtpPacket.parse(data).payload == b""


def test_known_bytes() -> None:
    packet = RtpPacket(96, 0x1234, 0x0065C6B0, 0xCAFEBABE, b"\x65", marker=True)
    assert bytes(packet).hex() == "80e012340065c6b0cafebabe65"
    assert HEADER.unpack_from(bytes(packet)) == (0x80, 0xE0, 0x1234, 0x0065C6B0, 0xCAFEBABE)


@pytest.mark.parametrize(
    "packet",
    [
        RtpPacket(128, 0, 0, 0),
        RtpPacket(0, 0, 0, 0, csrc=tuple(range(16))),
        RtpPacket(0, 0, 0, 0, padding=256),
        RtpPacket(0, 0, 0, 0, extension=RtpExtension(0xABAC, b"abc")),
    ],
)
def test_what_no_packet_can_hold_cannot_be_written(packet: RtpPacket) -> None:
    with pytest.raises(ValueError, match="no RTP"):
        bytes(packet)
