"""A storage that remembers what it was given, and builders of recordings, jobs and receivers for the ingest engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from nvr.ingest.settings import IngestSettings
from nvr.media.unit import CodecConfiguration, Fragment, Sample
from nvr.model.job import (
    RecordingJob,
    RecordingJobConfiguration,
    RecordingJobMode,
    RecordingJobSource,
    RecordingJobTrack,
    SourceReference,
)
from nvr.model.receiver import Receiver, ReceiverConfiguration, ReceiverMode, StreamSetup, TransportProtocol
from nvr.model.recording import Recording, RecordingConfiguration, TrackType, default_tracks
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackKey, TrackToken

MS = 1_000_000
QUICK = IngestSettings(
    drain_interval_ns=5 * MS,
    live_interval_ns=5 * MS,
    back_off_ns=10 * MS,
    back_off_maximum_ns=40 * MS,
    connect_timeout_ns=20_000 * MS,
    request_timeout_ns=20_000 * MS,
    teardown_timeout_ns=200 * MS,
)
"""For tests over sockets: nothing waits longer than it has to, and a machine that stands still is no silent camera."""


@dataclass
class FakeRecorder:
    """One track's recorder. `events` holds fragments and reasons of run ends in order."""

    events: list[Fragment | GapReason] = field(default_factory=list)
    full: bool = False

    def append(self, fragment: Fragment) -> bool:
        if self.full:
            return False
        self.events.append(fragment)
        return True

    def end_run(self, reason: GapReason) -> None:
        self.events.append(reason)

    def correct_gap(self, reason: GapReason) -> None:
        last = max(n for n, e in enumerate(self.events) if isinstance(e, GapReason))
        self.events[last] = reason

    @property
    def fragments(self) -> list[Fragment]:
        return [e for e in self.events if isinstance(e, Fragment)]

    @property
    def reasons(self) -> list[GapReason]:
        return [e for e in self.events if isinstance(e, GapReason)]

    @property
    def samples(self) -> list[Sample]:
        return [s for f in self.fragments for s in f.samples]


@dataclass
class FakeStorage:
    """Satisfies `nvr.ingest.tracks.Storage`."""

    recorders: dict[TrackKey, FakeRecorder] = field(default_factory=dict)
    configurations: dict[TrackKey, CodecConfiguration] = field(default_factory=dict)

    def recorder(self, key: TrackKey, track_type: TrackType) -> FakeRecorder:
        return self.recorders.setdefault(key, FakeRecorder())

    def configuration(self, key: TrackKey) -> CodecConfiguration | None:
        return self.configurations.get(key)


def key(track: str = "VIDEO001", recording: str = "rec-1") -> TrackKey:
    return TrackKey(RecordingToken(recording), TrackToken(track))


def a_recording(token: str = "rec-1") -> Recording:
    return Recording(RecordingToken(token), RecordingConfiguration(), default_tracks())


def a_receiver(
    uri: str,
    token: str = "rcv-1",
    mode: ReceiverMode = ReceiverMode.AUTO_CONNECT,
    protocol: TransportProtocol = TransportProtocol.RTSP,
) -> Receiver:
    return Receiver(ReceiverToken(token), ReceiverConfiguration(mode, uri, StreamSetup(protocol=protocol)))


def a_source(receiver: str = "rcv-1", *tracks: tuple[str, str]) -> RecordingJobSource:
    """Tracks as (SourceTag, destination)."""
    lines = tuple(RecordingJobTrack(tag, TrackToken(destination)) for tag, destination in tracks)
    return RecordingJobSource(SourceReference(receiver), lines)


def a_job(
    *sources: RecordingJobSource,
    token: str = "job-1",
    recording: str = "rec-1",
    mode: RecordingJobMode = RecordingJobMode.ACTIVE,
    priority: int = 1,
    activation: int = 1,
    schedule: str | None = None,
) -> RecordingJob:
    configuration = RecordingJobConfiguration(RecordingToken(recording), mode, priority, sources, schedule)
    return RecordingJob(JobToken(token), configuration, activation)


async def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """Until the condition holds; it is looked at whenever the loop has had time for others. TimeoutError after that."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
