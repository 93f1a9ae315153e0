"""H.265: the payload structures of RFC 7798 byte by byte, random access, sequence parameter sets."""

from __future__ import annotations

import struct
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.bmff.boxes import find_box
from nvr.media.codecs import UnsupportedCodec, depacketizer_for, from_sample_entry
from nvr.media.codecs.h265 import H265Configuration, H265Packetizer, parse_sps
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType
from tests.support.rtp_streams import Encoded, Packet, encode_video, feed, nals_of, packets_of, sample_form


def nal(kind: int, first: bool = True) -> bytes:
    """A slice of this type; `first` is first_slice_segment_in_pic_flag."""
    return bytes((kind << 1, 1, 0x80 if first else 0x40, kind, 7))


IDR, CRA, BLA, TRAIL, RASL, RADL = (nal(k) for k in (19, 21, 16, 1, 9, 7))
AUD = b"\x46\x01\x50"


@cache
def encoded(options: str = "", pixels: str = "yuv420p", width: int = 160, height: int = 96, count: int = 1) -> Encoded:
    parameters = "repeat-headers=1:pools=1:frame-threads=1:log-level=none"
    return encode_video("libx265", count, {"x265-params": f"{parameters}:{options}".rstrip(":")}, width, height, pixels)


def sets() -> tuple[bytes, bytes, bytes]:
    vps, sps, pps = nals_of(encoded().units[0][1])[:3]
    return vps, sps, pps


def configuration() -> H265Configuration:
    vps, sps, pps = sets()
    return H265Configuration((vps,), (sps,), (pps,))


def depacketizer(**parameters: str):  # type: ignore[no-untyped-def]
    described = dict(p.split("=", 1) for p in configuration().fmtp().split(";"))
    return depacketizer_for("H265", 90000, fmtp={**described, **parameters})


def unit_of(*payloads: bytes, made=None):  # type: ignore[no-untyped-def]
    made = made or depacketizer()
    packets = [Packet(p, 100, i == len(payloads) - 1) for i, p in enumerate(payloads)]
    units = feed(made, packets, flush=False)
    assert len(units) == (0 if made.last_error else 1), made.last_error
    return units[0] if units else made.last_error


def test_a_single_nal_unit_packet_is_the_nal_unit() -> None:
    unit = unit_of(IDR)
    assert (unit.data, unit.clean_point, unit.damaged) == (sample_form(IDR), True, False)


def test_an_aggregation_packet_holds_nal_units_behind_sizes() -> None:
    payload = b"\x60\x01" + b"".join(struct.pack(">H", len(n)) + n for n in (*sets(), IDR))
    assert unit_of(payload).data == sample_form(*sets(), IDR)


def test_fragments_restore_the_nal_header_from_payload_header_and_fu_header() -> None:
    assert unit_of(b"\x62\x01\x93\x80", b"\x62\x01\x13\x13", b"\x62\x01\x53\x07").data == sample_form(IDR)


def test_order_numbers_are_passed_over_where_the_description_announces_them() -> None:
    def made():  # type: ignore[no-untyped-def]
        return depacketizer(**{"sprop-max-don-diff": "1", "sprop-depack-buf-nalus": "1"})

    single = IDR[:2] + b"\x00\x07" + IDR[2:]
    assert unit_of(single, made=made()).data == sample_form(IDR)
    assert unit_of(b"\x62\x01\x93\x00\x07\x80", b"\x62\x01\x53\x13\x07", made=made()).data == sample_form(IDR)
    two = b"\x60\x01\x00\x07" + struct.pack(">H", 3) + AUD + b"\x00" + struct.pack(">H", 5) + IDR
    assert unit_of(two, made=made()).data == sample_form(AUD, IDR)


