"""G.726, L16 and Opus: packings, times, what is refused; FFmpeg's encoders as the judge."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.codecs import UnsupportedCodec, depacketizer_for, from_sample_entry, packetizer_for
from nvr.media.codecs.g726 import CONFIGURATIONS, G726Configuration, high_first, low_first
from nvr.media.codecs.l16 import L16Configuration
from nvr.media.codecs.opus import MAXIMUM_PACKET, OpusConfiguration
from nvr.media.sdp import PayloadFormat
from nvr.media.unit import CodecConfiguration
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType
from tests.support.rtp_streams import Packet, encode_sound, feed, packets_of

ALL: list[CodecConfiguration] = [
    *(kind() for kind in CONFIGURATIONS.values()),
    L16Configuration(44_100, 2),
    L16Configuration(16_000),
    L16Configuration(96_000, 6),
    OpusConfiguration(),
    OpusConfiguration(1),
]


@pytest.mark.parametrize("configuration", ALL, ids=lambda c: f"{c.rtpmap()} {c.fmtp() or ''}")
def test_a_configuration_survives_sample_entry_and_session_description(configuration: CodecConfiguration) -> None:
    assert from_sample_entry(configuration.sample_entry()) == configuration
    described = PayloadFormat.of(97, configuration.rtpmap(), configuration.fmtp())
    assert described.rtpmap == configuration.rtpmap()
    made = depacketizer_for(described.encoding, described.clock_rate, described.channels, described.parameters)
    assert made.configuration == configuration
    assert configuration.encoding == described.encoding
    assert configuration.track_type is TrackType.AUDIO
    assert configuration.in_band() == b""


@pytest.mark.parametrize("configuration", ALL[:11], ids=lambda c: c.rtpmap())
@settings(max_examples=15)
@given(groups=st.integers(1, 700), seed=st.randoms(use_true_random=False), lost=st.booleans())
def test_samples_come_back_whole_with_their_times(configuration, groups, seed, lost) -> None:  # type: ignore[no-untyped-def]
    sent = seed.randbytes(groups * configuration.group_bytes)
    packets = [Packet(sent, 0xFFFF_FF00, True), Packet(sent, 9, False), Packet(sent, 0x1000_0000, False)]
    form = PayloadFormat.of(97, configuration.rtpmap())
    made = depacketizer_for(form.encoding, form.clock_rate, form.channels)
    units = feed(made, packets, {1} if lost else ())
    assert (made.dropped, made.last_error) == (0, None)
    assert all(u.clean_point and not u.damaged and len(u.data) <= 1024 for u in units)
    again = packets_of(packetizer_for(configuration, 1400), [(u.rtp_time, u.data) for u in units])
    assert b"".join(p.payload for p in again) == sent * (2 if lost else 3)
    assert not any(p.marker for p in again)
    for unit, following in itertools.pairwise(units):
        ticks = len(unit.data) // configuration.group_bytes * configuration.group_ticks
        if following.rtp_time not in (9, 0x1000_0000):
            assert following.rtp_time == (unit.rtp_time + ticks) & 0xFFFF_FFFF


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_both_packings_of_g726_are_those_of_an_independent_encoder(bits: int) -> None:
    high = encode_sound("g726", 8000, "mono", 320, 10, bits * 8000).units
    low = encode_sound("g726le", 8000, "mono", 320, 10, bits * 8000).units
    assert [high_first(data, bits) for _, data in low] == [data for _, data in high]
    assert [low_first(data, bits) for _, data in high] == [data for _, data in low]


def test_what_came_in_the_low_bits_first_is_sent_so_again() -> None:
    made = depacketizer_for("G726-32", 8000)
    [unit] = feed(made, [Packet(b"\x21\x43", 0, False)])
    assert unit.data == b"\x12\x34"  # as files and players have it
    assert unit.configuration == G726Configuration.__subclasses__()[4](8000)
    [(_, payload)] = packetizer_for(unit.configuration, 1400).packetize(memoryview(unit.data))
    assert bytes(payload) == b"\x21\x43"
    [other] = feed(depacketizer_for("AAL2-G726-32", 8000), [Packet(b"\x12\x34", 0, False)])
    assert other.data == b"\x12\x34"
    assert other.configuration != unit.configuration


@pytest.mark.parametrize(
    ("encoding", "rate", "channels", "payload", "why"),
    [
        ("G726-24", 8000, 1, b"1234", "a payload of 4 bytes of G726-24/8000, whose samples come in 3"),
        ("G726-40", 8000, 1, b"1234567", "whose samples come in 5"),
        ("L16", 48000, 2, b"123456", "a payload of 6 bytes of L16/48000/2, whose samples come in 4"),
        ("OPUS", 48000, 2, bytes(MAXIMUM_PACKET + 1), "an Opus packet of 61299 bytes"),
    ],
)
def test_a_bad_payload_costs_itself(encoding: str, rate: int, channels: int, payload: bytes, why: str) -> None:
    made = depacketizer_for(encoding, rate, channels)
    good = bytes(60)
    units = feed(
        made, [Packet(good, 0, False), Packet(payload, 1000, False), Packet(b"", 0, False), Packet(good, 2000, False)]
    )
    assert [u.rtp_time for u in units] == [0, 2000]
    assert made.dropped == 1
    assert made.last_error is not None
    assert why in made.last_error


@pytest.mark.parametrize(
    ("encoding", "rate", "channels", "why"),
    [
        ("G726-32", 16000, 1, "G726-32 with a clock rate of 16000 Hz"),
        ("G726-32", 8000, 2, "G726-32 with 2 channels"),
        ("L16", 0, 1, "0 Hz"),
        ("L16", 192_001, 1, "192001 Hz"),
        ("L16", 48000, 9, "9 channels"),
        ("OPUS", 16000, 2, "OPUS with a clock rate of 16000 Hz"),
    ],
)
def test_what_no_decoder_takes_is_refused(encoding: str, rate: int, channels: int, why: str) -> None:
    with pytest.raises(UnsupportedCodec, match=why):
        depacketizer_for(encoding, rate, channels)


def test_opus_is_stereo_unless_the_sender_says_mono() -> None:
    assert depacketizer_for("opus", 48000, 2).configuration == OpusConfiguration(2)
    assert depacketizer_for("opus", 48000, 2, {"sprop-stereo": "1"}).configuration == OpusConfiguration(2)
    assert depacketizer_for("opus", 48000, 2, {"sprop-stereo": "0"}).configuration == OpusConfiguration(1)


@given(st.binary(min_size=1, max_size=5000))
def test_opus_packets_are_never_cut(data: bytes) -> None:
    [packet] = packets_of(packetizer_for(OpusConfiguration(), 1400), [(7, data)])
    assert packet == Packet(data, 7, False)
    [unit] = feed(depacketizer_for("OPUS", 48000), [packet])
    assert (unit.data, unit.rtp_time, unit.clean_point) == (data, 7, True)


def test_units_that_are_none_are_not_sent() -> None:
    with pytest.raises(FormatError, match="of 0 bytes"):
        packetizer_for(OpusConfiguration(), 1400).packetize(memoryview(b""))
    with pytest.raises(FormatError, match="5 octets for groups of 3"):
        packetizer_for(CONFIGURATIONS["G726-24"](), 1400).packetize(memoryview(b"12345"))
