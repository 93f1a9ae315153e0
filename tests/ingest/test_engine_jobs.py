"""What jobs and receivers ask for against a scripted camera: modes, priorities, states, errors."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import pytest

from nvr.ingest.engine import NO_MEDIA_URI
from nvr.model.job import INCOMPATIBLE_STREAM, RecordingJobMode, RecordingJobState
from nvr.model.receiver import ReceiverMode, ReceiverState
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken
from tests.support.camera import Camera, CameraTrack, h264_track, key_frame, pcmu_track
from tests.support.ingest import (
    MS,
    QUICK,
    a_job,
    a_receiver,
    a_source,
    key,
    until,
)
from tests.support.ingest_house import ACTIVE, ERROR, IDLE, JOB, RECEIVER, House, send_gops


@pytest.mark.requirement("RC-5.3.3-02", "RX-10.4-03", "RX-10.5.7-05", "RX-10.5.7-07")
async def test_auto_connect_follows_the_mode_of_the_job(house: House) -> None:
    async with Camera([h264_track()]) as camera:
        source = a_source("rcv-1", ("", "VIDEO001"))
        idle, active = a_job(source, mode=RecordingJobMode.IDLE), a_job(source)
        house.apply([idle], [a_receiver(camera.uri)])
        assert house.receiver is ReceiverState.NOT_CONNECTED
        assert house.state() == (IDLE, None)
        assert house.storage.recorders == {}
        house.apply([active], [a_receiver(camera.uri)])
        assert house.receiver is ReceiverState.NOT_CONNECTED or house.receiver is ReceiverState.CONNECTING
        await camera.playing()
        await until(lambda: house.receiver is ReceiverState.CONNECTED)
        house.apply([idle], [a_receiver(camera.uri)])
        await camera.requested("TEARDOWN")
        assert house.receiver is ReceiverState.NOT_CONNECTED
        assert camera.connections == 1


@pytest.mark.requirement("RX-10.4-01", "RX-10.4-05")
@pytest.mark.parametrize(
    "track",
    [
        pytest.param(h264_track, id="H264"),
        pytest.param(lambda: CameraTrack("video", "JPEG/90000", None, 26), id="JPEG"),
        pytest.param(lambda: CameraTrack("video", "VP8/90000"), id="an encoding that cannot be recorded"),
    ],
)
async def test_always_connect_needs_no_job_and_no_known_encoding(
    house: House, track: Callable[[], CameraTrack]
) -> None:
    async with Camera([track()]) as camera:
        house.apply([], [a_receiver(camera.uri, mode=ReceiverMode.ALWAYS_CONNECT)])
        await camera.playing()
        await until(lambda: house.receiver is ReceiverState.CONNECTED)
        camera.hang_up()
        await camera.playing(2)
        await until(lambda: house.receiver is ReceiverState.CONNECTED)


@pytest.mark.requirement("RX-10.4-02", "RC-5.3.3-23")
async def test_never_connect_ends_a_session_and_makes_the_job_idle(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 1, length=3)
        await until(lambda: house.state()[0] is ACTIVE)
        house.record(camera.uri, mode=ReceiverMode.NEVER_CONNECT)
        await camera.requested("TEARDOWN")
        state = house.engine.job_state(JOB)
        assert (house.state(), state.sources[0].state, state.state) == ((IDLE, None), IDLE, IDLE)
        assert house.receiver is ReceiverState.NOT_CONNECTED
        await until(lambda: house.recorder().reasons == [GapReason.JOB_STOPPED])
        async with Camera([h264_track()]) as other:  # one that is connected meanwhile
            never = a_receiver(camera.uri, mode=ReceiverMode.NEVER_CONNECT)
            always = a_receiver(other.uri, "rcv-2", ReceiverMode.ALWAYS_CONNECT)
            house.apply([a_job(a_source("rcv-1", ("", "VIDEO001")))], [never, always])
            await other.playing()
        assert camera.methods()[-1] == "TEARDOWN"
        assert camera.connections == 1


@pytest.mark.requirement("RC-5.3.3-11")
async def test_a_job_with_a_schedule_that_does_not_exist_stays_idle_and_keeps_nobody_from_recording(
    house: House,
) -> None:
    track = h264_track()
    async with Camera([track]) as camera, Camera([h264_track()]) as other:
        scheduled = a_job(a_source("rcv-2", ("", "VIDEO001")), token="job-2", priority=9, schedule="no such schedule")
        receivers = [a_receiver(camera.uri), a_receiver(other.uri, "rcv-2")]
        house.apply([a_job(a_source("rcv-1", ("", "VIDEO001"))), scheduled], receivers)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 1, length=3)
        await until(lambda: house.state()[0] is ACTIVE)
        assert house.engine.job_state(scheduled.token).state is IDLE
        house.apply([scheduled], receivers)
        await camera.requested("TEARDOWN")
        assert house.engine.job_state(scheduled.token).state is IDLE
        assert other.connections == 0
        house.apply([a_job(*scheduled.configuration.sources, token="job-2")], receivers)
        await other.playing()


@pytest.mark.requirement("RC-5.1-08", "RC-5.3.3-23")
async def test_an_active_job_without_media_uri_is_in_error(house: House) -> None:
    house.record("")
    assert house.state() == (ERROR, NO_MEDIA_URI)
    assert house.engine.job_state(JOB).state is ERROR
    assert house.receiver is ReceiverState.NOT_CONNECTED


@pytest.mark.requirement("RX-10.5.7-06")
async def test_a_camera_that_accepts_and_never_answers_keeps_the_receiver_connecting(house: House) -> None:
    async with Camera([h264_track()], answers={"OPTIONS": lambda q, a: None}) as camera:
        house.record(camera.uri)
        await camera.requested("OPTIONS")
        assert house.receiver is ReceiverState.CONNECTING
        assert house.state() == (IDLE, None)


@pytest.mark.requirement("RC-5.19-12", "RC-5.19-16", "RC-5.1-03")
async def test_another_encoding_than_the_tracks_is_an_incompatible_stream(house: House) -> None:
    from nvr.media import codecs

    depacketizer = codecs.depacketizer_for("PCMA", 8000, 1, {})
    assert depacketizer.configuration is not None
    house.storage.configurations[key("AUDIO001")] = depacketizer.configuration
    video, audio = h264_track(), pcmu_track()
    async with Camera([video, audio]) as camera:
        house.record(camera.uri, ("", "VIDEO001"), ("", "AUDIO001"))
        await camera.playing()
        camera.send_report(audio, time.time_ns(), 0)
        for n in range(200):
            camera.send(audio.frames([audio.packet(bytes(160), n * 160)]))
        camera.send_unit(video, key_frame(), 0)
        await until(lambda: house.state(0)[0] is ACTIVE)
        assert house.state(1) == (ERROR, INCOMPATIBLE_STREAM)
        assert house.engine.job_state(JOB).state is ERROR
    assert house.recorder("AUDIO001").fragments == []


@pytest.mark.requirement("RC-5.3.2-03")
async def test_sound_is_not_stored_in_a_video_track(house: House) -> None:
    audio = pcmu_track()
    async with Camera([h264_track(), audio]) as camera:
        house.record(camera.uri, ("trackID=2", "VIDEO001"))
        await camera.playing()
        camera.send_report(audio, time.time_ns(), 0)
        for n in range(200):
            camera.send(audio.frames([audio.packet(bytes(160), n * 160)]))
        await until(lambda: house.engine.counters()[RECEIVER].packets == 200)
        assert house.state()[0] is ERROR
        assert "does not fit into a track of type Video" in house.error()
        await house.engine.stop()
    assert house.recorder().fragments == []


@pytest.mark.requirement("RC-5.19-14")
async def test_a_camera_without_sound_leaves_the_audio_track_idle(house: House) -> None:
    video = h264_track()
    async with Camera([video]) as camera:
        house.record(camera.uri, ("", "VIDEO001"), ("", "AUDIO001"))
        await camera.playing()
        camera.send_unit(video, key_frame(), 0)
        await until(lambda: house.state(0)[0] is ACTIVE)
        assert house.state(1) == (IDLE, None)
        assert house.engine.job_state(JOB).state is RecordingJobState.PARTIALLY_ACTIVE


@pytest.mark.requirement("RC-5.3.3-20")
async def test_source_tags_tell_two_video_streams_apart(house: House) -> None:
    from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
    from nvr.model.tokens import RecordingToken, TrackToken

    first, second = h264_track("trackID=1"), h264_track("trackID=2", ssrc=0x1001)
    tracks = tuple(Track(TrackToken(t), TrackConfiguration(TrackType.VIDEO)) for t in ("VIDEO001", "VIDEO002"))
    recording = Recording(RecordingToken("rec-1"), RecordingConfiguration(), tracks)
    async with Camera([first, second]) as camera:
        job = a_job(a_source("rcv-1", ("trackID=2", "VIDEO001"), ("trackID=1", "VIDEO002")))
        house.engine.apply([recording], [job], [a_receiver(camera.uri)])
        await camera.playing()
        for n, track in enumerate((first, second)):
            camera.send_report(track, time.time_ns(), 0)
            camera.send_unit(track, key_frame(n), 0)
            camera.send_unit(track, key_frame(n), 90_000)
        await until(lambda: bool(house.recorder("VIDEO001").samples and house.recorder("VIDEO002").samples))
    assert house.recorder("VIDEO001").samples[0].data == key_frame(1)
    assert house.recorder("VIDEO002").samples[0].data == key_frame(0)


@pytest.mark.requirement("RC-5.3.3-07", "RC-5.18-06")
async def test_the_job_of_higher_priority_takes_the_track_over_and_gives_it_back(house: House) -> None:
    one, two = h264_track(), h264_track()
    async with Camera([one]) as first, Camera([two]) as second:
        low = a_job(a_source("rcv-1", ("", "VIDEO001")), token="job-1", priority=1)
        high = a_job(a_source("rcv-2", ("", "VIDEO001")), token="job-2", priority=5)
        receivers = [a_receiver(first.uri), a_receiver(second.uri, "rcv-2")]
        house.apply([low], receivers)
        await first.playing()
        first.send_report(one, time.time_ns(), 0)
        first.send_unit(one, key_frame(1), 0)
        await until(lambda: house.state()[0] is ACTIVE)
        house.apply([low, high], receivers)
        await second.playing()
        second.send_report(two, time.time_ns(), 0)
        second.send_unit(two, key_frame(2), 0)
        state = house.engine.job_state
        await until(lambda: state(JobToken("job-2")).state is ACTIVE)
        assert state(JOB).state is IDLE
        await first.requested("TEARDOWN")
        house.apply([low], receivers)
        await second.requested("TEARDOWN")
        await first.playing(2)
    assert [s.data for s in house.recorder().samples] == [key_frame(1), key_frame(2)]
    assert house.recorder().reasons == [GapReason.JOB_STOPPED, GapReason.JOB_STOPPED]


@pytest.mark.requirement("RX-10.1-03", "RX-10.4-03")
async def test_two_jobs_share_one_connection_until_the_last_has_gone(house: House) -> None:
    video, audio = h264_track(), pcmu_track()
    async with Camera([video, audio]) as camera:
        one = a_job(a_source("rcv-1", ("", "VIDEO001")), token="job-1")
        two = a_job(a_source("rcv-1", ("", "AUDIO001")), token="job-2")
        house.apply([one, two], [a_receiver(camera.uri)])
        await camera.playing()
        camera.send_unit(video, key_frame(), 0)
        camera.send(audio.frames([audio.packet(bytes(160), 0)]))
        for token in ("job-1", "job-2"):
            await until(lambda t=token: house.engine.job_state(JobToken(t)).state is ACTIVE)  # type: ignore[misc]
        house.apply([two], [a_receiver(camera.uri)])
        await until(lambda: house.recorder().reasons == [GapReason.JOB_STOPPED])
        assert camera.connections == 1
        assert "TEARDOWN" not in camera.methods()
        house.apply([], [a_receiver(camera.uri)])
        await camera.requested("TEARDOWN")
        assert house.receiver is ReceiverState.NOT_CONNECTED


async def test_applying_the_same_state_again_disturbs_nothing(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 1, length=25)
        await until(lambda: house.state()[0] is ACTIVE)
        for _ in range(3):
            house.record(camera.uri)
        send_gops(camera, track, 1, first=25)
        await until(lambda: len(house.recorder().samples) == 25)
        assert camera.connections == 1
        assert house.recorder().reasons == []


@pytest.mark.requirement("RC-5.19-18", "RX-10.5.5-05")
async def test_another_media_uri_keeps_the_track_active_and_goes_on_in_it(house: House) -> None:
    one, two = h264_track(), h264_track()
    async with Camera([one]) as first, Camera([two]) as second:
        house.record(first.uri)
        await first.playing()
        first.send_report(one, time.time_ns(), 0)
        first.send_unit(one, key_frame(1), 0)
        await until(lambda: house.state()[0] is ACTIVE)
        house.record(second.uri)
        assert house.state() == (ACTIVE, None)
        await second.playing()
        assert house.state() == (ACTIVE, None)
        second.send_report(two, time.time_ns(), 0)
        second.send_unit(two, key_frame(2), 0)
        second.send_unit(two, key_frame(3), 90_000)
        await until(lambda: len(house.recorder().samples) == 2)
        await first.requested("TEARDOWN")
        assert house.recorder().reasons == [GapReason.CONFIGURATION_CHANGED], "the source was not lost"
    assert [s.data for s in house.recorder().samples] == [key_frame(1), key_frame(2)]


@pytest.mark.requirement("RC-5.19-18")
async def test_a_new_connection_that_is_not_up_within_the_grace_is_an_error() -> None:
    house = House(dataclasses.replace(QUICK, configure_grace_ns=100 * MS, request_timeout_ns=2000 * MS))
    await house.engine.start()
    track = h264_track()
    async with Camera([track]) as first, Camera([h264_track()], answers={"DESCRIBE": lambda q, a: None}) as silent:
        house.record(first.uri)
        await first.playing()
        first.send_unit(track, key_frame(1), 0)
        await until(lambda: house.state()[0] is ACTIVE)
        house.record(silent.uri)
        assert house.state() == (ACTIVE, None)
        await silent.requested("DESCRIBE")
        await until(lambda: house.state()[0] is not ACTIVE)
        await until(lambda: house.state()[0] is ERROR)
        assert "did not answer DESCRIBE" in house.error()
        await house.engine.stop()