def test_nal_units_out_of_decode_order_are_bad_payloads() -> None:
    made = depacketizer(**{"sprop-max-don-diff": "1"})
    payloads = [IDR[:2] + b"\x00\x07" + IDR[2:], IDR[:2] + b"\x00\x05" + IDR[2:]]
    assert feed(made, [Packet(p, i, True) for i, p in enumerate(payloads)], flush=False)[0].data == sample_form(IDR)
    assert made.last_error == "a NAL unit with decoding order number 5 behind 7 (interleaving)"
    assert made.dropped == 1


@pytest.mark.parametrize(
    ("payloads", "why"),
    [
        ([b"\x26\x01"], "a payload of 2 bytes"),
        ([b"\x64\x01\x00\x00"], "a NAL unit of type 50 where none can stand"),
        ([b"\x62\x01\x93"], "a fragment without data"),
        ([b"\x62\x01\xd3\x80"], "a fragment that is both the start and the end of its NAL unit"),
        ([b"\x62\x01\x93\x80", b"\x62\x01\x93\x80"], "a fragmented NAL unit begins inside another"),
        ([b"\x62\x01\x93\x80", IDR], "a fragmented NAL unit without its end"),
        ([b"\x62\x01\x93\x80"], "the marker bit inside a fragmented NAL unit"),
        ([b"\x60\x01\x00\x09\x26"], "a NAL unit of 9 bytes in an aggregation packet with 1 left"),
        ([b"\x42\x01\x01"], "sequence parameter set ends inside a field"),
        ([b"\x42\x09\x01\x01"], "a parameter set of another layer than the base layer"),
    ],
)
def test_a_payload_that_breaks_the_format_says_why(payloads: list[bytes], why: str) -> None:
    assert unit_of(*payloads) == why


@pytest.mark.parametrize(
    ("nals", "clean"),
    [
        ((IDR,), True),
        ((CRA, nal(21, False)), True),
        ((BLA,), True),
        ((TRAIL,), False),
        ((RASL,), False),
        ((RADL,), False),
        ((*sets(), TRAIL), False),
    ],
)
def test_clean_points_are_the_random_access_pictures(nals: tuple[bytes, ...], clean: bool) -> None:
    assert unit_of(*nals).clean_point is clean


def judged(made, *nals: bytes, lost: tuple[int, ...] = ()):  # type: ignore[no-untyped-def]
    return [(u.rtp_time, u.damaged) for u in feed(made, [Packet(n, i, True) for i, n in enumerate(nals)], lost)]


def test_rasl_pictures_are_damaged_where_the_stream_was_joined_at_their_cra() -> None:
    found = judged(depacketizer(), CRA, RASL, TRAIL, CRA, RASL, TRAIL)
    assert found == [(0, False), (1, True), (2, False), (3, False), (4, False), (5, False)]


def test_rasl_pictures_are_damaged_behind_a_cra_that_follows_a_loss() -> None:
    found = judged(depacketizer(), IDR, TRAIL, TRAIL, TRAIL, CRA, RASL, RADL, TRAIL, CRA, RASL, lost=(2,))
    assert [time for time, damaged in found if damaged] == [3, 5]


def test_rasl_pictures_are_always_damaged_behind_a_bla() -> None:
    found = judged(depacketizer(), IDR, TRAIL, BLA, RASL, TRAIL, CRA, RASL)
    assert [time for time, damaged in found if damaged] == [3]


def test_open_gops_of_an_encoder_are_recorded_from_their_cra() -> None:
    units = encoded("keyint=8:min-keyint=8:open-gop=1:bframes=3:b-adapt=0:scenecut=0", count=30).units
    kinds = [nals_of(data)[-1][0] >> 1 & 63 for _, data in units]
    assert 21 in kinds
    assert {8, 9} & set(kinds)
    start = kinds.index(21)
    found = feed(depacketizer_for("H265", 90000), packets_of(H265Packetizer(300), units[start:]))
    assert [u.data for u in found] == [data for _, data in units[start:]]
    first_rasl = [i for i, k in enumerate(kinds[start:]) if k in (8, 9)]
    second_cra = kinds.index(21, start + 1) - start
    assert [i for i, u in enumerate(found) if u.damaged] == [i for i in first_rasl if i < second_cra]


