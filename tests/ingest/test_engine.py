"""The engine against a scripted camera over sockets: what is recorded, what is told, what each fault becomes."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time

import pytest

from nvr.ingest.engine import IngestEngine
from nvr.ingest.settings import IngestSettings
from nvr.media.rtcp import ReceiverReport, SourceDescription
from nvr.media.rtsp.message import Response
from nvr.model.errors import UnknownToken
from nvr.model.receiver import ReceiverState
from nvr.model.recording import RecordingConfiguration, RecordingSourceInformation
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken, ReceiverToken
from tests.support.camera import Camera, h264_track, key_frame, metadata_track, pcmu_track, picture
from tests.support.ingest import (
    MS,
    QUICK,
    FakeStorage,
    a_job,
    a_receiver,
    a_recording,
    a_source,
    key,
    until,
)
from tests.support.ingest_house import ACTIVE, ERROR, FRAME, JOB, RECEIVER, House, send_gops


async def test_records_every_picture_at_the_time_of_the_sender_report(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        now = time.time_ns()
        camera.send_report(track, now, 0)
        send_gops(camera, track, 3)
        await until(lambda: len(house.recorder().samples) == 50)
        assert house.state() == (ACTIVE, None)
        assert house.receiver is ReceiverState.CONNECTED
    first, second = house.recorder().fragments
    assert [s.data for s in first.samples] == [key_frame(0), *(picture(n) for n in range(1, 25))]
    assert first.clean_point
    assert second.clean_point
    for n, sample in enumerate(house.recorder().samples):
        assert abs(sample.utc_ns - now - n * 40 * MS) <= 1
    assert first.end_ns == second.start_ns


async def test_what_is_pending_is_kept_when_the_engine_stops(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 1, length=10)
        await until(lambda: house.engine.counters()[RECEIVER].packets >= 12)
        await house.engine.stop()
        assert camera.methods()[-1] == "TEARDOWN"
    assert len(house.recorder().samples) == 10
    assert house.recorder().reasons == [GapReason.DAEMON_STOPPED]


async def test_three_tracks_go_through_one_session(house: House) -> None:
    video, audio, meta = h264_track(), pcmu_track(), metadata_track()
    async with Camera([video, audio, meta]) as camera:
        house.record(camera.uri, ("", "VIDEO001"), ("", "AUDIO001"), ("", "META001"))
        await camera.playing()
        now = time.time_ns()
        for track in camera.tracks:
            camera.send_report(track, now, 0)
        send_gops(camera, video, 1)
        for n in range(150):
            camera.send(audio.frames([audio.packet(bytes([n]) * 160, n * 160)]))
        camera.send(meta.frames([meta.packet(b"<tt:MetadataStream/>", 900, marker=True)]))
        await until(lambda: house.recorder("AUDIO001").samples != [])
        waiting = house.engine.held_since
        await until(lambda: waiting(key("META001")) == now + 10 * MS or house.recorder("META001").samples)
        assert house.engine.behind(key("META001")) is not None
        assert house.engine.behind(key("OTHER")) is None
        await until(lambda: [house.state(i)[0] for i in range(3)] == [ACTIVE] * 3)
        assert camera.connections == 1
        assert camera.methods() == ["OPTIONS", "DESCRIBE", "SETUP", "SETUP", "SETUP", "PLAY"]
        await house.engine.stop()
    assert len(house.recorder("AUDIO001").samples) == 150
    [document] = house.recorder("META001").samples
    assert waiting(key("META001")) is None
    assert document.data == b"<tt:MetadataStream/>"
    assert document.utc_ns == now + 10 * MS


async def test_lost_packets_drop_their_unit_and_mark_what_follows(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        broken = track.unit(picture(1, 3000), FRAME)
        camera.send(track.frames([broken[0], broken[2]]))
        camera.send_unit(track, picture(2), 2 * FRAME)
        camera.send_unit(track, key_frame(25), 25 * FRAME)
        camera.send_unit(track, picture(26), 26 * FRAME)
        camera.send_unit(track, key_frame(50), 50 * FRAME)
        await until(lambda: len(house.recorder().fragments) == 2)
    first, second = house.recorder().fragments
    assert [(s.data, s.damaged) for s in first.samples] == [(key_frame(0), False), (picture(2), True)]
    assert (first.lost_packets, first.dropped_units) == (1, 1)
    assert [s.damaged for s in second.samples] == [False, False]
    assert (second.lost_packets, second.dropped_units) == (0, 0)


async def test_a_lost_source_ends_the_run_and_is_connected_again(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 1, length=5)
        await until(lambda: house.engine.counters()[RECEIVER].packets >= 7)
        camera.hang_up()
        await until(lambda: house.recorder().reasons == [GapReason.SOURCE_LOST])
        assert len(house.recorder().samples) == 5
        await camera.playing(2)
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 2, length=25)
        await until(lambda: len(house.recorder().fragments) == 2)
        assert house.state() == (ACTIVE, None)
        assert house.engine.counters()[RECEIVER].connections_lost == 1


async def test_a_reset_connection_is_told(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        await until(lambda: house.receiver is ReceiverState.CONNECTED)
        camera.hang_up(reset=True)
        await until(lambda: house.engine.counters()[RECEIVER].connections_lost == 1)
        await camera.playing(2)


async def test_garbage_between_frames_is_skipped_and_counted(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        camera.send(b"\x00\xffgarbage" * 10)
        send_gops(camera, track, 2, first=25)
        await until(lambda: len(house.recorder().fragments) == 2)
        assert len(house.recorder().samples) == 26
        assert house.engine.counters()[RECEIVER].garbage == 90


async def test_nothing_but_garbage_ends_the_connection_with_evidence(house: House) -> None:
    async with Camera([h264_track()]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send(b"\xde\xad\xbe\xef" * 100_000)
        await until(lambda: house.state()[0] is ERROR)
        assert "neither RTP nor RTSP" in house.error()
        assert "de ad be ef" in house.error()
        await camera.playing(2)


async def test_packets_with_extension_and_in_other_payload_types_do_not_disturb(house: House) -> None:
    from nvr.media.rtp import RtpExtension

    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        [plain] = track.unit(picture(1), FRAME)
        track.sequence -= 1
        camera.send(track.frames([track.packet(plain[12:], FRAME, True, RtpExtension(0xABAC, bytes(12)))]))
        other = dataclasses.replace(track, payload_type=33)
        camera.send(other.frames([other.packet(b"x" * 50, FRAME)]))
        track.sequence = other.sequence
        camera.send_unit(track, picture(2), 2 * FRAME)
        camera.send_unit(track, key_frame(25), 25 * FRAME)
        await until(lambda: len(house.recorder().fragments) == 1)
    [fragment] = house.recorder().fragments
    assert [s.data for s in fragment.samples] == [key_frame(0), picture(1), picture(2)]
    assert fragment.lost_packets == 0


async def test_a_camera_without_parameter_sets_is_recorded_once_it_sends_them_in_band(house: House) -> None:
    from tests.support.camera import PPS, SPS, sample_form

    track = h264_track(parameter_sets=False)
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        whole = sample_form(SPS, PPS) + key_frame(25)
        camera.send_unit(track, whole, 25 * FRAME)
        camera.send_unit(track, whole, 50 * FRAME)
        await until(lambda: len(house.recorder().fragments) == 1)
    assert house.recorder().samples[0].data == whole


async def test_a_new_ssrc_begins_a_new_run(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        now = time.time_ns()
        camera.send_report(track, now, 0)
        send_gops(camera, track, 1, length=5)
        track.ssrc, track.sequence = 0x9999, 100
        camera.send_report(track, now + 200 * MS, 700_000)
        for n in range(2):
            camera.send_unit(track, key_frame(n), 700_000 + n * 90_000)
        camera.send_report(track, now + 200 * MS, 700_000)
        camera.send_unit(track, key_frame(2), 700_000 + 2 * 90_000)
        await until(lambda: len(house.recorder().fragments) >= 2)
    assert house.recorder().reasons == [GapReason.SOURCE_LOST]
    assert house.recorder().samples[5].utc_ns == now + 200 * MS


async def test_bye_ends_the_session_and_the_camera_is_asked_again(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 1, length=5)
        camera.send(track.frames([track.bye("going to sleep")], rtcp=True))
        await until(lambda: house.recorder().reasons == [GapReason.SOURCE_LOST])
        assert len(house.recorder().samples) == 5
        await camera.playing(2)


async def test_requests_of_the_camera_are_answered(house: House) -> None:
    async with Camera([h264_track()]) as camera:
        answered = b"RTSP/1.0 200"
        house.record(camera.uri)
        await camera.playing()
        await until(lambda: house.receiver is ReceiverState.CONNECTED)
        camera.send(b"GET_PARAMETER rtsp://x RTSP/1.0\r\nCSeq: 9\r\n\r\n")
        await until(lambda: house.engine.counters()[RECEIVER].bytes > 400)
        assert answered
        assert house.receiver is ReceiverState.CONNECTED


async def test_streams_beyond_the_maximum_are_told_and_the_others_recorded(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.engine = IngestEngine(house.storage, dataclasses.replace(QUICK, maximum_streams=1))
    await house.engine.start()
    try:
        async with Camera([h264_track(), pcmu_track(), metadata_track()]) as camera:
            house.record(camera.uri.replace("://", "://admin:secret@"))
            await camera.playing()
            assert camera.methods().count("SETUP") == 1
            told = [r for r in caplog.records if "maximum_streams" in r.getMessage()]
            assert [(r.levelno, r.getMessage()) for r in told] == [
                (
                    logging.WARNING,
                    f"receiver rcv-1: 127.0.0.1:{camera.port} offers 3 streams; the first 1 are taken, "
                    "audio, application are left out (maximum_streams)",
                )
            ]
    finally:
        await house.engine.stop()


async def test_the_session_description_is_told_before_tracks_are_mapped(house: House) -> None:
    told: list[tuple[str, list[str]]] = []
    house.engine.on_streams = lambda token, streams: told.append((token, [s.encoding for s in streams]))
    async with Camera([h264_track(), pcmu_track(), metadata_track()]) as camera:
        house.record(camera.uri)
        await camera.playing()
        await until(lambda: told != [])
    assert told == [("rcv-1", ["H264", "PCMU", "VND.ONVIF.METADATA"])]


async def test_storage_that_refuses_makes_the_track_an_error_until_it_takes_again(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        house.recorder().full = True
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 2)
        await until(lambda: house.state() == (ERROR, "the storage does not take the data"))
        house.recorder().full = False
        send_gops(camera, track, 2, first=50)
        await until(lambda: house.state() == (ACTIVE, None))


async def test_one_bad_camera_does_not_disturb_another() -> None:
    house = House(dataclasses.replace(QUICK, request_timeout_ns=2000 * MS))
    await house.engine.start()
    good = h264_track()
    async with (
        Camera([good]) as camera,
        Camera([h264_track()], answers={"DESCRIBE": lambda q, a: b"\xff" * 999}) as bad,
    ):
        jobs = [
            a_job(a_source("rcv-1", ("", "VIDEO001"))),
            a_job(a_source("rcv-2", ("", "VIDEO001")), token="job-2", recording="rec-2"),
        ]
        house.engine.apply(
            [a_recording(), a_recording("rec-2")], jobs, [a_receiver(camera.uri), a_receiver(bad.uri, "rcv-2")]
        )
        await camera.playing()
        camera.send_report(good, time.time_ns(), 0)
        send_gops(camera, good, 3)
        await until(lambda: len(house.recorder().samples) == 50)
        await until(lambda: house.engine.job_state(JobToken("job-2")).state is ERROR)
        assert house.state() == (ACTIVE, None)
        await house.engine.stop()


async def test_samples_reach_a_subscriber_as_they_come(house: House) -> None:
    track = h264_track()
    seen: list[bytes] = []
    async with Camera([track]) as camera:
        unsubscribe = house.engine.subscribe(key(), lambda sample, configuration: seen.append(sample.data))
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        await until(lambda: seen == [key_frame(0)])
        assert house.recorder().fragments == []
        unsubscribe()
        camera.send_unit(track, key_frame(1), 90_000)
        await until(lambda: len(house.recorder().fragments) == 1)
        assert seen == [key_frame(0)]


@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"])
async def test_stopping_together_with_an_answer_does_not_wait_for_the_session(house: House, method: str) -> None:
    """The answer is in the socket when the attempt is cancelled: both reach the loop in one round."""
    async with Camera([h264_track()]) as camera:
        house.record(camera.uri)
        await camera.requested(method)
        async with asyncio.timeout(30):
            await house.engine.stop()
        assert method != "PLAY" or camera.methods()[-1] == "TEARDOWN"


async def test_unknown_tokens_are_refused(house: House) -> None:
    with pytest.raises(UnknownToken, match="RecordingJob"):
        house.engine.job_state(JOB)
    with pytest.raises(UnknownToken, match="Receiver"):
        house.engine.receiver_state(RECEIVER)


@pytest.mark.requirement("RX-10.5.7-09")
async def test_between_two_attempts_a_receiver_is_not_connected_and_waits() -> None:
    house = House()
    house.engine = IngestEngine(
        house.storage, dataclasses.replace(QUICK, back_off_ns=60_000 * MS, back_off_maximum_ns=60_000 * MS)
    )
    await house.engine.start()
    async with Camera([h264_track()], answers={"DESCRIBE": lambda q, a: bytes(Response(404, a.headers))}) as camera:
        house.record(camera.uri)
        await until(lambda: house.state()[0] is ERROR)
        assert house.receiver is ReceiverState.NOT_CONNECTED
        assert camera.connections == 1
        await house.engine.stop()
    shipped = IngestSettings()
    assert min(shipped.back_off_ns, shipped.refused_back_off_ns) >= 2000 * MS


@pytest.mark.requirement("RX-10.2-01")
async def test_receiver_reports_carry_a_name_and_the_cameras_report() -> None:
    house = House()
    house.engine = IngestEngine(house.storage, dataclasses.replace(QUICK, report_interval_ns=20 * MS))
    await house.engine.start()
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_unit(track, picture(1), 0)
        await until(lambda: house.engine.counters()[RECEIVER].packets == 1)
        camera.send_report(track, time.time_ns(), 0)
        await until(lambda: house.engine.counters()[RECEIVER].sender_reports == 1)
        await camera.reported(len(camera.raw_reports) + 1)
        channel, packets = camera.reports[-1]
        report, description = packets[0], packets[1]
        assert channel == 1
        assert isinstance(report, ReceiverReport)
        assert isinstance(description, SourceDescription)
        [block] = report.blocks
        assert block.ssrc == track.ssrc
        assert block.last_sr != 0
        assert camera.raw_reports[-1][1].endswith(b"\x00\x00\x10\x00"), "a PLI asks for a key frame"
        await house.engine.stop()


async def test_log_lines_name_the_camera_and_its_name_begins_no_line_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "nvr")
    engine = IngestEngine(FakeStorage(), QUICK)
    source = RecordingSourceInformation(name="Tür 1\nERROR forged\x1b[31m")
    recording = dataclasses.replace(a_recording(), configuration=RecordingConfiguration(source))
    async with Camera([h264_track()]) as camera:
        engine.apply([recording], [a_job(a_source("rcv-1", ("", "VIDEO001")))], [a_receiver(camera.uri)])
        await engine.start()
        await camera.playing()
        await until(lambda: "connected to" in caplog.text)
        await engine.stop()
    (line,) = [r.getMessage() for r in caplog.records if "connected to" in r.getMessage()]
    assert line.startswith("receiver rcv-1 (Tür 1?ERROR forged?[31m): connected to")
    assert engine.label(ReceiverToken("rcv-2")) == "rcv-2"
