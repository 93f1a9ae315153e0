"""H.264: the payload structures of RFC 6184 byte by byte, clean points, sequence parameter sets."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.bmff.boxes import find_box
from nvr.media.codecs import UnsupportedCodec, depacketizer_for, from_sample_entry
from nvr.media.codecs.h264 import H264Configuration, H264Packetizer, has_recovery_point, parse_sps
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType
from tests.support.rtp_streams import Packet, encode_video, feed, nals_of, packets_of, sample_form

# 1280 x 720, Main profile, level 3.1: written out by hand from 7.3.2.1.1.
SPS = bytes.fromhex("674d001f96540280 2dc8".replace(" ", ""))
PPS = bytes.fromhex("68ee3c80")
OTHER_PPS = bytes.fromhex("685ee3c8")  # pic_parameter_set_id 1
IDR = b"\x65\x88\x84\x01\x02\x03"  # first_mb_in_slice 0, slice_type 7 (I)
IDR_REST = b"\x65\x48\x84\x01"  # first_mb_in_slice 1
P_SLICE = b"\x41\x9a\x01\x02\x03"  # first_mb_in_slice 0, slice_type 5 (P)
I_SLICE = b"\x41\x88\x01\x02\x03"  # slice_type 7
AUD = b"\x09\x10"
RECOVERY_NOW = b"\x06\x06\x01\xc4\x80"  # recovery_frame_cnt 0
RECOVERY_LATER = b"\x06\x06\x02\x24\x40\x80"  # recovery_frame_cnt 3

SPROP = f"{base64.b64encode(SPS).decode()},{base64.b64encode(PPS).decode()}"


def depacketizer():  # type: ignore[no-untyped-def]
    return depacketizer_for("H264", 90000, fmtp={"packetization-mode": "1", "sprop-parameter-sets": SPROP})


def unit_of(*payloads: bytes):  # type: ignore[no-untyped-def]
    made = depacketizer()
    packets = [Packet(p, 100, i == len(payloads) - 1) for i, p in enumerate(payloads)]
    units = feed(made, packets, flush=False)
    assert len(units) == (0 if made.last_error else 1), made.last_error
    return units[0] if units else made.last_error


def test_a_single_nal_unit_packet_is_the_nal_unit() -> None:
    unit = unit_of(IDR)
    assert (unit.data, unit.rtp_time, unit.clean_point, unit.damaged) == (sample_form(IDR), 100, True, False)


def test_stap_a_holds_nal_units_behind_sizes() -> None:
    stap = b"\x78" + b"".join(struct.pack(">H", len(n)) + n for n in (SPS, PPS, IDR))
    assert unit_of(stap).data == sample_form(SPS, PPS, IDR)


def test_stap_b_is_taken_without_its_order_number() -> None:
    assert unit_of(b"\x79\x12\x34" + struct.pack(">H", len(IDR)) + IDR).data == sample_form(IDR)


def test_fu_a_restores_the_nal_header_from_indicator_and_fu_header() -> None:
    unit = unit_of(b"\x7c\x85\x88\x84", b"\x7c\x05\x01", b"\x7c\x45\x02\x03")
    assert unit.data == sample_form(IDR)


def test_fu_b_begins_with_an_order_number() -> None:
    assert unit_of(b"\x7d\x85\xab\xcd\x88\x84", b"\x7c\x45\x01\x02\x03").data == sample_form(IDR)


def test_a_parameter_set_in_fragments_is_taken() -> None:
    made = depacketizer_for("H264", 90000)
    payloads = [b"\x7c\x87" + SPS[1:4], b"\x7c\x47" + SPS[4:], PPS, IDR]
    [unit] = feed(made, [Packet(p, 5, p is IDR) for p in payloads])
    assert unit.configuration == H264Configuration((SPS,), (PPS,))


@pytest.mark.parametrize(
    ("payloads", "why"),
    [
        ([b"\x65"], "a payload of 1 bytes"),
        ([b"\x7a\0\0\0\0\0\0"], "a NAL unit of type 26 where none can stand"),
        ([b"\x00\x01\x02"], "a NAL unit of type 0 where none can stand"),
        ([b"\x7c\x85"], "a fragment without data"),
        ([b"\x7c\xc5\x01"], "a fragment that is both the start and the end of its NAL unit"),
        ([b"\x7c\x85\x88", b"\x7c\x85\x88"], "a fragmented NAL unit begins inside another"),
        ([b"\x7c\x85\x88", IDR], "a fragmented NAL unit without its end"),
        ([b"\x7c\x85\x88"], "the marker bit inside a fragmented NAL unit"),
        ([AUD, b"\x7c\x45\x88"], "a fragment of a NAL unit whose beginning is missing"),
        ([b"\x7c\x85\x88", b"\x7c\x41\x88"], "a fragment of a NAL unit whose beginning is missing"),
        ([b"\x78\0"], "an aggregation packet with a byte left over"),
        ([b"\x78\0\x09\x65"], "a NAL unit of 9 bytes in an aggregation packet with 1 left"),
        ([b"\x78\0\0\0\0"], "a NAL unit of 0 bytes"),
        ([b"\x7c\x9c\x01"], "a NAL unit of type 28 where none can stand"),
        ([b"\x67\x4d\x00"], "sequence parameter set ends inside a field"),
    ],
)
def test_a_payload_that_breaks_the_format_says_why(payloads: list[bytes], why: str) -> None:
    assert unit_of(*payloads) == why


def test_interleaved_mode_is_refused_in_the_description() -> None:
    with pytest.raises(UnsupportedCodec, match="packetization-mode 2"):
        depacketizer_for("H264", 90000, fmtp={"packetization-mode": "2"})


@pytest.mark.parametrize(
    ("nals", "clean"),
    [
        ((IDR,), True),
        ((AUD, SPS, PPS, IDR, IDR_REST), True),
        ((P_SLICE,), False),
        ((I_SLICE,), False),
        ((RECOVERY_NOW, I_SLICE), True),
        ((RECOVERY_LATER, I_SLICE), False),
        ((RECOVERY_NOW, P_SLICE), False),
        ((RECOVERY_NOW, I_SLICE, P_SLICE), False),
        ((SPS, PPS, I_SLICE), True),
        ((SPS, I_SLICE), False),
        ((SPS, PPS, P_SLICE), False),
    ],
)
def test_clean_points_are_idr_and_intra_pictures_that_say_so(nals: tuple[bytes, ...], clean: bool) -> None:
    assert unit_of(*nals).clean_point is clean


def test_the_rest_of_a_picture_behind_a_marker_is_no_clean_point() -> None:
    units = feed(depacketizer(), [Packet(IDR, 1, True), Packet(IDR_REST, 1, True)])
    assert [u.clean_point for u in units] == [True, False]


def test_recovery_point_behind_another_sei_message_is_found() -> None:
    long_message = b"\x05\xff\x02" + b"\xaa" * 257
    assert has_recovery_point(b"\x06" + long_message + RECOVERY_NOW[1:])
    assert not has_recovery_point(b"\x06" + long_message + b"\x80")


@given(st.binary(max_size=40))
def test_any_sei_is_looked_through(data: bytes) -> None:
    has_recovery_point(b"\x06" + data)


@given(st.binary(max_size=60))
def test_any_sequence_parameter_set_is_read_or_refused(data: bytes) -> None:
    try:
        found = parse_sps(b"\x67" + data)
    except FormatError:
        return
    assert 0 < found.width <= 0xFFFF
    assert 0 < found.height <= 0xFFFF


def test_loss_before_a_picture_without_its_parameter_sets_drops_it() -> None:
    """A stream that has parameter sets before each IDR: behind a loss a bare IDR has lost them."""
    key = [Packet(n, 0, n is IDR) for n in (SPS, PPS, IDR)]
    later = [Packet(p.payload, 10, p.marker) for p in key]
    made = depacketizer()
    assert [u.rtp_time for u in feed(made, [*key, *later], {3})] == [0]
    assert made.dropped == 1


def test_loss_before_a_bare_slice_is_proven_by_the_slice() -> None:
    made = depacketizer()
    units = feed(made, [Packet(IDR, 0, True), *(Packet(P_SLICE, n, True) for n in range(1, 5))], {2})
    assert [(u.rtp_time, u.damaged) for u in units] == [(0, False), (1, False), (3, True), (4, True)]
    assert made.dropped == 0


ENCODINGS = {
    "main": ({"profile": "main"}, "yuv420p", 176, 144),
    "baseline, cropped": ({"profile": "baseline", "bf": "0"}, "yuv420p", 178, 98),
    "1080 lines": ({}, "yuv420p", 128, 1080),
    "interlaced": ({"x264-params": "interlaced=1"}, "yuv420p", 160, 84),
    "4:2:2": ({}, "yuv422p", 162, 98),
    "4:4:4": ({}, "yuv444p", 161, 97),
    "10 bit": ({}, "yuv420p10le", 160, 96),
    "scaling matrices": ({"x264-params": "cqm=jvt"}, "yuv420p", 160, 96),
    "hrd and aspect": (
        {"x264-params": "nal-hrd=cbr:vbv-maxrate=500:vbv-bufsize=500:sar=4/3:range=pc:bframes=2"},
        "yuv420p",
        160,
        96,
    ),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_sequence_parameter_sets_of_an_encoder_are_read_as_a_decoder_reads_them(name: str) -> None:
    options, pixels, width, height = ENCODINGS[name]
    encoded = encode_video("libx264", 1, {"x264-params": "", **options}, width, height, pixels)
    sps = next(n for n in nals_of(encoded.units[0][1]) if n[0] & 31 == 7)
    found = parse_sps(sps)
    assert (found.width, found.height) == (width, height)
    assert found.chroma_format == {"yuv422p": 2, "yuv444p": 3}.get(pixels, 1)
    assert found.bit_depth_luma == (10 if pixels.endswith("10le") else 8)
    if name == "hrd and aspect":
        assert (found.aspect, found.num_reorder) == ((4, 3), 2)
    if name == "baseline, cropped":
        assert found.num_reorder == 0


def test_the_sample_entry_is_avc3_with_avcc_of_the_parameter_sets() -> None:
    configuration = H264Configuration((SPS,), (PPS,))
    entry = configuration.sample_entry()
    assert entry[4:8] == b"avc3"
    assert struct.unpack_from(">HH", entry, 32) == (1280, 720)
    avcc = find_box(entry, b"avcC", 86)
    expected = b"\x01\x4d\x00\x1f\xff\xe1" + struct.pack(">H", len(SPS)) + SPS + b"\x01\x00\x04" + PPS
    assert entry[avcc.body : avcc.end] == expected
    assert from_sample_entry(entry) == configuration
    assert (configuration.encoding, configuration.track_type) == ("H264", TrackType.VIDEO)


@given(cut=st.integers(0, 130), change=st.integers(0, 255), at=st.integers(8, 129))
def test_a_damaged_sample_entry_is_refused_or_read_but_never_breaks(cut: int, change: int, at: int) -> None:
    entry = bytearray(H264Configuration((SPS,), (PPS,)).sample_entry())
    if at < len(entry):
        entry[at] = change
    for data in (bytes(entry[:cut]), bytes(entry)):
        try:
            from_sample_entry(data)
        except FormatError:
            continue


def test_rtpmap_and_fmtp_are_those_of_rfc_6184() -> None:
    configuration = H264Configuration((SPS,), (PPS,))
    assert configuration.rtpmap() == "H264/90000"
    assert configuration.fmtp() == f"packetization-mode=1;profile-level-id=4D001F;sprop-parameter-sets={SPROP}"


def test_parameter_sets_with_start_codes_or_without_padding_are_understood() -> None:
    bare = base64.b64encode(b"\0\0\0\1" + SPS).decode().rstrip("=")
    together = base64.b64encode(b"\0\0\1" + SPS + b"\0\0\0\1" + PPS).decode()
    made = depacketizer_for("H264", 90000, fmtp={"sprop-parameter-sets": together})
    assert made.configuration == H264Configuration((SPS,), (PPS,))
    made = depacketizer_for(
        "h264", 90000, fmtp={"Sprop-Parameter-Sets": f"{bare},{base64.b64encode(PPS + bytes(2)).decode()},"}
    )
    assert made.configuration == H264Configuration((SPS,), (PPS,))


@pytest.mark.parametrize("code", [b"\0\0\1", b"\0\0\0\1"])
def test_parameter_sets_in_one_packet_with_start_codes_between_are_told_apart(code: bytes) -> None:
    joined = SPS + code + PPS + code + OTHER_PPS
    for payloads in ([joined, IDR], [b"\x7c\x87" + joined[1:9], b"\x7c\x47" + joined[9:], IDR]):
        made = depacketizer_for("H264", 90000)
        [unit] = feed(made, [Packet(p, 5, p is IDR) for p in payloads])
        assert unit.data == sample_form(SPS, PPS, OTHER_PPS, IDR)
        assert unit.configuration == H264Configuration((SPS,), (PPS, OTHER_PPS))


def test_several_parameter_sets_are_told_apart_by_their_ids() -> None:
    made = depacketizer()
    [unit] = feed(made, [Packet(n, 1, n is IDR) for n in (SPS, PPS, OTHER_PPS, IDR)])
    assert unit.configuration == H264Configuration((SPS,), (PPS, OTHER_PPS))


def sps_with_id(number: int) -> bytes:
    """SPS with another seq_parameter_set_id: ue(v) behind profile and level, where SPS has the one bit of 0."""
    rest = f"{int.from_bytes(SPS[4:]):0{8 * len(SPS[4:])}b}"[1:]
    bits = f"{number + 1:b}"
    bits = "0" * (len(bits) - 1) + bits + rest
    bits += "0" * (-len(bits) % 8)
    return (SPS[:4] + int(bits, 2).to_bytes(len(bits) // 8)).rstrip(b"\0")


def test_more_parameter_sets_than_a_sample_entry_holds_cost_no_picture() -> None:
    """All 32 ids in use are legal in the stream; avcC counts to 31. The ones received last are kept."""
    sets = [sps_with_id(n) for n in range(32)]
    assert [parse_sps(s).id for s in sets] == list(range(32))
    for made in (depacketizer(), depacketizer_for("H264", 90000)):
        packets = [Packet(p, 1, p is IDR) for p in (*sets, PPS, IDR)]
        packets += [Packet(p, 2, p is P_SLICE) for p in (sets[0], P_SLICE)]
        packets += [Packet(p, 3, p is IDR) for p in (*sets, PPS, IDR)]
        units = feed(made, packets)
        assert [u.rtp_time for u in units] == [1, 2, 3]
        assert made.dropped == 0
        assert units[0].configuration == H264Configuration(tuple(sets[1:]), (PPS,))
        assert {u.configuration for u in units} == {units[0].configuration}, "sets that are known change nothing"


def test_parameter_sets_that_make_no_configuration_leave_the_last_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = depacketizer()
    good = made.configuration

    def broken(sps: object, pps: object) -> None:
        raise FormatError("no configuration")

    monkeypatch.setattr("nvr.media.codecs.h264.H264Configuration", broken)
    units = feed(made, [Packet(p, 1, p is IDR) for p in (OTHER_PPS, IDR)] + [Packet(P_SLICE, 2, True)])
    assert [u.configuration for u in units] == [good, good]
    assert made.last_error == "no configuration"


def test_the_packetizer_makes_single_nal_units_and_fu_a() -> None:
    big = b"\x65" + bytes(range(1, 41))
    packets = packets_of(H264Packetizer(20), [(9, sample_form(AUD, big))])
    assert [p.payload for p in packets] == [
        AUD,
        b"\x7c\x85" + big[1:19],
        b"\x7c\x05" + big[19:37],
        b"\x7c\x45" + big[37:],
    ]
    assert [p.marker for p in packets] == [False, False, False, True]


def test_what_no_packet_can_hold_is_refused_by_the_packetizer() -> None:
    with pytest.raises(FormatError, match="type 28"):
        H264Packetizer(100).packetize(memoryview(sample_form(b"\x7c\x85\x01")))
    with pytest.raises(ValueError, match="no room"):
        H264Packetizer(3)


def test_another_clock_rate_is_refused() -> None:
    with pytest.raises(UnsupportedCodec, match="8000 Hz"):
        depacketizer_for("H264", 8000)
