"""nvr.media.replay_extension: IEC 62676-2-32 8.3, bit by bit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.replay_extension import PACK, PROFILE, SIZE, WORDS, JpegExtension, ReplayExtension
from nvr.media.rtp import RtpExtension, RtpPacket
from nvr.model.errors import FormatError
from nvr.model.time import parse_iso

TEN = parse_iso("2026-01-01T10:00:00Z")

jpegs = st.builds(JpegExtension, st.booleans(), st.binary(max_size=40).map(lambda data: data[: len(data) // 4 * 4]))
extensions = st.builds(
    ReplayExtension,
    st.integers(0, (1 << 64) - 1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 255),
    st.none() | jpegs,
)


@settings(max_examples=200)
@given(extensions)
def test_parsing_is_the_inverse_of_writing(extension: ReplayExtension) -> None:
    packet = RtpPacket(96, 1, 2, 3, b"payload", extension=extension.extension())
    read = RtpPacket.parse(bytes(packet)).extension
    assert read is not None
    assert ReplayExtension.parse(read) == extension


def test_the_first_packet_of_the_worked_example_byte_by_byte() -> None:
    extension = ReplayExtension.at(TEN + 63 * 10**9, cseq=263, clean_point=True, discontinuity=True)
    packet = RtpPacket(96, 5000, 6_670_000, 0x01020304, b"\x65", extension=extension.extension())
    assert bytes(packet).hex() == (
        "90601388" + "0065c6b0" + "01020304" + "abac0003" + "ed00c45f" + "00000000" + "a0070000" + "65"
    )


@pytest.mark.parametrize(
    ("flags", "byte"),
    [
        ({"clean_point": True}, 0x80),
        ({"end_of_section": True}, 0x40),
        ({"discontinuity": True}, 0x20),
        ({"terminal": True}, 0x10),
        ({"clean_point": True, "discontinuity": True}, 0xA0),
        ({"clean_point": True, "end_of_section": True, "discontinuity": True}, 0xE0),
        ({"clean_point": True, "end_of_section": True, "terminal": True}, 0xD0),
        ({"end_of_section": True, "terminal": True}, 0x50),
        ({}, 0x00),
    ],
)
def test_flags_stand_in_their_bits_and_the_reserved_bits_are_zero(flags: dict[str, bool], byte: int) -> None:
    extension = ReplayExtension.at(TEN, **flags)
    assert extension.extension().data[8] == byte
    assert ReplayExtension.parse(extension.extension()) == extension


def test_only_the_low_byte_of_cseq_is_written_and_the_padding_is_zero() -> None:
    assert ReplayExtension.at(TEN, cseq=258).extension().data[8:] == b"\x00\x02\x00\x00"
    assert ReplayExtension.at(TEN, cseq=259).extension().data[8:] == b"\x00\x03\x00\x00"


def test_the_time_is_utc_to_the_nanosecond_whatever_the_ntp_era() -> None:
    for text in ("2026-01-01T10:00:00Z", "2026-01-01T10:00:00.123456789Z", "2041-06-01T00:00:00.5Z"):
        utc = parse_iso(text)
        assert ReplayExtension.at(utc).utc_ns(near_ns=utc + 10**18) == utc


def test_reserved_bits_padding_and_foreign_words_are_ignored_when_read() -> None:
    data = bytes.fromhex("ed00c42000000000" + "8f07ffff" + "12345678")
    assert ReplayExtension.parse(RtpExtension(PROFILE, data)) == ReplayExtension.at(TEN, cseq=7, clean_point=True)


@pytest.mark.requirement("PB-8.3.3-04")
@pytest.mark.parametrize("words", [0, 1, 5])
@pytest.mark.parametrize("first", [True, False])
def test_the_jpeg_part_follows_the_three_words_in_one_extension(words: int, first: bool) -> None:
    extension = ReplayExtension(0, jpeg=JpegExtension(first, b"\xff\xdb\x00\x01" * words))
    written = bytes(extension.extension())
    assert written[:2] == b"\xab\xac"
    assert int.from_bytes(written[2:4], "big") == words + 4
    assert written[16:18] == (b"\xff\xd8" if first else b"\xff\xff")
    assert int.from_bytes(written[18:20], "big") == words
    assert ReplayExtension.parse(RtpExtension(PROFILE, written[4:])) == extension


def test_jpeg_markers_are_padded_with_ff_to_whole_words() -> None:
    assert bytes(JpegExtension(True, b"\xff\xdb\x01\x02\x03")).endswith(b"\x03\xff\xff\xff")


@pytest.mark.parametrize(
    ("extension", "why"),
    [
        (RtpExtension(0xFFD8, bytes(12)), "0xffd8"),
        (RtpExtension(PROFILE, bytes(8)), "8 bytes"),
        (RtpExtension(PROFILE, bytes(12) + b"\xff\xd8\x00\x02" + bytes(4)), "claims 8 of 4"),
    ],
)
def test_what_is_no_replay_extension_is_refused(extension: RtpExtension, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        ReplayExtension.parse(extension)


def test_the_struct_for_hot_paths_gives_the_same_bytes() -> None:
    extension = ReplayExtension.at(TEN, cseq=7, clean_point=True)
    assert PACK.pack(PROFILE, WORDS, extension.ntp, extension.flags, 7, 0) == bytes(extension.extension())
    assert PACK.size == SIZE
