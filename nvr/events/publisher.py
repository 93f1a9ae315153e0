"""What control, ingest and storage tell, made into events (IEC 62676-2-32 5.25, 6.17, 10.7).

Those rooms own the small protocols that this class meets; app.py joins them. All methods but `run` return at once.
States of recording jobs are worked out by the engine when it is asked. They are asked for in slices, by `run`, after
everything that can change them, so that a change of the configuration with two thousand jobs holds nobody up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeAlias

from nvr.events.broker import Broker
from nvr.model import event as topics
from nvr.model.errors import UnknownToken
from nvr.model.job import RECEIVER_TYPE, JobState, RecordingJob
from nvr.model.receiver import Receiver, ReceiverState
from nvr.model.recording import Recording, Track
from nvr.model.time import UtcNs
from nvr.model.timeline import Timeline
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackKey, TrackToken
from nvr.storage.volume import VolumeState, VolumeStatus

log = logging.getLogger(__name__)

Configured: TypeAlias = Recording | RecordingJob | Receiver

SWEEP_S = 0.4
"""How often the engine is asked which tracks have got another state: a change is told within a second (5.25.2)."""
_SLICE_S = 0.002


class Jobs(Protocol):
    """What is configured, and the states of jobs (`nvr.control`)."""

    def recordings(self) -> Iterable[Recording]: ...
    def jobs(self) -> Iterable[RecordingJob]: ...
    def job_state(self, token: JobToken) -> JobState:
        """Raises UnknownToken."""


class Publisher:
    """Belongs to the event loop."""

    def __init__(
        self,
        broker: Broker,
        jobs: Jobs,
        timeline: Callable[[TrackKey], Timeline],
        changed_receivers: Callable[[], Iterable[ReceiverToken]],
        *,
        utc: Callable[[], UtcNs] = time.time_ns,
    ) -> None:
        """`changed_receivers` gives those with a track whose state is another than when it was asked last."""
        self._broker = broker
        self._jobs = jobs
        self._timeline = timeline
        self._changed_receivers = changed_receivers
        self._utc = utc
        self._present: dict[RecordingToken, set[TrackToken]] = {}
        """Tracks that are being recorded now."""
        self._uris: dict[ReceiverToken, str] = {}
        self._volumes: dict[Path, str] = {}
        """Token under which each volume was told."""
        self._stale: dict[JobToken, UtcNs] = {}
        self._wake = asyncio.Event()

    def start(self, receivers: Iterable[Receiver], volumes: Iterable[VolumeStatus] = ()) -> None:
        """Takes in what is there before anything is told: every property has a state from now on."""
        for volume in volumes:
            self.volume_changed(volume)
        for receiver in receivers:
            self._uris[receiver.token] = receiver.configuration.public_uri
        for recording in self._jobs.recordings():
            self._begin_history(recording)
        self._touch(self._jobs.jobs())

    async def run(self) -> None:
        """Keeps the states of jobs up to date until it is cancelled."""
        while True:
            receivers = set(self._changed_receivers())
            if receivers:
                self._touch(j for j in self._jobs.jobs() if not receivers.isdisjoint(_receivers(j)))
            await self._tell_states()
            try:
                async with asyncio.timeout(SWEEP_S):
                    await self._wake.wait()
            except TimeoutError:
                continue  # the next sweep is due

    # Control

    def changed(self, before: Configured | None, after: Configured | None) -> None:
        """An object of the configuration is new (no `before`), another, or gone (no `after`)."""
        match before, after:
            case (None, Recording() as made):
                self._broker.publish(topics.CREATE_RECORDING, {"RecordingToken": made.token})
                for track in made.tracks:
                    self._track_made(made, track)
                self._begin_history(made)
            case (Recording() as old, Recording() as new):
                self._recording_changed(old, new)
            case (Recording() as gone, None):
                for track in gone.tracks:
                    self._track_gone(gone, track)
                self._present.pop(gone.token, None)
                self._broker.delete_property(topics.RECORDING_STATE, {"RecordingToken": gone.token})
                self._broker.publish(topics.DELETE_RECORDING, {"RecordingToken": gone.token})
            case (RecordingJob() as old, RecordingJob() as new):
                if old.configuration != new.configuration:
                    source = {"RecordingJobToken": new.token}
                    data = {"Configuration": new.configuration}
                    self._broker.publish(topics.RECORDING_JOB_CONFIGURATION, source, data)
            case (RecordingJob() as gone, None):
                self._stale.pop(gone.token, None)
                self._broker.delete_property(topics.JOB_STATE, {"RecordingJobToken": gone.token})
            case (_, Receiver() as receiver):
                self._uris[receiver.token] = receiver.configuration.public_uri
            case (Receiver() as gone, None):
                self._uris.pop(gone.token, None)
        for item in (before, after):
            self._touch(_concerned(item, self._jobs.jobs()))

    def _recording_changed(self, old: Recording, new: Recording) -> None:
        if old.configuration != new.configuration:
            data = {"Configuration": new.configuration}
            self._broker.publish(topics.RECORDING_CONFIGURATION, {"RecordingToken": new.token}, data)
        for track in old.tracks:
            if new.track(track.token) is None:
                self._track_gone(old, track)
        for track in new.tracks:
            known = old.track(track.token)
            if known is None:
                self._track_made(new, track)
                self._data_present(new.key(track), False, self._utc())
            elif known.configuration != track.configuration:
                self._broker.publish(
                    topics.TRACK_CONFIGURATION, _track(new, track), {"Configuration": track.configuration}
                )

    def _track_made(self, recording: Recording, track: Track) -> None:
        self._broker.publish(topics.CREATE_TRACK, _track(recording, track))

    def _track_gone(self, recording: Recording, track: Track) -> None:
        self._present.get(recording.token, set()).discard(track.token)
        self._broker.delete_property(topics.TRACK_STATE, {"RecordingToken": recording.token, "Track": track.token})
        self._broker.publish(topics.DELETE_TRACK, _track(recording, track))

    # Storage

    def footage_begins(self, key: TrackKey, at_ns: UtcNs) -> None:
        """The first data of a run, recorded at `at_ns`, are on the disk."""
        recording = self._configured(key.recording)
        if recording is None or recording.track(key.track) is None:
            return
        present = self._present.setdefault(key.recording, set())
        if not present:
            self._is_recording(key.recording, True, at_ns)
        present.add(key.track)
        self._data_present(key, True, at_ns)

    def footage_ends(self, key: TrackKey, at_ns: UtcNs) -> None:
        """A run has ended; its last data end at `at_ns`."""
        present = self._present.get(key.recording, set())
        if key.track not in present:
            return  # it went with its track
        present.discard(key.track)
        self._data_present(key, False, at_ns)
        if not present:
            recording = self._configured(key.recording)
            latest = [] if recording is None else [self._timeline(recording.key(t)).latest for t in recording.tracks]
            self._is_recording(key.recording, False, max(t for t in (at_ns, *latest) if t is not None))

    def footage_deleted(self, key: TrackKey, start_ns: UtcNs, end_ns: UtcNs) -> None:
        """Data of a track are gone (5.25.4)."""
        source = {"RecordingToken": key.recording, "TrackToken": key.track}
        self._broker.publish(topics.DELETE_TRACK_DATA, source, {"StartTime": start_ns, "EndTime": end_ns})

    def volume_changed(self, status: VolumeStatus) -> None:
        """A volume has another state (ONVIF Core 8.8.4)."""
        before = self._volumes.get(status.root)
        if before is not None and before != status.token:  # it had no id yet, or is another one
            self._broker.delete_property(topics.STORAGE_FAILURE, {"Token": before})
        self._volumes[status.root] = status.token
        data: dict[str, topics.Value] = {"Failed": status.state is not VolumeState.ONLINE}
        self._broker.set_property(topics.STORAGE_FAILURE, {"Token": status.token}, data, self._utc())

    def _begin_history(self, recording: Recording) -> None:
        """The properties of 6.17 begin with what the timelines say; without data there is nothing but the present."""
        now_ns = self._utc()
        timelines = {track.token: self._timeline(recording.key(track)) for track in recording.tracks}
        growing = {token for token, timeline in timelines.items() if timeline.recording}
        self._present[recording.token] = growing
        for token, timeline in timelines.items():
            end_ns = timeline.latest
            at_ns = now_ns if end_ns is None else timeline.runs[-1].start_ns if token in growing else end_ns
            self._data_present(TrackKey(recording.token, token), token in growing, at_ns)
        ends = [t.latest for t in timelines.values() if t.latest is not None]
        starts = [timelines[token].runs[-1].start_ns for token in growing]
        self._is_recording(recording.token, bool(growing), min(starts, default=max(ends, default=now_ns)))

    def _configured(self, token: RecordingToken) -> Recording | None:
        """None for a recording that has been deleted, whose data can still come to the disk or go."""
        return next((r for r in self._jobs.recordings() if r.token == token), None)

    def _data_present(self, key: TrackKey, present: bool, at_ns: UtcNs) -> None:
        source = {"RecordingToken": key.recording, "Track": key.track}
        self._broker.set_property(topics.TRACK_STATE, source, {"IsDataPresent": present}, at_ns)

    def _is_recording(self, token: RecordingToken, recording: bool, at_ns: UtcNs) -> None:
        self._broker.set_property(topics.RECORDING_STATE, {"RecordingToken": token}, {"IsRecording": recording}, at_ns)

    # Ingest

    def receiver_changed(self, token: ReceiverToken, state: ReceiverState) -> None:
        """The connection of a receiver has another state (10.7.2)."""
        data = {"NewState": str(state)}
        if self._uris.get(token):
            data["MediaUri"] = self._uris[token]
        self._broker.publish(topics.CHANGE_STATE, {"ReceiverToken": token}, data)
        self._touch(j for j in self._jobs.jobs() if token in _receivers(j))

    def connection_failed(self, token: ReceiverToken) -> None:
        """An attempt to connect has come to nothing (10.7.3)."""
        self._broker.publish(
            topics.CONNECTION_FAILED, {"ReceiverToken": token}, {"MediaUri": self._uris.get(token, "")}
        )

    # States of jobs

    def _touch(self, jobs: Iterable[RecordingJob]) -> None:
        now_ns = self._utc()
        for job in jobs:
            self._stale.setdefault(job.token, now_ns)
        if self._stale:
            self._wake.set()

    async def _tell_states(self) -> None:
        """Asks for the states of all jobs that may have another one, in slices."""
        pause = time.perf_counter() + _SLICE_S
        while self._stale:
            token = next(iter(self._stale))
            at_ns = self._stale.pop(token)
            try:
                state = self._jobs.job_state(token)
            except UnknownToken:
                continue  # deleted meanwhile, and told so
            data: dict[str, topics.Value] = {"State": str(state.state), "Information": state}
            self._broker.set_property(topics.JOB_STATE, {"RecordingJobToken": token}, data, at_ns)
            if time.perf_counter() >= pause:
                await asyncio.sleep(0)
                pause = time.perf_counter() + _SLICE_S
        self._wake.clear()


def _concerned(item: Configured | None, jobs: Iterable[RecordingJob]) -> Iterator[RecordingJob]:
    """Jobs whose state can be another one: it shares the tracks of its recording with others (5.3.3)."""
    match item:
        case Recording(token):
            return (j for j in jobs if j.configuration.recording == token)
        case RecordingJob(_, configuration):
            return (j for j in jobs if j.configuration.recording == configuration.recording)
        case Receiver(token):
            return (j for j in jobs if token in _receivers(j))
    return iter(())


def _receivers(job: RecordingJob) -> set[str]:
    references = (source.source for source in job.configuration.sources)
    return {r.token for r in references if r is not None and r.type == RECEIVER_TYPE}


def _track(recording: Recording, track: Track) -> dict[str, str]:
    return {"RecordingToken": recording.token, "TrackToken": track.token}
