"""Jobs that compete for tracks, and one job over six of them, set up by SOAP: which camera's data are on the disk."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.support.camera import Camera, CameraTrack, h264_track, key_frame, metadata_track, pcmu_track
from tests.support.daemon import DaemonProcess
from tests.support.disk_samples import first_time, samples
from tests.support.flow import Flow, until

pytestmark = pytest.mark.timeout(120)

CONFIG = '[storage]\nfsync = "none"\n[ingest]\nback_off = "100ms"\n'
RECEIVER = "http://www.onvif.org/ver10/schema/Receiver"
RATES = (9000, 800, 9000)
"""Ticks of a tenth of a second in video, sound and metadata."""
ODD = {
    "SourceId": "urn:" + "é" * 60,
    "Name": "rtsp://192.0.2.1/../..",
    "Location": "%00 ' \" ;--",
    "Description": "<Tracks/> & more",
    "Address": "none at all",
}


class Source:
    """A camera that sends pictures and sound all the time; each unit bears the camera's letter and a number."""

    def __init__(self, letter: int) -> None:
        self.letter = letter
        tracks = (h264_track(), pcmu_track(), metadata_track())
        self.tracks = tuple(dataclasses.replace(t, ssrc=16 * letter + n) for n, t in enumerate(tracks))
        self.camera = Camera(self.tracks)

    async def run(self) -> None:
        """Ten times a second. Every picture is a clean point, so that a switch loses none."""
        begin_ns = time.time_ns()
        plays = 0
        while True:
            await asyncio.sleep(0.1)
            methods = self.camera.methods()
            if methods.count("PLAY") == methods.count("TEARDOWN"):
                continue
            n = (time.time_ns() - begin_ns) // 100_000_000
            if methods.count("PLAY") > plays:
                plays += 1
                await self.camera.playing(plays)
                for track, rate in zip(self.tracks, RATES, strict=True):
                    if track.channel is not None:
                        self.camera.send_report(track, begin_ns + n * 100_000_000, n * rate)
            self._send(n)

    def _send(self, n: int) -> None:
        video, audio, _ = self.tracks

        def packets(track: CameraTrack, rate: int) -> list[bytes]:
            if track is video:
                return video.unit(key_frame(self.letter << 16 | n, 300), n * rate)
            data = bytes([self.letter]) * 800 if track is audio else b"<tt:MetadataStream n='%c%d'/>" % (self.letter, n)
            return [track.packet(data, n * rate, marker=True)]

        for track, rate in zip(self.tracks, RATES, strict=True):
            if track.channel is not None:
                self.camera.send_packets(track, packets(track, rate))


class Disk:
    """The track files of a recording."""

    def __init__(self, data: Path, recording: str) -> None:
        self._data = data
        self._recording = recording

    def track(self, token: str) -> list[bytes]:
        files = self._data.glob(f"volumes/*/footage/{self._recording}/{token}/*/*.mp4")
        return [s for f in sorted(files, key=first_time) for s in samples(f)]

    def cameras(self, token: str) -> str:
        """The letters of the cameras of a track in the order of their data, without repetition."""
        return "".join(letter for letter, _ in groupby(chr(s[7] if s[4] == 0x65 else s[0]) for s in self.track(token)))


async def soon(condition: Callable[[], Any], what: str) -> Any:
    return await asyncio.to_thread(until, condition, what)


def job_of(recording: str, receiver: str, priority: int, *tracks: str, **reference: str) -> dict[str, Any]:
    source = {
        "SourceToken": {"Token": receiver, **reference},
        "Tracks": [{"SourceTag": "", "Destination": track} for track in tracks],
    }
    return {"RecordingToken": recording, "Mode": "Idle", "Priority": priority, "Source": [source]}


def states(flow: Flow, job: str) -> tuple[str, dict[str, str]]:
    """Of the job, and of each of its tracks."""
    state = flow.job_state(job)
    tracks = [t for source in state.Sources for t in source.Tracks.Track]
    return str(state.State), {str(t.Destination): str(t.State) for t in tracks}


async def receivers_of(flow: Flow, cameras: list[Source]) -> list[str]:
    setup = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}
    return [
        str(
            (
                await asyncio.to_thread(
                    flow.receiver.CreateReceiver,
                    Configuration={"Mode": "AutoConnect", "MediaUri": source.camera.uri, "StreamSetup": setup},
                )
            ).Token
        )
        for source in cameras
    ]


@pytest.mark.requirement("RC-5.3.1-06", "RC-5.3.3-08", "RC-5.3.3-09", "RC-5.3.3-10", "RC-5.3.3-12", "RC-5.3.3-22")
@pytest.mark.requirement("RC-5.26.2-01")
async def test_each_track_holds_the_data_of_the_job_that_wins_it(tmp_path: Path) -> None:
    cameras = [Source(ord(letter)) for letter in "ABC"]
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for source in cameras:
            await stack.enter_async_context(source.camera)
        tasks = [group.create_task(source.run()) for source in cameras]
        daemon = stack.enter_context(await asyncio.to_thread(DaemonProcess, tmp_path / "data", CONFIG))
        flow = await asyncio.to_thread(Flow, daemon)
        await compete(daemon, flow, cameras)
        await feed_six_tracks(daemon, flow, cameras[:2])
        for task in tasks:
            task.cancel()
        assert await asyncio.to_thread(daemon.stop) == 0
        assert "Traceback" not in daemon.log


