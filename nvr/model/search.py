"""What the search service finds and reports (IEC 62676-2-32 clause 6)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nvr.model.job import SourceReference
from nvr.model.recording import RecordingSourceInformation, TrackType
from nvr.model.time import UtcNs
from nvr.model.tokens import RecordingToken, TrackToken


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
