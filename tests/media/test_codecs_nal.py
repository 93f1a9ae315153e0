"""What H.264 and H.265 share, on streams that real encoders made: round trips and losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.codecs import depacketizer_for, from_sample_entry, packetizer_for
from nvr.media.unit import CodecConfiguration, Depacketizer
from nvr.model.errors import FormatError
from tests.support.rtp_streams import (
    Encoded,
    Packet,
    decode_video,
    encode_video,
    feed,
    nals_of,
    packets_of,
    sample_form,
)


@dataclass(frozen=True)
class Stream:
    """A codec with an encoder: GOPs of 8 pictures, two slices each, parameter sets in band."""

    encoding: str
    encoder: str
    decoder: str
    options: Callable[[bool], dict[str, str]]
    """With delimiters or without."""


H264 = Stream(
    "H264",
    "libx264",
    "h264",
    lambda aud: {"g": "8", "bf": "0", "x264-params": f"slices=2:aud={int(aud)}:repeat-headers=1:threads=1:scenecut=0"},
)
H265 = Stream(
    "H265",
    "libx265",
    "hevc",
    lambda aud: {
        "x265-params": f"keyint=8:min-keyint=8:bframes=0:open-gop=0:repeat-headers=1:aud={int(aud)}:slices=2:"
        "pools=1:frame-threads=1:log-level=none:scenecut=0"
    },
)

both = pytest.mark.parametrize("stream", [H264, H265], ids=lambda s: s.encoding)


@cache
def encoded(stream: Stream, aud: bool = False, count: int = 20) -> Encoded:
    return encode_video(stream.encoder, count, stream.options(aud))


@cache
def configuration_of(stream: Stream) -> CodecConfiguration:
    depacketizer = depacketizer_for(stream.encoding, 90000)
    units = feed(depacketizer, packets_of(packetizer_of(stream), encoded(stream).units))
    return units[0].configuration


def packetizer_of(stream: Stream, maximum: int = 700):  # type: ignore[no-untyped-def]
    from nvr.media.codecs.h264 import H264Packetizer
    from nvr.media.codecs.h265 import H265Packetizer

    return (H264Packetizer if stream is H264 else H265Packetizer)(maximum)


def described(stream: Stream) -> Depacketizer:
    """A depacketizer that knows the parameter sets from the session description."""
    text = configuration_of(stream).fmtp()
    assert text is not None
    return depacketizer_for(stream.encoding, 90000, fmtp=dict(p.split("=", 1) for p in text.split(";")))


@both
@pytest.mark.parametrize("aud", [False, True])
@pytest.mark.parametrize("maximum", [60, 700, 1400, 60000])
def test_units_come_back_byte_for_byte(stream: Stream, aud: bool, maximum: int) -> None:
    units = encoded(stream, aud).units
    packets = packets_of(packetizer_of(stream, maximum), units)
    assert max(len(p.payload) for p in packets) <= maximum
    depacketizer = depacketizer_for(stream.encoding, 90000)
    found = feed(depacketizer, packets)
    assert [(u.rtp_time, u.data) for u in found] == units
    assert [i for i, u in enumerate(found) if u.clean_point] == [0, 8, 16]
    assert not any(u.damaged for u in found)
    assert (depacketizer.dropped, depacketizer.last_error) == (0, None)
    assert len({id(u.configuration) for u in found}) == 1


@both
def test_what_comes_back_decodes_to_the_same_pictures(stream: Stream) -> None:
    units = encoded(stream).units
    found = feed(depacketizer_for(stream.encoding, 90000), packets_of(packetizer_of(stream), units))
    pictures = decode_video(stream.decoder, [u.data for u in found])
    assert len(pictures) == len(units)
    assert pictures == decode_video(stream.decoder, [data for _, data in units])


@both
def test_the_configuration_survives_sdp_and_sample_entry(stream: Stream) -> None:
    configuration = configuration_of(stream)
    assert from_sample_entry(configuration.sample_entry()) == configuration
    assert described(stream).configuration == configuration
    assert hash(from_sample_entry(configuration.sample_entry())) == hash(configuration)
    assert (configuration.width, configuration.height) == (160, 96)  # type: ignore[attr-defined]


@both
@pytest.mark.parametrize("aud", [False, True])
def test_a_loss_at_any_place_drops_its_unit_and_damages_up_to_the_next_clean_point(stream: Stream, aud: bool) -> None:
    units = encoded(stream, aud).units
    owner, packets = [], []
    for n, unit in enumerate(units):
        made = packets_of(packetizer_of(stream, 150), [unit])
        packets += made
        owner += [n] * len(made)
    for lost in range(owner.index(1), len(packets)):
        hit = owner[lost]
        depacketizer = described(stream)
        found = feed(depacketizer, packets, {lost})
        assert [(u.rtp_time, u.data) for u in found] == units[:hit] + units[hit + 1 :], lost
        clean = next((n for n in (8, 16) if n > hit), len(units))
        damaged = [units[n][0] for n in range(hit + 1, clean)]
        assert [u.rtp_time for u in found if u.damaged] == damaged, lost
        # A unit of a single packet leaves no trace but the number of lost packets.
        assert depacketizer.dropped == (0 if owner.count(hit) == 1 else 1), lost


@both
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_losses_never_yield_a_unit_that_was_not_sent(stream: Stream, data: st.DataObject) -> None:
    units = encoded(stream, True).units
    packets = packets_of(packetizer_of(stream, 500), units)
    first_whole = sum(p.rtp_time == units[0][0] for p in packets)
    lost = data.draw(st.sets(st.integers(first_whole, len(packets) - 1), max_size=30))
    depacketizer = described(stream)
    found = feed(depacketizer, packets, lost)
    sent = dict(units)
    assert all(sent[u.rtp_time] == u.data for u in found)
    times = [u.rtp_time for u in found]
    assert times == sorted(times)
    touched = {packets[i].rtp_time for i in lost}
    assert set(times) == set(sent) - touched


@both
def test_a_unit_that_was_joined_in_the_middle_is_not_delivered(stream: Stream) -> None:
    units = encoded(stream).units
    packets = packets_of(packetizer_of(stream), units)
    second = packets_of(packetizer_of(stream), units[:2])
    start = len(packets_of(packetizer_of(stream), units[:1])) + 1
    assert start < len(second)
    depacketizer = described(stream)
    found = feed(depacketizer, packets[start:])
    assert [u.rtp_time for u in found] == [t for t, _ in units[2:]]
    assert [u.damaged for u in found] == [True] * 6 + [False] * 12
    assert depacketizer.dropped == 1


@both
def test_a_camera_without_markers_is_served_by_the_time(stream: Stream) -> None:
    units = encoded(stream).units
    packets = [replace(p, marker=False) for p in packets_of(packetizer_of(stream), units)]
    assert [(u.rtp_time, u.data) for u in feed(described(stream), packets)] == units


@both
def test_a_camera_with_a_marker_on_every_slice_is_served_by_the_time_once_that_shows(stream: Stream) -> None:
    units = encoded(stream).units
    packets: list[Packet] = []
    for time, data in units:
        *before, one, other = nals_of(data)
        packets += packets_of(packetizer_of(stream), [(time, sample_form(*before, one)), (time, sample_form(other))])
    made = described(stream)
    found = feed(made, packets)
    assert found[0].data + found[1].data == units[0][1]
    assert [u.clean_point for u in found[:2]] == [True, False]
    assert [(u.rtp_time, u.data) for u in found[2:]] == units[1:]
    assert (made.dropped, made.last_error) == (0, None)


@both
def test_a_picture_cut_off_by_the_end_of_the_stream_is_not_delivered(stream: Stream) -> None:
    units = encoded(stream).units
    last = packets_of(packetizer_of(stream, 60000), [units[8]])
    for count in range(1, len(last)):
        made = described(stream)
        found = feed(made, [*packets_of(packetizer_of(stream), units[:8]), *last[:count]])
        assert [u.rtp_time for u in found] == [t for t, _ in units[:8]]


@both
def test_without_markers_a_loss_drops_its_unit_and_not_the_next(stream: Stream) -> None:
    units = encoded(stream, True).units
    packets = [replace(p, marker=False) for p in packets_of(packetizer_of(stream), units)]
    middle = next(i for i, p in enumerate(packets) if p.rtp_time == units[5][0]) + 2
    found = feed(described(stream), packets, {middle})
    assert [(u.rtp_time, u.data) for u in found] == units[:5] + units[6:]


@both
def test_a_marker_on_every_nal_unit_before_the_picture_ends_nothing(stream: Stream) -> None:
    time, data = encoded(stream).units[0]
    *before, one, other = nals_of(data)
    packets = packets_of(packetizer_of(stream), [(time, sample_form(nal)) for nal in before])
    packets += packets_of(packetizer_of(stream), [(time, sample_form(one, other))])
    [unit] = feed(depacketizer_for(stream.encoding, 90000), packets)
    assert unit.data == data


@both
def test_parameter_sets_with_a_time_of_their_own_go_with_the_picture_that_follows(stream: Stream) -> None:
    time, data = encoded(stream).units[0]
    nals = nals_of(data)
    packets = packets_of(packetizer_of(stream), [(time - 90, sample_form(*nals[:3])), (time, sample_form(*nals[3:]))])
    [unit] = feed(depacketizer_for(stream.encoding, 90000), packets)
    assert (unit.rtp_time, unit.data, unit.clean_point) == (time, data, True)


@both
def test_units_before_the_first_parameter_sets_are_dropped_and_counted(stream: Stream) -> None:
    units = encoded(stream).units
    depacketizer = depacketizer_for(stream.encoding, 90000)
    assert depacketizer.configuration is None
    found = feed(depacketizer, packets_of(packetizer_of(stream), units[3:]))
    assert depacketizer.dropped == 5
    assert [u.rtp_time for u in found] == [t for t, _ in units[8:]]
    assert not any(u.damaged for u in found)
    assert depacketizer.last_error == "no parameter sets so far"


@both
def test_new_parameter_sets_change_the_configuration_with_the_unit_that_carries_them(stream: Stream) -> None:
    small, large = encoded(stream), encode_video(stream.encoder, 3, stream.options(False), 192, 96)
    later = [(t + 10**7, data) for t, data in large.units]
    depacketizer = described(stream)
    found = feed(depacketizer, packets_of(packetizer_of(stream), small.units + later))
    assert len(found) == len(small.units) + 3
    before, after = found[len(small.units) - 1], found[len(small.units)]
    assert before.configuration == configuration_of(stream) != after.configuration
    assert after.configuration.width == 192  # type: ignore[attr-defined]
    assert after.configuration is depacketizer.configuration


@both
def test_new_parameter_sets_of_a_dropped_unit_still_count(stream: Stream) -> None:
    large = encode_video(stream.encoder, 3, stream.options(False), 192, 96)
    later = packets_of(packetizer_of(stream), [(t + 10**7, data) for t, data in large.units])
    first = packets_of(packetizer_of(stream), encoded(stream).units[:2])
    end_of_key = next(i for i, p in enumerate(later) if p.marker)
    found = feed(described(stream), first + later, {len(first) + end_of_key})
    assert len(found) == 4
    assert found[1].configuration.width == 160  # type: ignore[attr-defined]
    assert found[2].configuration.width == 192  # type: ignore[attr-defined]
    assert found[2].damaged


@both
@settings(max_examples=150, deadline=None)
@given(sizes=st.lists(st.integers(3, 5000), min_size=1, max_size=8), maximum=st.integers(16, 3000))
def test_nal_units_of_any_size_survive_packets_of_any_size(stream: Stream, sizes: list[int], maximum: int) -> None:
    head = b"\x65\x88" if stream is H264 else b"\x26\x01\xaf"
    nals = [(head + bytes((i * 7 + k) & 255 for k in range(size)))[:size] for i, size in enumerate(sizes)]
    data = sample_form(*nals)
    packets = packets_of(packetizer_of(stream, maximum), [(1234, data)])
    assert max(len(p.payload) for p in packets) <= maximum
    assert [p.marker for p in packets] == [False] * (len(packets) - 1) + [True]
    [unit] = feed(described(stream), packets, flush=False)
    assert (unit.data, unit.clean_point, unit.damaged) == (data, True, False)


@both
@settings(max_examples=150, deadline=None)
@given(
    packets=st.lists(
        st.tuples(
            st.one_of(
                st.binary(max_size=40),
                # Bytes that look like the structures of either codec.
                st.tuples(
                    st.sampled_from([b"\x7c", b"\x78", b"\x79", b"\x1d", b"\x62\x01", b"\x60\x01", b"\x67", b"\x68"]),
                    st.sampled_from([b"\x85", b"\x45", b"\x05", b"\x93", b"\x53", b"\x00\x03"]),
                    st.binary(max_size=30),
                ).map(b"".join),
            ),
            st.integers(0, 3),
            st.booleans(),
            st.integers(0, 2),
        ),
        max_size=25,
    )
)
def test_no_payload_raises(stream: Stream, packets: list[tuple[bytes, int, bool, int]]) -> None:
    depacketizer = described(stream)
    before = 0
    for payload, rtp_time, marker, lost in packets:
        depacketizer.lost(lost)
        for unit in depacketizer.push(memoryview(payload), 0, len(payload), rtp_time, marker):
            assert nals_of(unit.data)
        assert depacketizer.dropped >= before
        before = depacketizer.dropped
    depacketizer.flush()


@both
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_stream_with_bytes_changed_on_the_way_never_raises(stream: Stream, data: st.DataObject) -> None:
    packets = packets_of(packetizer_of(stream, 300), encoded(stream).units[:10])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(packets) - 1))
        payload = bytearray(packets[at].payload)
        payload[data.draw(st.integers(0, min(len(payload), 24) - 1))] = data.draw(st.integers(0, 255))
        packets[at] = replace(packets[at], payload=bytes(payload))
    for unit in feed(depacketizer_for(stream.encoding, 90000), packets):
        assert b"".join(sample_form(nal) for nal in nals_of(unit.data)) == unit.data
        assert from_sample_entry(unit.configuration.sample_entry()) == unit.configuration


@both
def test_after_garbage_the_stream_goes_on(stream: Stream) -> None:
    units = encoded(stream, True).units
    good = packets_of(packetizer_of(stream), units)
    at = next(i for i, p in enumerate(good) if p.rtp_time == units[4][0])
    depacketizer = described(stream)
    found = feed(depacketizer, [*good[:at], Packet(b"\x41", units[4][0], False), *good[at:]])
    assert [u.rtp_time for u in found] == [t for i, (t, _) in enumerate(units) if i != 4]
    assert depacketizer.dropped == 1
    assert depacketizer.last_error == "a payload of 1 bytes"
    assert [u.rtp_time for u in found if u.damaged] == [t for t, _ in units[5:8]]


@both
def test_a_parameter_set_that_no_sample_entry_holds_costs_its_unit_and_not_the_stream(stream: Stream) -> None:
    header = b"\x68\x11" if stream is H264 else b"\x44\x01\x20"  # a picture parameter set with an id of its own
    huge = (10**7, sample_form(header + b"\x5a" * 70_000))
    later = [(t + 10**8, data) for t, data in encoded(stream).units]
    depacketizer = described(stream)
    found = feed(depacketizer, packets_of(packetizer_of(stream), [huge, *later]))
    assert "no sample entry can hold" in (depacketizer.last_error or "")
    assert [u.rtp_time for u in found] == [t for t, _ in later]
    assert depacketizer.configuration == configuration_of(stream)


@both
def test_packets_of_padding_alone_change_nothing(stream: Stream) -> None:
    units = encoded(stream).units
    packets: list[Packet] = []
    for packet in packets_of(packetizer_of(stream), units):
        packets += [Packet(b"", 77, False), packet, Packet(b"", packet.rtp_time, True)]
    made = described(stream)
    assert [(u.rtp_time, u.data) for u in feed(made, packets)] == units
    assert made.dropped == 0


@both
def test_a_unit_without_end_is_given_up_at_a_limit(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    from nvr.media.codecs import h264, h265, nal

    for module in (nal, h264, h265):
        monkeypatch.setattr(module, "MAXIMUM_UNIT", 5000)
    head = b"\x65\x88" if stream is H264 else b"\x26\x01\xaf"
    packets = packets_of(packetizer_of(stream), [(7, sample_form(head + bytes(20_000)))])
    depacketizer = described(stream)
    assert feed(depacketizer, packets) == []
    assert depacketizer.dropped == 1
    assert depacketizer.last_error == "an access unit of more than 5000 bytes"


@both
def test_lengths_that_do_not_fit_are_refused_by_the_packetizer(stream: Stream) -> None:
    packetizer = packetizer_for(configuration_of(stream), 100)
    for data in (b"\0\0\0", b"\0\0\0\x09abc", b"\0\0\0\0", sample_form(b"\x65\x88") + b"\0"):
        with pytest.raises(FormatError):
            packetizer.packetize(memoryview(data))


@both
def test_broken_parameter_sets_in_the_description_leave_those_in_band(stream: Stream) -> None:
    name = "sprop-parameter-sets" if stream is H264 else "sprop-sps"
    for text in ("", "%%%", "Zw==,aA==", "AAAA", "Z2Q"):
        depacketizer = depacketizer_for(stream.encoding, 90000, fmtp={name: text})
        assert depacketizer.configuration is None
        units = encoded(stream).units
        assert len(feed(depacketizer, packets_of(packetizer_of(stream), units))) == len(units)
