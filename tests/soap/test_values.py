"""Lexical forms of the simple types, both ways."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model.errors import FormatError
from nvr.model.time import NS, parse_iso
from nvr.soap import values
from nvr.soap.plan import INT32
from nvr.soap.values import OutsideValueSpace

DAY = 86_400 * NS
INT64 = st.integers(-values.INT64_MAX, values.INT64_MAX)


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("PT0S", 0),
        ("PT1H", 3600 * NS),
        ("PT0.05S", 50_000_000),
        ("PT1.5S", 1_500_000_000),
        ("PT0.0000000019S", 1),
        (" P1DT2H3M4S\n", DAY + 7384 * NS),
        ("P1Y", 365 * DAY),
        ("P2M", 60 * DAY),
        ("-PT10S", -10 * NS),
        ("PT90M", 5400 * NS),
    ],
)
def test_durations_are_read_exactly(text: str, duration_ns: int) -> None:
    assert values.parse_duration(text) == duration_ns


@pytest.mark.parametrize(
    "text",
    ["PT1H junk", "P2W", "P", "PT", "P1DT", "1H", "PT1H1H", "PT-1S", "P1S", "PT1.S", "+PT1S", "PT\uff11S", "", "pt1s"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        values.parse_duration(text)


@pytest.mark.parametrize("text", ["P300Y", "PT99999999999999S", "P999999Y999999M"])
def test_a_duration_beyond_64_bits_is_outside_the_value_space(text: str) -> None:
    with pytest.raises(OutsideValueSpace):
        values.parse_duration(text)


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "PT0S"),
        (50_000_000, "PT0.05S"),
        (1, "PT0.000000001S"),
        (90 * NS, "PT1M30S"),
        (DAY, "P1D"),
        (-NS, "-PT1S"),
        (400 * DAY + 3600 * NS, "P400DT1H"),
    ],
)
def test_durations_below_a_tenth_of_a_second_and_above_a_day_are_written_right(duration_ns: int, text: str) -> None:
    assert values.format_duration(duration_ns) == text


@given(INT64)
def test_a_duration_survives_the_round_trip(duration_ns: int) -> None:
    assert values.parse_duration(values.format_duration(duration_ns)) == duration_ns


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), (" 0\t", False)])
def test_booleans_are_the_four_words(text: str, value: bool) -> None:
    assert values.parse_boolean(text) is value


@pytest.mark.parametrize("text", ["yes", "True", "", "2", "TRUE", "on", "true\u00a0"])
def test_what_is_no_boolean_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        values.parse_boolean(text)


@pytest.mark.parametrize("text", ["1_000", "\uff11\uff12", "", "1.0", "0x1", "--1", "1 000", "9" * 5000])
def test_what_is_no_integer_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        INT32.parse(text)


@pytest.mark.parametrize("text", ["2147483648", "-2147483649"])
def test_an_integer_beyond_32_bits_is_outside_the_value_space(text: str) -> None:
    with pytest.raises(OutsideValueSpace):
        INT32.parse(text)


def test_integers_may_have_a_sign_and_zeros_in_front() -> None:
    assert (INT32.parse("+007"), INT32.parse(" -1 ")) == (7, -1)


@pytest.mark.parametrize(
    ("value", "text"), [(math.inf, "INF"), (-math.inf, "-INF"), (math.nan, "NaN"), (1, "1.0"), (0.1, "0.1")]
)
def test_floats_are_written_as_the_schema_spells_them(value: float, text: str) -> None:
    assert values.format_float(value) == text


@pytest.mark.parametrize("text", ["inf", "nan", "Infinity", "1_0", "", "1e", ".", "0x1p3", "+INF"])
def test_what_is_no_float_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        values.parse_float(text)


@given(st.floats(allow_nan=False))
def test_a_float_survives_the_round_trip(value: float) -> None:
    assert values.parse_float(values.format_float(value)) == value


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-03-01T12:00:00+02:00", "2026-03-01T10:00:00Z"),
        ("2026-03-01T12:00:00", "2026-03-01T12:00:00Z"),
        ("2026-03-01T12:00:00.123456789-00:30", "2026-03-01T12:30:00.123456789Z"),
    ],
)
def test_times_become_utc_whatever_their_zone_and_keep_nanoseconds(text: str, same: str) -> None:
    assert values.parse_time(text) == parse_iso(same)
    assert values.format_time(values.parse_time(text)) == same


def test_the_year_9999_that_clients_write_for_no_end_fits_into_64_bits() -> None:
    assert values.parse_time("9999-12-31T23:59:59Z") == values.INT64_MAX


@pytest.mark.parametrize("text", ["2026-13-01T00:00:00Z", "2026-03-01", "2026-03-01T12:00:00+15:00", "now", "", "0"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        values.parse_time(text)


@given(INT64)
def test_a_time_survives_the_round_trip(utc_ns: int) -> None:
    assert values.parse_time(values.format_time(utc_ns)) == utc_ns


@pytest.mark.parametrize(
    ("format_", "value"),
    [
        (values.format_boolean, "true"),
        (values.format_boolean, 1),
        (values.format_float, True),
        (values.format_time, 1.5),
        (values.format_duration, None),
        (INT32.format, True),
        (INT32.format, "1"),
        (values.string().format, 5),
        (values.list_of(values.string()).format, "abc"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_before_it_is_written(
    format_: Callable[[Any], str], value: object
) -> None:
    with pytest.raises(TypeError):
        format_(value)


def test_lengths_and_patterns_are_checked_both_ways() -> None:
    codec = values.string(shortest=1, longest=3, pattern="[a-z]+")
    assert codec.parse("abc") == "abc"
    for text in ("", "abcd", "A", "ab\n"):
        with pytest.raises(OutsideValueSpace):
            codec.parse(text)
        with pytest.raises(OutsideValueSpace):
            codec.format(text)


def test_whitespace_collapses_in_tokens_and_stays_in_strings() -> None:
    assert values.string(collapsed=True).parse(" a \n b ") == "a b"
    assert values.string().parse(" a \n b ") == " a \n b "


class Transmission(StrEnum):
    UNICAST = "RTP-Unicast"


def test_an_enumeration_spells_words_that_are_no_python_names_and_gives_members() -> None:
    codec = values.enumeration(Transmission)
    assert codec.parse("RTP-Unicast") is Transmission.UNICAST
    assert codec.format(Transmission.UNICAST) == "RTP-Unicast"
    with pytest.raises(OutsideValueSpace):
        codec.parse("rtp-unicast")
    with pytest.raises(ValueError, match="none of"):
        codec.format("UNICAST")


def test_lists_are_items_between_spaces() -> None:
    codec = values.list_of(INT32)
    assert codec.parse(" 1\n2  3 ") == (1, 2, 3)
    assert codec.parse("") == ()
    assert codec.format([4, 5]) == "4 5"
    with pytest.raises(ValueError, match="separated by spaces"):
        values.list_of(values.string()).format(["a b"])


ALL = [
    values.BOOLEAN,
    values.FLOAT,
    values.TIME,
    values.DURATION,
    INT32,
    values.string(longest=9),
    values.list_of(INT32),
]


@given(st.sampled_from(ALL), st.one_of(st.text(), st.text("0123456789PTYMDHS.:-+ZeINF \t\n")))
def test_any_text_is_either_a_value_or_a_format_error(codec: values.Codec, text: str) -> None:
    try:
        value = codec.parse(text)
    except FormatError:
        return
    assert codec.parse(codec.format(value)) == value or value != value  # NaN
