"""The ingest engine on a storage that remembers, for tests against a scripted camera."""

from __future__ import annotations

from nvr.ingest.engine import IngestEngine
from nvr.ingest.settings import IngestSettings
from nvr.model.job import RecordingJob, RecordingJobState
from nvr.model.receiver import Receiver, ReceiverMode, ReceiverState
from nvr.model.tokens import JobToken, ReceiverToken
from tests.support.camera import Camera, CameraTrack, key_frame, picture
from tests.support.ingest import (
    QUICK,
    FakeStorage,
    a_job,
    a_receiver,
    a_recording,
    a_source,
    key,
)

JOB, RECEIVER = JobToken("job-1"), ReceiverToken("rcv-1")
IDLE, ACTIVE, ERROR = RecordingJobState.IDLE, RecordingJobState.ACTIVE, RecordingJobState.ERROR
FRAME = 3600
"""Ticks of 90 kHz at 25 pictures a second."""


class House:
    """An engine on a storage that remembers."""

    def __init__(self, settings: IngestSettings = QUICK) -> None:
        self.storage = FakeStorage()
        self.engine = IngestEngine(self.storage, settings)

    def apply(self, jobs: list[RecordingJob], receivers: list[Receiver]) -> None:
        self.engine.apply([a_recording()], jobs, receivers)

    def record(self, uri: str, *tracks: tuple[str, str], mode: ReceiverMode = ReceiverMode.AUTO_CONNECT) -> None:
        lines = tracks or (("", "VIDEO001"),)
        self.apply([a_job(a_source("rcv-1", *lines))], [a_receiver(uri, mode=mode)])

    def state(self, line: int = 0) -> tuple[RecordingJobState, str | None]:
        track = self.engine.job_state(JOB).sources[0].tracks[line]
        return track.state, track.error

    @property
    def receiver(self) -> ReceiverState:
        return self.engine.receiver_state(RECEIVER)

    def recorder(self, track: str = "VIDEO001"):  # type: ignore[no-untyped-def]
        return self.storage.recorder(key(track), None)  # type: ignore[arg-type]

    def error(self) -> str:
        return self.state()[1] or ""


def send_gops(camera: Camera, track: CameraTrack, gops: int, first: int = 0, length: int = 25) -> None:
    for number in range(first, first + gops * length):
        data = key_frame(number) if number % length == 0 else picture(number)
        camera.send_unit(track, data, number * FRAME)
