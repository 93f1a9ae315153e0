"""nvr.model.time: known values and round trips."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model.errors import FormatError
from nvr.model.time import (
    NS,
    NTP_ERA_S,
    datetime_from_utc,
    filetime_from_utc,
    format_clock,
    format_iso,
    mp4_seconds_from_utc,
    ns_from_ticks,
    ntp_from_utc,
    parse_clock,
    parse_iso,
    ticks_from_ns,
    unwrap,
    utc_from_datetime,
    utc_from_filetime,
    utc_from_mp4_seconds,
    utc_from_ntp,
)

YEAR_1 = -62_135_596_800 * NS
YEAR_10000 = 253_402_300_800 * NS
instants = st.integers(YEAR_1, YEAR_10000 - 1)
rates = st.sampled_from([1000, 8000, 11_025, 44_100, 48_000, 90_000, 10_000_000])


@pytest.mark.parametrize(
    ("text", "utc_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-01T10:00:00Z", 1_767_261_600 * NS),
        ("2026-01-01T10:00:00", 1_767_261_600 * NS),
        ("2026-01-01T11:30:00+01:30", 1_767_261_600 * NS),
        ("2025-12-31T20:00:00-14:00", 1_767_261_600 * NS),
        (" 2026-01-01T10:00:00.5Z\n", 1_767_261_600 * NS + NS // 2),
        ("2026-01-01T10:00:00.123456789123Z", 1_767_261_600 * NS + 123_456_789),
        ("2025-12-31T24:00:00Z", 1_767_225_600 * NS),
        ("2016-12-31T23:59:60Z", 1_483_228_800 * NS),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("0001-01-01T00:00:00Z", YEAR_1),
        ("2024-02-29T00:00:00Z", 1_709_164_800 * NS),
    ],
)
def test_xs_datetime_known_values(text: str, utc_ns: int) -> None:
    assert parse_iso(text) == utc_ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-01",
        "2026-1-1T10:00:00Z",
        "2026-01-01 10:00:00Z",
        "2026-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "2026-01-01T24:00:01Z",
        "2026-01-01T24:00:00.001Z",
        "2026-01-01T10:00:61Z",
        "2026-01-01T10:00:00+15:00",
        "2026-01-01T10:00:00+14:01",
        "2026-01-01T10:00:00.Z",
        "10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "٢٠٢٦-01-01T10:00:00Z",
        "9" * 5000 + "-01-01T00:00:00Z",
    ],
)
def test_what_is_no_xs_datetime_is_a_format_error(text: str) -> None:
    with pytest.raises(FormatError):
        parse_iso(text)


@pytest.mark.parametrize(
    ("utc_ns", "digits", "text"),
    [
        (0, None, "1970-01-01T00:00:00Z"),
        (1_767_261_600 * NS + 250_000_000, None, "2026-01-01T10:00:00.250Z"),
        (1_767_261_600 * NS + 250, None, "2026-01-01T10:00:00.000000250Z"),
        (1_767_261_600 * NS + 999_999_999, 3, "2026-01-01T10:00:00.999Z"),
        (1_767_261_600 * NS + 1, 0, "2026-01-01T10:00:00Z"),
        (-1, None, "1969-12-31T23:59:59.999999999Z"),
        (YEAR_1, None, "0001-01-01T00:00:00Z"),
    ],
)
def test_xs_datetime_is_written_in_utc_with_the_digits_asked_for(utc_ns: int, digits: int | None, text: str) -> None:
    assert format_iso(utc_ns, digits) == text


@given(instants)
def test_iso_and_clock_come_back_to_the_nanosecond(utc_ns: int) -> None:
    assert parse_iso(format_iso(utc_ns)) == utc_ns
    assert parse_clock(format_clock(utc_ns)) == utc_ns


@given(instants, st.integers(0, 9))
def test_cut_fractions_are_never_later_than_the_instant(utc_ns: int, digits: int) -> None:
    assert 0 <= utc_ns - parse_iso(format_iso(utc_ns, digits)) < 10 ** (9 - digits)


@given(st.text(max_size=40), st.sampled_from(["", "2026-01-01T", "20260101T"]))
def test_any_text_is_a_time_or_a_format_error(text: str, start: str) -> None:
    for parse in (parse_iso, parse_clock):
        with suppress(FormatError):
            assert isinstance(parse(start + text), int)


@pytest.mark.parametrize(
    ("text", "utc_ns"),
    [
        ("19961108T142300.25Z", 847_462_980 * NS + NS // 4),
        ("19700101T000000Z", 0),
        ("20260101T100000.000000001Z", 1_767_261_600 * NS + 1),
    ],
)
def test_clock_known_values(text: str, utc_ns: int) -> None:
    assert parse_clock(text) == utc_ns


@pytest.mark.parametrize(
    "text",
    ["", "19961108T142300.25", "19961108142300Z", "20090230T000000Z", "1996-11-08T14:23:00Z", "19961308T142300Z"],
)
def test_what_is_no_clock_time_is_a_format_error(text: str) -> None:
    with pytest.raises(FormatError):
        parse_clock(text)


def test_no_year_beyond_four_digits_is_written() -> None:
    assert format_iso(YEAR_10000 - 1) == "9999-12-31T23:59:59.999999999Z"
    for utc_ns in (YEAR_10000, YEAR_1 - 1, 10**30):
        with pytest.raises(OverflowError):
            format_iso(utc_ns)


@pytest.mark.parametrize(
    ("text", "ntp"),
    [
        ("1900-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00Z", 2_208_988_800 << 32),
        ("2026-01-01T10:00:00Z", 0xED00C420_00000000),
        ("2026-01-01T10:00:00.5Z", 0xED00C420_80000000),
        ("2036-02-07T06:28:15Z", 0xFFFFFFFF_00000000),
        ("2036-02-07T06:28:16Z", 0),
        ("2036-02-07T06:28:17.25Z", 0x00000001_40000000),
    ],
)
def test_ntp_known_values_over_the_end_of_the_era(text: str, ntp: int) -> None:
    utc_ns = parse_iso(text)
    assert ntp_from_utc(utc_ns) == ntp
    assert utc_from_ntp(ntp, near_ns=utc_ns) == utc_ns


def test_without_a_hint_ntp_time_is_of_the_first_era() -> None:
    assert utc_from_ntp(0) == parse_iso("1900-01-01T00:00:00Z")


@given(st.integers(-(10**20), 10**20), st.integers(-(NTP_ERA_S // 2) * NS + 2, NTP_ERA_S // 2 * NS - 2))
def test_ntp_comes_back_to_the_nanosecond_in_every_era_near_enough(utc_ns: int, off_ns: int) -> None:
    assert utc_from_ntp(ntp_from_utc(utc_ns), near_ns=utc_ns + off_ns) == utc_ns


@given(st.integers(0, (1 << 64) - 1))
def test_ntp_stamps_are_kept_to_half_a_nanosecond(ntp: int) -> None:
    assert abs(unwrap(ntp_from_utc(utc_from_ntp(ntp)), ntp, 64) - ntp) <= 3  # 2**-32 s is 0.23 ns


@pytest.mark.parametrize(
    ("text", "mp4", "filetime"),
    [
        ("1904-01-01T00:00:00Z", 0, 95_616_288_000_000_000),
        ("1970-01-01T00:00:00Z", 2_082_844_800, 116_444_736_000_000_000),
        ("1601-01-01T00:00:00Z", -9_561_628_800, 0),
        ("2026-01-01T10:00:00Z", 3_850_106_400, 134_117_352_000_000_000),
    ],
)
def test_seconds_since_1904_and_filetime_known_values(text: str, mp4: int, filetime: int) -> None:
    utc_ns = parse_iso(text)
    assert mp4_seconds_from_utc(utc_ns) == mp4
    assert utc_from_mp4_seconds(mp4) == utc_ns
    assert filetime_from_utc(utc_ns) == filetime
    assert utc_from_filetime(filetime) == utc_ns


@given(instants)
def test_coarser_clocks_round_down(utc_ns: int) -> None:
    assert 0 <= utc_ns - utc_from_filetime(filetime_from_utc(utc_ns)) < 100
    assert 0 <= utc_ns - utc_from_mp4_seconds(mp4_seconds_from_utc(utc_ns)) < NS
    assert 0 <= utc_ns - utc_from_datetime(datetime_from_utc(utc_ns)) < 1000


def test_a_datetime_with_a_zone_is_an_instant_and_one_without_is_none() -> None:
    east = timezone(timedelta(hours=2))
    assert utc_from_datetime(datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=east)) == 1_767_261_600 * NS + 5000
    assert datetime_from_utc(1_767_261_600 * NS) == datetime(2026, 1, 1, 10, tzinfo=UTC)
    with pytest.raises(ValueError, match="zone"):
        utc_from_datetime(datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused


@given(st.integers(-(10**15), 10**15), rates)
def test_ticks_come_back_exactly(ticks: int, rate: int) -> None:
    assert ticks_from_ns(ns_from_ticks(ticks, rate), rate) == ticks


@given(st.integers(-(10**20), 10**20), rates)
def test_nanoseconds_come_back_to_half_a_tick(duration_ns: int, rate: int) -> None:
    assert abs(ns_from_ticks(ticks_from_ns(duration_ns, rate), rate) - duration_ns) * 2 * rate <= NS + 2 * rate


@pytest.mark.parametrize(
    ("ns", "rate", "ticks"), [(NS, 90_000, 90_000), (1, 90_000, 0), (5556, 90_000, 1), (-NS, 8000, -8000)]
)
def test_ticks_known_values(ns: int, rate: int, ticks: int) -> None:
    assert ticks_from_ns(ns, rate) == ticks


@given(st.integers(-(10**12), 10**12), st.sampled_from([8, 16, 32]), st.data())
def test_unwrap_finds_the_value_that_was_meant(true: int, bits: int, data: st.DataObject) -> None:
    half = 1 << (bits - 1)
    near = true + data.draw(st.integers(-half + 1, half - 1))
    assert unwrap(true & ((1 << bits) - 1), near, bits) == true


@pytest.mark.parametrize(
    ("value", "near", "bits", "expected"),
    [(0, 0xFFFF, 16, 0x1_0000), (0xFFFF, 0x1_0000, 16, 0xFFFF), (5, 0, 32, 5), (0xFFFF_FFFF, 0, 32, -1)],
)
def test_unwrap_known_values(value: int, near: int, bits: int, expected: int) -> None:
    assert unwrap(value, near, bits) == expected
