"""What the index of camera events gives out, and what is put into it (`nvr.storage.events`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from nvr.media.onvif_metadata import MetadataContent
from nvr.model import topics
from nvr.model.ptz import PtzVector
from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey

OTHER_TOPICS: topics.Topic = ()
"""Of a stream that events of further topics share, where a track has too many of them."""


class Place(NamedTuple):
    """Where an event stands among all others: by time, then by file and by its place in the documents of that time."""

    time_ns: UtcNs
    file: int
    place: int


class EventRow(NamedTuple):
    """One camera event. `utc_ns` is the time that the camera gave it, `time_ns` that of the recording."""

    time_ns: UtcNs
    file: int
    place: int
    stream: int
    message: int
    utc_ns: UtcNs

    @property
    def where(self) -> Place:
        return Place(self.time_ns, self.file, self.place)


class PositionRow(NamedTuple):
    """One position of a camera; `track` is the number of the track in this index."""

    time_ns: UtcNs
    file: int
    track: int
    position: PtzVector

    @property
    def where(self) -> Place:
        return Place(self.time_ns, self.file, 0)


@dataclass(frozen=True, slots=True)
class Stream:
    """Events of one track with one topic and one source: one property, where the topic is of a property."""

    id: int
    key: TrackKey
    topic: topics.Topic
    is_property: bool


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """How far a file of a metadata track has been read: up to the byte `upto`, or to its end."""

    file_id: str
    upto: int
    done: bool


@dataclass(frozen=True, slots=True)
class Documents:
    """What was read of one file, in the order of the file: times and contents. `upto` and `done` as in IndexedFile;
    `begin` is the `upto` of the file when the reading began, 0 where nothing of it had been read."""

    key: TrackKey
    file_id: str
    start_ns: UtcNs
    """Of the file."""
    upto: int
    done: bool
    contents: tuple[tuple[UtcNs, MetadataContent], ...] = ()
    begin: int = 0