async def compete(daemon: DaemonProcess, flow: Flow, cameras: list[Source]) -> None:
    """Whatever is written about the source is kept, and means nothing to the recorder."""
    configuration = {"Source": ODD, "Content": "</Content>", "MaximumRetentionTime": "PT0S"}
    recording = str(await asyncio.to_thread(flow.recording.CreateRecording, RecordingConfiguration=configuration))
    disk = Disk(daemon.data, recording)
    first, second, third = await receivers_of(flow, cameras)

    async def activate(job: dict[str, Any]) -> str:
        made = await asyncio.to_thread(flow.recording.CreateRecordingJob, JobConfiguration=job)
        await set_mode(str(made.JobToken), "Active")
        return str(made.JobToken)

    def set_mode(job: str, mode: str) -> Awaitable[Any]:
        return asyncio.to_thread(flow.recording.SetRecordingJobMode, JobToken=job, Mode=mode)

    low = await activate(job_of(recording, second, 2, "VIDEO001", "AUDIO001"))
    await soon(lambda: disk.cameras("AUDIO001") == "B" == disk.cameras("VIDEO001"), "job 2 alone has both tracks")
    high = await activate(job_of(recording, first, 5, "VIDEO001", Type=RECEIVER))
    await soon(lambda: disk.cameras("VIDEO001") == "BA", "job 5 has the picture")
    assert await soon(lambda: states(flow, high) == ("Active", {"VIDEO001": "Active"}), "job 5 is active")
    assert states(flow, low) == ("PartiallyActive", {"VIDEO001": "Idle", "AUDIO001": "Active"})
    assert disk.cameras("AUDIO001") == "B"

    equal = await activate(job_of(recording, third, 5, "VIDEO001"))
    await soon(lambda: disk.cameras("VIDEO001") == "BAC", "of two jobs of priority 5 the later one")
    assert states(flow, high) == ("Idle", {"VIDEO001": "Idle"})
    await set_mode(high, "Idle")
    await set_mode(high, "Active")
    await soon(lambda: disk.cameras("VIDEO001") == "BACA", "activated again it is the later one")
    await set_mode(equal, "Idle")
    await asyncio.to_thread(flow.recording.DeleteRecordingJob, JobToken=high)
    await soon(lambda: disk.cameras("VIDEO001") == "BACAB", "the next highest active one, and none that is idle")
    assert states(flow, equal)[0] == "Idle"
    await soon(lambda: states(flow, low)[0] == "Active", "job 2 has both tracks again")
    assert disk.cameras("AUDIO001") == "B"
    await set_mode(low, "Idle")

    told = flow.recording.GetRecordingConfiguration(RecordingToken=recording)
    assert {name: told.Source[name] for name in ODD} == ODD
    assert told.Content == "</Content>"
    found = flow.information(recording).Source
    assert {name: found[name] for name in ODD} == ODD, "one source, whichever camera the data of a track are of"


async def feed_six_tracks(daemon: DaemonProcess, flow: Flow, cameras: list[Source]) -> None:
    """Example 2 of the standard: one job, two auto-created receivers, three tracks of each stream."""
    recording = await asyncio.to_thread(flow.create_recording)
    further = [
        str(
            flow.recording.CreateTrack(
                RecordingToken=recording, TrackConfiguration={"TrackType": kind, "Description": "sub stream"}
            )
        )
        for kind in ("Video", "Audio", "Metadata")
    ]
    tracks = [["VIDEO001", "AUDIO001", "META001"], further]
    sources = [
        {"AutoCreateReceiver": True, "Tracks": [{"SourceTag": "", "Destination": token} for token in tokens]}
        for tokens in tracks
    ]
    job = {"RecordingToken": recording, "Mode": "Idle", "Priority": 1, "Source": sources}
    made = await asyncio.to_thread(flow.recording.CreateRecordingJob, JobConfiguration=job)
    for source, camera in zip(made.JobConfiguration.Source, cameras, strict=True):
        await asyncio.to_thread(flow.configure, source.SourceToken.Token, camera.camera.uri)
    await asyncio.to_thread(flow.recording.SetRecordingJobMode, JobToken=made.JobToken, Mode="Active")
    disk = Disk(daemon.data, recording)
    await soon(lambda: all(disk.track(token) for tokens in tracks for token in tokens), "all six tracks hold data")
    assert flow.job_state(made.JobToken).State == "Active"
    for letter, tokens in zip("AB", tracks, strict=True):
        video, audio, metadata = tokens
        assert (disk.cameras(video), disk.cameras(audio)) == (letter, letter)
        assert {s[22:23] for s in disk.track(metadata)} == {letter.encode()}
