"""Which job's camera stands on the disk: priorities, turns and examples of the standard, by a client of the official
WSDLs, judged by what a replay gives back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import pytest

from nvr.model.time import NS
from tests.support.camera import Camera, h264_track, key_frame, metadata_track, pcmu_track, picture
from tests.support.daemon import DaemonProcess
from tests.support.flow import Flow, until
from tests.support.replayed import replay

pytestmark = pytest.mark.timeout(120)

IDLE, ACTIVE, PARTLY = "Idle", "Active", "PartiallyActive"


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    with DaemonProcess(tmp_path_factory.mktemp("recorder") / "data") as daemon:
        yield Flow(daemon)
        assert daemon.stop() == 0


@asynccontextmanager
async def filming(*numbers: int) -> AsyncIterator[list[Camera]]:
    """Cameras with pictures, sound and metadata, ten of each a second; the hundreds of a picture's number are its
    camera's."""
    start_ns = time.time_ns()
    made = [Camera([h264_track(), pcmu_track(), metadata_track()]) for _ in numbers]

    async def film(camera: Camera, number: int) -> None:
        video, audio, metadata = camera.tracks
        told = -1
        while True:
            await asyncio.sleep(0.1)
            n = (time.time_ns() - start_ns) * 10 // NS
            if n == told or not _plays(camera):
                continue
            if told < 0 or n // 10 > told // 10:
                for track, rate in ((video, 9_000), (audio, 800), (metadata, 9_000)):
                    camera.send_report(track, start_ns + n * NS // 10, n * rate)
            told = n
            marked = number * 100_000 + n
            camera.send_unit(video, key_frame(marked, 600) if n % 3 == 0 else picture(marked), n * 9_000)
            camera.send_packets(audio, [audio.packet(bytes([number]) * 800, n * 800)])
            camera.send_unit(metadata, b'<tt:MetadataStream n="%d"/>' % number, n * 9_000)

    async with AsyncExitStack() as stack:
        for camera in made:
            await stack.enter_async_context(camera)
        tasks = [asyncio.create_task(film(c, n)) for c, n in zip(made, numbers, strict=True)]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _plays(camera: Camera) -> bool:
    writer = camera._writer
    return writer is not None and not writer.is_closing() and all(t.channel is not None for t in camera.tracks)


async def call(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return await asyncio.to_thread(lambda: work(*arguments, **named))


def receiver_for(flow: Flow, camera: Camera) -> str:
    return str(
        flow.receiver.CreateReceiver(
            Configuration={
                "Mode": "AutoConnect",
                "MediaUri": camera.uri,
                "StreamSetup": {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}},
            }
        ).Token
    )


def job_for(flow: Flow, recording: str, receiver: str, priority: int, mode: str, *tracks: str) -> str:
    """The source names its receiver without saying that it is one."""
    answer = flow.recording.CreateRecordingJob(
        JobConfiguration={
            "RecordingToken": recording,
            "Mode": mode,
            "Priority": priority,
            "Source": [
                {
                    "SourceToken": {"Token": receiver},
                    "Tracks": [{"SourceTag": "", "Destination": track} for track in tracks],
                }
            ],
        }
    )
    return str(answer.JobToken)


def track_states(flow: Flow, job: str) -> list[str]:
    return [track.State for track in flow.job_state(job).Sources[0].Tracks.Track]


async def cameras_in(flow: Flow, recording: str, track: str = "VIDEO001") -> list[int]:
    """Whose pictures a track holds, one behind the other."""
    units = await replay(await call(flow.replay_uri, recording), track)
    numbers = [int.from_bytes(u.h264()[-1][2:6], "big") for u in units]
    return [camera for camera, _ in groupby(n // 100_000 for n in numbers)]


async def recorded_meanwhile(flow: Flow, job: str) -> None:
    """The job stores, and a second of it is on the disk."""
    await call(flow.until_job_is, job, ACTIVE)
    wanted = datetime.now(UTC) + timedelta(seconds=1)
    recording = (await call(flow.job_state, job)).RecordingToken

    def is_there() -> bool:
        return any(t.TrackToken == "VIDEO001" and t.DataTo >= wanted for t in flow.information(recording).Track)

    await call(until, is_there, f"footage of {job}")


@pytest.mark.requirement("RC-5.3.3-08", "RC-5.3.3-10", "RC-5.3.3-12")
async def test_of_active_jobs_the_highest_priority_stores_in_each_track_and_the_next_takes_over_behind_it(
    flow: Flow,
) -> None:
    async with filming(1, 2, 3) as cameras:
        recording = await call(flow.create_recording)
        receivers = [await call(receiver_for, flow, camera) for camera in cameras]
        first = await call(job_for, flow, recording, receivers[0], 2, ACTIVE, "VIDEO001", "AUDIO001")
        await recorded_meanwhile(flow, first)
        second = await call(job_for, flow, recording, receivers[1], 4, IDLE, "VIDEO001")
        third = await call(job_for, flow, recording, receivers[2], 3, ACTIVE, "VIDEO001")
        await recorded_meanwhile(flow, third)
        assert await call(track_states, flow, first) == [IDLE, ACTIVE]
        assert (await call(flow.job_state, first)).State == PARTLY
        await call(flow.recording.DeleteRecordingJob, JobToken=third)
        await recorded_meanwhile(flow, first)
        assert (await call(flow.job_state, second)).State == IDLE
        await call(flow.recording.SetRecordingJobMode, JobToken=second, Mode=ACTIVE)
        await recorded_meanwhile(flow, second)
        await call(flow.recording.SetRecordingJobMode, JobToken=second, Mode=IDLE)
        await recorded_meanwhile(flow, first)
        await call(flow.set_idle, first, recording)
    assert await cameras_in(flow, recording) == [1, 3, 1, 2, 1]
    sound = await replay(await call(flow.replay_uri, recording), "AUDIO001")
    assert {p[:1] for unit in sound for p in unit.payloads} == {b"\x01"}


@pytest.mark.requirement("RC-5.3.3-09")
async def test_of_equal_priorities_the_job_that_was_activated_last_stores(flow: Flow) -> None:
    async with filming(1, 2) as cameras:
        recording = await call(flow.create_recording)
        jobs = [
            await call(job_for, flow, recording, await call(receiver_for, flow, camera), 7, IDLE, "VIDEO001")
            for camera in cameras
        ]
        await call(flow.recording.SetRecordingJobMode, JobToken=jobs[1], Mode=ACTIVE)
        await recorded_meanwhile(flow, jobs[1])
        await call(flow.recording.SetRecordingJobMode, JobToken=jobs[0], Mode=ACTIVE)
        await recorded_meanwhile(flow, jobs[0])
        assert (await call(flow.job_state, jobs[1])).State == IDLE
        await call(flow.recording.SetRecordingJobMode, JobToken=jobs[1], Mode=IDLE)
        await call(flow.recording.SetRecordingJobMode, JobToken=jobs[1], Mode=ACTIVE)
        await recorded_meanwhile(flow, jobs[1])
        await call(flow.recording.SetRecordingJobMode, JobToken=jobs[0], Mode=IDLE)
        await call(flow.set_idle, jobs[1], recording)
    assert await cameras_in(flow, recording) == [2, 1, 2]


@pytest.mark.requirement("RC-5.3.1-06", "RC-5.24-12", "RC-5.26.2-01")
async def test_two_streams_of_a_camera_fill_six_tracks_of_a_recording_with_odd_names(flow: Flow) -> None:
    odd = {
        "SourceId": "urn:x-none:%7B%22%C3%A9%22%7D",
        "Name": "<rtsp://1.2.3.4/> & 'Tür' \u65e5\u672c \U0001f3a5",
        "Location": "../../etc  |  %s {0} $(x)",
        "Description": "Mode=Idle; MaximumRetentionTime=PT1S " * 3,
        "Address": "http://0.0.0.0:0/%00",
    }
    content = 'line one\nline two " <![CDATA[ ]] -- ?>'
    configuration = {"Source": odd, "Content": content, "MaximumRetentionTime": "PT0S"}
    recording = str(await call(flow.recording.CreateRecording, RecordingConfiguration=configuration))
    further = [
        str(
            await call(
                flow.recording.CreateTrack,
                RecordingToken=recording,
                TrackConfiguration={"TrackType": kind, "Description": "sub stream"},
            )
        )
        for kind in ("Video", "Audio", "Metadata")
    ]
    lines = [
        [{"SourceTag": "", "Destination": track} for track in tracks]
        for tracks in (("VIDEO001", "AUDIO001", "META001"), further)
    ]
    answer = await call(
        flow.recording.CreateRecordingJob,
        JobConfiguration={
            "RecordingToken": recording,
            "Mode": ACTIVE,
            "Priority": 1,
            "Source": [{"AutoCreateReceiver": True, "Tracks": tracks} for tracks in lines],
        },
    )
    async with filming(1, 2) as cameras:
        for camera, source in zip(cameras, answer.JobConfiguration.Source, strict=True):
            await call(flow.configure, source.SourceToken.Token, camera.uri)
        await recorded_meanwhile(flow, answer.JobToken)
        await call(flow.set_idle, answer.JobToken, recording)
    information = await call(flow.information, recording)
    held = {t.TrackToken: (t.DataTo - t.DataFrom).total_seconds() for t in information.Track}
    assert held.keys() == {line["Destination"] for tracks in lines for line in tracks}
    assert all(seconds > 0 for seconds in held.values()), held
    assert [await cameras_in(flow, recording, track) for track in ("VIDEO001", further[0])] == [[1], [2]]
    for track, number in (("AUDIO001", 1), (further[1], 2)):
        sound = await replay(await call(flow.replay_uri, recording), track)
        assert {p for unit in sound for payload in unit.payloads for p in payload} == {number}
    kept = await call(flow.recording.GetRecordingConfiguration, RecordingToken=recording)
    assert {name: kept.Source[name] for name in odd} == odd
    assert kept.Content == content
