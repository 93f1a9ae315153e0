"""AAC: RFC 3640 byte by byte, AudioSpecificConfig, sample entry."""

from __future__ import annotations

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.codecs import UnsupportedCodec, depacketizer_for, from_sample_entry, packetizer_for
from nvr.media.codecs.aac import AacConfiguration, AacPacketizer, AudioSpecificConfig
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType
from tests.support.rtp_streams import Packet, encode_aac, feed, packets_of

LC_48000_STEREO = "1190"
LC_8000_MONO = "1588"
HBR = {"mode": "AAC-hbr", "sizelength": "13", "indexlength": "3", "indexdeltalength": "3"}
LBR = {"mode": "AAC-lbr", "sizelength": "6", "indexlength": "2", "indexdeltalength": "2"}


def depacketizer(config: str = LC_48000_STEREO, rate: int = 48000, **parameters: str):  # type: ignore[no-untyped-def]
    return depacketizer_for("MPEG4-GENERIC", rate, 2, {**HBR, "config": config, **parameters})


def hbr(*frames: bytes) -> bytes:
    """One payload of whole frames in AAC-hbr."""
    headers = b"".join((len(f) << 3).to_bytes(2, "big") for f in frames)
    return (len(headers) * 8).to_bytes(2, "big") + headers + b"".join(frames)


def push(made, payload: bytes, rtp_time: int = 1000, marker: bool = True):  # type: ignore[no-untyped-def]
    return [(u.rtp_time, u.data) for u in feed(made, [Packet(payload, rtp_time, marker)], flush=False)]


def test_one_frame_in_a_packet() -> None:
    assert push(depacketizer(), b"\x00\x10\x00\x28hello") == [(1000, b"hello")]


def test_several_frames_in_a_packet_follow_each_other_by_the_frame_length() -> None:
    assert push(depacketizer(), hbr(b"one", b"two", b"three")) == [(1000, b"one"), (2024, b"two"), (3048, b"three")]


def test_the_time_of_later_frames_wraps_at_32_bits() -> None:
    assert push(depacketizer(), hbr(b"one", b"two"), 0xFFFF_FF00) == [(0xFFFF_FF00, b"one"), (768, b"two")]


def test_low_bit_rate_mode_has_headers_of_one_byte() -> None:
    made = depacketizer(LC_8000_MONO, 8000, **LBR)
    assert push(made, b"\x00\x10\x0c\x08abcde") == [(1000, b"abc"), (2024, b"de")]


@pytest.mark.parametrize(("size", "index", "delta"), [(16, 0, 0), (7, 1, 5), (10, 6, 3), (32, 0, 0)])
def test_headers_of_any_width_are_read(size: int, index: int, delta: int) -> None:
    made = depacketizer(sizelength=str(size), indexlength=str(index), indexdeltalength=str(delta))
    bits = f"{5:0{size}b}" + "0" * index + f"{3:0{size}b}" + "0" * delta
    section = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    assert push(made, len(bits).to_bytes(2, "big") + section + b"helloyou") == [(1000, b"hello"), (2024, b"you")]


def test_a_frame_over_several_packets_is_put_together() -> None:
    frame = bytes(range(100))
    made = depacketizer()
    packets = packets_of(AacPacketizer(44), [(5, frame)])
    assert [len(p.payload) for p in packets] == [44, 44, 24]
    [unit] = feed(made, packets)
    assert (unit.data, unit.rtp_time, unit.clean_point, unit.damaged) == (frame, 5, True, False)


