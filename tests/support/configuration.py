"""Builders for what clients configure, and a sealer without cryptography."""

from __future__ import annotations

from nvr.model.errors import OperatorError
from nvr.model.job import (
    RecordingJob,
    RecordingJobConfiguration,
    RecordingJobMode,
    RecordingJobSource,
    RecordingJobTrack,
    SourceReference,
)
from nvr.model.receiver import Receiver, ReceiverConfiguration
from nvr.model.recording import Recording, RecordingConfiguration, RecordingSourceInformation, default_tracks
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackToken


class XorSealer:
    """Makes bytes unreadable, no more. `key` differs: what another key has sealed cannot be opened."""

    def __init__(self, key: int = 0x5A) -> None:
        self.key = key

    def seal(self, text: str, purpose: str) -> bytes:
        return bytes([self.key]) + bytes(b ^ self.key for b in f"{purpose}|{text}".encode())

    def open(self, sealed: bytes, purpose: str) -> str:
        if sealed[0] != self.key:
            raise OperatorError("sealed with another key")
        sealed_for, _, text = bytes(b ^ self.key for b in sealed[1:]).decode().partition("|")
        if sealed_for != purpose:
            raise OperatorError(f"sealed for {sealed_for}, not for {purpose}")
        return text


def a_recording(token: str = "rec-1", name: str = "Gate", **source: str) -> Recording:
    configuration = RecordingConfiguration(RecordingSourceInformation(name=name, **source), content="Front")
    return Recording(RecordingToken(token), configuration, default_tracks())


def a_receiver(token: str = "rcv-1", uri: str = "rtsp://camera.example/live", auto_created: bool = False) -> Receiver:
    return Receiver(ReceiverToken(token), ReceiverConfiguration(media_uri=uri), auto_created)


def a_job(
    token: str = "job-1",
    recording: str = "rec-1",
    receiver: str = "rcv-1",
    *destinations: str,
    mode: RecordingJobMode = RecordingJobMode.IDLE,
    priority: int = 1,
    activation: int = 0,
) -> RecordingJob:
    tracks = tuple(RecordingJobTrack("", TrackToken(d)) for d in destinations)
    source = RecordingJobSource(SourceReference(receiver), tracks)
    configuration = RecordingJobConfiguration(RecordingToken(recording), mode, priority, (source,))
    return RecordingJob(JobToken(token), configuration, activation)
