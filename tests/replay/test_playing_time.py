"""Normal play time, without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import overload

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model.time import NS
from nvr.model.timeline import GapReason, Run, Timeline
from nvr.model.tokens import VIDEO001, RecordingToken, TrackKey
from nvr.replay import playing_times
from nvr.replay.playing_time import PlayingTime
from nvr.replay.playing_times import PlayingTimes


def timeline(*spans: tuple[int, int]) -> Timeline:
    return Timeline.of(Run(f"run{i}", a, b, GapReason.SOURCE_LOST) for i, (a, b) in enumerate(spans))


def playing_time(*timelines: Timeline) -> PlayingTime:
    found = PlayingTime.of(timelines)
    assert found is not None
    return found


class TestOneTrack:
    time = playing_time(timeline((100, 110), (160, 180)))

    def test_the_time_without_footage_is_left_out_of_the_duration(self) -> None:
        assert self.time.length_ns == 30

    def test_each_time_of_footage_is_played_at_its_own_time(self) -> None:
        assert [self.time.npt(t) for t in (100, 109, 160, 179)] == [0, 9, 10, 29]
        assert [self.time.utc(t) for t in (0, 9, 10, 29)] == [100, 109, 160, 179]

    def test_at_a_gap_a_start_is_behind_it_and_an_end_before_it(self) -> None:
        assert self.time.utc(10) == 160
        assert self.time.utc(10, ending=True) == 110
        assert self.time.npt(110) == self.time.npt(130) == 10

    def test_before_the_beginning_is_the_beginning_and_behind_the_end_time_goes_on(self) -> None:
        assert self.time.npt(5) == 0
        assert (self.time.utc(35), self.time.npt(185)) == (185, 35)
        assert self.time.utc(0, ending=True) == 100

    def test_what_has_been_deleted_keeps_its_place(self) -> None:
        now = self.time.extended([timeline((105, 110), (160, 200))])
        assert (now.npt(105), now.npt(160), now.length_ns) == (5, 10, 50)
        assert [now.utc(t) for t in (0, 5, 10)] == [105, 105, 160]
        later = self.time.extended([Timeline.of([Run("run1", 165, 200, GapReason.SOURCE_LOST)])])
        assert (later.npt(170), later.utc(0), later.utc(20)) == (20, 165, 170)
        assert self.time.extended([Timeline()]) is self.time


def test_without_footage_there_is_no_playing_time() -> None:
    assert PlayingTime.of([Timeline(), Timeline()]) is None


def test_a_gap_of_one_track_alone_is_played() -> None:
    time = playing_time(timeline((100, 110), (160, 180)), timeline((105, 165)))
    assert time.length_ns == 80
    assert time.npt(170) == 70
    assert len(time.stretches) == 1


def test_tracks_that_begin_and_end_a_little_apart_leave_out_only_what_all_of_them_lack() -> None:
    time = playing_time(timeline((100, 110), (160, 180)), timeline((99, 111), (162, 179)))
    assert time.length_ns == 12 + 20
    assert (time.npt(160), time.npt(130)) == (12, 12)


def test_runs_that_overlap_because_a_clock_was_set_back_count_whole() -> None:
    """As they are played. A time in the overlap is that of the earlier run, where a start in it begins."""
    time = playing_time(timeline((100, 110), (105, 120), (200, 210)))
    assert time.length_ns == 35
    assert (time.npt(107), time.npt(115), time.npt(200)) == (7, 20, 25)
    assert [time.utc(t) for t in (9, 10, 24, 25)] == [109, 105, 119, 200]


spans = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), min_size=1, max_size=6)


def tracks_of(found: Iterable[list[tuple[int, int]]]) -> list[Timeline]:
    return [timeline(*((start, start + length) for start, length in track)) for track in found]


@given(st.lists(spans, min_size=1, max_size=3))
def test_stretches_follow_each_other_and_every_recorded_time_is_played(found: list[list[tuple[int, int]]]) -> None:
    time = playing_time(*tracks_of(found))
    assert time.stretches[0].npt_ns == 0
    for one, following in pairwise(time.stretches):
        assert following.npt_ns == one.npt_ns + one.length_ns
    for npt in range(time.length_ns):
        stretch = next(s for s in time.stretches if s.npt_ns <= npt < s.npt_ns + s.length_ns)
        assert time.utc(npt) == stretch.utc_ns + npt - stretch.npt_ns
        assert time.npt(time.utc(npt)) <= npt, "the first time that it is played"
        assert time.utc(time.npt(time.utc(npt))) == time.utc(npt)


@given(spans)
def test_without_overlaps_it_counts_the_footage_before_each_time(found: list[tuple[int, int]]) -> None:
    covered = {t for start, length in found for t in range(start, start + length)}
    runs: list[tuple[int, int]] = []
    for t in sorted(covered):
        if runs and runs[-1][1] == t:
            runs[-1] = runs[-1][0], t + 1
        else:
            runs.append((t, t + 1))
    time = playing_time(timeline(*runs))
    assert time.length_ns == len(covered)
    for t in covered:
        assert time.npt(t) == sum(other < t for other in covered)


tracks = st.lists(st.lists(st.tuples(st.integers(-30, 90), st.integers(1, 100)), min_size=1, max_size=8), min_size=1)


@given(tracks.map(lambda found: found[:3]), st.integers(1, 600))
def test_what_is_recorded_later_is_counted_as_if_all_were_counted_again(
    found: list[list[tuple[int, int]]], until: int
) -> None:
    """In seconds, each run so long after the end of the one before, or before it where a clock was set back."""
    whole, known = [], []
    for number, track in enumerate(found):
        runs: list[Run] = []
        played, end = 0, 1000
        for i, (after, length) in enumerate(track):
            start = max(end + after, runs[-1].start_ns // NS + 1 if runs else 0)
            played = max(played, start)
            runs.append(Run(f"{number}-{i}", start * NS, (start + length) * NS, None))
            end = start + length
        whole.append(runs)
        placed = 0
        part = []
        for run in runs:  # what of it has been played at an instant has been recorded
            place = max(placed, run.start_ns)
            placed = place + run.end_ns - run.start_ns
            if place < (1000 + until) * NS:
                part.append(replace(run, end_ns=run.start_ns + min(placed, (1000 + until) * NS) - place))
        known.append(part)
    before = PlayingTime.of([Timeline.of(runs) for runs in known])
    after_all = playing_time(*(Timeline.of(runs) for runs in whole))
    if before is None:
        return
    now = before.extended([Timeline.of(runs) for runs in whole])
    assert now.length_ns == after_all.length_ns
    for at in range(960, 1800, 7):
        assert now.npt(at * NS) == after_all.npt(at * NS)
    for at in range(0, after_all.length_ns // NS + 30, 7):
        assert now.utc(at * NS) == after_all.utc(at * NS)
        assert now.utc(at * NS, ending=True) == after_all.utc(at * NS, ending=True)


def test_counting_goes_on_until_something_before_it_has_changed_or_much_has_come() -> None:
    runs = [Run(str(n), n * 60 * NS, (n * 60 + 10) * NS, GapReason.NO_EVENT) for n in range(1000)]
    time = playing_time(Timeline.of(runs))
    later = [Run(f"later {n}", (70_000 + n) * NS, (70_000 + n) * NS + 5, GapReason.NO_EVENT) for n in range(300)]
    assert time.continues([Timeline.of(runs)])
    assert time.continues([Timeline.of([*runs, *later[:200]])])
    assert not time.continues([Timeline.of([*runs, *later])])
    assert not time.continues([Timeline.of(runs[1:])])
    assert not time.continues([Timeline.of([*runs[:500], *runs[501:]])])
    found = Run("found", 30 * NS, 35 * NS, GapReason.DAEMON_STOPPED)
    assert not time.continues([Timeline.of([*runs, found])])
    assert not time.continues([Timeline()])


async def test_what_was_counted_for_one_client_serves_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing_times, "REMEMBERED", 2)
    times, counted = PlayingTimes(), 0

    async def read(call: Callable[[], PlayingTime | None]) -> PlayingTime | None:
        nonlocal counted
        counted += 1
        return call()

    def keys(number: int) -> list[TrackKey]:
        return [TrackKey(RecordingToken(f"rec-{number}"), VIDEO001)]

    grown = timeline((100, 110), (160, 180), (200, 210))
    for now, length in ((timeline((100, 110), (160, 180)), 30), (grown, 40), (grown, 40)):
        found = await times.of(keys(1), [now], read)
        assert found is not None
        assert found.length_ns == length
    assert counted == 1
    assert await times.of(keys(2), [Timeline()], read) is None
    for number in (3, 4, 1):
        await times.of(keys(number), [grown], read)
    assert counted == 5, "the one that was asked for longest ago is forgotten"


class Looked(Sequence[Run]):
    """Runs that count how many of them are looked at."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.count = 0

    def __len__(self) -> int:
        return len(self.runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> list[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | list[Run]:
        found = self.runs[index]
        self.count += len(found) if isinstance(found, list) else 1
        return found


def test_to_ask_and_to_go_on_counting_looks_at_few_of_many_runs() -> None:
    """A recording by events has thousands; the answers to PLAY and PAUSE are made on the loop."""
    runs = [Run(str(n), n * 60 * NS, (n * 60 + 10) * NS, GapReason.NO_EVENT) for n in range(10_000)]
    time = playing_time(Timeline.of(runs))
    runs.append(Run("new", 600_000 * NS, 600_010 * NS))
    looked = Looked(runs)
    now = Timeline(looked, [r.end_ns for r in runs], recording=True)
    shown = now.since(300_005 * NS)
    for timeline in (now, shown):
        extended = time.extended([timeline])
        assert extended.npt(600_005 * NS) == 100_005 * NS
        assert extended.npt(300_005 * NS) == 50_005 * NS
        assert extended.utc(100_001 * NS) == 600_001 * NS
        assert timeline.run_at(300_005 * NS) == replace(runs[5000], start_ns=timeline.runs[0].start_ns or 300_000 * NS)
        assert (timeline.latest, timeline.recording) == (600_010 * NS, True)
    assert looked.count < 300
