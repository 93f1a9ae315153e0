"""Recordings, tracks and recording jobs: what IEC 62676-2-32 clauses 5.4 to 5.20 let a client do with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace

from nvr.control import checks, mapping
from nvr.control.job_state import mirrored
from nvr.control.state import ControlState, FootageStore, SourceStream
from nvr.model.errors import BadConfiguration, BadMode, LimitReached, StorageError, UnknownToken
from nvr.model.job import (
    JobState,
    RecordingJob,
    RecordingJobConfiguration,
    RecordingJobMode,
    RecordingJobSource,
    SourceReference,
)
from nvr.model.receiver import Receiver, ReceiverConfiguration
from nvr.model.recording import (
    Recording,
    RecordingConfiguration,
    Track,
    TrackConfiguration,
    TrackType,
    default_tracks,
)
from nvr.model.tokens import (
    JobToken,
    ReceiverToken,
    RecordingToken,
    TrackKey,
    TrackToken,
    new_job_token,
    new_receiver_token,
    new_recording_token,
)
from nvr.storage.changes import Change, Deleted, DeleteJob, DeleteRecording, Deletion, Save

log = logging.getLogger(__name__)

TOKEN_STEMS = {TrackType.VIDEO: "VIDEO", TrackType.AUDIO: "AUDIO", TrackType.METADATA: "META"}


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """What can still be added to a recording (5.20)."""

    spare_jobs: int
    spare_tracks: Mapping[TrackType, int]
    profiles: tuple[str, ...] = ()
    """Tokens of the media profiles that can be recorded: all that there are."""

    @property
    def spare_total(self) -> int:
        return sum(self.spare_tracks.values())


class RecordingControl:
    """Reading methods are plain functions; changing ones return when the change is on the disk. Errors are Refused."""

    def __init__(self, state: ControlState, footage: FootageStore) -> None:
        self._state = state
        self._footage = footage
        self._background: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Sets the engine going with what was configured before, and takes up deletions that were cut short."""
        self._state.tell_engine()
        for deletion in self._state.now.deletions:
            self._spawn(self._delete_data(deletion))

    async def stop(self) -> None:
        """Waits for what runs in the background; what cannot be finished is taken up at the next start."""
        while self._background:
            await asyncio.wait(self._background)
        await self._state.commit(())

    # Recordings

    def recordings(self) -> tuple[Recording, ...]:
        """All recordings, in the order of their creation."""
        return tuple(self._state.now.recordings.values())

    def recording(self, token: RecordingToken) -> Recording:
        """Raises UnknownToken."""
        return self._state.now.recording(token)

    async def create_recording(self, configuration: RecordingConfiguration) -> Recording:
        """With the three default tracks. Raises BadConfiguration, LimitReached."""
        state = self._state
        configuration = checks.recording_configuration(configuration)
        if len(state.coming.recordings) >= state.settings.recordings:
            raise LimitReached("Recording", state.settings.recordings)
        recording = Recording(new_recording_token(), configuration, default_tracks())
        await state.commit([Save(recording)])
        return recording

    async def set_recording_configuration(self, token: RecordingToken, configuration: RecordingConfiguration) -> None:
        """Raises UnknownToken, BadConfiguration."""
        state = self._state
        recording = state.coming.recording(token)
        await state.commit([Save(replace(recording, configuration=checks.recording_configuration(configuration)))])

    async def delete_recording(self, token: RecordingToken) -> None:
        """With its jobs, their auto-created receivers, its tracks and all data (5.5). Raises UnknownToken.

        The recording is gone once the configuration says so; its data follow, after a crash at the next start.
        """
        state = self._state
        deletion = Deletion(token)
        state.coming.recording(token)
        left = {t: j for t, j in state.coming.jobs.items() if j.configuration.recording != token}
        changes: list[Change] = [Save(deletion)]
        changes += [DeleteJob(t) for t in state.coming.jobs if t not in left]
        changes += state.coming.unused_receivers(left)
        changes.append(DeleteRecording(token))
        await state.commit(changes)
        await asyncio.shield(self._spawn(self._delete_data(deletion)))

    def is_deleting(self, token: RecordingToken) -> bool:
        """Whether data of a recording that is gone are still to be deleted."""
        return Deletion(token) in self._state.now.deletions

    def options(self, token: RecordingToken) -> RecordingOptions:
        """Raises UnknownToken."""
        state = self._state
        recording = state.now.recording(token)
        most = state.settings.tracks_per_type if state.settings.dynamic_tracks else 0
        return RecordingOptions(
            max(0, state.settings.jobs - len(state.now.jobs)),
            {kind: max(0, most - _count(recording, kind)) for kind in TOKEN_STEMS},
            tuple(r.token for r in state.now.receivers.values() if r.may_connect),
        )

    # Tracks

    def track(self, recording: RecordingToken, token: TrackToken) -> Track:
        """Raises UnknownToken, of kind Recording or Track."""
        return _track(self._state.now.recording(recording), token)

    async def create_track(self, recording: RecordingToken, configuration: TrackConfiguration) -> Track:
        """Raises UnknownToken, BadConfiguration, LimitReached."""
        state = self._state
        existing = state.coming.recording(recording)
        configuration = checks.track_configuration(configuration)
        if _count(existing, configuration.track_type) >= state.settings.tracks_per_type:
            raise LimitReached("Track", state.settings.tracks_per_type)
        track = Track(self._new_track_token(existing, configuration.track_type), configuration)
        await state.commit([Save(replace(existing, tracks=(*existing.tracks, track)))])
        return track

    async def set_track_configuration(
        self, recording: RecordingToken, token: TrackToken, configuration: TrackConfiguration
    ) -> None:
        """The type of a track never changes: the one given is ignored (5.12). Raises UnknownToken, BadConfiguration."""
        state = self._state
        track = _track(state.coming.recording(recording), token)
        configuration = replace(configuration, track_type=track.configuration.track_type)
        changed = Track(track.token, checks.track_configuration(configuration))
        existing = state.coming.recording(recording)
        tracks = tuple(changed if t.token == token else t for t in existing.tracks)
        await state.commit([Save(replace(existing, tracks=tracks))])

    async def delete_track(self, recording: RecordingToken, token: TrackToken) -> None:
        """With all its data; jobs that fed it lose the line for it (5.10). Raises UnknownToken."""
        state = self._state
        deletion = Deletion(recording, token)
        existing = state.coming.recording(recording)
        _track(existing, token)
        changes: list[Change] = [Save(deletion)]
        for job in state.coming.jobs.values():
            if job.configuration.recording == recording:
                configuration = mapping.without_track(job.configuration, token)
                if configuration != job.configuration:
                    log.warning("recording job %s loses track %s of %s, deleted", job.token, token, recording)
                    changes.append(Save(replace(job, configuration=configuration)))
        changes.append(Save(replace(existing, tracks=tuple(t for t in existing.tracks if t.token != token))))
        await state.commit(changes)
        await asyncio.shield(self._spawn(self._delete_data(deletion)))

    # Recording jobs

    def jobs(self) -> tuple[RecordingJob, ...]:
        """All recording jobs, in the order of their creation."""
        return tuple(self._state.now.jobs.values())

    def job(self, token: JobToken) -> RecordingJob:
        """Raises UnknownToken."""
        return self._state.now.job(token)

    def job_state(self, token: JobToken) -> JobState:
        """One entry for each source and track of the configuration, and no other (5.19). Raises UnknownToken."""
        job = self._state.now.job(token)
        try:
            reported = self._state.engine.job_state(job.token)
        except UnknownToken:  # the engine has not been started yet
            reported = None
        return mirrored(job.configuration, reported)

    def has_source(self, source: SourceReference) -> bool:
        """Whether a job could name this source."""
        return checks.source_receiver(source, self._state.now.receivers) is not None

    async def create_job(self, configuration: RecordingJobConfiguration) -> RecordingJob:
        """Makes the receivers that it asks for. Raises UnknownToken (Recording), BadConfiguration, LimitReached."""
        state = self._state
        recording = state.coming.recording(configuration.recording)
        configuration = checks.job_configuration(configuration, recording, state.coming.receivers, state.settings)
        if len(state.coming.jobs) >= state.settings.jobs:
            raise LimitReached("RecordingJob", state.settings.jobs)
        configuration, made = self._with_receivers(configuration)
        configuration = mapping.resolve(configuration, recording, state.streams)
        active = configuration.mode is RecordingJobMode.ACTIVE
        job = RecordingJob(new_job_token(), configuration, state.coming.next_activation() if active else 0)
        await state.commit([*(Save(r) for r in made), Save(job)])
        return job

    async def set_job_configuration(
        self, token: JobToken, configuration: RecordingJobConfiguration
    ) -> RecordingJobConfiguration:
        """The configuration in effect. Raises UnknownToken, BadConfiguration, LimitReached."""
        state = self._state
        job = state.coming.job(token)
        if configuration.recording != job.configuration.recording:
            raise BadConfiguration(f"RecordingToken: a job stays with its recording {job.configuration.recording}")
        recording = state.coming.recording(configuration.recording)
        configuration = checks.job_configuration(configuration, recording, state.coming.receivers, state.settings)
        told = job.configuration.sources
        sources = tuple(mapping.keep_implied(s, told) for s in configuration.sources)
        configuration, made = self._with_receivers(replace(configuration, sources=sources))
        configuration = mapping.resolve(configuration, recording, state.streams)
        changed = self._reconfigured(job, configuration)
        unused = state.coming.unused_receivers({**state.coming.jobs, token: changed})
        await state.commit([*(Save(r) for r in made), Save(changed), *unused])
        return configuration

    async def set_job_mode(self, token: JobToken, mode: RecordingJobMode) -> None:
        """Raises UnknownToken, BadMode."""
        state = self._state
        job = state.coming.job(token)
        try:
            mode = RecordingJobMode(mode)
        except ValueError:
            raise BadMode(f"Mode: {mode!r} is neither Idle nor Active") from None
        changed = self._reconfigured(job, replace(job.configuration, mode=mode))
        await state.commit([Save(changed)] if changed != job else ())

    async def delete_job(self, token: JobToken) -> None:
        """Data stay; auto-created receivers that no other job uses go (5.14). Raises UnknownToken."""
        state = self._state
        state.coming.job(token)
        left = {t: j for t, j in state.coming.jobs.items() if t != token}
        await state.commit([DeleteJob(token), *state.coming.unused_receivers(left)])

    def streams_known(self, receiver: ReceiverToken, streams: Sequence[SourceStream]) -> None:
        """The engine has read the session description of a source: tracks that clients left open are settled (5.13)."""
        if receiver in self._state.now.receivers:
            self._state.streams[receiver] = tuple(streams)
            self._spawn(self._settle(receiver))

    async def _settle(self, receiver: ReceiverToken) -> None:
        state = self._state
        changes = []
        camera = ""
        for job in state.coming.jobs_of_receiver(receiver):
            recording = state.coming.recordings[job.configuration.recording]
            camera = recording.configuration.source.name
            configuration = mapping.resolve(job.configuration, recording, state.streams)
            if configuration != job.configuration:
                changes.append(Save(replace(job, configuration=configuration)))
        if not changes:
            return
        try:
            await state.commit(changes)
        except StorageError as e:
            log.error("the tracks of receiver %s (%r) stay unsettled until it connects again: %s", receiver, camera, e)

    def _with_receivers(
        self, configuration: RecordingJobConfiguration
    ) -> tuple[RecordingJobConfiguration, list[Receiver]]:
        """Sources that ask for a receiver get a new, unconfigured one. Raises LimitReached before making any."""
        state = self._state
        asking = sum(source.source is None for source in configuration.sources)
        if len(state.coming.receivers) + asking > state.settings.receivers and asking:
            raise LimitReached("Receiver", state.settings.receivers)
        made: list[Receiver] = []
        sources: list[RecordingJobSource] = []
        for source in configuration.sources:
            if source.source is None:
                receiver = Receiver(new_receiver_token(), ReceiverConfiguration(), auto_created=True)
                made.append(receiver)
                source = replace(source, source=SourceReference(receiver.token), auto_create_receiver=False)
            sources.append(source)
        return replace(configuration, sources=tuple(sources)), made

    def _reconfigured(self, job: RecordingJob, configuration: RecordingJobConfiguration) -> RecordingJob:
        """A job that turns active is the latest of all (5.3.3); one that was active keeps its turn."""
        was, now = job.configuration.mode, configuration.mode
        turns_active = now is RecordingJobMode.ACTIVE and was is not now
        activation = self._state.coming.next_activation() if turns_active else job.activation
        return replace(job, configuration=configuration, activation=activation)

    def _new_track_token(self, recording: Recording, track_type: TrackType) -> TrackToken:
        """The number behind the highest of this type, also of tracks whose data are still being deleted."""
        stem = TOKEN_STEMS[track_type]
        taken = {t.token for t in recording.tracks}
        deletions = self._state.coming.deletions
        taken |= {d.track for d in deletions if d.recording == recording.token and d.track is not None}
        numbers = [int(t[len(stem) :]) for t in taken if t.startswith(stem) and t[len(stem) :].isdecimal()]
        return TrackToken(f"{stem}{max(numbers, default=0) + 1:03d}")

    async def _delete_data(self, deletion: Deletion) -> None:
        state = self._state
        try:
            if deletion.track is None:
                await self._footage.delete_recording(deletion.recording)
            else:
                await self._footage.delete_track(TrackKey(deletion.recording, deletion.track))
            await state.commit([Deleted(deletion)])
        except StorageError as e:
            log.error("the deletion of %s is not finished and goes on at the next start: %s", deletion, e)

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Work that goes on when its client hangs up; `stop` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def _track(recording: Recording, token: TrackToken) -> Track:
    track = recording.track(token)
    if track is None:
        raise UnknownToken("Track", token)
    return track


def _count(recording: Recording, track_type: TrackType) -> int:
    return sum(t.configuration.track_type is track_type for t in recording.tracks)
