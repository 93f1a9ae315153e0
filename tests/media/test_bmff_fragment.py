from __future__ import annotations

import random
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.bmff.boxes import find_box, iter_boxes
from nvr.media.bmff.fragment import BuiltFragment, FragmentBox, FragmentBuilder, check_body, parse_samples
from nvr.media.unit import Fragment, Sample
from nvr.model.errors import FormatError
from nvr.model.time import NS, ntp_from_utc, ticks_from_ns
from tests.support.footage import START, video


def body(built: BuiltFragment) -> bytes:
    return b"".join(built.body)


def decode_times(built: BuiltFragment) -> list[int]:
    """Decode times by tfdt and the durations in trun, as a player adds them up."""
    table = trun(built)
    (dts,) = struct.unpack_from(">Q", body(built), find_box(body(built), b"moof/traf/tfdt").body + 4)
    times = [dts]
    for duration, *_ in table[:-1]:
        times.append(times[-1] + duration)
    return times


def trun(built: BuiltFragment) -> list[tuple[int, ...]]:
    found = find_box(body(built), b"moof/traf/trun")
    flags, count = struct.unpack_from(">II", body(built), found.body)
    columns = bin(flags & 0xF00).count("1")
    values = struct.unpack_from(f">{count * columns}i", body(built), found.body + 12)
    return [values[i : i + columns] for i in range(0, len(values), columns)]


def read(built: BuiltFragment, rate: int) -> list[Sample]:
    header = FragmentBox.parse(built.head)
    assert header is not None
    check_body(header, body(built))
    return parse_samples(header, body(built), START, rate)


def fragment(utcs: list[int], *, clean: bool = True, end_ns: int | None = None) -> Fragment:
    samples = [Sample(u, bytes([i % 251]) * (i % 7), clean and i == 0) for i, u in enumerate(utcs)]
    return Fragment(video(), samples, end_ns or max(utcs) + 40_000_000)


UTCS = st.lists(st.integers(0, 300 * NS), min_size=1, max_size=30)


@given(st.lists(UTCS, min_size=1, max_size=5), st.sampled_from([8_000, 11_025, 44_100, 48_000, 90_000]))
@settings(deadline=None)
def test_any_samples_come_back_exactly_and_decode_times_rise_strictly_over_fragments(
    parts: list[list[int]], rate: int
) -> None:
    builder = FragmentBuilder(START, rate)
    last = -1
    for utcs in parts:
        given_fragment = fragment([START + u for u in utcs])
        given_fragment.samples[-1].damaged = True
        built = builder.build(given_fragment)
        assert read(built, rate) == given_fragment.samples
        for dts in decode_times(built):
            assert dts > last
            last = dts


def test_without_b_frames_decode_times_are_times_of_presentation_by_utc_not_by_a_nominal_rate() -> None:
    utcs = [START + i * 40_020_000 for i in range(50)]  # a camera whose clock is 500 ppm slow
    built = FragmentBuilder(START, 90_000).build(fragment(utcs))
    assert decode_times(built) == [ticks_from_ns(u - START, 90_000) for u in utcs]
    assert all(len(row) == 3 for row in trun(built)), "no composition offsets where none are needed"


def test_b_frames_get_signed_offsets_and_presentation_begins_with_decoding() -> None:
    places = [0, 4, 2, 1, 3]
    built = FragmentBuilder(START, 90_000).build(fragment([START + p * 40_000_000 for p in places]))
    assert decode_times(built) == [0, 3600, 7200, 10800, 14400]
    assert [row[3] // 3600 for row in trun(built)] == [0, 3, 0, -2, -1]


def test_a_cut_inside_a_reordered_gop_keeps_decode_times_rising() -> None:
    builder = FragmentBuilder(START, 90_000)
    first = builder.build(fragment([START + p * 40_000_000 for p in (0, 4, 2)]))
    second = builder.build(fragment([START + p * 40_000_000 for p in (1, 3, 8)], clean=False))
    assert decode_times(first) == [0, 7200, 14400]
    assert decode_times(second) == [14401, 14402, 28800]
    assert [s.utc_ns for s in read(second, 90_000)] == [START + p * 40_000_000 for p in (1, 3, 8)]
    assert not second.entry.clean_point


def test_samples_at_the_same_instant_stay_apart_in_decode_time() -> None:
    built = FragmentBuilder(START, 90_000).build(fragment([START, START, START]))
    assert decode_times(built) == [0, 1, 2]
    assert [s.utc_ns for s in read(built, 90_000)] == [START] * 3


def test_prft_ties_media_time_to_ntp_time() -> None:
    builder = FragmentBuilder(START, 90_000)
    builder.build(fragment([START]))
    built = builder.build(fragment([START + 2 * NS]))
    prft = next(iter_boxes(body(built)))
    assert prft.type == b"prft"
    assert struct.unpack_from(">IIQQ", body(built), prft.body) == (
        1 << 24 | 24,
        1,
        ntp_from_utc(START + 2 * NS),
        180_000,
    )


def test_damaged_samples_stand_as_ranges() -> None:
    given_fragment = fragment([START + i for i in range(8)])
    for i in (1, 2, 5):
        given_fragment.samples[i].damaged = True
    header = FragmentBox.parse(FragmentBuilder(START, 90_000).build(given_fragment).head)
    assert header is not None
    assert header.damaged == ((1, 2), (5, 1))


def test_a_damaged_start_reaches_to_the_first_clean_point() -> None:
    given_fragment = fragment([START + i for i in range(6)], clean=False)
    given_fragment.samples[3].clean_point = True
    built = FragmentBuilder(START, 90_000).build(given_fragment, damaged_start=True)
    assert [s.damaged for s in read(built, 90_000)] == [True, True, True, False, False, False]


def test_a_composition_offset_that_does_not_fit_is_refused() -> None:
    builder = FragmentBuilder(START, 90_000)
    builder.build(fragment([START + 24 * 3600 * NS]))
    with pytest.raises(ValueError, match="does not fit a file that starts at"):
        builder.build(fragment([START + 17 * 3600 * NS]))


@given(st.data())
@settings(deadline=None)
def test_any_flipped_byte_is_noticed(data: st.DataObject) -> None:
    built = FragmentBuilder(START, 90_000).build(
        fragment([START + i * NS for i in random.Random(3).sample(range(9), 9)])
    )
    whole = bytearray(built.head + body(built))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(FormatError):
        header = FragmentBox.parse(whole)
        if header is not None:
            check_body(header, whole[header.size :])
            pytest.fail("a flipped byte went unnoticed")


@given(st.binary(max_size=300))
def test_any_bytes_as_fragment_box_are_refused_or_too_short(data: bytes) -> None:
    with suppress(FormatError):
        assert FragmentBox.parse(data) is None


@given(st.binary(max_size=300))
def test_any_bytes_as_body_raise_nothing_but_format_errors(data: bytes) -> None:
    header = FragmentBox(START, START, True, (), 0, 0, len(data), 0, (0, 0), 0)
    with suppress(FormatError):
        parse_samples(header, data, START, 90_000)
