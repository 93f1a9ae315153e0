"""Which recordings a search is about (IEC 62676-2-32 6.2.4), and what is told about each of them (6.3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from nvr.media.unit import CodecConfiguration
from nvr.model import xpath
from nvr.model.errors import BadConfiguration, UnknownToken
from nvr.model.job import PROFILE_TYPE, JobState, RecordingJob, RecordingJobState, SourceReference
from nvr.model.recording import Recording, TrackType
from nvr.model.search import LAST_NS, RecordingInformation, SearchScope, TrackInformation
from nvr.model.time import UtcNs
from nvr.model.timeline import Extent, Timeline
from nvr.model.tokens import JobToken, RecordingToken, TrackKey
from nvr.search.information import Described, SourceOf, configured_source
from nvr.storage.footage import Footage as FootageOfTrack

RECORDING_STATES = (RecordingJobState.ACTIVE, RecordingJobState.PARTIALLY_ACTIVE)


class Recordings(Protocol):
    """What is configured (`nvr.control.recordings`)."""

    def recordings(self) -> Sequence[Recording]: ...

    def recording(self, token: RecordingToken) -> Recording:
        """Raises UnknownToken."""

    def jobs(self) -> Sequence[RecordingJob]: ...

    def job_state(self, token: JobToken) -> JobState:
        """Raises UnknownToken."""

    def has_source(self, source: SourceReference) -> bool:
        """Whether there is such a source, with or without a job that records from it."""


class Footage(Protocol):
    """What has been recorded (`nvr.storage.engine`), from memory: nothing here blocks."""

    def extent(self, key: TrackKey) -> Extent | None:
        """None without footage."""

    def timeline(self, key: TrackKey) -> Timeline: ...

    def configuration(self, key: TrackKey) -> CodecConfiguration | None:
        """That of the newest file."""

    def footage(self, key: TrackKey) -> FootageOfTrack:
        """For readers on a thread."""


class Catalogue:
    """The recordings as clause 6.3 tells them. Belongs to the event loop."""

    def __init__(self, recordings: Recordings, footage: Footage, source_of: SourceOf = configured_source) -> None:
        self.recordings = recordings
        self.footage = footage
        self._source_of = source_of

    def recording(self, token: RecordingToken) -> Recording | None:
        """None where it has been deleted."""
        try:
            return self.recordings.recording(token)
        except UnknownToken:
            return None

    def information(self, token: RecordingToken) -> RecordingInformation:
        """Raises UnknownToken."""
        recording = self.recordings.recording(token)
        jobs = [j for j in self.recordings.jobs() if j.configuration.recording == token]
        return self._described(recording, jobs).information()

    def tracks(self, recording: Recording) -> Sequence[TrackInformation]:
        """Those with data."""
        return self._described(recording, ()).information().tracks

    def newest(self, token: RecordingToken) -> UtcNs:
        """The end of the newest data; `-LAST_NS` without any."""
        recording = self.recording(token)
        extents = () if recording is None else (self.footage.extent(recording.key(t)) for t in recording.tracks)
        return max((extent.latest for extent in extents if extent is not None), default=-LAST_NS)

    def metadata_tracks(self, token: RecordingToken) -> list[TrackKey]:
        """Also those without data."""
        recording = self.recording(token)
        tracks = () if recording is None else recording.tracks
        return [TrackKey(token, t.token) for t in tracks if t.configuration.track_type is TrackType.METADATA]

    def in_scope(self, scope: SearchScope) -> list[RecordingToken]:
        """The union of the recordings and of those of the sources; all where neither is named (6.2.4). The filter is
        not applied.

        Raises UnknownToken for a recording, BadConfiguration for a source.
        """
        recordings = self.recordings.recordings()
        if not scope.sources and not scope.recordings:
            return [recording.token for recording in recordings]
        chosen = set(scope.recordings)
        for token in scope.recordings:
            self.recordings.recording(token)
        feeds: defaultdict[SourceReference, set[RecordingToken]] = defaultdict(set)
        for job in self.recordings.jobs():
            for source in job.configuration.sources:
                if source.source is not None:
                    feeds[source.source].add(job.configuration.recording)
        named: defaultdict[str, set[RecordingToken]] = defaultdict(set)
        for recording in recordings:
            if recording.configuration.source.source_id:
                named[recording.configuration.source.source_id].add(recording.token)
        for reference in scope.sources:
            # A source is what a job records from, or the SourceId that the client gave its recordings.
            # A media profile shows a receiver under the same token.
            fed = SourceReference(reference.token) if reference.type == PROFILE_TYPE else reference
            of_source = feeds.get(fed, set()) | named.get(reference.token, set())
            if not of_source and not self.recordings.has_source(reference):
                raise BadConfiguration(f"there is no source {reference.token!r}")
            chosen |= of_source
        return [recording.token for recording in recordings if recording.token in chosen]

    def matching(
        self, chosen: Iterable[RecordingToken], expression: xpath.Expression | None
    ) -> Iterator[RecordingInformation | None]:
        """Looks at each recording when its turn comes, None where it does not match. One that has been deleted since
        does not. Raises BadFilter where the expression takes more than it may.
        """
        jobs: defaultdict[RecordingToken, list[RecordingJob]] = defaultdict(list)
        for job in self.recordings.jobs():
            jobs[job.configuration.recording].append(job)
        wanted = None if expression is None else xpath.Filter(expression)
        for token in chosen:
            recording = self.recording(token)
            if recording is None:
                yield None
                continue
            found = self._described(recording, jobs.get(token, ()))
            yield found.information() if wanted is None or wanted.matches(found) else None

    def _described(self, recording: Recording, jobs: Iterable[RecordingJob]) -> Described:
        extents = {}
        for track in recording.tracks:
            extent = self.footage.extent(recording.key(track))
            if extent is not None:
                extents[track.token] = extent
        return Described(
            recording,
            extents,
            lambda: any(self._records(job.token) for job in jobs),
            lambda: self._source_of(recording, jobs),
        )

    def _records(self, job: JobToken) -> bool:
        try:
            return self.recordings.job_state(job).state in RECORDING_STATES
        except UnknownToken:  # deleted since the search began
            return False


def scope_filter(scope: SearchScope) -> xpath.Expression | None:
    """Raises BadFilter."""
    return xpath.parse(scope.filter) if scope.filter is not None and scope.filter.strip() else None
