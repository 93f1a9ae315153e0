"""AV1: aggregation, fragments, sequence headers, losses; SVT-AV1 and dav1d as the judges."""

from __future__ import annotations

import io
from fractions import Fraction
from functools import cache

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.codecs import depacketizer_for, from_sample_entry, packetizer_for
from nvr.media.codecs.av1 import MAXIMUM_UNIT, Av1Configuration, Av1Packetizer
from nvr.media.codecs.av1_obu import SequenceHeader, iter_obus, leb128, read_leb128
from nvr.media.sdp import PayloadFormat
from nvr.model.errors import FormatError
from tests.support.rtp_streams import Encoded, Packet, encode_pictures, feed, packets_of

SEQUENCE = bytes.fromhex("00000003b4fdf12be401")
"""Of SVT-AV1: main profile, 160 x 96."""
KEY, INTER = b"\x10key frame", b"\x30inter frame"


def obu(kind: int, content: bytes, *, size: bool = True) -> bytes:
    return bytes((kind << 3 | (2 if size else 0),)) + (leb128(len(content)) if size else b"") + content


def unit(*obus: tuple[int, bytes]) -> bytes:
    return b"".join(obu(kind, content) for kind, content in obus)


KEY_UNIT, INTER_UNIT = unit((1, SEQUENCE), (6, KEY)), unit((6, INTER))


@cache
def encoded() -> Encoded:
    """Without temporal delimiters, as files have it."""
    made = encode_pictures("libsvtav1", 12, {"preset": "12", "svtav1-params": "keyint=6"})
    units = []
    for time, data in made.units:
        kept = [(o.kind, bytes(o.content)) for o in iter_obus(memoryview(data)) if o.kind != 2]
        units.append((time, unit(*kept)))
    return Encoded(made.extradata, units)


def boxes_of_ffmpeg(kind: bytes, units: list[bytes]) -> list[bytes]:
    """Boxes of a type in a movie of FFmpeg's."""
    movie = io.BytesIO()
    with av.open(movie, "w", format="mp4") as output:
        stream = output.add_stream("libsvtav1", rate=25)
        stream.codec_context.width, stream.codec_context.height = 160, 96
        for n, data in enumerate(units):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, n, n, Fraction(1, 25)
            packet.is_keyframe = n == 0
            output.mux(packet)
    data, found, at = movie.getvalue(), [], 0
    while (at := data.find(kind, at + 1)) > 0:
        found.append(data[at - 4 : at - 4 + int.from_bytes(data[at - 4 : at], "big")])
    return found


@pytest.mark.parametrize("maximum", [16, 100, 1400, 60_000])
def test_units_come_back_byte_for_byte(maximum: int) -> None:
    packets = packets_of(Av1Packetizer(maximum), encoded().units)
    assert max(len(p.payload) for p in packets) <= maximum
    made = depacketizer_for("AV1", 90000)
    units = feed(made, packets)
    assert [(u.rtp_time, u.data) for u in units] == encoded().units
    assert (made.dropped, made.last_error) == (0, None)
    assert [u.clean_point for u in units] == [n % 6 == 0 for n in range(12)]
    assert not any(u.damaged for u in units)


def test_the_configuration_is_that_of_the_encoder() -> None:
    [first, *_] = feed(depacketizer_for("AV1", 90000), packets_of(Av1Packetizer(1400), encoded().units))
    configuration = first.configuration
    assert isinstance(configuration, Av1Configuration)
    assert (configuration.width, configuration.height) == (160, 96)
    [av1c] = boxes_of_ffmpeg(b"av1C", [data for _, data in encoded().units])
    assert av1c[:14] in configuration.sample_entry()  # up to the sequence header, which is of another encoder run
    assert from_sample_entry(configuration.sample_entry()) == configuration
    assert PayloadFormat.of(96, configuration.rtpmap(), configuration.fmtp()).parameters == {
        "profile": "0",
        "level-idx": "0",
        "tier": "0",
    }
    assert first.data.startswith(configuration.in_band())


