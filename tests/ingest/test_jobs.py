"""Jobs that compete, switch, share a receiver or feed one recording from two streams; proved on what was recorded."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator

import pytest

from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.control.state import ControlSettings, ControlState
from nvr.ingest.engine import IngestEngine
from nvr.ingest.settings import IngestSettings
from nvr.model.job import (
    RecordingJob,
    RecordingJobConfiguration,
    RecordingJobMode,
    RecordingJobSource,
    RecordingJobState,
    RecordingJobTrack,
    SourceReference,
)
from nvr.model.receiver import ReceiverConfiguration, ReceiverMode, StreamSetup, TransportProtocol
from nvr.model.recording import RecordingConfiguration, TrackConfiguration, TrackType
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken, ReceiverToken, TrackToken
from tests.support.camera import Camera, CameraTrack, h264_track, key_frame, metadata_track, pcmu_track, picture
from tests.support.control import FakeFootage, FakeStore
from tests.support.ingest import (
    MS,
    QUICK,
    FakeRecorder,
    FakeStorage,
    a_job,
    a_receiver,
    a_recording,
    a_source,
    key,
    until,
)

IDLE, ACTIVE, ERROR = RecordingJobState.IDLE, RecordingJobState.ACTIVE, RecordingJobState.ERROR
GOP = 10
FRAME_NS = 40 * MS


class Scene:
    """Two cameras that see the same: picture n of both is of the same instant. Camera 1 begins a group of pictures
    with every tenth picture, camera 2 five pictures later."""

    def __init__(self, settings: IngestSettings = QUICK) -> None:
        self.storage = FakeStorage()
        self.engine = IngestEngine(self.storage, settings)
        self.tracks = (h264_track(), h264_track(ssrc=0x2222))
        self.cameras = tuple(Camera([t]) for t in self.tracks)
        self.begin_ns = time.time_ns()
        self.low = a_job(a_source("rcv-1", ("", "VIDEO001")), priority=1)
        self.high = a_job(a_source("rcv-2", ("", "VIDEO001")), token="job-2", priority=5)

    def picture(self, camera: int, number: int) -> bytes:
        marked = 1000 * (camera + 1) + number
        return key_frame(marked) if (number - 5 * camera) % GOP == 0 else picture(marked)

    async def send(self, camera: int, *numbers: int) -> None:
        """Returns when all have been taken by the receiver."""
        await self.send_units(camera, *((n, self.picture(camera, n)) for n in numbers))

    async def send_units(self, camera: int, *units: tuple[int, bytes]) -> None:
        at, track = self.cameras[camera], self.tracks[camera]
        token = ReceiverToken(f"rcv-{camera + 1}")
        packets = [p for n, data in units for p in track.unit(data, n * 3600)]
        before = self.engine.counters()[token].packets
        at.send_packets(track, packets)
        await until(lambda: self.engine.counters()[token].packets == before + len(packets))

    async def report(self, camera: int) -> None:
        self.cameras[camera].send_report(self.tracks[camera], self.begin_ns, 0)
        token = ReceiverToken(f"rcv-{camera + 1}")
        await until(lambda: self.engine.counters()[token].sender_reports > 0)

    def apply(self, *jobs: RecordingJob, mode: ReceiverMode = ReceiverMode.AUTO_CONNECT) -> None:
        receivers = [a_receiver(c.uri, f"rcv-{n + 1}", mode) for n, c in enumerate(self.cameras)]
        self.engine.apply([a_recording()], jobs, receivers)

    @property
    def recorder(self) -> FakeRecorder:
        return self.storage.recorder(key(), TrackType.VIDEO)

    def recorded(self) -> list[int]:
        """1000 and up: pictures of camera 1; 2000 and up: of camera 2."""
        return [int.from_bytes(s.data[6:10], "big") for s in self.recorder.samples]

    def states(self) -> list[RecordingJobState]:
        return [self.engine.job_state(JobToken(t)).state for t in ("job-1", "job-2")]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    await scene.engine.start()
    async with scene.cameras[0], scene.cameras[1]:
        yield scene
        await scene.engine.stop()


async def first_camera_records(scene: Scene, *numbers: int, mode: ReceiverMode = ReceiverMode.AUTO_CONNECT) -> None:
    scene.apply(scene.low, mode=mode)
    await scene.cameras[0].playing()
    await scene.report(0)
    await scene.send(0, *numbers)


@pytest.mark.requirement("RC-5.1-04", "RC-5.3.3-07")
async def test_an_outranked_job_records_on_until_the_other_has_its_first_picture(scene: Scene) -> None:
    await first_camera_records(scene, *range(12))
    scene.apply(scene.low, scene.high)
    await scene.cameras[1].playing()
    await scene.report(1)
    await scene.send(0, *range(12, 15))
    await scene.send(1, *range(12, 15))  # inside a group of pictures: nothing that a run can begin with
    assert scene.states() == [IDLE, ACTIVE]
    await scene.send(0, 15)
    await scene.send(1, *range(15, 30))
    await scene.cameras[0].requested("TEARDOWN")
    await scene.engine.stop()
    assert scene.recorded() == [*range(1000, 1016), *range(2015, 2030)], "of every instant there is a picture"
    assert scene.recorder.reasons == [GapReason.JOB_STOPPED, GapReason.DAEMON_STOPPED]
    first_of_second = next(f for f in scene.recorder.fragments if f.samples[0].data == scene.picture(1, 15))
    assert first_of_second.clean_point
    assert first_of_second.start_ns - scene.begin_ns == 15 * FRAME_NS


async def test_a_job_that_is_set_idle_stops_at_once_and_the_next_loses_at_most_one_group_of_pictures(
    scene: Scene,
) -> None:
    await first_camera_records(scene, mode=ReceiverMode.ALWAYS_CONNECT)
    await scene.cameras[1].playing()
    await scene.report(1)
    await scene.send(1, *range(12))
    scene.apply(scene.low, scene.high, mode=ReceiverMode.ALWAYS_CONNECT)
    await scene.send(1, *range(12, 22))
    assert scene.recorded() == [], "the first fragment is not complete"
    idle = a_job(*scene.high.configuration.sources, token="job-2", priority=5, mode=RecordingJobMode.IDLE)
    scene.apply(scene.low, idle, mode=ReceiverMode.ALWAYS_CONNECT)
    await scene.send(1, 22, 23)
    await scene.send(0, *range(22, 45))
    await scene.engine.stop()
    assert scene.recorded() == [*range(2015, 2022), *range(1030, 1045)]
    gap_ns = scene.recorder.samples[7].utc_ns - scene.recorder.samples[6].utc_ns
    assert gap_ns <= (GOP + 1) * FRAME_NS


async def test_a_job_whose_camera_gives_nothing_has_the_track_to_itself_behind_the_patience() -> None:
    scene = Scene(dataclasses.replace(QUICK, hand_over_ns=60 * MS))
    await scene.engine.start()
    async with scene.cameras[0], scene.cameras[1]:
        await first_camera_records(scene, *range(12))
        scene.apply(scene.low, scene.high)
        await scene.cameras[0].requested("TEARDOWN")
        assert scene.recorder.reasons == [GapReason.JOB_STOPPED]
        await scene.engine.stop()
    assert scene.recorded() == list(range(1000, 1012))


async def test_a_job_that_wins_its_track_back_meanwhile_goes_on_without_a_break(scene: Scene) -> None:
    await first_camera_records(scene, *range(12))
    scene.apply(scene.low, scene.high)
    await scene.cameras[1].playing()
    await scene.send(0, 12)
    scene.apply(scene.low)
    await scene.cameras[1].requested("TEARDOWN")
    await scene.send(0, *range(13, 25))
    await scene.engine.stop()
    assert scene.recorded() == list(range(1000, 1025))
    assert scene.recorder.reasons == [GapReason.DAEMON_STOPPED]
    assert scene.cameras[0].connections == 1


async def test_an_outranked_job_that_is_deleted_meanwhile_stops(scene: Scene) -> None:
    await first_camera_records(scene, *range(12))
    scene.apply(scene.low, scene.high)
    await scene.cameras[1].playing()
    scene.apply(scene.high)
    await scene.cameras[0].requested("TEARDOWN")
    assert scene.recorder.reasons == [GapReason.JOB_STOPPED]
    assert scene.recorded() == list(range(1000, 1012))


async def test_a_third_job_takes_over_from_the_first_where_the_second_has_not_begun(scene: Scene) -> None:
    third = a_job(a_source("rcv-2", ("", "VIDEO001")), token="job-3", priority=9)
    dead = a_job(a_source("rcv-9", ("", "VIDEO001")), token="job-2", priority=5)
    receivers = [a_receiver(c.uri, f"rcv-{n + 1}") for n, c in enumerate(scene.cameras)]
    receivers.append(a_receiver("rtsp://127.0.0.1:1/", "rcv-9"))
    await first_camera_records(scene, *range(12))
    scene.engine.apply([a_recording()], [scene.low, dead], receivers)
    scene.engine.apply([a_recording()], [scene.low, dead, third], receivers)
    await scene.cameras[1].playing()
    await scene.report(1)
    await scene.send(0, *range(12, 16))
    await scene.send(1, *range(15, 20))
    await scene.cameras[0].requested("TEARDOWN")
    await scene.engine.stop()
    assert scene.recorded() == [*range(1000, 1016), *range(2015, 2020)]


@pytest.mark.requirement("RC-5.1-05", "RC-5.19-05")
async def test_a_job_is_set_idle_and_active_at_any_time(scene: Scene) -> None:
    idle = a_job(*scene.low.configuration.sources, mode=RecordingJobMode.IDLE)
    for turn in range(3):
        scene.apply(scene.low)
        await scene.cameras[0].playing(turn + 1)
        scene.cameras[0].send_report(scene.tracks[0], scene.begin_ns, 0)
        await scene.send(0, *range(20 * turn, 20 * turn + 12))
        assert scene.engine.job_state(JobToken("job-1")).state is ACTIVE
        scene.apply(idle)
        assert scene.engine.job_state(JobToken("job-1")).state is IDLE
        await scene.cameras[0].requested("TEARDOWN", turn + 1)
    assert scene.recorded() == [1000 + 20 * turn + n for turn in range(3) for n in range(12)]
    assert scene.recorder.reasons == [GapReason.JOB_STOPPED] * 3
    assert set(scene.storage.recorders) == {key()}, "nothing stands in any other track or recording"


@pytest.mark.requirement("RC-5.19-05", "RC-5.19-09", "RC-5.19-11")
async def test_the_state_follows_the_connection_without_a_call_of_a_client() -> None:
    scene = Scene(dataclasses.replace(QUICK, back_off_ns=200 * MS))
    await scene.engine.start()
    seen = set()

    def state() -> tuple[RecordingJobState, str | None]:
        [track] = scene.engine.job_state(JobToken("job-1")).sources[0].tracks
        seen.add(track.state)
        return track.state, track.error

    async with scene.cameras[0], scene.cameras[1]:
        scene.apply(scene.low)
        assert state() == (IDLE, None)
        await scene.cameras[0].playing()
        await scene.send(0, 0)
        assert state() == (ACTIVE, None)
        scene.cameras[0].hang_up()
        await until(lambda: state()[0] is ERROR)
        assert state()[1] == f"127.0.0.1:{scene.cameras[0].port} closed the connection"
        await scene.cameras[0].playing(2)
        await scene.send(0, 10)
        assert state() == (ACTIVE, None)
        await scene.engine.stop()
    assert seen == {IDLE, ACTIVE, ERROR}


@pytest.mark.requirement("RC-5.1-09")
async def test_another_resolution_under_an_active_job_begins_a_new_run_and_no_gap(scene: Scene) -> None:
    other = bytes.fromhex("674d001f965402802dc8"), bytes.fromhex("68ee3c80")
    sets = b"".join(len(nal).to_bytes(4, "big") + nal for nal in other)
    await first_camera_records(scene, *range(10))
    await scene.send_units(0, (10, sets + key_frame(1010)))
    await scene.send(0, *range(11, 20))
    assert scene.engine.job_state(JobToken("job-1")).state is ACTIVE
    await scene.engine.stop()
    assert scene.recorder.reasons == [GapReason.CONFIGURATION_CHANGED, GapReason.DAEMON_STOPPED]
    first, second = (f.configuration for f in scene.recorder.fragments)
    assert first != second
    assert [len(f.samples) for f in scene.recorder.fragments] == [10, 10]
    assert scene.recorder.fragments[0].end_ns == scene.recorder.fragments[1].start_ns


@pytest.mark.requirement("RX-10.1-03", "RX-10.1-05", "RC-5.3.3-01")
async def test_one_receiver_feeds_two_recordings_over_one_connection(scene: Scene) -> None:
    jobs = [scene.low, a_job(*scene.low.configuration.sources, token="job-2", recording="rec-2")]
    recordings = [a_recording(), a_recording("rec-2")]
    receivers = [a_receiver(scene.cameras[0].uri)]
    scene.engine.apply(recordings, jobs, receivers)
    await scene.cameras[0].playing()
    await scene.report(0)
    await scene.send(0, *range(12))
    scene.engine.apply(recordings, jobs[:1], receivers)
    await scene.send(0, *range(12, 15))
    await scene.engine.stop()
    assert scene.recorded() == list(range(1000, 1015))
    second = scene.storage.recorders[key(recording="rec-2")]
    assert [s.data for s in second.samples] == [scene.picture(0, n) for n in range(12)]
    assert second.reasons == [GapReason.JOB_STOPPED]
    assert scene.cameras[0].connections == 1
    assert scene.cameras[0].requests[0].uri == scene.cameras[0].uri, "the address is used as it was given"


# -- control, engine and cameras together ------------------------------------------------------------------------------


class Recorder:
    """Recording control on the real engine."""

    async def begin(self) -> Recorder:
        self.storage = FakeStorage()
        self.engine = IngestEngine(self.storage, QUICK)
        state = await ControlState.load(FakeStore(), self.engine, ControlSettings())
        self.control = RecordingControl(state, FakeFootage())
        self.receivers = Receivers(state)
        self.engine.on_streams = self.control.streams_known
        await self.engine.start()
        return self


def unicast(uri: str, protocol: TransportProtocol = TransportProtocol.RTSP) -> ReceiverConfiguration:
    return ReceiverConfiguration(ReceiverMode.AUTO_CONNECT, uri, StreamSetup(protocol=protocol))


def streams(seed: int) -> list[CameraTrack]:
    return [
        dataclasses.replace(track, ssrc=seed + n)
        for n, track in enumerate((h264_track(), pcmu_track(), metadata_track()))
    ]


async def test_main_and_sub_stream_of_a_camera_go_into_one_recording() -> None:
    """Example 2 of the standard: one job, two auto-created receivers, six tracks."""
    recorder = await Recorder().begin()
    main, sub = Camera(streams(0x100)), Camera(streams(0x200))
    async with main, sub:
        recording = await recorder.control.create_recording(RecordingConfiguration())
        further = [
            await recorder.control.create_track(recording.token, TrackConfiguration(kind))
            for kind in (TrackType.VIDEO, TrackType.AUDIO, TrackType.METADATA)
        ]
        default = [t.token for t in recording.tracks]
        sources = tuple(
            RecordingJobSource(
                None,
                tuple(RecordingJobTrack("", TrackToken(token)) for token in tokens),
                auto_create_receiver=True,
            )
            for tokens in (default, [t.token for t in further])
        )
        configuration = RecordingJobConfiguration(recording.token, RecordingJobMode.ACTIVE, 1, sources)
        job = await recorder.control.create_job(configuration)
        for camera, source in zip((main, sub), job.configuration.sources, strict=True):
            assert isinstance(source.source, SourceReference)
            await recorder.receivers.configure(ReceiverToken(source.source.token), unicast(camera.uri))
        now = time.time_ns()
        for n, camera in enumerate((main, sub)):
            await camera.playing()
            for track in camera.tracks:
                camera.send_report(track, now, 0)
            video, audio, metadata = camera.tracks
            camera.send_unit(video, key_frame(n), 0)
            camera.send_packets(audio, [audio.packet(bytes([n]) * 160, 0)])
            camera.send_packets(metadata, [metadata.packet(b"<tt:MetadataStream n='%d'/>" % n, 0, marker=True)])
        await until(lambda: recorder.control.job_state(job.token).state is ACTIVE)
        await until(lambda: sum(c.packets for c in recorder.engine.counters().values()) == 10)
        await recorder.control.set_job_mode(job.token, RecordingJobMode.IDLE)
        await recorder.engine.stop()
    for n, tokens in enumerate((default, [t.token for t in further])):
        held = [recorder.storage.recorders[key(t, recording.token)].samples for t in tokens]
        assert [[s.data for s in samples] for samples in held] == [
            [key_frame(n)],
            [bytes([n]) * 160],
            [b"<tt:MetadataStream n='%d'/>" % n],
        ]


@pytest.mark.requirement("RX-10.1-08", "RX-10.6-06")
@pytest.mark.parametrize("protocol", [TransportProtocol.UDP, TransportProtocol.RTSP])
async def test_recording_is_started_and_stopped_by_the_mode_of_the_job_alone(protocol: TransportProtocol) -> None:
    """Example 1 of the standard, over each transport that the camera serves directly."""
    recorder = await Recorder().begin()
    track = h264_track()
    async with Camera([track]) as camera:
        recording = await recorder.control.create_recording(RecordingConfiguration())
        lines = (RecordingJobTrack("", TrackToken("VIDEO001")),)
        source = RecordingJobSource(None, lines, auto_create_receiver=True)
        job = await recorder.control.create_job(
            RecordingJobConfiguration(recording.token, RecordingJobMode.IDLE, 1, (source,))
        )
        reference = job.configuration.sources[0].source
        assert reference is not None
        await recorder.receivers.configure(ReceiverToken(reference.token), unicast(camera.uri, protocol))
        await asyncio.sleep(0)
        assert camera.connections == 0
        for turn in range(2):
            await recorder.control.set_job_mode(job.token, RecordingJobMode.ACTIVE)
            await camera.playing(turn + 1)
            camera.send_report(track, time.time_ns(), 0)
            camera.send_unit(track, key_frame(turn), 0)
            await until(lambda: recorder.control.job_state(job.token).state is ACTIVE)
            await until(lambda n=turn: sum(c.packets for c in recorder.engine.counters().values()) == 3 * (n + 1))  # type: ignore[misc]
            await recorder.control.set_job_mode(job.token, RecordingJobMode.IDLE)
            await camera.requested("TEARDOWN", turn + 1)
        await recorder.engine.stop()
    video = recorder.storage.recorders[key("VIDEO001", recording.token)]
    assert [s.data for s in video.samples] == [key_frame(0), key_frame(1)]
    assert video.reasons == [GapReason.JOB_STOPPED] * 2


@pytest.mark.requirement("RC-5.13-13")
async def test_a_job_without_tracks_has_those_in_the_end_that_the_camera_has_streams_for() -> None:
    recorder, track = await Recorder().begin(), h264_track()
    async with Camera([track]) as camera:
        recording = await recorder.control.create_recording(RecordingConfiguration())
        source = RecordingJobSource(None, auto_create_receiver=True)
        job = await recorder.control.create_job(
            RecordingJobConfiguration(recording.token, RecordingJobMode.ACTIVE, 1, (source,))
        )
        receiver = job.configuration.sources[0].source
        assert receiver is not None
        await recorder.receivers.configure(ReceiverToken(receiver.token), unicast(camera.uri))
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)

        def is_active() -> bool:
            state = recorder.control.job_state(job.token)
            return state.sources[0].state is state.state is ACTIVE

        await until(is_active)
        (told,) = recorder.control.job_state(job.token).sources[0].tracks
        (configured,) = recorder.control.job(job.token).configuration.sources[0].tracks
        assert told.destination == configured.destination == "VIDEO001"
        await recorder.engine.stop()
    assert [s.data for s in recorder.storage.recorders[key("VIDEO001", recording.token)].samples] == [key_frame(0)]


@pytest.mark.requirement("RX-10.5.4-05")
async def test_a_receiver_that_is_deleted_closes_its_connection() -> None:
    recorder = await Recorder().begin()
    async with Camera([h264_track()]) as camera:
        configuration = dataclasses.replace(unicast(camera.uri), mode=ReceiverMode.ALWAYS_CONNECT)
        receiver = await recorder.receivers.create(configuration)
        await camera.playing()
        await recorder.receivers.delete(receiver.token)
        await camera.requested("TEARDOWN")
        await recorder.engine.stop()


@pytest.mark.requirement("RX-10.5.5-06")
async def test_a_receiver_takes_every_well_formed_uri_and_only_its_state_tells_that_nothing_answers() -> None:
    recorder = await Recorder().begin()
    failed: list[ReceiverToken] = []

    class Watcher:
        def receiver_changed(self, token: ReceiverToken, state: object) -> None: ...
        def connection_failed(self, token: ReceiverToken) -> None:
            failed.append(token)

    recorder.engine.watcher = Watcher()
    async with Camera(
        [h264_track()], answers={"DESCRIBE": lambda q, a: b"RTSP/1.0 404 No\r\nCSeq: 2\r\n\r\n"}
    ) as camera:
        uris = (camera.uri, "rtsp://127.0.0.1:1/closed", "rtsp://[::1]:1/x?y=%20")
        made = [
            await recorder.receivers.create(dataclasses.replace(unicast(uri), mode=ReceiverMode.ALWAYS_CONNECT))
            for uri in uris
        ]
        await until(lambda: {r.token for r in made} <= set(failed))
        await recorder.engine.stop()
