"""Runs that overlap after a clock was set back, and runs that begin in the middle of a group of pictures."""

from __future__ import annotations

import pytest

from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.replay.unit import Selection
from tests.replay.test_plan import TEN, audio, drain, flags, names, plan_of, played, video
from tests.replay.test_reverse import reverse
from tests.support.replay_store import MemoryTrack


def set_back(track: MemoryTrack, name: str = "") -> MemoryTrack:
    """Five seconds; then the clock is set back by three of them, and five more are recorded."""
    for i in range(5):
        track.with_gop([f"{name}a{i}"])
    track.with_gap(TEN + 2 * NS, GapReason.CLOCK_JUMP)
    for i in range(5):
        track.with_gop([f"{name}b{i}"])
    return track.with_end()


class TestOverlaps:
    def test_each_run_is_played_whole_and_the_step_back_is_flagged(self) -> None:
        assert flags(played(set_back(video()))) == ("a0:C a1:C a2:C a3:C a4:CE b0:CD b1:C b2:C b3:C b4:CET")

    def test_playing_time_goes_on_over_the_step_back(self) -> None:
        units = played(set_back(video()))
        assert [(u.shown_ns - TEN) // NS for u in units] == list(range(10))
        assert [u.utc_ns - TEN for u in units][5] == 2 * NS

    @pytest.mark.parametrize(("start", "first"), [(1, "a1"), (2, "a2"), (4.5, "a4"), (5, "b3"), (6.5, "b4")])
    def test_a_start_in_an_overlap_begins_in_the_earlier_run(self, start: float, first: str) -> None:
        assert names(played(set_back(video()), TEN + int(start * NS))).split()[0] == first

    def test_a_closed_range_has_what_both_runs_hold_of_it(self) -> None:
        units = played(set_back(video()), Selection(TEN + 2 * NS, TEN + 4 * NS))
        assert flags(units) == "a2:C a3:C b0:CD b1:C"

    def test_in_reverse_the_later_run_comes_first_and_whole(self) -> None:
        track = set_back(video())
        assert names(reverse(track)) == "b4 b3 b2 b1 b0 a4 a3 a2 a1 a0"
        assert [u.data.decode() for u in reverse(track) if u.end] == ["b0", "a0"]
        shown = [u.shown_ns for u in reverse(track)]
        assert [s - shown[0] for s in shown] == [i * NS for i in range(10)]
        assert names(reverse(track, TEN + 4 * NS)) == "b2 b1 b0 a4 a3 a2 a1 a0"

    def test_tracks_that_step_back_together_stay_together(self) -> None:
        tracks = [set_back(video(), "v"), set_back(audio(), "s")]
        expected = " ".join(f"v{run}{i} s{run}{i}" for run in "ab" for i in range(5))
        assert names(played(tracks)) == expected

    def test_a_gap_takes_up_what_a_step_back_has_shifted(self) -> None:
        picture, sound = set_back(video(), "v"), audio()
        picture.with_gap(TEN + 60 * NS).with_gop(["v9"]).with_end()
        for i in range(61):
            sound.with_gop([f"s{i}"])
        units = played([picture, sound.with_end()])
        assert names(units).endswith("s59 v9 s60")

    def test_runs_of_many_files_that_interleave_are_not_mixed(self) -> None:
        track = video()
        for i in range(6):
            track.with_gop([f"a{i}"]).with_rotation()
        track.with_gap(TEN + NS // 2, GapReason.CLOCK_JUMP)
        for i in range(6):
            track.with_gop([f"b{i}"]).with_rotation()
        assert names(played(track.with_end())) == " ".join(f"{run}{i}" for run in "ab" for i in range(6))

    def test_at_the_live_edge_a_clock_set_back_is_followed_and_the_past_is_not(self) -> None:
        old = video().with_gop(["x"]).with_gap(TEN + 100 * NS)
        old.with_gop(["a0"]).with_gop(["a1"])
        plan = plan_of([old], Selection(TEN + 100 * NS))
        assert names(drain(plan, [old])) == "a0"
        old.with_gap(TEN + 50 * NS, GapReason.CLOCK_JUMP).with_gop(["b0"]).with_gop(["b1"])
        assert flags(drain(plan, [old])) == "a1:CE b0:CD"
        old.with_gap(TEN + 60 * NS).with_gop(["c0"]).with_end()
        assert flags(drain(plan, [old])) == "b1:CE c0:CET"


class TestBeginningsWithoutCleanPoint:
    def test_behind_a_jump_of_the_clock_the_stream_goes_on(self) -> None:
        """What its pictures refer to has just been sent."""
        track = video().with_gop(["I0", "P1"]).with_gap(TEN + 20 * NS, GapReason.CLOCK_JUMP)
        track.with_gop(["p2", "p3"], clean=False).with_gop(["I4"]).with_end()
        assert flags(played(track)) == "I0:C P1:E p2: p3: I4:CET"
        assert flags(played(track, TEN + 21 * NS)) == "I4:CET"

    @pytest.mark.requirement("PB-8.5.5-05")
    @pytest.mark.parametrize("reason", [GapReason.SOURCE_LOST, GapReason.PACKET_LOSS, GapReason.STORAGE])
    def test_behind_other_gaps_it_begins_with_the_next_clean_point(self, reason: GapReason) -> None:
        track = video().with_gop(["I0", "P1"]).with_gap(TEN + 20 * NS, reason)
        track.with_gop(["p2", "p3"], clean=False).with_gop(["I4"]).with_end()
        assert flags(played(track)) == "I0:C P1:E I4:CET"

    def test_a_run_that_never_has_a_clean_point_is_played_as_it_is(self) -> None:
        """Encoders with gradual refresh have none."""
        track = video().with_gop(["I0"]).with_gap(TEN + 20 * NS)
        for i in range(12):
            track.with_gop([f"p{i}"], clean=False)
        track.with_end()
        everything = " ".join(f"p{i}" for i in range(12))
        assert names(played(track)) == f"I0 {everything}"
        assert names(played(track, TEN + 25 * NS)) == everything.partition("p4 ")[2]
        assert names(reverse(track)) == f"{everything} I0"

    def test_a_clean_point_in_the_middle_of_a_fragment_is_found(self) -> None:
        track = video().with_gop(["I0", "P1"])
        track.with_gop(["p2"], clean=False)
        track.with_gop(["I3", "P4"])
        (one, first), (other, second) = track.fragments_[-2:]
        del track.fragments_[-2:]
        track.at_ns = one.start_ns
        track.with_unit_list([*first, *second], other.end_ns).with_end()
        assert names(played(track, TEN + 4 * NS)) == "I3 P4"
        assert names(reverse(track)) == "I3 P4 I0 P1 p2"
        assert names(reverse(track, TEN + 2 * NS)) == "I0 P1 p2"
