"""The plan over built timelines: order, starting points, ends, flags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.rtsp.play import FrameSet
from nvr.media.unit import Sample
from nvr.model.time import NS, UtcNs, parse_iso
from nvr.model.timeline import GapReason
from nvr.replay.course import REFRESHING_NS
from nvr.replay.plan import BATCH_READS, EDGE_PATIENCE_NS, Plan, PlanTrack
from nvr.replay.unit import Selection, Unit
from nvr.storage.rows import FragmentRef
from tests.support.replay_store import MemoryTrack, PlainAudio, PlainMetadata, PlainVideo

TEN = parse_iso("2026-01-01T10:00:00Z")


def video() -> MemoryTrack:
    return MemoryTrack().starting_at(TEN)


def audio() -> MemoryTrack:
    return MemoryTrack(PlainAudio()).starting_at(TEN)


def worked_example() -> MemoryTrack:
    """Two sections of two groups of pictures, 55 s apart."""
    return (
        video()
        .with_gop(["I0", "P1", "P2"])
        .with_gop(["I3", "P4", "P5"])
        .with_gap(TEN + 60 * NS)
        .with_gop(["I6", "P7", "P8"])
        .with_gop(["I9", "P10", "P11"])
        .with_end()
    )


def plan_of(tracks: Sequence[MemoryTrack], selection: Selection) -> Plan:
    plan_tracks = [PlanTrack(i, t, t.configuration.track_type) for i, t in enumerate(tracks)]
    return Plan(plan_tracks, [t.timeline for t in tracks], selection)


def drain(plan: Plan, tracks: Sequence[MemoryTrack]) -> list[Unit]:
    found: list[Unit] = []
    while (units := plan.next_units([t.timeline for t in tracks], 1)) or plan.more:
        found += units
    return found


def played(tracks: MemoryTrack | Sequence[MemoryTrack], selection: Selection | UtcNs = TEN) -> list[Unit]:
    tracks = [tracks] if isinstance(tracks, MemoryTrack) else tracks
    selection = Selection(selection) if isinstance(selection, int) else selection
    return drain(plan_of(tracks, selection), tracks)


def names(units: Sequence[Unit]) -> str:
    return " ".join(u.data.decode() for u in units)


def flags(units: Sequence[Unit]) -> str:
    """`I0:C P1: ...`"""
    return " ".join(
        u.data.decode() + ":" + "C" * u.clean_point + "E" * u.end + "D" * u.discontinuity + "T" * u.terminal
        for u in units
    )


@pytest.mark.requirement("PB-8.3.1-05", "PB-8.3.1-08")
def test_forward_replay_of_the_worked_example_has_its_order_and_flags() -> None:
    assert flags(played(worked_example())) == ("I0:C P1: P2: I3:C P4: P5:E I6:C P7: P8: I9:C P10: P11:ET")


@pytest.mark.requirement("PB-8.10-02")
def test_a_jump_is_flagged_on_the_first_unit_of_each_track_only() -> None:
    tracks = [worked_example(), audio().with_gop(["a", "b"]).with_end()]
    units = played(tracks, Selection(TEN, discontinuity=True))
    assert [u.data for u in units if u.discontinuity] == [b"I0", b"a"]


@pytest.mark.parametrize(
    ("seconds", "first"),
    [
        (-3600, "I0"),  # before all footage: as in a gap
        (0, "I0"),
        (2.5, "I0"),
        (3, "I3"),
        (5.9, "I3"),
        (6, "I6"),  # the gap begins where the last unit ends
        (30, "I6"),
        (60, "I6"),
        (62.999999999, "I6"),
        (63, "I9"),
        (65.5, "I9"),
    ],
)
@pytest.mark.requirement("PB-8.5.5-01", "PB-8.5.5-02", "PB-8.5.5-03")
def test_video_begins_at_the_clean_point_before_a_start_in_footage_and_after_one_in_a_gap(
    seconds: float, first: str
) -> None:
    track = worked_example()
    plan = plan_of([track], Selection(TEN + int(seconds * NS)))
    units = drain(plan, [track])
    assert units[0].data.decode() == first
    assert units[0].clean_point
    assert plan.start == units[0].position


def test_a_start_behind_all_footage_has_nothing_to_send() -> None:
    track = worked_example()
    plan = plan_of([track], Selection(TEN + 66 * NS))
    assert plan.empty
    assert drain(plan, [track]) == []


def test_the_clean_point_is_found_far_back_in_a_group_of_pictures_cut_into_many_fragments() -> None:
    track = video().with_gop(["I0"], 2 * NS).with_gop(["I1"], 2 * NS)
    for i in range(40):
        track.with_gop([f"p{i}a", f"p{i}b"], clean=False)
    track.with_end()
    assert names(played(track, TEN + 80 * NS))[:14] == "I1 p0a p0b p1a"


@pytest.mark.requirement("PB-8.5.5-05")
def test_units_before_the_first_clean_point_of_a_section_are_not_sent() -> None:
    track = video().with_gop(["p0", "p1"], clean=False).with_gop(["I2", "P3"]).with_gap(TEN + 20 * NS)
    track.with_gop(["p4"], clean=False).with_gop(["I5"]).with_end()
    assert flags(played(track)) == "I2:C P3:E I5:CET"
    assert flags(played(track, TEN + NS)) == "I2:C P3:E I5:CET"


@pytest.mark.requirement("PB-8.5.2-05")
def test_a_closed_range_is_half_open_and_ends_without_flags_where_footage_goes_on() -> None:
    track = worked_example()
    plan = plan_of([track], Selection(TEN, TEN + 4 * NS))
    assert flags(drain(plan, [track])) == "I0:C P1: P2: I3:C"
    assert plan.done


def test_a_closed_range_that_ends_in_a_gap_ends_its_section() -> None:
    assert flags(played(worked_example(), Selection(TEN + 3 * NS, TEN + 30 * NS))) == "I3:C P4: P5:E"


def test_a_closed_range_that_reaches_over_the_end_of_footage_ends_terminally() -> None:
    track = worked_example()
    plan = plan_of([track], Selection(TEN + 63 * NS, TEN + 3600 * NS))
    assert flags(drain(plan, [track])) == "I9:C P10: P11:ET"
    assert not plan.done  # until then the recording may resume


def test_rotation_of_files_inside_a_run_is_no_discontinuity() -> None:
    track = video().with_gop(["I0", "P1"]).with_rotation().with_gop(["I2"]).with_rotation().with_gop(["I3"]).with_end()
    assert flags(played(track)) == "I0:C P1: I2:C I3:CET"


def test_a_change_of_configuration_from_one_picture_to_the_next_ends_no_section() -> None:
    track = video().with_gop(["I0", "P1"]).with_gap(TEN + 2 * NS, GapReason.CONFIGURATION_CHANGED)
    track.with_configuration(PlainVideo(version=2)).with_gop(["I2"]).with_end()
    units = played(track)
    assert flags(units) == "I0:C P1: I2:CET"
    assert [u.configuration for u in units] == [PlainVideo(), PlainVideo(), PlainVideo(version=2)]


def test_a_section_of_one_unit_is_clean_point_and_end_at_once() -> None:
    track = video().with_gop(["I0"]).with_gap(TEN + 9 * NS).with_gop(["I1"]).with_gap(TEN + 19 * NS).with_gop(["I2"])
    assert flags(played(track.with_end())) == "I0:CE I1:CE I2:CET"


def b_frames() -> MemoryTrack:
    samples = [
        Sample(TEN + at * NS // 25, name, clean)
        for at, name, clean in [(2, b"I2", True), (5, b"P5", False), (3, b"b3", False), (4, b"b4", False)]
    ]
    later = [
        Sample(TEN + at * NS // 25, name, clean)
        for at, name, clean in [(8, b"I8", True), (6, b"b6", False), (7, b"b7", False)]
    ]
    return video().with_unit_list(samples, TEN + 6 * NS // 25).with_unit_list(later, TEN + 9 * NS // 25).with_end()


def test_b_frames_go_in_decode_order_and_pace_without_stepping_back() -> None:
    units = played(b_frames())
    assert names(units) == "I2 P5 b3 b4 I8 b6 b7"
    decode = [u.due_ns for u in units]
    assert decode == sorted(decode)
    assert units[-1].terminal


def test_the_clean_point_of_an_open_group_lies_before_the_start_not_its_leading_pictures() -> None:
    assert names(played(b_frames(), TEN + 7 * NS // 25)).startswith("I2 ")
    assert names(played(b_frames(), TEN + 8 * NS // 25)).startswith("I8 ")


def test_a_closed_range_sends_no_picture_at_or_after_its_end_whatever_the_decode_order() -> None:
    units = played(b_frames(), Selection(TEN, TEN + 5 * NS // 25))
    assert names(units) == "I2 b3 b4"


@pytest.mark.requirement("PB-8.5.3-05")
def test_tracks_are_multiplexed_in_recorded_order() -> None:
    sound = audio()
    for i in range(6):
        sound.with_gop([f"a{i}.{j}" for j in range(4)], NS // 4)
    tracks = [video().with_gop(["I0", "P1", "P2"]).with_gop(["I3", "P4", "P5"]).with_end(), sound.with_end()]
    units = played(tracks)
    assert len(units) == 30
    times = [u.utc_ns for u in units]
    assert times == sorted(times)


@pytest.mark.requirement("PB-8.5.5-06")
def test_sound_and_metadata_begin_with_the_picture_that_was_chosen() -> None:
    sound = audio()
    for i in range(6):
        sound.with_gop([f"a{i}.{j}" for j in range(4)], NS // 4)
    scene = MemoryTrack(PlainMetadata()).starting_at(TEN).with_gop([f"m{i}" for i in range(6)]).with_end()
    tracks = [video().with_gop(["I0", "P1", "P2"]).with_gop(["I3", "P4", "P5"]).with_end(), sound.with_end(), scene]
    units = played(tracks, TEN + 5 * NS)
    assert names(units).startswith("I3 a3.0 m3 a3.1")


@pytest.mark.requirement("PB-8.5.5-07")
@pytest.mark.parametrize("configuration", [PlainAudio(), PlainMetadata()])
def test_without_video_replay_begins_with_the_first_unit_at_or_after_the_start(configuration: PlainVideo) -> None:
    track = MemoryTrack(configuration).starting_at(TEN).with_gop(["a", "b", "c"]).with_end()
    assert names(played(track, TEN + NS // 2)) == "b c"
    assert names(played(track, TEN + NS)) == "b c"


@pytest.mark.requirement("PB-8.9-04")
def test_each_track_ends_by_itself() -> None:
    tracks = [video().with_gop(["I0", "P1", "P2", "P3"]).with_end(), audio().with_gop(["a", "b"]).with_end()]
    assert flags(played(tracks)) == "I0:C a:C P1: b:CET P2: P3:ET"


def test_a_fragment_that_cannot_be_read_ends_the_section_and_the_next_clean_point_begins_another() -> None:
    track = (
        video().with_gop(["I0", "P1"]).with_gop(["I2", "P3"]).with_gop(["p4"], clean=False).with_gop(["I5"]).with_end()
    )
    track.unreadable.add(1)
    plan = plan_of([track], Selection(TEN))
    assert flags(drain(plan, [track])) == "I0:C P1:E I5:CET"
    assert plan.unreadable == 1
    assert flags(played(track, TEN + 2 * NS)) == "I0:C P1:E I5:CET"


def test_footage_deleted_while_it_is_played_is_left_out() -> None:
    track = video()
    for i in range(6):
        track.with_gop([f"I{i}", f"P{i}"])
    track.with_end()
    plan = plan_of([track], Selection(TEN))
    units = plan.next_units([track.timeline], 1)
    del track.fragments_[:4]
    assert names(units + drain(plan, [track])) == "I0 P0 I4 P4 I5 P5"


class Deleting(MemoryTrack):
    """Passes over what has been deleted since, as footage on a disk does."""

    def fragments(
        self, from_ns: UtcNs, until_ns: UtcNs | None = None, *, run_id: str | None = None
    ) -> Iterator[FragmentRef]:
        return (r for r in super().fragments(from_ns, until_ns, run_id=run_id) if r in [f for f, _ in self.fragments_])

    def delete(self, count: int) -> None:
        del self.fragments_[:count]
        self.runs[0] = replace(self.runs[0], start_ns=self.fragments_[0][0].start_ns)


def test_a_pause_of_metadata_is_no_hole_and_deleted_metadata_are_one() -> None:
    def documents() -> Deleting:
        track = Deleting(PlainMetadata())
        for i in range(6):
            track.starting_at(TEN + i * 60 * NS).with_gop([f"m{i}"])
        return track.with_end()

    track = documents()
    assert flags(played(track)) == "m0:C m1:C m2:C m3:C m4:C m5:CET"
    plan = plan_of([track], Selection(TEN))
    units = plan.next_units([track.timeline], 1)
    track.delete(4)
    assert flags(units + drain(plan, [track])) == "m0:C m1:CE m4:C m5:CET"


def test_pictures_that_were_deleted_leave_an_end_before_them_and_no_time_to_wait() -> None:
    track = Deleting().starting_at(TEN)
    for i in range(6):
        track.with_gop([f"I{i}", f"P{i}"])
    plan = plan_of([track.with_end()], Selection(TEN))
    units = plan.next_units([track.timeline], 1)
    track.delete(4)
    units += drain(plan, [track])
    assert flags(units) == "I0:C P0:E I4:C P4: I5:C P5:ET"
    assert [u.due_ns - TEN for u in units] == [i * NS for i in range(6)]


class TestLiveEdge:
    @pytest.mark.requirement("PB-8.8-02", "PB-8.8-04")
    def test_the_newest_unit_waits_for_its_successor_and_bears_no_end(self) -> None:
        track = video().with_gop(["I0", "P1"])
        plan = plan_of([track], Selection(TEN))
        assert flags(drain(plan, [track])) == "I0:C"
        assert not plan.done
        track.with_gop(["I2", "P3"])
        assert flags(drain(plan, [track])) == "P1: I2:C"

    @pytest.mark.requirement("PB-8.8-03")
    def test_the_last_unit_ends_its_section_when_recording_stops(self) -> None:
        track = video().with_gop(["I0", "P1"])
        plan = plan_of([track], Selection(TEN))
        drain(plan, [track])
        track.with_end()
        assert flags(drain(plan, [track])) == "P1:ET"

    @pytest.mark.requirement("PB-8.9-02")
    def test_delivery_goes_on_when_recording_resumes(self) -> None:
        track = video().with_gop(["I0", "P1"]).with_end()
        plan = plan_of([track], Selection(TEN))
        assert flags(drain(plan, [track])) == "I0:C P1:ET"
        track.with_gap(TEN + 60 * NS).with_gop(["I2", "P3"]).with_gop(["I4"])
        assert flags(drain(plan, [track])) == "I2:C P3:"

    def test_nothing_is_lost_or_repeated_however_the_fragments_come(self) -> None:
        track = video()
        plan = plan_of([track], Selection(TEN))
        found = []
        for i in range(20):
            track.with_gop([f"I{i}", f"P{i}"])
            if i % 3 == 0:
                found += drain(plan, [track])
            if i % 7 == 0:
                track.with_rotation()
        track.with_end()
        found += drain(plan, [track])
        assert names(found) == " ".join(f"I{i} P{i}" for i in range(20))

    def test_a_track_that_is_written_later_is_waited_for(self) -> None:
        picture, sound = video().with_gop(["I0", "P1", "P2"]), audio().with_gop(["a0"])
        plan = plan_of([picture, sound], Selection(TEN))
        assert names(drain(plan, [picture, sound])) == "I0"
        sound.with_gop(["a1", "a2"])
        assert names(drain(plan, [picture, sound])) == "a0 P1 a1"

    def test_a_silent_track_holds_nobody_up_for_long(self) -> None:
        picture, sound = video().with_gop(["I0"]), audio().with_gop(["a0"])
        plan = plan_of([picture, sound], Selection(TEN))
        for i in range(EDGE_PATIENCE_NS // NS + 2):
            picture.with_gop([f"I{i + 1}"])
        assert len(drain(plan, [picture, sound])) >= EDGE_PATIENCE_NS // NS

    def test_a_start_behind_the_edge_waits_for_the_group_that_holds_it(self) -> None:
        track = video().with_gop(["I0", "P1"])
        plan = plan_of([track], Selection(TEN + 3 * NS))
        assert drain(plan, [track]) == []
        track.with_gop(["I2", "P3"]).with_gop(["I4"])
        assert names(drain(plan, [track])) == "I2 P3"


class TestFrames:
    @pytest.mark.requirement("PB-8.5.4-06")
    def test_intra_sends_clean_points_and_the_last_one_sent_ends_the_section(self) -> None:
        units = played(worked_example(), Selection(TEN, frames=FrameSet.INTRA))
        assert flags(units) == "I0:C I3:CE I6:C I9:CET"

    def test_intra_interval_counts_on_the_timeline_of_the_recording(self) -> None:
        track = video()
        for i in range(10):
            track.with_gop([f"I{i}"])
        units = played(track.with_end(), Selection(TEN, frames=FrameSet.INTRA, interval_ns=4 * NS))
        assert flags(units) == "I0:C I4:C I8:CET"

    @pytest.mark.requirement("PB-8.5.4-02")
    def test_predicted_leaves_out_what_is_shown_before_a_picture_that_came_earlier(self) -> None:
        units = played(b_frames(), Selection(TEN, frames=FrameSet.PREDICTED))
        assert flags(units) == "I2:C P5: I8:CET"
        without = worked_example()
        assert flags(played(without, Selection(TEN, frames=FrameSet.PREDICTED))) == flags(played(without))

    def test_fragments_in_which_no_intra_frame_is_wanted_are_not_read(self) -> None:
        track = video()
        for i in range(100):
            track.with_gop([f"I{i}"])
        played(track.with_end(), Selection(TEN, frames=FrameSet.INTRA, interval_ns=10 * NS))
        assert track.reads <= 12

    @pytest.mark.requirement("PB-8.5.4-07")
    def test_intra_leaves_sound_and_metadata_alone(self) -> None:
        scene = MemoryTrack(PlainMetadata()).starting_at(TEN).with_gop(["m", "n"]).with_end()
        tracks = [video().with_gop(["I0", "P1"]).with_end(), audio().with_gop(["a", "b"]).with_end(), scene]
        assert names(played(tracks, Selection(TEN, frames=FrameSet.INTRA))) == "I0 a m b n"


class TestPlayingTime:
    def test_a_gap_of_all_tracks_is_left_out_of_playing_time(self) -> None:
        units = played(worked_example())
        playing = [u.shown_ns - TEN for u in units]
        assert playing == [i * NS for i in range(12)]

    def test_a_gap_of_one_track_is_not_left_out(self) -> None:
        tracks = [worked_example(), audio().with_gop([f"a{i}" for i in range(70)]).with_end()]
        assert {u.utc_ns - u.shown_ns for u in played(tracks)} == {0}

    def test_gaps_between_single_units_are_left_out_each(self) -> None:
        track = video()
        for i in range(5):
            track.starting_at(TEN + i * 10 * NS).with_gop([f"I{i}"]).with_end().with_rotation()
        assert [u.shown_ns - TEN for u in played(track)] == [i * NS for i in range(5)]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_batch_counts_the_files_that_it_looks_into_as_well(reverse: bool) -> None:
    """Recording by events leaves files of one fragment: who jumps waits no longer for a batch of many of them."""
    track = video()
    for i in range(40):
        track.starting_at(TEN + i * 10 * NS).with_gop([f"I{i}"]).with_end().with_rotation()
    plan = plan_of([track], Selection(TEN + (1000 * NS if reverse else 0), reverse=reverse))
    track.reads = 0
    assert len(plan.next_units([track.timeline], 1 << 20)) == pytest.approx(BATCH_READS // 2, abs=1)
    assert track.reads <= BATCH_READS // 2 + 1
    assert len(drain(plan, [track])) == pytest.approx(40 - BATCH_READS // 2, abs=1)


@st.composite
def recorded(draw: st.DrawFn) -> MemoryTrack:
    track = video().with_configuration(PlainVideo())
    for section in range(draw(st.integers(1, 4))):
        if section:
            track.with_gap(track.at_ns + draw(st.integers(1, 100)) * NS)
        for _ in range(draw(st.integers(1, 5))):
            clean = draw(st.booleans())
            track.with_gop([f"{'I' if clean and i == 0 else 'p'}" for i in range(draw(st.integers(1, 4)))], clean=clean)
            if draw(st.booleans()):
                track.with_rotation()
    return track.with_end()


def naive(track: MemoryTrack) -> list[tuple[str, list[Sample], UtcNs]]:
    """All groups of pictures there are, in recorded order: run, samples, end. Made by looking at everything."""
    found = []
    for run in track.runs:
        samples = [s for ref, part in track.fragments_ if ref.run_id == run.run_id for s in part]
        cleans = [i for i, s in enumerate(samples) if s.clean_point]
        if not cleans and run.end_ns - run.start_ns >= REFRESHING_NS:
            cleans = [0]
        for a, b in zip(cleans, [*cleans[1:], len(samples)], strict=False):
            found.append((run.run_id, samples[a:b], samples[b].utc_ns if b < len(samples) else run.end_ns))
    return found


@given(recorded(), st.integers(0, 500), st.one_of(st.none(), st.integers(1, 200)))
def test_every_forward_plan_is_a_naive_one(track: MemoryTrack, start_s: int, length_s: int | None) -> None:
    start = TEN + start_s * NS
    end = None if length_s is None else start + length_s * NS
    units = played(track, Selection(start, end))
    groups = naive(track)
    holding = next((r.run_id for r in track.runs if r.start_ns <= start < r.end_ns), None)
    first = max((g[1][0].utc_ns for g in groups if g[0] == holding and g[1][0].utc_ns <= start), default=start)
    if holding is not None and not any(s.clean_point for r, g, _ in groups if r == holding for s in g):
        wanted = [(run, s) for run, samples, _ in groups for s in samples if s.utc_ns >= start]
    else:
        wanted = [(run, s) for run, samples, _ in groups if samples[0].utc_ns >= first for s in samples]
    sent = [(run, s) for run, s in wanted if end is None or s.utc_ns < end]
    assert [u.utc_ns for u in units] == [s.utc_ns for _, s in sent]
    for i, unit in enumerate(units):
        following = wanted[i + 1][0] if i + 1 < len(wanted) else None
        assert unit.end == (following != wanted[i][0])
        # Behind the end of a range there may be units that cannot be decoded: whether more can come is not looked for.
        assert unit.terminal == (following is None) or end is not None
        assert following is None or not unit.terminal
