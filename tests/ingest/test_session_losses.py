"""Packets that are lost or begin anew: counted, told to the camera, and a hole ends the run."""

from __future__ import annotations

import pytest

from nvr.media.rtcp import ReportBlock
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from tests.support.camera import h264_track, key_frame, picture
from tests.support.ingest import MS
from tests.support.ingest_stage import START, Stage


async def test_a_hole_behind_lost_packets_ends_the_run_also_when_it_comes_in_one_visit() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.pictures(24, first=1)
    stage.pass_ns(4 * NS)
    stage.packets(stage.tracks[0].unit(picture(25), 25 * 3600))
    stage.tracks[0].sequence += 50  # the connection stalled, and the camera's send buffer was full for three seconds
    stage.packets(stage.tracks[0].unit(key_frame(100), 100 * 3600))
    stage.visit()
    stage.session.finish(GapReason.JOB_STOPPED)
    before, after = stage.recorders[0].fragments
    assert stage.recorders[0].reasons == [GapReason.PACKET_LOSS, GapReason.JOB_STOPPED]
    assert before.end_ns == START + 26 * 40 * MS
    assert after.start_ns == START + 100 * 40 * MS
    assert (before.lost_packets, after.lost_packets) == (50, 0)


async def test_losses_count_in_the_fragment_in_which_they_happened() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.pictures(24, first=1)
    stage.packets(stage.tracks[0].unit(key_frame(25), 25 * 3600))
    stage.packets(stage.tracks[0].unit(picture(26), 26 * 3600))
    stage.tracks[0].sequence += 7
    stage.packets(stage.tracks[0].unit(picture(28), 28 * 3600))
    stage.packets(stage.tracks[0].unit(key_frame(50), 50 * 3600))
    stage.visit()
    stage.session.finish(GapReason.JOB_STOPPED)
    assert [f.lost_packets for f in stage.recorders[0].fragments] == [0, 7, 0]


async def test_losses_while_the_clock_is_not_known_count_behind_the_units_that_wait() -> None:
    stage = Stage(h264_track())
    stage.pictures(25)
    stage.packets(stage.tracks[0].unit(key_frame(25), 25 * 3600))
    stage.visit()
    stage.tracks[0].skip(7)
    stage.packets(stage.tracks[0].unit(key_frame(50), 50 * 3600))
    stage.visit()
    stage.report(START + 2 * NS, 50 * 3600)
    stage.session.finish(GapReason.JOB_STOPPED)
    assert [f.lost_packets for f in stage.recorders[0].fragments] == [0, 7, 0]
    assert stage.recorders[0].reasons == [GapReason.JOB_STOPPED]


async def test_a_hole_while_the_clock_is_not_known_ends_the_run_where_it_is() -> None:
    stage = Stage(h264_track())
    stage.pictures(10)
    stage.pass_ns(2 * NS)
    stage.tracks[0].skip(100)
    stage.packets(stage.tracks[0].unit(key_frame(75), 75 * 3600))
    stage.visit()
    stage.report(START + 75 * 40 * MS, 75 * 3600)
    stage.session.finish(GapReason.JOB_STOPPED)
    assert stage.recorders[0].reasons == [GapReason.PACKET_LOSS, GapReason.JOB_STOPPED]
    before, after = stage.recorders[0].fragments
    assert (before.end_ns, after.start_ns) == (START + 400 * MS, START + 3 * NS)
    assert (before.lost_packets, after.lost_packets) == (100, 0)


def dense(stage: Stage, count: int, first: int = 0) -> None:
    """Pictures of some 50 packets, 25 a second."""
    for number in range(first, first + count):
        stage.packets(stage.tracks[0].unit(key_frame(number, 70_000), number * 3600))
        stage.visit()
        stage.pass_ns(40 * MS)


def a_dense_stage() -> Stage:
    stage = Stage(h264_track())
    stage.packets(stage.tracks[0].unit(key_frame(0, 70_000), 0))
    stage.report(START, 0)
    dense(stage, 75, first=1)
    return stage


@pytest.mark.parametrize("missing", [2999, 3000, 6000, 20_000])
async def test_what_is_missing_is_counted_however_much_it_is(missing: int) -> None:
    stage = a_dense_stage()
    stage.tracks[0].skip(missing)
    gone = missing // 50
    stage.pass_ns(gone * 40 * MS)
    dense(stage, 30, first=76 + gone)
    await stage.session.stop()
    stage.session.finish(GapReason.SOURCE_LOST)
    order = stage.stream.receiver.order
    assert (order.lost, order.restarts) == (missing, 0)
    recorder = stage.recorders[0]
    assert recorder.reasons == [GapReason.PACKET_LOSS, GapReason.SOURCE_LOST]
    assert sum(f.lost_packets for f in recorder.fragments) == missing
    times = [s.utc_ns for s in recorder.samples]
    assert times[-1] - times[0] == pytest.approx((len(times) - 1 + gone) * 40 * MS, abs=50 * MS)
    block = next(p for p in reports_of(stage) if p.highest_sequence)
    assert block.cumulative_lost == missing


def reports_of(stage: Stage) -> list[ReportBlock]:
    statistics = stage.stream.receiver.statistics
    stage.stream.receiver.count()
    return [] if statistics is None else [statistics.report(stage.mono)]


@pytest.mark.parametrize("jump", [3000, 30_000, -5000])
async def test_a_sender_that_begins_anew_with_the_same_ssrc_has_lost_nothing(jump: int) -> None:
    stage = a_dense_stage()
    stage.tracks[0].skip(jump)
    dense(stage, 30, first=5_000_000)  # RTP time begins somewhere else, too
    order = stage.stream.receiver.order
    assert (order.lost, order.restarts) == (0, 1)
    assert stage.recorders[0].reasons == [GapReason.SOURCE_LOST]


async def test_numbers_that_jump_where_no_time_has_passed_are_no_loss() -> None:
    stage = a_dense_stage()
    stage.tracks[0].skip(40_000)
    dense(stage, 30, first=76)  # RTP time goes on: an encoder that takes it from its wall clock
    order = stage.stream.receiver.order
    assert (order.lost, order.restarts) == (0, 1)
