"""A session under a simulated clock: what is due, what times out, where samples go while the clock is unknown."""

from __future__ import annotations

from typing import cast

import pytest

from nvr.media.rtcp import ReceiverReport, SourceDescription, parse_compound
from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from tests.support.camera import h264_track, key_frame, metadata_track, pcmu_track
from tests.support.ingest import MS
from tests.support.ingest_stage import START, Stage, settle


async def test_a_session_without_data_is_given_up() -> None:
    stage = Stage(h264_track(), pcmu_track())
    stage.pass_ns(10 * NS)
    stage.visit()
    assert stage.error() is None
    stage.pass_ns(MS)
    stage.visit()
    assert stage.error() in ("camera:554 has sent nothing for 10 s", "camera:554 has sent no video for 10 s")


async def test_sound_alone_does_not_hide_that_the_pictures_have_stopped() -> None:
    stage = Stage(h264_track(), pcmu_track())
    stage.pictures(1)
    for n in range(22):
        stage.pass_ns(500 * MS)
        stage.packets([stage.tracks[1].packet(bytes(160), n * 4000)], 1)
        stage.visit()
    assert stage.error() == "camera:554 has sent no video for 10 s"


async def test_silence_and_rare_metadata_are_no_fault() -> None:
    stage = Stage(h264_track(), pcmu_track(), metadata_track())
    stage.pictures(25 * 30)
    assert stage.error() is None


async def test_metadata_alone_may_be_silent_for_two_keep_alives() -> None:
    stage = Stage(metadata_track())
    stage.pass_ns(60 * NS)
    stage.visit()
    assert stage.error() is None
    stage.pass_ns(MS)
    stage.visit()
    assert stage.error() == "camera:554 has sent nothing for 60 s"


async def test_rare_metadata_is_handed_over_without_a_successor() -> None:
    stage = Stage(h264_track(), metadata_track())
    stage.pictures(1)
    stage.packets([stage.tracks[1].packet(b"<tt:MetadataStream/>", 0, marker=True)], 1)
    stage.report(START, 0)
    stage.report(START, 0, 1)
    stage.pictures(50, first=1)
    assert stage.recorders[1].fragments == []
    stage.pictures(60, first=51)
    assert [s.data for s in stage.recorders[1].samples] == [b"<tt:MetadataStream/>"]


@pytest.mark.parametrize(("timeout_s", "expected_s"), [(60, 30), (10, 5), (600, 30)])
async def test_keep_alives_go_at_half_the_time_out_and_at_least_every_30_s(timeout_s: int, expected_s: int) -> None:
    stage = Stage(h264_track(), timeout_s=timeout_s)
    stage.pictures(expected_s * 25)
    await settle()
    assert stage.connection.requests == []
    stage.pictures(1, first=expected_s * 25)
    await settle()
    assert stage.connection.requests == [("GET_PARAMETER", "rtsp://camera/s")]
    stage.pictures(expected_s * 25, first=expected_s * 25 + 1)
    await settle()
    assert len(stage.connection.requests) == 2


async def test_options_serves_where_get_parameter_is_not_offered_or_not_served() -> None:
    stage = Stage(h264_track(), public="PLAY")
    stage.pictures(751)
    await settle()
    assert stage.connection.requests == [("OPTIONS", "rtsp://camera/s")]
    stage = Stage(h264_track())
    stage.connection.status = 501
    stage.pictures(751)
    await settle()
    stage.connection.status = 200
    stage.pictures(751, first=751)
    await settle()
    assert [m for m, _ in stage.connection.requests] == ["GET_PARAMETER", "OPTIONS"]
    assert stage.error() is None


async def test_a_forgotten_session_is_given_up_and_a_silent_camera_that_streams_is_not() -> None:
    stage = Stage(h264_track())
    stage.connection.silent = True
    stage.pictures(751)
    await settle()
    assert stage.error() is None
    stage = Stage(h264_track())
    stage.connection.status = 454
    stage.pictures(751)
    await settle()
    assert stage.error() == "camera:554 has forgotten the session (454 to GET_PARAMETER)"


async def test_reports_go_every_five_seconds_on_the_channel_of_each_stream() -> None:
    stage = Stage(h264_track(), pcmu_track())
    stage.packets([stage.tracks[1].packet(bytes(160), 0)], 1)
    stage.pictures(25 * 11)
    channels = [c for c, _ in stage.connection.frames]
    assert channels == [1, 3, 1, 3]
    report, description = parse_compound(stage.connection.frames[2][1])
    assert isinstance(report, ReceiverReport)
    assert isinstance(description, SourceDescription)
    assert report.blocks[0].ssrc == stage.tracks[0].ssrc
    assert report.blocks[0].cumulative_lost == 0
    assert description.chunks[0][1][0][1] == b"rcv-1@nvr"


async def test_losses_stand_in_the_report() -> None:
    stage = Stage(h264_track())
    stage.pictures(50)
    stage.tracks[0].sequence += 10
    stage.pictures(80, first=50)
    [block] = cast(ReceiverReport, parse_compound(stage.connection.frames[0][1])[0]).blocks
    assert block.cumulative_lost == 10


async def test_a_report_of_another_source_or_a_broken_one_changes_nothing() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    other = h264_track(ssrc=0x4242)
    stage.session.on_rtcp(stage.stream.receiver, other.sender_report(START, 0))
    assert not stage.stream.clock.fixed
    stage.session.on_rtcp(stage.stream.receiver, b"\x80\xc8\x00\x06\x00")
    assert stage.session.bad_reports == 1
    assert stage.session.clock.refused_reports == 1


async def test_a_fault_of_ours_ends_the_session_and_not_the_drain(caplog: pytest.LogCaptureFixture) -> None:
    stage, other = Stage(h264_track()), Stage(h264_track())
    other.session._drain = stage.drain  # one drain serves all sessions
    for session in (stage.session, other.session):
        stage.drain.add(session)
    stage.pictures(1)
    stage.report(START, 0)

    def broken(sample: Sample, configuration: CodecConfiguration) -> None:
        raise ZeroDivisionError("a fault of ours")

    stage.session.attach(stage.stream, None, broken)
    stage.packets(stage.tracks[0].unit(key_frame(25), 25 * 3600))
    other.packets(other.tracks[0].unit(key_frame(25), 25 * 3600))
    stage.pass_ns(NS)
    while stage.drain.run_slice():
        pass
    assert stage.error() == "camera:554: internal fault: ZeroDivisionError"
    assert "a fault of ours" in caplog.text
    assert other.stream.held, "the others have been visited"
    assert not other.session.closed.done()
    stage.packets(stage.tracks[0].unit(key_frame(50), 50 * 3600))
    stage.session.finish(GapReason.SOURCE_LOST)
    assert stage.recorders[0].reasons == [GapReason.SOURCE_LOST]


async def test_stopping_tears_down_once_and_closes() -> None:
    stage = Stage(h264_track())
    await stage.session.stop()
    assert stage.connection.requests == [("TEARDOWN", "rtsp://camera/s")]
    assert stage.connection.closed


async def test_packets_behind_the_end_reach_no_track() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.session.finish(GapReason.JOB_STOPPED)
    stage.pictures(30, first=25)
    assert len(stage.recorders[0].samples) == 1
    assert stage.recorders[0].reasons == [GapReason.JOB_STOPPED]
