"""MPEG-4 Visual: units, headers in band and in the description, losses; FFmpeg's encoder as the judge."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.codecs import UnsupportedCodec, depacketizer_for, from_sample_entry, packetizer_for
from nvr.media.codecs.mpeg4 import MAXIMUM_UNIT, Mpeg4Configuration, Mpeg4Packetizer
from nvr.media.sdp import PayloadFormat
from nvr.model.errors import FormatError
from tests.support.rtp_streams import Encoded, Packet, encode_pictures, feed, packets_of

VOP = b"\0\0\1\xb6"
I_VOP, P_VOP, B_VOP = VOP + b"\x10i", VOP + b"\x50p", VOP + b"\x90b"


@cache
def encoded(width: int = 160, height: int = 96) -> Encoded:
    return encode_pictures("mpeg4", 14, {"g": "6", "bf": "2"}, width, height)


def config(width: int = 160, height: int = 96) -> bytes:
    return encoded(width, height).units[0][1].partition(b"\0\0\1\xb3")[0].partition(VOP)[0]


def units_of(*vops: bytes) -> list[tuple[int, bytes]]:
    return [(n * 3600, vop) for n, vop in enumerate(vops)]


@pytest.mark.parametrize("maximum", [16, 200, 1400, 60_000])
def test_units_come_back_byte_for_byte(maximum: int) -> None:
    made = depacketizer_for("MP4V-ES", 90000)
    units = feed(made, packets_of(Mpeg4Packetizer(maximum), encoded().units))
    assert [(u.rtp_time, u.data) for u in units] == encoded().units
    assert (made.dropped, made.last_error) == (0, None)
    kinds = [data[data.index(VOP) + 4] >> 6 for _, data in encoded().units]
    assert 2 in kinds  # B-VOPs
    assert [u.clean_point for u in units] == [kind == 0 for kind in kinds]
    assert not any(u.damaged for u in units)


def test_the_configuration_is_that_of_the_stream() -> None:
    [first, *_] = feed(depacketizer_for("MP4V-ES", 90000), packets_of(Mpeg4Packetizer(1400), encoded().units))
    configuration = first.configuration
    assert isinstance(configuration, Mpeg4Configuration)
    assert (configuration.width, configuration.height) == (160, 96)
    assert from_sample_entry(configuration.sample_entry()) == configuration
    described = PayloadFormat.of(96, configuration.rtpmap(), configuration.fmtp())
    made = depacketizer_for(described.encoding, described.clock_rate, None, described.parameters)
    assert made.configuration == configuration
    assert configuration.in_band() == configuration.config
    assert config().startswith(configuration.config)


def test_headers_that_differ_but_in_user_data_are_the_same_configuration() -> None:
    with_user_data = config() + b"\0\0\1\xb2another encoder"
    without_sequence = config()[config().index(b"\0\0\1\x00") :]
    assert Mpeg4Configuration(config()) == Mpeg4Configuration(with_user_data) == Mpeg4Configuration(without_sequence)
    made = depacketizer_for("MP4V-ES", 90000, None, {"config": config().hex()})
    known = made.configuration
    units = feed(made, packets_of(Mpeg4Packetizer(99), units_of(without_sequence + I_VOP, with_user_data + I_VOP)))
    assert all(u.configuration is known for u in units)


def test_another_size_in_the_stream_is_another_configuration() -> None:
    made = depacketizer_for("MP4V-ES", 90000, None, {"config": config().hex()})
    units = feed(made, packets_of(Mpeg4Packetizer(99), units_of(I_VOP, config(320, 240) + I_VOP, P_VOP)))
    sizes = [(u.configuration.width, u.configuration.height) for u in units]  # type: ignore[attr-defined]
    assert sizes == [(160, 96), (320, 240), (320, 240)]


def test_without_headers_nothing_is_delivered_until_they_come() -> None:
    made = depacketizer_for("MP4V-ES", 90000)
    units = feed(made, packets_of(Mpeg4Packetizer(99), units_of(I_VOP, P_VOP, config() + I_VOP, P_VOP)))
    assert [u.rtp_time for u in units] == [7200, 10800]
    assert (made.dropped, made.last_error) == (2, "no video object layer so far")


@pytest.mark.parametrize("first", [0, 1, 4])
def test_several_vops_of_a_packet_become_units_with_the_times_in_their_headers(first: int) -> None:
    """As GStreamer sends short ones, B-VOPs and headers among them."""
    together = encoded().units[first : first + 8]
    packet = Packet(b"".join(data for _, data in together), together[0][0] + 1000, True)
    made = depacketizer_for("MP4V-ES", 90000, None, {"config": config().hex()})
    units = feed(made, [packet])
    assert [(u.rtp_time - 1000, u.data) for u in units] == together
    assert (made.dropped, made.last_error) == (0, None)
    assert [u.clean_point for u in units] == [data[data.index(VOP) + 4] >> 6 == 0 for _, data in together]


def test_a_stream_without_markers_is_told_apart_by_its_times() -> None:
    packets = [Packet(p.payload, p.rtp_time, False) for p in packets_of(Mpeg4Packetizer(150), encoded().units)]
    units = feed(depacketizer_for("MP4V-ES", 90000), packets)
    assert [u.data for u in units] == [data for _, data in encoded().units]


@settings(max_examples=40)
@given(st.integers(100, 800), st.sets(st.integers(0, 200), max_size=5))
def test_a_loss_costs_the_units_that_it_touches_and_marks_those_behind(maximum: int, lost: set[int]) -> None:
    packets = packets_of(Mpeg4Packetizer(maximum), encoded().units)
    touched = {packets[i].rtp_time for i in lost if i < len(packets)}
    made = depacketizer_for("MP4V-ES", 90000, None, {"config": config().hex()})
    units = feed(made, packets, lost)
    sent = dict(encoded().units)
    assert all(sent[u.rtp_time] == u.data for u in units)
    assert {u.rtp_time for u in units} == sent.keys() - touched
    order = [t for t, _ in encoded().units]
    damaged = False
    delivered = {u.rtp_time: u for u in units}
    for at in order:
        unit = delivered.get(at)
        if unit is None:
            damaged = True
        else:
            damaged = damaged and not unit.clean_point
            assert unit.damaged == damaged


def test_joining_inside_a_unit_passes_over_the_rest_of_it() -> None:
    packets = packets_of(Mpeg4Packetizer(150), encoded().units)
    made = depacketizer_for("MP4V-ES", 90000, None, {"config": config().hex()})
    units = feed(made, packets[3:])
    assert [u.data for u in units] == [data for _, data in encoded().units[1:]]
    assert all(u.damaged for u in units[: [u.clean_point for u in units].index(True)])


def test_a_unit_that_never_ends_does_not_take_the_memory() -> None:
    made = depacketizer_for("MP4V-ES", 90000, None, {"config": config().hex()})
    chunk = memoryview(I_VOP + bytes(1 << 20))
    for _ in range(40):
        assert not made.push(chunk, 0, len(chunk), 5, False)
    assert made.dropped == 1
    assert made.last_error == f"a unit of more than {MAXIMUM_UNIT} bytes"
    [unit] = feed(made, [Packet(P_VOP, 9, True)])
    assert (unit.data, unit.damaged) == (P_VOP, True)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"no start code", "instead of a start code"),
        (b"\0\0\1\xb3\0\0\0", "a unit without a VOP"),
        (b"\0\0\1\xb0\xf1\0\0\1\x20\xff\0\0\1\xb6\x10", "video object layer ends inside a field"),
    ],
)
def test_a_bad_unit_costs_itself(payload: bytes, why: str) -> None:
    made = depacketizer_for("MP4V-ES", 90000, None, {"config": config().hex()})
    units = feed(made, [Packet(I_VOP, 0, True), Packet(payload, 1, True), Packet(P_VOP, 2, True)])
    assert [u.rtp_time for u in units] == [0, 2]
    assert made.last_error is not None
    assert why in made.last_error


def test_what_cannot_be_recorded_is_refused() -> None:
    with pytest.raises(UnsupportedCodec, match="0 Hz"):
        depacketizer_for("MP4V-ES", 0)
    binary_shape = bytes.fromhex("00000120") + bytes([0, 0, 0b00010001, 0b01000000]) + bytes(8)
    with pytest.raises(FormatError):
        Mpeg4Configuration(binary_shape)
    made = depacketizer_for("MP4V-ES", 90000, None, {"config": "nonsense"})
    assert made.configuration is None
    assert made.last_error == "session description: MP4V-ES with the config 'nonsense', which is not hexadecimal"
    with pytest.raises(FormatError, match="without a start code"):
        packetizer_for(Mpeg4Configuration(config()), 1400).packetize(memoryview(b"abc"))


@given(st.lists(st.tuples(st.binary(max_size=40), st.sampled_from([0, 1, 2]), st.booleans()), max_size=12))
def test_any_payloads_are_taken_or_counted(payloads: list[tuple[bytes, int, bool]]) -> None:
    made = depacketizer_for("MP4V-ES", 90000, None, {"config": config().hex()})
    prefixed = [Packet(VOP + data if n % 2 else data, n, marker) for data, n, marker in payloads]
    units = feed(made, prefixed)
    assert len(units) + made.dropped <= len(payloads)