def test_the_first_packet_of_a_coded_video_sequence_has_n_and_no_other() -> None:
    packets = packets_of(Av1Packetizer(500), encoded().units)
    beginnings = [i for i, p in enumerate(packets) if p.payload[0] & 0x08]
    assert [packets[i].rtp_time for i in beginnings] == [0, 6 * 3600]


def test_elements_with_lengths_and_sizes_and_delimiters_give_the_same_unit() -> None:
    """W 0 with a length before each element; OBUs that have their size; a temporal delimiter that has no business."""
    elements = [obu(2, b""), obu(1, SEQUENCE), obu(6, KEY, size=False)]
    with_lengths = b"\x08" + b"".join(leb128(len(e)) + e for e in elements)
    counted = b"\x38" + b"".join(leb128(len(e)) + e for e in elements[:2]) + elements[2]
    for payload in (with_lengths, counted):
        [found] = feed(depacketizer_for("AV1", 90000), [Packet(payload, 0, True)])
        assert (found.data, found.clean_point) == (KEY_UNIT, True)


def test_obu_extensions_are_kept() -> None:
    layered = bytes((6 << 3 | 4 | 2, 0x20)) + leb128(len(KEY)) + KEY
    data = obu(1, SEQUENCE) + layered
    packets = packets_of(Av1Packetizer(100), [(0, data)])
    [found] = feed(depacketizer_for("AV1", 90000), packets)
    assert found.data == data


def test_another_sequence_header_is_another_configuration() -> None:
    wider = SEQUENCE.replace(b"\xb4", b"\xb6")
    made = depacketizer_for("AV1", 90000)
    units = feed(made, packets_of(Av1Packetizer(99), [(0, KEY_UNIT), (1, INTER_UNIT), (2, unit((1, wider), (6, KEY)))]))
    assert units[0].configuration is units[1].configuration
    assert [u.configuration.width for u in units] == [160, 160, 224]  # type: ignore[attr-defined]


@settings(max_examples=40)
@given(st.integers(100, 800), st.sets(st.integers(0, 200), max_size=5))
def test_a_loss_costs_the_units_that_it_touches_and_the_one_whose_beginning_it_hides(
    maximum: int, lost: set[int]
) -> None:
    packets = packets_of(Av1Packetizer(maximum), encoded().units)
    made = depacketizer_for("AV1", 90000)
    units = feed(made, packets, lost)
    sent = dict(encoded().units)
    assert all(sent[u.rtp_time] == u.data for u in units)
    hidden = {packets[i].rtp_time for i in lost if i < len(packets)}
    hidden |= {packets[i + 1].rtp_time for i in lost if i + 1 < len(packets)}
    missing = sent.keys() - {u.rtp_time for u in units}
    before_the_first = {t for t in sent if not units or t < units[0].rtp_time}
    assert missing <= hidden | before_the_first
    damaged, delivered = False, {u.rtp_time: u for u in units}
    for time, _ in encoded().units:
        found = delivered.get(time)
        damaged = True if found is None else damaged and not found.clean_point
        assert found is None or found.damaged == damaged


def test_joining_inside_a_unit_waits_for_a_sequence_header() -> None:
    made = depacketizer_for("AV1", 90000)
    packets = packets_of(Av1Packetizer(99), [(0, INTER_UNIT), (1, INTER_UNIT), (2, KEY_UNIT), (3, INTER_UNIT)])
    units = feed(made, packets)
    assert [(u.rtp_time, u.damaged) for u in units] == [(2, False), (3, False)]


