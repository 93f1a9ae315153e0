"""What control, ingest and storage tell, as events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nvr.events.broker import Broker
from nvr.events.publisher import Publisher
from nvr.events.subscription import Subscription
from nvr.model.event import Event, PropertyOperation
from nvr.model.job import (
    JobState,
    RecordingJobConfiguration,
    RecordingJobMode,
    RecordingJobSource,
    RecordingJobState,
    SourceState,
)
from nvr.model.receiver import Receiver, ReceiverConfiguration, ReceiverState
from nvr.model.recording import RecordingConfiguration, RecordingSourceInformation, TrackConfiguration, TrackType
from nvr.model.timeline import GapReason, Run, Timeline
from nvr.model.tokens import AUDIO001, VIDEO001, ReceiverToken, RecordingToken, TrackKey
from nvr.storage.volume import VolumeState, VolumeStatus
from tests.support.control import Controlled
from tests.support.events import START, Clocks, a_broker, subscribed

INITIALIZED, CHANGED, DELETED = PropertyOperation.INITIALIZED, PropertyOperation.CHANGED, PropertyOperation.DELETED
CAMERA = ReceiverToken("rcv-1")


class Told:
    """Control with a publisher behind it, and a subscription that sees everything."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        self.broker: Broker = a_broker(self.clocks)
        self.rooms = Controlled()
        self.timelines: dict[TrackKey, Timeline] = {}
        self.changed: list[ReceiverToken] = []
        self.publisher = Publisher(
            self.broker, self.rooms.control, lambda k: self.timelines.get(k, Timeline()), self._changed,
            utc=self.clocks.utc,
        )  # fmt: skip
        self.rooms.state.watcher = self.publisher.changed
        self.all: Subscription = subscribed(self.broker)

    def _changed(self) -> list[ReceiverToken]:
        changed, self.changed = self.changed, []
        return changed

    def events(self, topic: str = "") -> list[Event]:
        """What has been told since this was asked last."""
        return [e for e in self.all.take(1000) if e.topic.path.startswith(topic)]

    async def next(self, topic: str) -> Event:
        for _ in range(20):
            _, events = await self.broker.pull(self.all.token, 10**9, 1)
            if events and events[0].topic.path == topic:
                return events[0]
        raise AssertionError(f"nothing of {topic}")


def paths(events: list[Event]) -> list[str]:
    return [e.topic.path.partition("/")[2] for e in events]


@asynccontextmanager
async def running(publisher: Publisher) -> AsyncIterator[None]:
    task = asyncio.create_task(publisher.run())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.requirement("RC-5.25.5-01", "RC-5.25.5-03")
async def test_a_new_recording_is_told_with_each_of_its_default_tracks() -> None:
    told = Told()
    recording = await told.rooms.control.create_recording(RecordingConfiguration())
    events = told.events("RecordingConfig")
    assert paths(events) == ["CreateRecording", "CreateTrack", "CreateTrack", "CreateTrack"]
    assert {e.source["RecordingToken"] for e in events} == {recording.token}
    assert [e.source["TrackToken"] for e in events[1:]] == ["VIDEO001", "AUDIO001", "META001"]
    assert all(not e.data and e.operation is None and e.utc_ns == START for e in events)


@pytest.mark.requirement("RC-5.25.5-02", "RC-5.25.5-04")
async def test_a_deleted_recording_is_told_with_each_of_its_tracks_and_its_properties_go() -> None:
    told = Told()
    recording = await told.rooms.control.create_recording(RecordingConfiguration())
    told.events()
    await told.rooms.control.delete_recording(recording.token)
    events = told.events()
    config = [e for e in events if e.topic.path.startswith("RecordingConfig")]
    assert paths(config) == ["DeleteTrack", "DeleteTrack", "DeleteTrack", "DeleteRecording"]
    history = [e for e in events if e.topic.path.startswith("RecordingHistory")]
    assert [e.operation for e in history] == [DELETED] * 4
    assert subscribed(told.broker).backlog == 0


@pytest.mark.requirement("RC-5.25.3-01", "RC-5.25.3-02")
async def test_changed_configurations_are_told_with_their_new_value_and_unchanged_ones_are_not() -> None:
    told = Told()
    control = told.rooms.control
    recording = await control.create_recording(RecordingConfiguration())
    told.events()
    new = RecordingConfiguration(RecordingSourceInformation(name="Gate"), "Trucks", 0)
    await control.set_recording_configuration(recording.token, new)
    await control.set_recording_configuration(recording.token, new)
    await control.set_track_configuration(recording.token, VIDEO001, TrackConfiguration(TrackType.AUDIO, "East"))
    first, second = told.events()
    assert (first.topic.path, dict(first.source)) == (
        "RecordingConfig/RecordingConfiguration", {"RecordingToken": recording.token},
    )  # fmt: skip
    assert first.data == {"Configuration": control.recording(recording.token).configuration}
    assert second.topic.path == "RecordingConfig/TrackConfiguration"
    assert second.source == {"RecordingToken": recording.token, "TrackToken": VIDEO001}
    assert second.data == {"Configuration": TrackConfiguration(TrackType.VIDEO, "East")}


