"""The times of what a session receives: reports, jumps of either clock, drift; inside a run they never go back."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.unit import Fragment
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from tests.support.camera import h264_track, key_frame, pcmu_track
from tests.support.ingest import MS
from tests.support.ingest_stage import START, Stage


async def test_samples_wait_for_the_first_report_and_then_have_true_times() -> None:
    stage = Stage(h264_track())
    stage.pictures(60)
    assert stage.recorders[0].events == []
    stage.report(START - 250 * MS, 0)
    stage.pictures(20, first=60)
    assert [s.utc_ns for s in stage.recorders[0].samples[:3]] == [START + (40 * n - 250) * MS for n in range(3)]
    assert len(stage.recorders[0].samples) == 75


async def test_without_any_report_arrival_is_taken_behind_the_hold() -> None:
    stage = Stage(h264_track())
    stage.pictures(150)
    assert [s.utc_ns for s in stage.recorders[0].samples[:2]] == [START, START + 40 * MS]
    assert stage.recorders[0].reasons == []


async def test_what_is_held_is_kept_when_the_source_is_lost() -> None:
    stage = Stage(h264_track())
    stage.pictures(10)
    stage.session.finish(GapReason.SOURCE_LOST)
    assert len(stage.recorders[0].samples) == 10
    assert stage.recorders[0].reasons == [GapReason.SOURCE_LOST]


async def test_the_drain_is_quick_until_the_clock_is_fixed_and_while_somebody_watches() -> None:
    stage = Stage(h264_track())
    assert stage.session.interval_ns == 30 * MS
    stage.pictures(1)
    stage.report(START, 0)
    assert stage.session.interval_ns == 250 * MS
    stage.session.attach(stage.stream, None, tap := lambda s, c: None)
    assert stage.session.interval_ns == 30 * MS
    stage.session.detach(stage.stream, None, tap)
    assert stage.session.interval_ns == 250 * MS


async def test_a_jump_of_the_cameras_clock_ends_the_run() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.pictures(49, first=1)
    stage.report(START + 5 * NS, 50 * 3600)  # 3 s ahead of where it should be
    stage.pictures(30, first=50)
    assert stage.recorders[0].reasons == [GapReason.CLOCK_JUMP]
    times = [s.utc_ns - START for s in stage.recorders[0].samples]
    assert times[49] == 49 * 40 * MS
    assert times[50] == 5 * NS


async def test_a_lying_camera_is_recorded_at_the_recorders_time_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(1000 * NS, 3600)
    stage.pictures(60, first=1)
    stage.report(1002 * NS + 400 * MS, 61 * 3600)
    assert stage.recorders[0].samples[0].utc_ns == pytest.approx(START, abs=MS)
    assert [r.levelname for r in caplog.records if "overruled" in r.message] == ["WARNING"]
    assert stage.session.clock.overruled


async def test_a_restarted_rtp_clock_ends_the_run() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.pictures(30, first=1)
    stage.pictures(130, first=1_000_000)
    assert stage.recorders[0].reasons == [GapReason.CLOCK_JUMP]
    later = [s.utc_ns for s in stage.recorders[0].samples[31:]]
    assert later[0] == pytest.approx(START + 31 * 40 * MS, abs=MS)


async def test_a_jump_of_the_recorders_clock_begins_a_new_run_where_arrival_is_the_measure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(h264_track())
    stage.pictures(150)
    stage.utc += 3600 * NS
    stage.pictures(150, first=150)
    assert stage.recorders[0].reasons == [GapReason.CLOCK_JUMP]
    assert stage.recorders[0].samples[-1].utc_ns > START + 3600 * NS
    assert "the clock of this recorder has jumped by 3600.0 s" in caplog.text


async def test_the_recorders_clock_may_jump_while_reports_are_the_measure() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.pictures(25, first=1)
    stage.utc += 2 * NS  # within the tolerance: the camera is as right as before
    stage.visit()
    stage.report(START + 26 * 40 * MS, 26 * 3600)
    stage.pictures(25, first=26)
    assert stage.recorders[0].reasons == []


async def test_tracks_of_a_session_stay_together() -> None:
    stage = Stage(h264_track(), pcmu_track())
    stage.packets(stage.tracks[0].unit(key_frame(), 1000))
    stage.packets([stage.tracks[1].packet(bytes(160), 77)], 1)
    stage.report(START, 1000)
    stage.report(START, 77, 1)
    stage.visit()
    stage.session.finish(GapReason.JOB_STOPPED)
    assert stage.recorders[0].samples[0].utc_ns == stage.recorders[1].samples[0].utc_ns == START


async def test_a_recorder_whose_own_clock_was_hours_off_goes_on_with_the_right_time_in_a_new_run() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.pictures(25, first=1)
    stage.utc += 7200 * NS
    stage.visit()
    stage.report(START + 26 * 40 * MS, 26 * 3600)  # the camera's clock is as it was
    stage.pictures(30, first=26)
    stage.session.finish(GapReason.JOB_STOPPED)
    assert stage.recorders[0].reasons == [GapReason.CLOCK_JUMP, GapReason.JOB_STOPPED]
    times = [s.utc_ns - START for s in stage.recorders[0].samples]
    assert times[25] == 25 * 40 * MS
    assert times[26] == 7200 * NS + 26 * 40 * MS
    assert stage.session.clock.overruled


@pytest.mark.parametrize("moment", ["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"], ids=["spring", "autumn"])
async def test_the_hour_of_summer_time_leaves_no_trace(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from nvr.model.time import parse_iso

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        change = parse_iso(moment)
        before, after = (time.localtime(change // NS + s).tm_hour for s in (-1, 1))
        assert abs(after - before) != 1, "the hour of this day is missing or comes twice"
        stage = Stage(h264_track())
        stage.utc = begin = change - 2 * NS
        stage.pictures(1)
        stage.report(begin, 0)
        stage.pictures(99, first=1)
        stage.session.finish(GapReason.JOB_STOPPED)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [s.utc_ns for s in stage.recorders[0].samples] == [begin + n * 40 * MS for n in range(100)]
    assert stage.recorders[0].reasons == [GapReason.JOB_STOPPED]


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("late"), st.integers(0, 900)),
        st.tuples(st.just("report"), st.integers(-30, 30)),
        st.tuples(st.just("report"), st.integers(-9000, 9000)),
        st.tuples(st.just("own clock"), st.integers(-4000, 4000)),
        # A step back of less than a second could be B-frames: times follow it.
        st.tuples(st.just("rtp"), st.integers(-400_000, -95_000) | st.integers(0, 400_000)),
        st.tuples(st.just("lost"), st.integers(1, 90)),
        st.tuples(st.just("source"), st.integers(1, 1 << 20)),
    ),
    max_size=12,
)


@given(events=EVENTS, first_rtp=st.integers(0, (1 << 32) - 1), ppm=st.integers(-500, 500))
@settings(max_examples=60, deadline=None)
def test_whatever_clocks_do_times_never_go_back_inside_a_run_and_nothing_is_lost(
    events: list[tuple[str, int]], first_rtp: int, ppm: int
) -> None:
    sent: list[bytes] = []

    async def scenario() -> list[Fragment | GapReason]:
        stage = Stage(h264_track())
        track, rtp, number = stage.tracks[0], first_rtp, 0
        for what, amount in [*events, ("end", 0)]:
            for _ in range(8):
                sent.append(key_frame(number, 20))
                stage.packets(track.unit(sent[-1], rtp))
                stage.visit()
                stage.pass_ns(40 * MS)
                rtp += 3600 + 3600 * ppm // 1_000_000
                number += 1
            if what == "late":
                stage.pass_ns(amount * MS)
            elif what == "report":
                stage.report(stage.utc + amount * MS, rtp)
            elif what == "own clock":
                stage.utc += amount * MS
            elif what == "rtp":
                rtp += amount
            elif what == "lost":
                track.skip(amount)
            elif what == "source":
                track.ssrc, track.sequence = track.ssrc + amount, amount & 0xFFFF
        stage.session.finish(GapReason.JOB_STOPPED)
        return stage.recorders[0].events

    last: int | None = None
    recorded: list[bytes] = []
    for event in asyncio.run(scenario()):
        if isinstance(event, Fragment):
            for sample in event.samples:
                assert last is None or sample.utc_ns > last
                last = sample.utc_ns
                recorded.append(sample.data)
            assert event.end_ns > last
        else:
            last = None
    assert recorded == sent
