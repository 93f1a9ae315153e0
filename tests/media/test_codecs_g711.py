"""G.711: units as received, sample entries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.codecs import UnsupportedCodec, depacketizer_for, from_sample_entry, packetizer_for
from nvr.media.codecs.g711 import PcmaConfiguration, PcmuConfiguration
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType
from tests.support.rtp_streams import Packet, feed, packets_of


def test_each_packet_is_one_unit_and_the_marker_means_nothing() -> None:
    made = depacketizer_for("PCMU", 8000)
    found = feed(made, [Packet(b"\x55" * 160, 0, True), Packet(b"\xd5" * 160, 160, False)])
    assert [(u.rtp_time, u.data) for u in found] == [(0, b"\x55" * 160), (160, b"\xd5" * 160)]
    assert all(u.clean_point and not u.damaged for u in found)
    assert found[0].configuration == PcmuConfiguration()


def test_a_long_payload_becomes_units_with_times_of_their_own() -> None:
    data = bytes(i & 255 for i in range(2500))
    found = feed(depacketizer_for("PCMA", 8000), [Packet(data, 0xFFFF_FF00, False)])
    assert [(u.rtp_time, len(u.data)) for u in found] == [(0xFFFF_FF00, 1024), (768, 1024), (1792, 452)]
    assert b"".join(u.data for u in found) == data
    stereo = feed(depacketizer_for("PCMA", 8000, 2), [Packet(data, 0, False)])
    assert [(u.rtp_time, len(u.data)) for u in stereo] == [(0, 1024), (512, 1024), (1024, 452)]


def test_a_loss_costs_what_was_lost_and_no_more() -> None:
    packets = [Packet(bytes([n]) * 80, n * 80, False) for n in range(5)]
    made = depacketizer_for("PCMA", 8000)
    assert [u.rtp_time for u in feed(made, packets, {2})] == [0, 80, 240, 320]
    assert made.dropped == 0


def test_a_payload_that_is_no_whole_number_of_samples_is_dropped() -> None:
    made = depacketizer_for("PCMU", 8000, 2)
    assert feed(made, [Packet(b"abc", 0, False)]) == []
    assert made.dropped == 1
    assert made.last_error == "a payload of 3 bytes of PCMU/8000/2, whose samples come in 2"


def test_a_packet_of_padding_alone_is_no_unit() -> None:
    made = depacketizer_for("PCMU", 8000)
    assert feed(made, [Packet(b"", 0, False)]) == []
    assert made.dropped == 0


@pytest.mark.parametrize("configuration", [PcmuConfiguration(), PcmaConfiguration(), PcmuConfiguration(16000, 2)])
def test_the_configuration_survives_sdp_and_sample_entry(configuration: PcmuConfiguration | PcmaConfiguration) -> None:
    assert from_sample_entry(configuration.sample_entry()) == configuration
    assert configuration.sample_entry()[4:8] == (b"ulaw" if configuration.encoding == "PCMU" else b"alaw")
    name, rate, *channels = configuration.rtpmap().split("/")
    assert depacketizer_for(name, int(rate), int(channels[0]) if channels else None).configuration == configuration
    assert configuration.fmtp() is None
    assert configuration.track_type is TrackType.AUDIO


def test_the_two_laws_are_not_interchangeable() -> None:
    assert PcmuConfiguration() != PcmaConfiguration()


@given(st.binary(min_size=1, max_size=1024))
def test_a_unit_is_one_packet_without_marker(data: bytes) -> None:
    [packet] = packets_of(packetizer_for(PcmuConfiguration(), 1400), [(5, data)])
    assert packet == Packet(data, 5, False)


def test_a_unit_that_would_need_two_packets_is_refused() -> None:
    with pytest.raises(FormatError, match="1401 octets"):
        packetizer_for(PcmuConfiguration(), 1400).packetize(memoryview(bytes(1401)))


def test_impossible_rates_and_channels_are_refused() -> None:
    with pytest.raises(UnsupportedCodec, match="0 Hz"):
        depacketizer_for("PCMU", 0)
    with pytest.raises(UnsupportedCodec, match="9 channels"):
        depacketizer_for("PCMU", 8000, 9)
