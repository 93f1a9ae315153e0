"""A job with an event filter, set by a client of the official WSDLs: a camera's motion decides what is recorded."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from nvr.model.time import NS, format_iso
from tests.support.camera import Camera, CameraTrack, h264_track, key_frame, metadata_track, picture
from tests.support.daemon import DaemonProcess
from tests.support.flow import Flow
from tests.support.replayed import replay

pytestmark = pytest.mark.timeout(120)

STEP_NS = NS // 10
TOPIC = "tns1:RuleEngine/CellMotionDetector/Motion"
SOURCE = 'boolean(//tt:SimpleItem[@Name="VideoSourceConfigurationToken" and @Value="front"])'


def motion(utc_ns: int, source: str, state: str) -> bytes:
    return (
        '<?xml version="1.0"?><tt:MetadataStream xmlns:tt="http://www.onvif.org/ver10/schema"'
        ' xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2" xmlns:tns1="http://www.onvif.org/ver10/topics"><tt:Event>'
        f'<wsnt:NotificationMessage><wsnt:Topic>{TOPIC}</wsnt:Topic><wsnt:Message><tt:Message UtcTime="'
        f'{format_iso(utc_ns)}" PropertyOperation="Changed"><tt:Source><tt:SimpleItem'
        f' Name="VideoSourceConfigurationToken" Value="{source}"/></tt:Source><tt:Data><tt:SimpleItem Name="IsMotion"'
        f' Value="{state}"/></tt:Data></tt:Message></wsnt:Message></wsnt:NotificationMessage></tt:Event>'
        "</tt:MetadataStream>"
    ).encode()


class Film:
    """Ten pictures a second, each numbered, the first of five a key frame; and what the camera tells between them."""

    def __init__(self, camera: Camera, video: CameraTrack, metadata: CameraTrack) -> None:
        self._camera, self._video, self._metadata = camera, video, metadata
        self._start = time.time_ns()
        self.number = 0

    def at(self, number: int) -> int:
        return self._start + number * STEP_NS

    async def shoot(self, pictures: int) -> None:
        for _ in range(pictures):
            n = self.number
            self.number += 1
            if n % 10 == 0:
                for track in (self._video, self._metadata):
                    self._camera.send_report(track, self.at(n), n * 9_000)
            self._camera.send_unit(self._video, key_frame(n, 600) if n % 5 == 0 else picture(n), n * 9_000)
            await asyncio.sleep(max(0.0, (self.at(self.number) - time.time_ns()) / NS))

    def tell(self, source: str, state: str) -> int:
        """The number of the picture at which it was told."""
        self._camera.send_unit(self._metadata, motion(self.at(self.number), source, state), self.number * 9_000)
        return self.number


def job_with(flow: Flow, event_filter: dict[str, Any]) -> tuple[str, str, str]:
    recording = flow.create_recording()
    answer = flow.recording.CreateRecordingJob(
        JobConfiguration={
            "RecordingToken": recording,
            "Mode": "Active",
            "Priority": 1,
            "Source": [{"AutoCreateReceiver": True, "Tracks": [{"SourceTag": "", "Destination": "VIDEO001"}]}],
            "EventFilter": event_filter,
        }
    )
    kept = answer.JobConfiguration.EventFilter
    assert [(f.Topic, f.Source) for f in kept.Filter] == [(TOPIC, SOURCE)]
    return recording, str(answer.JobToken), str(answer.JobConfiguration.Source[0].SourceToken.Token)


@pytest.mark.requirement("RC-N5.3.4-01", "RC-N5.3.4-02", "RC-N5.3.4-03", "RC-5.24-16", "RC-5.24-17", "RC-5.24-18")
async def test_motion_decides_what_is_recorded(tmp_path: Path) -> None:
    video, metadata = h264_track(), metadata_track()
    camera = Camera([video, metadata])
    async with camera:
        daemon = await asyncio.to_thread(DaemonProcess, tmp_path / "data")
        with daemon:
            flow = await asyncio.to_thread(Flow, daemon)
            capabilities = await asyncio.to_thread(flow.recording.GetServiceCapabilities)
            assert capabilities.EventRecording is True
            assert capabilities.BeforeEventLimit.total_seconds() >= 2 <= capabilities.AfterEventLimit.total_seconds()
            wanted = {"Filter": [{"Topic": TOPIC, "Source": SOURCE}], "Before": "PT2S", "After": "PT1S"}
            recording, job, receiver = await asyncio.to_thread(job_with, flow, wanted)
            await asyncio.to_thread(flow.configure, receiver, camera.uri)
            await camera.playing()
            film = Film(camera, video, metadata)
            await film.shoot(25)
            film.tell("back", "true")  # another source: nothing that the filter means
            await film.shoot(25)
            assert (await asyncio.to_thread(flow.job_state, job)).State == "Idle"
            began = film.tell("front", "true")
            await film.shoot(15)
            await asyncio.to_thread(flow.until_job_is, job, "Active")
            ended = film.tell("front", "false")
            await film.shoot(40)
            await asyncio.to_thread(flow.until_job_is, job, "Idle")

            units = await replay(await asyncio.to_thread(flow.replay_uri, recording), "VIDEO001")
            numbers = [int.from_bytes(u.h264()[-1][2:6], "big") for u in units]
            assert numbers == list(range(numbers[0], numbers[-1] + 1)), "a hole in what the event wanted"
            assert numbers[0] % 5 == 0
            assert numbers[0] <= began - 20 < numbers[0] + 15, "Before, and no more than a fragment beyond it"
            assert numbers[-1] >= ended + 9
            assert numbers[-1] < film.number - 15, "After has an end"
            assert await asyncio.to_thread(daemon.stop) == 0


def test_a_filter_is_kept_and_a_bad_one_is_refused(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "data") as daemon:
        flow = Flow(daemon)
        wanted = {"Filter": [{"Topic": TOPIC, "Source": SOURCE}], "Before": "PT2S", "After": "PT1S"}
        _, job, _ = job_with(flow, wanted)
        daemon.kill()
        with DaemonProcess(tmp_path / "data") as again:
            flow = Flow(again)
            kept = flow.recording.GetRecordingJobConfiguration(JobToken=job)
            kept.Source[0].Tracks[0].SourceTag = ""  # zeep makes None of an empty element
            assert kept.EventFilter.Before.total_seconds() == 2
            assert kept.EventFilter.Filter[0].Source == SOURCE
            for bad in (
                {**wanted, "Before": "PT2H"},
                {**wanted, "After": "-PT1S"},
                {**wanted, "Filter": [{"Topic": "no topic at all"}]},
                {**wanted, "Filter": [{"Topic": TOPIC, "Source": "boolean(("}]},
            ):
                kept.EventFilter = bad
                assert refused(flow, job, kept)
            kept.EventFilter = None
            flow.recording.SetRecordingJobConfiguration(JobToken=job, JobConfiguration=kept)
            assert flow.recording.GetRecordingJobConfiguration(JobToken=job).EventFilter is None


def refused(flow: Flow, job: str, configuration: Any) -> bool:
    with pytest.raises(Exception, match="EventFilter") as caught:
        flow.recording.SetRecordingJobConfiguration(JobToken=job, JobConfiguration=configuration)
    subcodes = [code.localname for code in caught.value.subcodes]
    assert subcodes == ["InvalidArgVal", "BadConfiguration"]
    return True