def test_a_loss_at_any_place_drops_only_its_frame() -> None:
    frames = [(n * 1024, bytes([n]) * (30 + n * 25)) for n in range(8)]
    owner, packets = [], []
    for n, frame in enumerate(frames):
        made = packets_of(AacPacketizer(64), [frame])
        packets += made
        owner += [n] * len(made)
    for lost in range(len(packets)):
        depacketizer_ = depacketizer()
        found = feed(depacketizer_, packets, {lost})
        assert [(u.rtp_time, u.data) for u in found] == [f for n, f in enumerate(frames) if n != owner[lost]], lost
        assert not any(u.damaged for u in found)
        assert depacketizer_.dropped == (0 if owner.count(owner[lost]) == 1 else 1), lost


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"\0", "a payload of 1 bytes without AU-headers-length"),
        (b"\x00\x00abc", "AU headers of 0 bits, the first of 16 and others of 16"),
        (b"\x00\x18\x00\x28\x00hello", "AU headers of 24 bits, the first of 16 and others of 16"),
        (b"\x01\x00\x00\x28", "AU headers of 256 bits in a payload of 4 bytes"),
        (b"\x00\x20\x00\x10\x00\x11abcd", "interleaved frames (AU-Index-delta above 0), which are not taken"),
        (b"\x00\x10\x00\x00", "a frame of 0 bytes with 0 left in the payload"),
        (b"\x00\x10\x00\x50short", "fragments of 5 bytes for a frame of 10"),
    ],
)
def test_a_payload_that_breaks_the_format_is_dropped_and_says_why(payload: bytes, why: str) -> None:
    made = depacketizer()
    assert push(made, payload) == []
    assert (made.last_error, made.dropped) == (why, 1)


def test_a_packet_of_padding_alone_changes_nothing() -> None:
    made = depacketizer()
    first, second, third = packets_of(AacPacketizer(44), [(5, bytes(100))])
    padding = Packet(b"", 5, True)
    assert [u.data for u in feed(made, [padding, first, padding, second, padding, third])] == [bytes(100)]
    assert made.dropped == 0


def test_whole_frames_before_one_that_is_cut_short_are_delivered() -> None:
    made = depacketizer()
    assert push(made, hbr(b"whole", b"short")[:-2]) == [(1000, b"whole")]
    assert made.dropped == 1


def test_a_new_time_inside_a_fragmented_frame_drops_it() -> None:
    made = depacketizer()
    first = packets_of(AacPacketizer(44), [(5, bytes(100))])[0]
    assert [u.data for u in feed(made, [first, Packet(hbr(b"next"), 1029, True)])] == [b"next"]
    assert (made.dropped, made.last_error) == (1, "a fragmented frame without its end")


@pytest.mark.parametrize(
    ("parameters", "error", "why"),
    [
        ({"mode": "CELP-cbr"}, UnsupportedCodec, "mode 'celp-cbr'"),
        ({"mode": ""}, UnsupportedCodec, "AAC-hbr and AAC-lbr"),
        ({"config": ""}, UnsupportedCodec, "without a config"),
        ({"config": "xyz"}, FormatError, "not hexadecimal"),
        ({"config": "12"}, FormatError, "ends inside a field"),
        ({"config": "4590"}, UnsupportedCodec, "audio object type 8"),
        ({"maxdisplacement": "3072"}, UnsupportedCodec, "interleaving"),
        ({"ctsdeltalength": "22"}, UnsupportedCodec, "ctsdeltalength"),
        ({"sizelength": "0"}, UnsupportedCodec, "sizelength 0"),
        ({"sizelength": "many"}, FormatError, "no number"),
    ],
)
def test_what_is_not_taken_is_refused_with_its_reason(
    parameters: dict[str, str], error: type[FormatError], why: str
) -> None:
    with pytest.raises(error, match=why):
        depacketizer_for("MPEG4-GENERIC", 48000, 2, {**HBR, "config": LC_48000_STEREO, **parameters})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("1190", AudioSpecificConfig(2, 48000, 2, 1024)),
        ("1210", AudioSpecificConfig(2, 44100, 2, 1024)),
        ("1588", AudioSpecificConfig(2, 8000, 1, 1024)),
        ("119056E500", AudioSpecificConfig(2, 48000, 2, 1024)),
        ("1194", AudioSpecificConfig(2, 48000, 2, 960)),
        ("17802F0010", AudioSpecificConfig(2, 24064, 2, 1024)),
        ("2B118800", AudioSpecificConfig(2, 24000, 2, 1024, 48000)),
        ("F8E62000", AudioSpecificConfig(39, 48000, 1, 512)),
        ("1180", AudioSpecificConfig(2, 48000, 0, 1024)),
        ("11B8", AudioSpecificConfig(2, 48000, 8, 1024)),
    ],
)
def test_audio_specific_configs_are_read(config: str, expected: AudioSpecificConfig) -> None:
    assert AudioSpecificConfig.parse(bytes.fromhex(config)) == expected