ENCODINGS = {
    "main": ("", "yuv420p", 160, 96),
    "cropped": ("", "yuv420p", 178, 98),
    "1080 lines": ("", "yuv420p", 128, 1080),
    "4:4:4": ("", "yuv444p", 162, 97),
    "temporal layers": ("temporal-layers=1:bframes=3", "yuv420p", 160, 96),
    "10 bit": ("", "yuv420p10le", 160, 96),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_sequence_parameter_sets_of_an_encoder_are_read_as_a_decoder_reads_them(name: str) -> None:
    options, pixels, width, height = ENCODINGS[name]
    sps = next(n for n in nals_of(encoded(options, pixels, width, height).units[0][1]) if n[0] >> 1 & 63 == 33)
    found = parse_sps(sps)
    assert (found.width, found.height) == (width, height)
    assert found.chroma_format == (3 if pixels == "yuv444p" else 1)
    assert found.bit_depth_luma == (10 if pixels.endswith("10le") else 8)


@given(st.binary(max_size=80))
def test_any_sequence_parameter_set_is_read_or_refused(data: bytes) -> None:
    try:
        found = parse_sps(b"\x42\x01" + data)
    except FormatError:
        return
    assert 0 < found.width <= 0xFFFF
    assert 0 < found.height <= 0xFFFF


def test_the_sample_entry_is_hev1_with_hvcc_of_the_parameter_sets() -> None:
    made = configuration()
    entry = made.sample_entry()
    assert entry[4:8] == b"hev1"
    assert struct.unpack_from(">HH", entry, 32) == (160, 96)
    hvcc = find_box(entry, b"hvcC", 86)
    body = entry[hvcc.body : hvcc.end]
    _, sps, _ = sets()
    assert body[0] == 1
    # general_profile_idc Main, general_level_idc as the encoder wrote them behind the first byte of the SPS.
    assert body[1] & 31 == 1
    assert body[12] == parse_sps(sps).profile[11]
    assert body[13:15] == b"\xf0\x00"
    assert (body[16], body[17], body[18]) == (0xFD, 0xF8, 0xF8)
    assert body[21] & 3 == 3
    assert body[22] == 3
    assert from_sample_entry(entry) == made
    assert (made.encoding, made.track_type, made.rtpmap()) == ("H265", TrackType.VIDEO, "H265/90000")


@given(cut=st.integers(0, 200), change=st.integers(0, 255), at=st.integers(8, 220))
def test_a_damaged_sample_entry_is_refused_or_read_but_never_breaks(cut: int, change: int, at: int) -> None:
    entry = bytearray(configuration().sample_entry())
    if at < len(entry):
        entry[at] = change
    for data in (bytes(entry[:cut]), bytes(entry)):
        try:
            from_sample_entry(data)
        except FormatError:
            continue


def test_other_transmission_modes_are_refused() -> None:
    with pytest.raises(UnsupportedCodec, match="MRST"):
        depacketizer(**{"tx-mode": "MRST"})
    with pytest.raises(FormatError, match="no number"):
        depacketizer(**{"sprop-max-don-diff": "x"})


def test_the_packetizer_makes_single_nal_units_and_fragments() -> None:
    big = b"\x26\x01" + bytes(range(1, 41))
    packets = packets_of(H265Packetizer(20), [(9, sample_form(AUD, big))])
    assert [p.payload for p in packets] == [
        AUD,
        b"\x62\x01\x93" + big[2:19],
        b"\x62\x01\x13" + big[19:36],
        b"\x62\x01\x53" + big[36:],
    ]
    with pytest.raises(FormatError, match="type 48"):
        H265Packetizer(100).packetize(memoryview(sample_form(b"\x60\x01\x01")))