@pytest.mark.requirement("RC-5.25.5-03", "RC-5.25.5-04")
async def test_tracks_that_are_made_and_deleted_later_are_told() -> None:
    told = Told()
    control = told.rooms.control
    recording = await control.create_recording(RecordingConfiguration())
    told.events()
    track = await control.create_track(recording.token, TrackConfiguration(TrackType.AUDIO))
    await control.delete_track(recording.token, track.token)
    events = told.events()
    assert [(e.topic.path, e.operation) for e in events] == [
        ("RecordingConfig/CreateTrack", None),
        ("RecordingHistory/Track/State", INITIALIZED),
        ("RecordingHistory/Track/State", DELETED),
        ("RecordingConfig/DeleteTrack", None),
    ]
    assert {e.source.get("TrackToken", e.source.get("Track")) for e in events} == {track.token}


@pytest.mark.requirement("RC-5.25.3-03")
async def test_a_changed_mode_or_configuration_of_a_job_is_told_as_its_new_configuration() -> None:
    told = Told()
    control = told.rooms.control
    recording = await control.create_recording(RecordingConfiguration())
    job = await control.create_job(told_job(recording.token))
    assert told.events("RecordingConfig/RecordingJobConfiguration") == []
    await control.set_job_mode(job.token, RecordingJobMode.ACTIVE)
    (event,) = told.events("RecordingConfig/RecordingJobConfiguration")
    assert event.source == {"RecordingJobToken": job.token}
    assert event.data == {"Configuration": control.job(job.token).configuration}
    changed = replace(control.job(job.token).configuration, priority=7)
    await control.set_job_configuration(job.token, changed)
    (event,) = told.events("RecordingConfig/RecordingJobConfiguration")
    assert (event.source, event.data) == ({"RecordingJobToken": job.token}, {"Configuration": changed})


def told_job(recording: RecordingToken) -> RecordingJobConfiguration:
    source = RecordingJobSource(None, auto_create_receiver=True, implied_tracks=True)
    return RecordingJobConfiguration(recording, RecordingJobMode.IDLE, 1, (source,))


@pytest.mark.requirement("RC-5.25.2-02")
async def test_the_state_of_a_job_is_initialized_changed_and_deleted_with_the_job() -> None:
    told = Told()
    control, engine = told.rooms.control, told.rooms.engine
    async with running(told.publisher):
        recording = await control.create_recording(RecordingConfiguration())
        job = await control.create_job(told_job(recording.token))
        first = await told.next("RecordingConfig/JobState")
        assert (first.operation, first.data["State"]) == (INITIALIZED, "Idle")
        assert first.data["Information"] == control.job_state(job.token)

        (source,) = control.job_state(job.token).sources
        active = tuple(replace(track, state=RecordingJobState.ACTIVE) for track in source.tracks)
        told.clocks.advance(5)
        engine.job_states[job.token] = JobState(
            recording.token, (SourceState(source.source, active, RecordingJobState.ACTIVE),)
        )
        told.changed.append(ReceiverToken(source.source.token))
        told.publisher._wake.set()
        second = await told.next("RecordingConfig/JobState")
        assert (second.operation, second.data["State"]) == (CHANGED, "Active")
        assert second.data["Information"] == control.job_state(job.token)
        assert second.utc_ns == told.clocks.utc_ns

        late = subscribed(told.broker, "tns1:RecordingConfig/JobState")
        _, initial = await told.broker.pull(late.token, 0, 10)
        assert [(e.operation, e.data["State"]) for e in initial] == [(INITIALIZED, "Active")]
        await control.delete_job(job.token)
        third = await told.next("RecordingConfig/JobState")
        assert (third.operation, third.source) == (DELETED, {"RecordingJobToken": job.token})


