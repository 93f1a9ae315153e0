"""Recordings and their tracks (IEC 62676-2-32 clauses 5.1, 5.3.1, 5.3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from nvr.model.extension import Extensions
from nvr.model.tokens import AUDIO001, META001, VIDEO001, RecordingToken, TrackKey, TrackToken


class TrackType(StrEnum):
    """tt:TrackType. Extended is a placeholder of the schema; no track is made with it (5.3.2)."""

    VIDEO = "Video"
    AUDIO = "Audio"
    METADATA = "Metadata"
    EXTENDED = "Extended"


@dataclass(frozen=True, slots=True)
class RecordingSourceInformation:
    """tt:RecordingSourceInformation: free description of the source, without influence on the device (5.3.1)."""

    source_id: str = ""
    name: str = ""
    location: str = ""
    description: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class RecordingConfiguration:
    """tt:RecordingConfiguration. `maximum_retention_ns` 0 puts no time limit on stored data (5.3.1)."""

    source: RecordingSourceInformation = RecordingSourceInformation()
    content: str = ""
    maximum_retention_ns: int = 0
    extensions: Extensions = field(default=(), repr=False)
    """Also those of `Source`."""


@dataclass(frozen=True, slots=True)
class TrackConfiguration:
    """tt:TrackConfiguration (5.3.2)."""

    track_type: TrackType
    description: str = ""
    extensions: Extensions = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Track:
    token: TrackToken
    configuration: TrackConfiguration


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording and its tracks, in the order of their creation."""

    token: RecordingToken
    configuration: RecordingConfiguration
    tracks: tuple[Track, ...]

    def track(self, token: str) -> Track | None:
        """The track with this token, or None."""
        return next((t for t in self.tracks if t.token == token), None)

    def key(self, track: Track) -> TrackKey:
        return TrackKey(self.token, track.token)


def default_tracks() -> tuple[Track, ...]:
    """The tracks that every new recording has, with empty descriptions (5.4)."""
    return (
        Track(VIDEO001, TrackConfiguration(TrackType.VIDEO)),
        Track(AUDIO001, TrackConfiguration(TrackType.AUDIO)),
        Track(META001, TrackConfiguration(TrackType.METADATA)),
    )
