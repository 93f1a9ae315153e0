"""Which job feeds which track, and which stream of a source goes to which track. Pure rules, no state.

The winner is found for every track on its own (IEC 62676-2-32 5.3.3): among the active jobs that map something to the
track, the highest priority, and among equals the one that was activated last. A job may so feed one track and stand
back on another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nvr.model.job import (
    RECEIVER_TYPE,
    RecordingJob,
    RecordingJobMode,
    RecordingJobSource,
    RecordingJobTrack,
)
from nvr.model.recording import Recording, TrackType
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackKey


@dataclass(frozen=True, slots=True)
class SourceStream:
    """One media description of a connected source, as the rest of the house sees it."""

    index: int
    """Position among the media descriptions of the session, from 0."""
    track_type: TrackType | None
    """None for media that no track can hold."""
    encoding: str
    """RTP encoding name in upper case."""
    names: tuple[str, ...] = ()
    """What a SourceTag may call this stream: its x-onvif-track, its mid, its control URL and the last part of that."""
    supported: bool = True
    """Whether this recorder can store the encoding."""


@dataclass(frozen=True, slots=True)
class Feed:
    """One line of a job's mapping: where it stands in the job and what it asks for."""

    job: JobToken
    source: int
    """Index into the sources of the job."""
    line: int
    """Index into `lines_of` that source."""
    key: TrackKey
    track_type: TrackType
    receiver: ReceiverToken


def lines_of(job: RecordingJob, source: RecordingJobSource, recording: Recording) -> tuple[RecordingJobTrack, ...]:
    """The mapping of a source: as configured, or, where the client named no tracks and none have been resolved yet,
    every track of the recording that no other source of the job names (5.13)."""
    if source.tracks or not source.implied_tracks:
        return source.tracks
    taken = {t.destination for s in job.configuration.sources if s is not source for t in s.tracks}
    return tuple(RecordingJobTrack("", t.token) for t in recording.tracks if t.token not in taken)


def takes_part(job: RecordingJob) -> bool:
    """Whether the job competes for tracks at all. A job bound to a schedule records only while that schedule is
    active, and this device has no schedules (5.3.3)."""
    return job.configuration.mode is RecordingJobMode.ACTIVE and job.configuration.schedule_token is None


def arbitrate(
    recordings: Mapping[RecordingToken, Recording],
    jobs: Iterable[RecordingJob],
    waits: Callable[[JobToken], bool] = lambda job: False,
) -> dict[TrackKey, Feed]:
    """The winning line of every track that an active job wants to feed.

    A winner whose source gives nothing keeps its track: priorities belong to jobs, not to the health of cameras. A job
    that waits for an event has nothing to store by its own configuration: it stands behind those that do not wait, as
    one outside its schedule would, and gets what none of these wants.
    """
    winners: dict[TrackKey, Feed] = {}
    ranked = sorted(
        jobs, key=lambda j: (not waits(j.token), j.configuration.priority, j.activation, j.token), reverse=True
    )
    for job in ranked:
        recording = recordings.get(job.configuration.recording)
        if recording is None or not takes_part(job):
            continue
        for s, source in enumerate(job.configuration.sources):
            reference = source.source
            if reference is None or reference.type != RECEIVER_TYPE:
                continue
            for n, line in enumerate(lines_of(job, source, recording)):
                track = recording.track(line.destination)
                if track is None:
                    continue
                key = recording.key(track)
                feed = Feed(job.token, s, n, key, track.configuration.track_type, ReceiverToken(reference.token))
                winners.setdefault(key, feed)
    return winners


def map_streams(lines: Sequence[tuple[str, TrackType]], streams: Sequence[SourceStream]) -> list[SourceStream | None]:
    """The stream for each line (SourceTag, type of the destination), or None where the source has none for it.

    A tag that is a name of a stream means that stream, of whatever type it is: the caller refuses to store it in a
    track of another type. The standard leaves the text of tags to the client, so tags that name nothing, and empty
    ones, take the streams of the track's type in order that are still free; the same unknown tag twice is the same
    stream, an empty tag is always another.
    """
    chosen: list[SourceStream | None] = [None] * len(lines)
    taken: set[int] = set()
    for i, (tag, track_type) in enumerate(lines):
        named = [s for s in streams if tag and tag in s.names]
        stream = next((s for s in named if s.track_type is track_type), named[0] if named else None)
        if stream is not None:
            chosen[i] = stream
            taken.add(stream.index)
    by_tag: dict[tuple[str, TrackType], SourceStream | None] = {}
    for i, (tag, track_type) in enumerate(lines):
        if chosen[i] is not None:
            continue
        if tag and (tag, track_type) in by_tag:
            chosen[i] = by_tag[tag, track_type]
            continue
        free = [s for s in streams if s.track_type is track_type and s.index not in taken]
        # One that can be stored first: a camera that offers JPEG beside H.264 shall be recorded.
        stream = next((s for s in free if s.supported), free[0] if free else None)
        if stream is not None:
            taken.add(stream.index)
        by_tag[tag, track_type] = chosen[i] = stream
    return chosen
