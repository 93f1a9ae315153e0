"""Normal play time, without a server."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nvr.model.timeline import GapReason, Run, Timeline
from nvr.replay.playing_time import PlayingTime


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
        now = playing_time(timeline((105, 110), (160, 200))).since(self.time)
        assert (now.npt(105), now.npt(160), now.length_ns) == (5, 10, 50)
        assert [now.utc(t) for t in (0, 5, 10)] == [105, 105, 160]
        assert playing_time(timeline((165, 200))).since(self.time).npt(170) == 20


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
