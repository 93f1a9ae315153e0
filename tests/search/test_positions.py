"""FindPTZPosition against a naive reference: the volume, its borders, entering and leaving, both directions."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.model.ptz import PAN_TILT_SPACE, ZOOM_SPACE, PanTilt, PtzFilter, PtzVector, Zoom
from nvr.model.search import SearchInterval
from nvr.model.tokens import META001, RecordingToken, TrackKey
from tests.support.configuration import a_recording
from tests.support.search import Searched

ONE, TWO = (TrackKey(RecordingToken(f"rec-{n}"), META001) for n in (1, 2))
EVERYWHERE = PtzFilter(PtzVector(), PtzVector())


def at(x: float, y: float = 0.0, zoom: float | None = None, space: str | None = None) -> PtzVector:
    return PtzVector(PanTilt(x, y, space), None if zoom is None else Zoom(zoom))


def between(least: float, most: float, enter_or_exit: bool = False) -> PtzFilter:
    return PtzFilter(at(least, least), at(most, most), enter_or_exit)


def a_recorder(*positions: tuple[TrackKey, int, PtzVector]) -> Searched:
    recorder = Searched(a_recording("rec-1"), a_recording("rec-2"))
    for key in (ONE, TWO):
        recorder.recorded(*key, (0, 100))
    for file, (key, time_ns, position) in enumerate(positions):
        recorder.archive.add_position(key, time_ns, position, file)
    return recorder


@pytest.mark.requirement("RS-6.3.8-02", "RS-6.3.8-05")
@pytest.mark.parametrize(
    ("wanted", "position", "holds"),
    [
        (between(-0.5, 0.5), at(0.5, -0.5), True),
        (between(-0.5, 0.5), at(0.50000001, 0), False),
        (between(-0.5, 0.5), at(0, -0.6), False),
        (EVERYWHERE, at(9, 9), True),
        (EVERYWHERE, PtzVector(None, Zoom(1)), True),
        (between(-1, 1), PtzVector(None, Zoom(1)), False),
        (PtzFilter(PtzVector(None, Zoom(0.2)), PtzVector(None, Zoom(0.4))), at(7, 7, 0.4), True),
        (PtzFilter(PtzVector(None, Zoom(0.2)), PtzVector(None, Zoom(0.4))), at(7, 7, 0.5), False),
        (PtzFilter(PtzVector(None, Zoom(0.2)), PtzVector()), at(7, 7, 0.5), True),
        (PtzFilter(at(0.1, 0.2, 0.3), at(0.1, 0.2, 0.3)), at(0.1, 0.2, 0.3), True),
        (PtzFilter(at(1, 1), at(-1, -1)), at(0, 0), False),
    ],
)
def test_the_volume_has_its_borders_and_an_absent_part_is_free(
    wanted: PtzFilter, position: PtzVector, holds: bool
) -> None:
    assert wanted.holds(position) is holds


@pytest.mark.requirement("RS-6.3.8-01", "RS-6.3.8-06")
def test_spaces_are_not_converted_and_none_is_the_generic_one() -> None:
    for space in (None, "", PAN_TILT_SPACE):
        for other in (None, "", PAN_TILT_SPACE):
            assert PtzFilter(at(-1, -1, space=space), at(1, 1, space=other)).holds(at(0, space=other))
        assert not PtzFilter(at(-1, -1, space=space), at(1, 1, space=space)).holds(at(0, space="urn:mine"))
    mine = PtzFilter(at(-1, -1, space="urn:mine"), at(1, 1, space="urn:mine"))
    assert mine.holds(at(0, space="urn:mine"))
    assert not mine.holds(at(0))
    zoom = PtzFilter(PtzVector(None, Zoom(0, ZOOM_SPACE)), PtzVector(None, Zoom(1)))
    assert zoom.holds(PtzVector(None, Zoom(0.5)))
    assert not zoom.holds(PtzVector(None, Zoom(0.5, "urn:mine")))


@pytest.mark.requirement("RS-6.3.8-03", "RS-6.3.8-04")
async def test_entering_and_leaving_are_found_once_and_being_inside_each_time() -> None:
    inside, outside = at(0), at(5)
    recorder = a_recorder(*((ONE, n, p) for n, p in enumerate((inside, inside, outside, inside, inside, outside))))
    assert [p.time_ns for p in await recorder.positions(0, 100, between(-1, 1))] == [0, 1, 3, 4]
    changes = await recorder.positions(0, 100, between(-1, 1, enter_or_exit=True))
    assert [(p.time_ns, p.position) for p in changes] == [(0, inside), (2, outside), (3, inside), (5, outside)]
    assert await recorder.positions(100, 0, between(-1, 1, enter_or_exit=True)) == changes[::-1]


@pytest.mark.requirement("RS-6.11-12")
async def test_a_position_before_the_interval_is_not_found_and_counts_for_nothing() -> None:
    recorder = a_recorder((ONE, 5, at(0)), (ONE, 20, at(0)))
    assert [p.time_ns for p in await recorder.positions(10, 30, between(-1, 1))] == [20]
    assert [p.time_ns for p in await recorder.positions(10, 30, between(-1, 1, enter_or_exit=True))] == [20]
    assert await recorder.positions(6, 19, between(-1, 1)) == []


async def test_a_position_whose_footage_has_gone_is_not_found() -> None:
    recorder = a_recorder((ONE, 5, at(0)), (ONE, 20, at(0)))
    recorder.recorded(*ONE, (10, 30))
    assert [p.time_ns for p in await recorder.positions(0, 30, EVERYWHERE)] == [20]


@pytest.mark.parametrize("runs", [[(6, 100)], [(0, 2), (6, 100)], [(0, 2), (9, 100)]])
async def test_a_position_whose_footage_has_gone_is_nothing_to_enter_from_in_either_direction(
    runs: list[tuple[int, int]],
) -> None:
    inside, outside = at(0), at(5)
    recorder = a_recorder(*((ONE, n, p) for n, p in enumerate((outside, inside, *[inside, outside] * 5))))
    recorder.recorded(*ONE, *runs)
    wanted = between(-1, 1, enter_or_exit=True)
    forward = await recorder.positions(0, 100, wanted)
    assert await recorder.positions(100, 0, wanted) == forward[::-1]
    seen = [n for n in range(12) if any(start <= n <= end for start, end in runs)]
    told, before = [], False
    for n in seen:
        is_inside = n == 1 or (n >= 2 and n % 2 == 0)
        if is_inside != before:
            told.append(n)
        before = is_inside
    assert [p.time_ns for p in forward] == told


PLACES = st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.integers(0, 12), st.integers(-2, 2)), max_size=12)


@pytest.mark.requirement("RS-6.11-06", "RS-6.11-07", "RS-6.11-13", "RS-6.12-05", "RS-6.12-06", "RS-6.2.1-05")
@settings(max_examples=60, deadline=None)
@given(
    PLACES, st.integers(-1, 13), st.one_of(st.none(), st.integers(-1, 13)), st.booleans(),
    st.one_of(st.none(), st.integers(1, 3)), st.one_of(st.none(), st.integers(1, 5)), st.booleans(),
    st.integers(-1, 12), st.integers(-1, 12),
)  # fmt: skip
def test_every_search_finds_what_a_naive_reference_finds(
    places: list[tuple[TrackKey, int, int]],
    start: int,
    end: int | None,
    enter_or_exit: bool,
    page: int | None,
    max_matches: int | None,
    forgetful: bool,
    first: int,
    hole: int,
) -> None:
    """Of one track the footage before an instant has gone and some in the middle, and its rows are still there."""
    wanted = between(-1, 1, enter_or_exit)
    interval = SearchInterval(start, end)
    runs = {ONE: [(first, max(first, hole)), (max(first, hole) + 3, 100)], TWO: [(0, 100)]}
    expected = []
    for key in (ONE, TWO):
        last = {t: (file, at(p, p)) for file, (k, t, p) in enumerate(places) if k == key}
        before = False
        for t, (file, position) in sorted(last.items()):
            if interval.holds(t) and any(start <= t <= end for start, end in runs[key]):
                inside = wanted.holds(position)
                if inside != before if enter_or_exit else inside:
                    expected.append((t, file, key.recording, position))
                before = inside
    expected = sorted(expected, key=lambda e: e[:2], reverse=interval.backward)[:max_matches]
    recorder = a_recorder(*((k, t, at(p, p)) for k, t, p in places))
    recorder.forgetful = forgetful
    for key in (ONE, TWO):
        recorder.recorded(*key, *runs[key])
    found = asyncio.run(recorder.positions(start, end, wanted, page=page, max_matches=max_matches))
    assert [(p.time_ns, p.recording, p.position) for p in found] == [(t, r, p) for t, _, r, p in expected]