@pytest.mark.requirement("RX-10.7.2-01", "RX-10.7.2-02", "RX-10.7.3-01")
async def test_states_and_failures_of_a_receiver_are_told_without_its_password() -> None:
    told = Told()
    configuration = ReceiverConfiguration(media_uri="rtsp://anna:secret@192.0.2.1/stream?pwd=secret")
    told.publisher.start([Receiver(CAMERA, configuration)])
    told.publisher.receiver_changed(CAMERA, ReceiverState.CONNECTING)
    told.publisher.receiver_changed(CAMERA, ReceiverState.NOT_CONNECTED)
    told.publisher.connection_failed(CAMERA)
    events = told.events()
    assert [(e.topic.path, dict(e.source), dict(e.data)) for e in events] == [
        ("Receiver/ChangeState", {"ReceiverToken": CAMERA}, {"NewState": state, "MediaUri": "rtsp://192.0.2.1/stream"})
        for state in ("Connecting", "NotConnected")
    ] + [("Receiver/ConnectionFailed", {"ReceiverToken": CAMERA}, {"MediaUri": "rtsp://192.0.2.1/stream"})]


@pytest.mark.requirement("RS-6.17-03", "RS-6.17-05")
async def test_history_carries_the_times_of_the_data_and_joins_the_tracks_of_a_recording() -> None:
    told = Told()
    recording = await told.rooms.control.create_recording(RecordingConfiguration())
    told.events()
    video, audio = TrackKey(recording.token, VIDEO001), TrackKey(recording.token, AUDIO001)
    told.clocks.advance(30)
    told.publisher.footage_begins(video, START + 1)
    told.publisher.footage_begins(audio, START + 2)
    told.timelines[audio] = Timeline((Run("a", START + 2, START + 40, GapReason.SOURCE_LOST),))
    told.publisher.footage_ends(audio, START + 40)
    told.publisher.footage_ends(video, START + 30)
    assert [(e.topic.names[1], e.source.get("Track"), *e.data.values(), e.utc_ns - START) for e in told.events()] == [
        ("Recording", None, True, 1),
        ("Track", VIDEO001, True, 1),
        ("Track", AUDIO001, True, 2),
        ("Track", AUDIO001, False, 40),
        ("Track", VIDEO001, False, 30),
        ("Recording", None, False, 40),
    ]


async def test_data_of_a_track_that_is_not_configured_any_more_are_no_history() -> None:
    told = Told()
    recording = await told.rooms.control.create_recording(RecordingConfiguration())
    key = TrackKey(recording.token, VIDEO001)
    told.publisher.footage_begins(key, START)
    await told.rooms.control.delete_recording(recording.token)
    told.events()
    told.publisher.footage_ends(key, START + 5)
    told.publisher.footage_begins(key, START + 6)
    assert told.events() == []


@pytest.mark.requirement("RC-5.25.4-01")
async def test_deleted_data_are_told_with_their_range() -> None:
    told = Told()
    recording = await told.rooms.control.create_recording(RecordingConfiguration())
    told.events()
    told.publisher.footage_deleted(TrackKey(recording.token, VIDEO001), START, START + 7)
    (event,) = told.events()
    assert event.topic.path == "RecordingConfig/DeleteTrackData"
    assert event.source == {"RecordingToken": recording.token, "TrackToken": VIDEO001}
    assert event.data == {"StartTime": START, "EndTime": START + 7}


async def test_a_start_takes_the_properties_from_what_is_there() -> None:
    told = Told()
    told.rooms.state.watcher = lambda before, after: None
    recording = await told.rooms.control.create_recording(RecordingConfiguration())
    key = TrackKey(recording.token, VIDEO001)
    told.timelines[key] = Timeline((Run("a", START - 90, START - 50, GapReason.DAEMON_STOPPED),))
    told.publisher.start([])
    states = {(e.topic.names[1], e.source.get("Track")): (*e.data.values(), e.utc_ns - START) for e in told.events()}
    assert states == {
        ("Recording", None): (False, -50),
        ("Track", "VIDEO001"): (False, -50),
        ("Track", "AUDIO001"): (False, 0),
        ("Track", "META001"): (False, 0),
    }


def test_a_volume_that_takes_no_footage_is_a_storage_failure_until_it_is_back() -> None:
    told = Told()
    unknown = VolumeStatus(None, Path("/srv/one"), VolumeState.MISSING, "not mounted", None, 0)
    told.publisher.start((), [unknown])
    known = replace(unknown, id="ab" * 16, state=VolumeState.ONLINE, why="")
    for status in (known, known, replace(known, state=VolumeState.FULL), known):
        told.publisher.volume_changed(status)
    events = told.events("Device/HardwareFailure/StorageFailure")
    assert [(e.operation, e.source["Token"], e.data.get("Failed")) for e in events] == [
        (INITIALIZED, "/srv/one", True),
        (DELETED, "/srv/one", True),
        (INITIALIZED, "ab" * 16, False),
        (CHANGED, "ab" * 16, True),
        (CHANGED, "ab" * 16, False),
    ]
