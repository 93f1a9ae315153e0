"""When there is data, against a naive reference that looks at every instant."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model.coverage import GROWING, Coverage, CoverageOfTrack, Stretch, union_backward, union_forward
from nvr.model.joined import Joined
from nvr.model.timeline import GapReason, Run, Timeline
from nvr.storage.runs import Runs

RUNS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)).map(lambda r: (r[0], r[0] + r[1])), max_size=6)


def a_timeline(runs: Iterable[tuple[int, int]], growing: bool = False) -> Timeline:
    ordered = sorted(runs)
    return Timeline.of(
        Run(f"{i}-{a}-{b}", a, b, None if growing and i == len(ordered) - 1 else GapReason.UNKNOWN)
        for i, (a, b) in enumerate(ordered)
    )


def joined(runs: Iterable[Stretch]) -> list[Stretch]:
    """The naive reference: two that share an instant are one, until nothing changes."""
    found = sorted(set(runs))
    for i in range(len(found)):
        for j in range(i + 1, len(found)):
            (a, b), (c, d) = found[i], found[j]
            if c <= b and a <= d:
                return joined([*found[:i], *found[i + 1 : j], *found[j + 1 :], (min(a, c), max(b, d))])
    return found


@given(RUNS, st.booleans())
def test_runs_that_touch_are_one_stretch_and_the_growing_one_has_no_end(
    runs: list[tuple[int, int]], growing: bool
) -> None:
    timeline = a_timeline(runs, growing)
    coverage = Coverage.of(timeline)
    ends = [GROWING if r.end_reason is None else r.end_ns for r in timeline.runs]
    assert list(zip(coverage.starts, coverage.ends, strict=True)) == joined(
        (r.start_ns, end) for r, end in zip(timeline.runs, ends, strict=True)
    )


@given(st.lists(RUNS, min_size=1, max_size=5), st.booleans())
def test_a_coverage_that_follows_a_timeline_is_that_of_the_last(
    lives: list[list[tuple[int, int]]], grows: bool
) -> None:
    track = CoverageOfTrack()
    runs: list[tuple[int, int]] = []
    for more in lives:
        runs = [*runs, *more] if grows else more
        timeline = a_timeline(runs, growing=grows)
        assert track.of(timeline) == Coverage.of(timeline)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("limit"), st.integers(1, 9)),
        st.tuples(st.just("grow"), st.integers(0, 5)),
        st.tuples(st.just("end"), st.just(0)),
        st.tuples(st.just("begin"), st.integers(-2, 4)),
        st.tuples(st.just("delete"), st.just(0)),
    ),
    max_size=25,
)


@given(STEPS)
def test_a_coverage_follows_a_track_that_grows_and_whose_beginning_becomes_too_old(
    steps: list[tuple[str, int]],
) -> None:
    runs, track, shown, limit_ns = Runs(), CoverageOfTrack(), CoverageOfTrack(), 0
    last = Run("0", 0, 3)
    runs.put(last)
    known = [last]
    for step, number in steps:
        match step:
            case "limit":
                limit_ns += number
            case "grow" if last.end_reason is None:
                last = Run(last.run_id, last.start_ns, last.end_ns + number)
                known[-1] = last
                runs.put(last)
            case "end" if last.end_reason is None:
                last = Run(last.run_id, last.start_ns, last.end_ns, GapReason.UNKNOWN)
                known[-1] = last
                runs.put(last)
            case "begin" if last.end_reason is not None:
                start_ns = max(last.end_ns + number, 0)
                last = Run(str(len(known)), start_ns, start_ns + 2)
                known.append(last)
                runs.put(last)
            case "delete" if len(runs) > 1:
                first = runs.timeline().runs[0]
                runs.cut({first.run_id: None})
        timeline = runs.timeline()
        assert track.of(timeline) == Coverage.of(timeline)
        assert shown.of(timeline.since(limit_ns)) == Coverage.of(timeline.since(limit_ns))


def test_what_a_retention_time_takes_away_has_nothing_else_joined_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    timeline, track = a_timeline([(n * 10, n * 10 + 5) for n in range(1000)]), CoverageOfTrack()
    track.of(timeline)
    joined_anew = 0
    looked_at = Joined.__getitem__

    def counted(runs: Joined[Run], index: int) -> Run:
        nonlocal joined_anew
        joined_anew += 1
        return looked_at(runs, index)

    monkeypatch.setattr(Joined, "__getitem__", counted)
    for limit_ns in (3, 4, 5, 7, 10, 12, 4003):
        assert track.of(timeline.since(limit_ns)).starts[0] >= limit_ns
    assert joined_anew < 7 * 50, "bisections"


@given(st.lists(RUNS, max_size=3), st.integers(-1, 40), st.booleans())
def test_the_union_of_tracks_is_that_of_all_their_runs_in_both_directions(
    tracks: list[list[tuple[int, int]]], from_ns: int, growing: bool
) -> None:
    coverages = [Coverage.of(a_timeline(runs, growing)) for runs in tracks]
    everything = joined(s for c in coverages for s in zip(c.starts, c.ends, strict=True))
    assert list(union_forward(coverages, from_ns)) == [s for s in everything if s[1] >= from_ns]
    assert list(union_backward(coverages, from_ns)) == [s for s in reversed(everything) if s[0] <= from_ns]


@given(RUNS, st.integers(-1, 40))
def test_an_instant_has_data_from_the_start_of_a_stretch_to_before_its_end(
    runs: list[tuple[int, int]], at_ns: int
) -> None:
    coverage = Coverage.of(a_timeline(runs))
    assert coverage.has_data_at(at_ns) == any(a <= at_ns < b for a, b in joined(runs))
    held = [s for s in joined(runs) if s[0] <= at_ns <= s[1]]
    assert coverage.stretch_at(at_ns) == (held[0] if held else None)
