"""What the search service finds and reports (IEC 62676-2-32 clause 6)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nvr.model import xpath
from nvr.model.event import Event
from nvr.model.job import SourceReference
from nvr.model.ptz import PtzVector
from nvr.model.recorded import CameraEvent
from nvr.model.recording import RecordingSourceInformation, TrackType
from nvr.model.time import UtcNs
from nvr.model.tokens import RecordingToken, TrackToken
from nvr.model.topics import Topic, TopicExpression

LAST_NS: UtcNs = (1 << 63) - 1
"""The last instant that a recorder knows, in the year 2262."""


class SearchState(StrEnum):
    """tt:SearchState. Queued is deprecated and Unknown is for future use: neither is reported (6.3.4)."""

    QUEUED = "Queued"
    SEARCHING = "Searching"
    COMPLETED = "Completed"
    UNKNOWN = "Unknown"


class RecordingStatus(StrEnum):
    """tt:RecordingStatus (6.3.1)."""

    INITIATED = "Initiated"
    RECORDING = "Recording"
    STOPPED = "Stopped"
    REMOVING = "Removing"
    REMOVED = "Removed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class SearchScope:
    """tt:SearchScope: the union of sources and recordings, everything when both are empty (6.2.4).

    `filter` is an XPath expression over tt:RecordingInformation (6.18) that narrows it.
    """

    sources: tuple[SourceReference, ...] = ()
    recordings: tuple[RecordingToken, ...] = ()
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class SearchInterval:
    """From StartPoint to EndPoint, both included, in whichever order they stand; without EndPoint up to the newest data
    (6.2.1).
    """

    start_ns: UtcNs
    end_ns: UtcNs | None = None

    @property
    def backward(self) -> bool:
        return self.end_ns is not None and self.end_ns < self.start_ns

    @property
    def earliest_ns(self) -> UtcNs:
        return self.start_ns if self.end_ns is None else min(self.start_ns, self.end_ns)

    @property
    def latest_ns(self) -> UtcNs:
        """The last instant; without EndPoint one behind everything that can be recorded."""
        return LAST_NS if self.end_ns is None else max(self.start_ns, self.end_ns)

    def holds(self, at_ns: UtcNs) -> bool:
        return self.earliest_ns <= at_ns <= self.latest_ns


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """What a Find operation says of its session. `max_matches` below 1 is no limit, as None is; a keep-alive time that
    is not positive is taken as one second.
    """

    max_matches: int | None
    keep_alive_ns: int
    user: str | None = None


@dataclass(frozen=True, slots=True)
class SearchWish:
    """What a result call asks for (6.8). A negative `maximum` is no limit."""

    minimum: int | None = None
    maximum: int | None = None
    wait_ns: int | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """tt:EventFilter: all expressions must hold; without any, every event passes (6.9)."""

    topics: tuple[TopicExpression, ...] = ()
    contents: tuple[xpath.Expression, ...] = ()

    def wants(self, topic: Topic) -> bool:
        return all(expression.matches(topic) for expression in self.topics)

    @property
    def asks_for_history_alone(self) -> bool:
        """Whether nothing passes but the events of 6.17, which recorders tell and cameras do not."""
        return any(expression.is_below("RecordingHistory") for expression in self.topics)


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """tt:FindEventResult (6.3.6). `track` is None for what belongs to the whole recording."""

    recording: RecordingToken
    track: TrackToken | None
    time_ns: UtcNs
    event: Event | CameraEvent
    start_state: bool = False


@dataclass(frozen=True, slots=True)
class VideoAttributes:
    """Average frames and kilobits a second (6.3.5)."""

    width: int
    height: int
    encoding: str
    framerate: float
    bitrate: int | None


@dataclass(frozen=True, slots=True)
class AudioAttributes:
    """Sample rate in kHz, average kilobits a second (6.3.5)."""

    encoding: str
    samplerate: int
    bitrate: int | None


@dataclass(frozen=True, slots=True)
class MetadataAttributes:
    """What may occur (6.3.5)."""

    can_contain_ptz: bool
    can_contain_analytics: bool
    can_contain_notifications: bool
    ptz_spaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrackAttributes:
    """`attributes` None: what would have to be read for them has not answered in time."""

    information: TrackInformation
    attributes: VideoAttributes | AudioAttributes | MetadataAttributes | None


@dataclass(frozen=True, slots=True)
class MediaAttributes:
    """tt:MediaAttributes: what is recorded at an instant, and the interval around it in which that is so. Both
    ends are the instant where the interval is not known."""

    recording: RecordingToken
    tracks: tuple[TrackAttributes, ...]
    from_ns: UtcNs
    until_ns: UtcNs


@dataclass(frozen=True, slots=True)
class FoundPosition:
    """tt:FindPTZPositionResult (6.3.7)."""

    recording: RecordingToken
    track: TrackToken
    time_ns: UtcNs
    position: PtzVector


@dataclass(frozen=True, slots=True)
class FoundMetadata:
    """tt:FindMetadataResult (6.3.10)."""

    recording: RecordingToken
    track: TrackToken
    time_ns: UtcNs


@dataclass(frozen=True, slots=True)
class RecordingSummary:
    """tt:RecordingSummary: first and last recorded instant on the device (6.4)."""

    data_from_ns: UtcNs
    data_until_ns: UtcNs
    recordings: int


@dataclass(frozen=True, slots=True)
class TrackInformation:
    """tt:TrackInformation of a track that holds data: [data_from_ns, data_to_ns), gaps not shown (6.3.3)."""

    token: TrackToken
    track_type: TrackType
    description: str
    data_from_ns: UtcNs
    data_to_ns: UtcNs


@dataclass(frozen=True, slots=True)
class RecordingInformation:
    """tt:RecordingInformation. Tracks without data are not listed; without any the times are None (6.3.1)."""

    token: RecordingToken
    source: RecordingSourceInformation
    earliest_ns: UtcNs | None
    latest_ns: UtcNs | None
    content: str
    tracks: tuple[TrackInformation, ...]
    status: RecordingStatus