@given(st.binary(max_size=12))
def test_any_audio_specific_config_is_read_or_refused(data: bytes) -> None:
    try:
        AudioSpecificConfig.parse(data)
    except FormatError:
        return


@pytest.mark.parametrize(
    ("config", "rate", "channels", "ticks"),
    [
        ("1190", 48000, 2, 1024),
        ("1190", 24000, 2, 512),
        ("1194", 48000, 2, 960),
        ("2B118800", 48000, 2, 2048),
        ("1010", 96000, 2, 1024),
        ("1180", 48000, 6, 1024),
    ],
)
def test_the_configuration_survives_sdp_and_sample_entry(config: str, rate: int, channels: int, ticks: int) -> None:
    made = AacConfiguration(bytes.fromhex(config), rate, channels)
    assert made.frame_ticks == ticks
    assert (made.encoding, made.track_type) == ("MPEG4-GENERIC", TrackType.AUDIO)
    assert from_sample_entry(made.sample_entry()) == made
    parameters = dict(p.split("=", 1) for p in made.fmtp().split(";"))
    assert made.rtpmap() == f"mpeg4-generic/{rate}/{channels}"
    assert depacketizer_for("mpeg4-generic", rate, channels, parameters).configuration == made


@given(cut=st.integers(0, 100), change=st.integers(0, 255), at=st.integers(8, 90))
def test_a_damaged_sample_entry_is_refused_or_read_but_never_breaks(cut: int, change: int, at: int) -> None:
    entry = bytearray(AacConfiguration(bytes.fromhex(LC_48000_STEREO), 48000, 2).sample_entry())
    if at < len(entry):
        entry[at] = change
    for data in (bytes(entry[:cut]), bytes(entry)):
        try:
            from_sample_entry(data)
        except FormatError:
            continue


@settings(max_examples=150, deadline=None)
@given(frames=st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=6), maximum=st.integers(16, 2000))
def test_frames_of_any_size_survive_packets_of_any_size(frames: list[bytes], maximum: int) -> None:
    units = [(n * 1024, frame) for n, frame in enumerate(frames)]
    packets = packets_of(AacPacketizer(maximum), units)
    assert max(len(p.payload) for p in packets) <= maximum
    assert [(u.rtp_time, u.data) for u in feed(depacketizer(), packets, flush=False)] == units


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=30), st.integers(0, 2), st.booleans(), st.integers(0, 1)), max_size=20),
    st.sampled_from([HBR, LBR]),
)
def test_no_payload_raises(packets: list[tuple[bytes, int, bool, int]], mode: dict[str, str]) -> None:
    made = depacketizer(**mode)
    for payload, rtp_time, marker, lost in packets:
        made.lost(lost)
        assert all(u.data for u in made.push(memoryview(payload), 0, len(payload), rtp_time, marker))
    made.flush()


def test_what_an_encoder_made_comes_back_and_decodes() -> None:
    encoded = encode_aac()
    made = depacketizer(encoded.extradata.hex())
    assert made.configuration is not None
    found = feed(made, packets_of(packetizer_for(made.configuration, 100), encoded.units))
    assert [(u.rtp_time, u.data) for u in found] == encoded.units
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = encoded.extradata
    samples = sum(f.samples for u in found for f in decoder.decode(av.Packet(u.data)))
    assert samples >= 45 * 1024


def test_what_is_no_frame_is_refused_by_the_packetizer() -> None:
    for data in (b"", bytes(8192)):
        with pytest.raises(FormatError, match="cannot be sent"):
            AacPacketizer(1400).packetize(memoryview(data))


def test_a_clock_rate_that_the_sample_entry_cannot_hold_is_refused() -> None:
    with pytest.raises(FormatError, match="90000 Hz for audio of 48000"):
        AacConfiguration(bytes.fromhex(LC_48000_STEREO), 90000, 2).sample_entry()
