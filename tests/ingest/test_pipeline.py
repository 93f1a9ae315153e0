"""Where fragments are cut, what ends a run, and what is told about losses."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.ingest.pipeline import PipelineSettings, TrackPipeline
from nvr.media import codecs
from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from tests.support.ingest import MS, FakeRecorder

T0 = 1_800_000_000 * NS


def configuration(encoding: str = "PCMU") -> CodecConfiguration:
    found = codecs.depacketizer_for(encoding, 8000, 1, {}).configuration
    assert found is not None
    return found


ONE, OTHER = configuration(), configuration("PCMA")


def a_pipeline(track_type: TrackType = TrackType.VIDEO, **settings: int) -> tuple[TrackPipeline, FakeRecorder]:
    recorder = FakeRecorder()
    return TrackPipeline(recorder, track_type, PipelineSettings(**settings)), recorder


def push(
    pipeline: TrackPipeline, ms: int, clean: bool = False, size: int = 10, using: CodecConfiguration = ONE
) -> None:
    pipeline.push(Sample(T0 + ms * MS, bytes(size), clean), using)


def times(recorder: FakeRecorder) -> list[list[int]]:
    return [[(s.utc_ns - T0) // MS for s in f.samples] for f in recorder.fragments]


def ends(recorder: FakeRecorder) -> list[int]:
    return [(f.end_ns - T0) // MS for f in recorder.fragments]


def test_a_group_of_pictures_is_a_fragment_that_ends_where_the_next_begins() -> None:
    pipeline, recorder = a_pipeline()
    for ms in range(0, 2200, 200):
        push(pipeline, ms, clean=ms % 1000 == 0)
    assert times(recorder) == [[0, 200, 400, 600, 800], [1000, 1200, 1400, 1600, 1800]]
    assert ends(recorder) == [1000, 2000]
    assert all(f.clean_point for f in recorder.fragments)


def test_a_long_group_is_cut_and_only_its_beginning_is_a_clean_point() -> None:
    pipeline, recorder = a_pipeline()
    for ms in range(0, 5000, 500):
        push(pipeline, ms, clean=ms == 0)
    assert times(recorder) == [[0, 500, 1000, 1500], [2000, 2500, 3000, 3500]]
    assert [f.clean_point for f in recorder.fragments] == [True, False]


def test_a_large_group_is_cut_before_the_limit_and_never_inside_a_unit() -> None:
    pipeline, recorder = a_pipeline(size_bytes=1000)
    push(pipeline, 0, clean=True, size=5000)
    for ms in (40, 80, 120, 160):
        push(pipeline, ms, size=400)
    assert times(recorder) == [[0], [40, 80]]


def test_pictures_that_are_all_clean_share_fragments() -> None:
    pipeline, recorder = a_pipeline()
    for ms in range(0, 1000, 100):
        push(pipeline, ms, clean=True)
    assert times(recorder) == [[0, 100, 200, 300], [400, 500, 600, 700]]


def test_sound_is_cut_at_two_seconds() -> None:
    pipeline, recorder = a_pipeline(TrackType.AUDIO)
    for ms in range(0, 4100, 20):
        push(pipeline, ms, clean=True)
    assert [len(f.samples) for f in recorder.fragments] == [100, 100]


def test_sparse_metadata_is_handed_over_when_time_has_passed() -> None:
    pipeline, recorder = a_pipeline(TrackType.METADATA)
    push(pipeline, 0, clean=True)
    pipeline.idle(T0 + 3000 * MS)
    assert recorder.fragments == []
    assert pipeline.held_since == T0
    pipeline.idle(T0 + 4000 * MS)
    assert times(recorder) == [[0]]
    assert pipeline.held_since is None
    assert recorder.reasons == []
    push(pipeline, 9000, clean=True)
    pipeline.end_run(GapReason.JOB_STOPPED)
    assert times(recorder) == [[0], [9000]]


def test_b_frames_stay_in_decode_order_and_the_end_is_behind_the_latest() -> None:
    pipeline, recorder = a_pipeline()
    for ms, clean in ((0, True), (120, False), (40, False), (80, False)):
        push(pipeline, ms, clean)
    pipeline.end_run(GapReason.SOURCE_LOST)
    [fragment] = recorder.fragments
    assert times(recorder) == [[0, 120, 40, 80]]
    assert fragment.start_ns == T0
    assert fragment.end_ns > T0 + 120 * MS


def test_a_run_begins_with_a_clean_point() -> None:
    pipeline, recorder = a_pipeline()
    push(pipeline, 0)
    assert pipeline.waits_for_clean_point
    push(pipeline, 40)
    push(pipeline, 80, clean=True)
    assert not pipeline.waits_for_clean_point
    pipeline.end_run(GapReason.JOB_STOPPED)
    assert times(recorder) == [[80]]
    assert pipeline.skipped == 2


def test_a_stream_that_never_has_a_clean_point_is_kept_as_damaged_behind_the_wait() -> None:
    pipeline, recorder = a_pipeline()
    for ms in range(0, 8000, 1000):
        push(pipeline, ms)
    pipeline.end_run(GapReason.JOB_STOPPED)
    assert times(recorder) == [[5000, 6000], [7000]]
    assert all(s.damaged for s in recorder.samples)
    assert pipeline.skipped == 5


def test_marking_does_not_change_the_sample_that_another_track_holds() -> None:
    pipeline, recorder = a_pipeline(clean_point_wait_ns=0)
    sample = Sample(T0, b"x", False)
    pipeline.push(sample, ONE)
    pipeline.end_run(GapReason.JOB_STOPPED)
    assert recorder.samples[0].damaged
    assert not sample.damaged


def test_losses_stand_in_the_fragment_in_which_they_happened() -> None:
    pipeline, recorder = a_pipeline()
    push(pipeline, 0, clean=True)
    pipeline.lost(3, 1)
    push(pipeline, 1000, clean=True)
    pipeline.lost(2, 1)
    push(pipeline, 1500)
    pipeline.end_run(GapReason.JOB_STOPPED)
    assert [(f.lost_packets, f.dropped_units) for f in recorder.fragments] == [(3, 1), (2, 1)]


def test_a_hole_behind_losses_ends_the_run() -> None:
    pipeline, recorder = a_pipeline()
    push(pipeline, 0, clean=True)
    push(pipeline, 40)
    pipeline.lost(5, 1)
    push(pipeline, 3040, clean=True)
    assert recorder.reasons == [GapReason.PACKET_LOSS]
    assert ends(recorder) == [80]


@pytest.mark.parametrize("track_type", [TrackType.VIDEO, TrackType.AUDIO])
def test_a_stall_of_a_steady_stream_is_a_gap_and_not_footage(track_type: TrackType) -> None:
    pipeline, recorder = a_pipeline(track_type)
    push(pipeline, 0, clean=True)
    push(pipeline, 40)
    push(pipeline, 9040)
    push(pipeline, 9080)
    pipeline.end_run(GapReason.JOB_STOPPED)
    assert recorder.reasons == [GapReason.SOURCE_LOST, GapReason.JOB_STOPPED]
    assert times(recorder) == [[0, 40], [9040, 9080]]
    assert ends(recorder) == [80, 9120]


def test_a_slow_stream_has_no_gaps() -> None:
    pipeline, recorder = a_pipeline()
    for ms in range(0, 60_000, 5000):
        push(pipeline, ms, clean=True)
    assert recorder.reasons == []


def test_the_last_document_of_a_run_does_not_reach_into_the_future() -> None:
    pipeline, recorder = a_pipeline(TrackType.METADATA)
    push(pipeline, 0, clean=True)
    push(pipeline, 1000, clean=True)
    pipeline.end_run(GapReason.JOB_STOPPED)
    assert ends(recorder) == [1020]


def test_pauses_of_metadata_are_no_gaps() -> None:
    pipeline, recorder = a_pipeline(TrackType.METADATA)
    for ms in (0, 100, 60_000, 60_100):
        push(pipeline, ms, clean=True)
    assert recorder.reasons == []


@pytest.mark.parametrize("reason", [GapReason.PACKET_LOSS, GapReason.CLOCK_JUMP])
def test_what_follows_a_break_inside_a_group_is_kept_and_marked(reason: GapReason) -> None:
    pipeline, recorder = a_pipeline()
    push(pipeline, 0, clean=True)
    push(pipeline, 40)
    pipeline.end_run(reason)
    push(pipeline, 80)
    push(pipeline, 120)
    push(pipeline, 160, clean=True)
    push(pipeline, 200)
    pipeline.end_run(GapReason.JOB_STOPPED)
    kept = [s for f in recorder.fragments[1:] for s in f.samples]
    assert [(s.utc_ns - T0) // MS for s in kept] == [80, 120, 160, 200]
    assert [s.damaged for s in kept] == [True, True, False, False]
    assert pipeline.skipped == 0


def test_behind_a_new_connection_a_run_waits_for_a_clean_point() -> None:
    pipeline, recorder = a_pipeline()
    push(pipeline, 0, clean=True)
    pipeline.end_run(GapReason.SOURCE_LOST)
    push(pipeline, 80)
    push(pipeline, 120, clean=True)
    pipeline.end_run(GapReason.JOB_STOPPED)
    assert times(recorder) == [[0], [120]]
    assert pipeline.skipped == 1


def test_a_configuration_change_ends_the_run_without_a_gap() -> None:
    pipeline, recorder = a_pipeline()
    push(pipeline, 0, clean=True)
    push(pipeline, 40)
    push(pipeline, 80, clean=True, using=OTHER)
    push(pipeline, 120, using=OTHER)
    pipeline.end_run(GapReason.JOB_STOPPED)
    assert recorder.reasons == [GapReason.CONFIGURATION_CHANGED, GapReason.JOB_STOPPED]
    assert ends(recorder)[0] == 80
    assert [f.configuration for f in recorder.fragments] == [ONE, OTHER]


def test_an_equal_configuration_object_is_no_change() -> None:
    pipeline, recorder = a_pipeline()
    push(pipeline, 0, clean=True)
    push(pipeline, 40, using=dataclasses.replace(ONE))  # type: ignore[type-var]
    assert recorder.events == []


def test_what_follows_a_refused_fragment_is_damaged_up_to_the_next_clean_point() -> None:
    pipeline, recorder = a_pipeline()
    recorder.full = True
    for ms in range(0, 2500, 500):
        push(pipeline, ms, clean=ms == 0)
    assert pipeline.refused
    recorder.full = False
    for ms in range(2500, 5000, 500):
        push(pipeline, ms, clean=ms == 4500)
    pipeline.end_run(GapReason.JOB_STOPPED)
    assert [((s.utc_ns - T0) // MS, s.damaged) for s in recorder.samples] == [
        (2000, True),
        (2500, True),
        (3000, True),
        (3500, True),
        (4000, True),
        (4500, False),
    ]
    assert not pipeline.refused


def test_ending_a_run_that_never_began_says_nothing() -> None:
    pipeline, recorder = a_pipeline()
    push(pipeline, 0)
    pipeline.end_run(GapReason.SOURCE_LOST)
    assert recorder.events == []


@given(st.lists(st.tuples(st.integers(1, 900), st.booleans(), st.integers(1, 600_000)), max_size=80))
def test_every_sample_behind_the_first_clean_point_is_handed_over_once_in_order(
    steps: list[tuple[int, bool, int]],
) -> None:
    pipeline, recorder = a_pipeline(clean_point_wait_ns=10**18)
    at, expected = 0, []
    for step, clean, size in steps:
        at += step
        if clean or expected:
            expected.append(at)
        push(pipeline, at, clean, size)
    pipeline.end_run(GapReason.DAEMON_STOPPED)
    assert [t for f in times(recorder) for t in f] == expected
    for before, after in zip(recorder.fragments, recorder.fragments[1:], strict=False):
        assert before.end_ns == after.start_ns
