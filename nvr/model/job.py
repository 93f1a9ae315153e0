"""Recording jobs, their configuration and their state (IEC 62676-2-32 clauses 5.3.3, 5.13 to 5.19)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from nvr.model.extension import Extensions
from nvr.model.tokens import JobToken, RecordingToken, TrackToken

RECEIVER_TYPE = "http://www.onvif.org/ver10/schema/Receiver"
PROFILE_TYPE = "http://www.onvif.org/ver10/schema/Profile"


class RecordingJobMode(StrEnum):
    IDLE = "Idle"
    ACTIVE = "Active"


class RecordingJobState(StrEnum):
    """State of a track, a source or a job. PartiallyActive never stands at a track (5.19)."""

    IDLE = "Idle"
    ACTIVE = "Active"
    PARTIALLY_ACTIVE = "PartiallyActive"
    ERROR = "Error"


INCOMPATIBLE_STREAM = "Incompatible Stream"
"""The predefined Error text of a stream whose encoding differs from the data in the track (5.19)."""


@dataclass(frozen=True, slots=True)
class SourceReference:
    """tt:SourceReference. `type` is the URI that says what the token names; absent means a receiver."""

    token: str
    type: str = RECEIVER_TYPE


@dataclass(frozen=True, slots=True)
class RecordingJobTrack:
    """tt:RecordingJobTrack: which stream of the source goes to which track."""

    source_tag: str
    destination: TrackToken
    extensions: Extensions = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class RecordingJobSource:
    """tt:RecordingJobSource.

    `auto_create_receiver` is only ever set in a request; stored configurations have a token instead.
    `implied_tracks` tells that the client named no tracks: streams go to the first free track of their type (5.13).
    """

    source: SourceReference | None
    tracks: tuple[RecordingJobTrack, ...] = ()
    auto_create_receiver: bool = False
    implied_tracks: bool = False
    extensions: Extensions = field(default=(), repr=False)
    """Also those of `SourceToken` and `Extension`."""


@dataclass(frozen=True, slots=True)
class EventCondition:
    """tt:RecordingEventFilter/Filter: a topic expression, and a message content filter on the source items."""

    topic: str
    source: str | None = None
    extensions: Extensions = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class RecordingEventFilter:
    """tt:RecordingEventFilter: the job records while one of the conditions holds, from `before_ns` earlier to
    `after_ns` later (durations)."""

    conditions: tuple[EventCondition, ...]
    before_ns: int | None = None
    after_ns: int | None = None


@dataclass(frozen=True, slots=True)
class RecordingJobConfiguration:
    """tt:RecordingJobConfiguration. Priority: 0 is lowest (5.3.3)."""

    recording: RecordingToken
    mode: RecordingJobMode
    priority: int
    sources: tuple[RecordingJobSource, ...] = ()
    schedule_token: str | None = None
    event_filter: RecordingEventFilter | None = None
    extensions: Extensions = field(default=(), repr=False)
    """Also those of `Extension`."""


@dataclass(frozen=True, slots=True)
class RecordingJob:
    """`activation` orders jobs by the moment they became Active last: a larger number is later."""

    token: JobToken
    configuration: RecordingJobConfiguration
    activation: int = 0


@dataclass(frozen=True, slots=True)
class TrackState:
    """tt:RecordingJobStateTrack."""

    source_tag: str
    destination: TrackToken
    state: RecordingJobState
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SourceState:
    """tt:RecordingJobStateSource. The state is derived from the tracks."""

    source: SourceReference
    tracks: tuple[TrackState, ...]
    trackless_state: RecordingJobState = RecordingJobState.IDLE

    @property
    def state(self) -> RecordingJobState:
        return aggregate(t.state for t in self.tracks) if self.tracks else self.trackless_state


@dataclass(frozen=True, slots=True)
class JobState:
    """tt:RecordingJobStateInformation. The state is derived from the sources."""

    recording: RecordingToken
    sources: tuple[SourceState, ...]

    @property
    def state(self) -> RecordingJobState:
        return aggregate(s.state for s in self.sources)


def aggregate(states: Iterable[RecordingJobState]) -> RecordingJobState:
    """The state of a node from those of its sub-nodes (5.19): Error wins, then all alike, then PartiallyActive."""
    seen = set(states)
    if RecordingJobState.ERROR in seen:
        return RecordingJobState.ERROR
    if not seen or seen == {RecordingJobState.IDLE}:
        return RecordingJobState.IDLE
    if seen == {RecordingJobState.ACTIVE}:
        return RecordingJobState.ACTIVE
    return RecordingJobState.PARTIALLY_ACTIVE
