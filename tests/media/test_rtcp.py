"""nvr.media.rtcp: compound packets and reception statistics."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.rtcp import (
    Bye,
    ReceiverReport,
    ReceptionStatistics,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    is_rtcp,
    iter_compound,
    parse_compound,
)
from nvr.model.errors import FormatError
from nvr.model.time import NS, ntp_from_utc, parse_iso

u32 = st.integers(0, 0xFFFF_FFFF)
blocks = st.lists(
    st.builds(ReportBlock, u32, st.integers(0, 255), st.integers(-0x80_0000, 0x7F_FFFF), u32, u32, u32, u32),
    max_size=31,
).map(tuple)
items = st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=30)), max_size=4).map(tuple)
packets = st.one_of(
    st.builds(SenderReport, u32, st.integers(0, (1 << 64) - 1), u32, u32, u32, blocks),
    st.builds(ReceiverReport, u32, blocks),
    st.builds(SourceDescription, st.lists(st.tuples(u32, items), max_size=5).map(tuple)),
    st.builds(Bye, st.lists(u32, max_size=31).map(tuple), st.text(max_size=60)),
)
UNKNOWN = bytes.fromhex("81cd0003 00000001 00000002 deadbeef".replace(" ", ""))  # 205, transport layer feedback


@settings(max_examples=100)
@given(st.lists(packets, max_size=4))
def test_a_compound_packet_comes_back_and_unknown_types_in_it_are_skipped(sent: list[RtcpPacket]) -> None:
    assert parse_compound(b"".join(map(bytes, sent))) == sent
    assert parse_compound(b"".join(UNKNOWN + bytes(packet) for packet in sent) + UNKNOWN) == sent


@settings(max_examples=200)
@given(st.binary(max_size=80) | st.tuples(packets.map(bytes), st.binary(max_size=8)).map(b"".join))
def test_any_bytes_give_packets_or_a_format_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        parse_compound(data)


@settings(max_examples=100)
@given(packets, st.data())
def test_every_truncation_is_refused(packet: RtcpPacket, data: st.DataObject) -> None:
    whole = bytes(packet)
    cut = data.draw(st.integers(1, len(whole) - 1)) if len(whole) > 4 else 2
    with pytest.raises(FormatError):
        parse_compound(whole[:cut])


def test_a_sender_report_before_a_broken_packet_is_delivered_before_the_error() -> None:
    report = SenderReport(1, 2, 3)
    found = iter_compound(bytes(report) + b"\x81\xca\x00\x09cut")
    assert next(found) == report
    with pytest.raises(FormatError, match="type 202 at 28 claims 40"):
        next(found)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("80c80001 00000000", "only 4 bytes"),
        ("80c90000", "only 0 bytes"),
        ("82c90001 00000000", "2 report blocks"),
        ("82cb0001 00000000", "BYE of 2 sources"),
        ("81cb0002 00000001 09616263", "claims 9 of 3"),
        ("81ca0001 00000001 ", None),
        ("82ca0001 00000001 ", "before chunk 2 of 2"),
        ("81ca0002 00000001 01ff6161", "runs out"),
        ("40c90001 00000001", "version 1"),
        ("a0c90001 00000009", "9 bytes of padding"),
        ("a0c90001 00000000", "0 bytes of padding"),
        ("a0c90002 00000001 00000004", None),
    ],
)
def test_malformed_packets_are_refused_with_the_reason(data: str, why: str | None) -> None:
    raw = bytes.fromhex(data.replace(" ", ""))
    if why is None:
        assert len(parse_compound(raw)) == 1
    else:
        with pytest.raises(FormatError, match=why):
            parse_compound(raw)


def test_a_sender_report_in_known_bytes() -> None:
    utc = parse_iso("2026-01-01T10:00:00Z")
    report = SenderReport(0x01020304, ntp_from_utc(utc), 1_000_000, 3, 4)
    assert bytes(report).hex() == "80c8000601020304ed00c42000000000000f42400000000300000004"


def test_an_sdes_ends_every_chunk_with_a_null_and_on_a_word() -> None:
    assert bytes(SourceDescription.cname(1, "ab")).hex() == "81ca000300000001" + "0102616200000000"
    assert bytes(SourceDescription.cname(1, "abc")).hex() == "81ca000300000001" + "0103616263000000"


def test_rtcp_on_a_shared_channel_is_told_from_rtp() -> None:
    report = bytes(ReceiverReport(1))
    assert is_rtcp(report, 0, len(report))
    assert not is_rtcp(bytes.fromhex("80e0123400000000"), 0, 8)
    assert not is_rtcp(b"\x80", 0, 1)


def test_statistics_follow_appendix_a_over_a_wrap() -> None:
    statistics = ReceptionStatistics(ssrc=7, clock_rate=90_000)
    statistics.received(65_530, 1)
    statistics.received(65_535, 5)
    statistics.received(3, 3)  # 0 was lost
    block = statistics.report(0)
    assert (block.ssrc, block.highest_sequence) == (7, 65_536 + 3)
    assert block.cumulative_lost == 1
    assert block.fraction_lost == 256 // 10
    assert statistics.report(0).fraction_lost == 0, "the second interval lost nothing"


def test_a_late_packet_does_not_lower_the_highest_sequence() -> None:
    statistics = ReceptionStatistics(1, 90_000)
    statistics.start(10)
    for sequence in (10, 12, 11):
        statistics.received(sequence)
    block = statistics.report(0)
    assert (block.highest_sequence, block.cumulative_lost) == (12, 0)


def test_duplicates_make_the_cumulative_loss_negative_and_the_fraction_zero() -> None:
    statistics = ReceptionStatistics(1, 90_000)
    statistics.received(5)
    statistics.received(5)
    block = statistics.report(0)
    assert (block.cumulative_lost, block.fraction_lost) == (-1, 0)
    assert parse_compound(bytes(ReceiverReport(2, (block,)))) == [ReceiverReport(2, (block,))]


def test_a_report_before_any_packet_is_empty() -> None:
    assert ReceptionStatistics(9, 90_000).report(5) == ReportBlock(9, 0, 0, 0, 0)


def test_the_sender_report_comes_back_with_its_delay() -> None:
    statistics = ReceptionStatistics(1, 90_000)
    statistics.sender_report(SenderReport(1, 0x1122_3344_5566_7788, 0), arrival_ns=10 * NS)
    block = statistics.report(12 * NS + NS // 2)
    assert (block.last_sr, block.delay_since_last_sr) == (0x3344_5566, 65_536 * 5 // 2)


def test_jitter_converges_to_the_mean_distance_of_transit_times() -> None:
    statistics = ReceptionStatistics(1, 90_000)
    late = random.Random(1)
    for n in range(2000):
        # Every other sample comes 10 ms late: transit times differ by 900 ticks from one to the next.
        statistics.sample((n * 3600) & 0xFFFF_FFFF, n * 40_000_000 + (n % 2) * 10_000_000 + late.randrange(1000))
    assert abs(statistics.report(0).jitter - 900) <= 15


def test_a_punctual_source_has_no_jitter_also_over_a_wrap_of_its_time() -> None:
    statistics = ReceptionStatistics(1, 90_000)
    for n in range(200):
        statistics.sample((0xFFFF_0000 + n * 3600) & 0xFFFF_FFFF, n * 40_000_000)
    assert statistics.report(0).jitter == 0