@pytest.mark.parametrize(
    ("payloads", "why"),
    [
        ([b"\x10"], "without OBU elements"),
        ([b"\x90" + KEY], "whose beginning is missing"),
        ([b"\x20\x7f" + KEY], "OBU element of 127 bytes with 10 left"),
        ([b"\x30\x02\x30\x10"], "of 1 OBU elements that announces 3"),
        ([b"\x50\x30" + KEY, b"\x10\x30" + KEY], "fragmented AV1 OBU without its end"),
        ([b"\x50\x30" + KEY], "fragmented AV1 OBU without its end"),
        ([b"\x10\xb0" + KEY], "begins with 0xb0"),
        ([b"\x10" + obu(5, b"metadata alone")], "without a frame"),
        ([b"\x10\x32\xff\xff\xff\xff\xff\xff\xff\xff\xff"], "length that does not end"),
        ([b"\x20\x04" + obu(1, b"\xff\xff") + obu(6, KEY)], "profile 7"),
    ],
)
def test_a_bad_unit_costs_itself(payloads: list[bytes], why: str) -> None:
    made = depacketizer_for("AV1", 90000)
    good = packets_of(Av1Packetizer(99), [(0, KEY_UNIT)])
    bad = [Packet(p, 1, i == len(payloads) - 1) for i, p in enumerate(payloads)]
    units = feed(made, [*good, *bad, *packets_of(Av1Packetizer(99), [(2, INTER_UNIT)])])
    assert [(u.rtp_time, u.damaged) for u in units] == [(0, False), (2, True)]
    assert made.dropped == 1
    assert made.last_error is not None
    assert why in made.last_error


def test_a_unit_that_never_ends_does_not_take_the_memory() -> None:
    made = depacketizer_for("AV1", 90000)
    feed(made, packets_of(Av1Packetizer(99), [(0, KEY_UNIT)]), flush=False)
    first, middle = memoryview(b"\x50\x30" + bytes(1 << 20)), memoryview(b"\xd0" + bytes(1 << 20))
    made.push(first, 0, len(first), 5, False)
    for _ in range(40):
        assert not made.push(middle, 0, len(middle), 5, False)
    assert made.dropped == 1
    empty = memoryview(b"\x00" + b"\x01\x30" * 5000)
    made.push(empty, 0, len(empty), 6, False)
    assert made.dropped == 2
    assert made.last_error == "an AV1 temporal unit of 5000 bytes in 5000 OBUs"
    assert MAXIMUM_UNIT == 16 << 20


@given(st.lists(st.tuples(st.binary(max_size=30), st.sampled_from([0, 1, 2]), st.booleans()), max_size=12))
def test_any_payloads_are_taken_or_counted(payloads: list[tuple[bytes, int, bool]]) -> None:
    made = depacketizer_for("AV1", 90000)
    feed(made, packets_of(Av1Packetizer(99), [(9, KEY_UNIT)]), flush=False)
    units = feed(made, [Packet(data, n, marker) for data, n, marker in payloads])
    for found in units:
        assert list(iter_obus(memoryview(found.data)))


@given(st.integers(0, (1 << 56) - 1), st.binary(max_size=3))
def test_lengths_come_back(value: int, behind: bytes) -> None:
    data = leb128(value)
    assert read_leb128(data + behind, 0) == (value, len(data))


@given(st.binary(max_size=60))
def test_any_sequence_header_is_read_or_refused(data: bytes) -> None:
    try:
        found = SequenceHeader.parse(data)
    except FormatError:
        return
    assert found.width > 0
    assert found.height > 0


@given(
    st.lists(st.tuples(st.sampled_from([1, 3, 4, 5, 6, 15]), st.binary(max_size=300)), min_size=1, max_size=8),
    st.integers(16, 200),
)
def test_any_obus_come_back_whatever_the_packet_size(obus: list[tuple[int, bytes]], maximum: int) -> None:
    data = unit((1, SEQUENCE), (6, KEY), *((k, c) for k, c in obus if k != 1))
    packets = packets_of(packetizer_for(Av1Configuration(SEQUENCE), maximum), [(4, data)])
    assert max(len(p.payload) for p in packets) <= maximum
    assert [p.marker for p in packets] == [False] * (len(packets) - 1) + [True]
    [found] = feed(depacketizer_for("AV1", 90000), packets)
    assert found.data == data


def test_what_is_no_unit_is_not_sent() -> None:
    packetizer = Av1Packetizer(100)
    for data, why in ((b"", "without OBUs"), (b"\x30abc", "begins with 0x30"), (b"\x32\x09abc", "9 bytes with 3 left")):
        with pytest.raises(FormatError, match=why):
            packetizer.packetize(memoryview(data))
