"""nvr.model.timeline: what is covered, what is missing, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model.timeline import Gap, GapReason, Run, Timeline, in_order


def a_run(start: int, end: int, reason: GapReason | None = GapReason.SOURCE_LOST) -> Run:
    return Run(f"run-{start}", start, end, reason)


spans = st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda span: (span[0], span[0] + span[1]))
timelines = st.lists(spans, max_size=8).map(lambda found: Timeline.of(a_run(*span) for span in found))


@given(timelines)
def test_every_instant_between_first_and_last_is_either_in_a_run_or_in_one_gap(timeline: Timeline) -> None:
    if timeline.earliest is None or timeline.latest is None:
        assert timeline.gaps() == ()
        return
    for instant in range(timeline.earliest, timeline.latest):
        covered = any(run.start_ns <= instant < run.end_ns for run in timeline.runs)
        gaps = [gap for gap in timeline.gaps() if gap.start_ns <= instant < gap.end_ns]
        assert len(gaps) == (0 if covered else 1)
        run = timeline.run_at(instant)
        assert (run is not None) == covered
        assert run is None or run.start_ns <= instant < run.end_ns


def test_gaps_carry_the_reason_of_the_run_that_ended() -> None:
    timeline = Timeline.of([a_run(50, 60), a_run(0, 10, GapReason.STORAGE), a_run(20, 30, None)])
    assert timeline.gaps() == (Gap(10, 20, GapReason.STORAGE), Gap(30, 50, GapReason.UNKNOWN))


def test_a_run_inside_another_makes_no_gap() -> None:
    timeline = Timeline.of([a_run(0, 100, GapReason.CLOCK_JUMP), a_run(10, 20), a_run(50, 60), a_run(110, 120)])
    assert timeline.gaps() == (Gap(100, 110, GapReason.CLOCK_JUMP),)
    assert timeline.run_at(30) == timeline.runs[0]


def test_runs_that_touch_leave_no_gap_and_the_end_is_not_part_of_a_run() -> None:
    timeline = Timeline.of([a_run(0, 10), a_run(10, 20)])
    assert timeline.gaps() == ()
    assert timeline.run_at(9) == timeline.runs[0]
    assert timeline.run_at(10) == timeline.runs[1]
    assert timeline.run_at(20) is None
    assert timeline.run_at(-1) is None


def test_an_empty_timeline_has_neither_start_nor_end() -> None:
    empty = Timeline()
    assert (empty.earliest, empty.latest, empty.recording) == (None, None, False)
    assert empty.run_at(0) is None


def test_a_timeline_is_recording_while_a_run_has_no_reason_for_its_end() -> None:
    assert Timeline.of([a_run(0, 10), a_run(20, 30, None)]).recording
    assert not Timeline.of([a_run(0, 10)]).recording


def test_the_latest_instant_is_the_end_of_the_longest_run_not_of_the_last() -> None:
    assert Timeline.of([a_run(0, 100), a_run(10, 20)]).latest == 100


def test_a_run_cannot_end_before_it_starts() -> None:
    with pytest.raises(ValueError, match="before its start"):
        a_run(10, 9)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20), st.booleans())), st.integers(-5, 80))
def test_what_is_too_old_is_taken_away_as_if_each_run_were_looked_at(
    found: list[tuple[int, int, bool]], limit: int
) -> None:
    runs = [
        Run(str(n), start, start + length, None if growing else GapReason.STORAGE)
        for n, (start, length, growing) in enumerate(found)
    ]
    shown = Timeline.of(runs).since(limit)
    naive = Timeline.of(replace(r, start_ns=max(r.start_ns, limit)) for r in runs if r.end_ns > limit)
    assert sorted(shown.runs, key=lambda r: r.run_id) == sorted(naive.runs, key=lambda r: r.run_id)
    assert [in_order(r) for r in shown.runs] == [in_order(r) for r in naive.runs]
    assert (shown.reach, shown.recording, shown.extent) == (naive.reach, naive.recording, naive.extent)
    for instant in range(-5, 80):
        assert set(shown.runs_at(instant)) == {r for r in naive.runs if r.start_ns <= instant < r.end_ns}
