"""GetMediaAttributes: what is recorded at an instant, from the footage itself (6.3.5, 6.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

from nvr.media.codecs import told_as
from nvr.media.onvif_metadata import ANY_WORD
from nvr.model.errors import StorageError
from nvr.model.recording import TrackType
from nvr.model.search import (
    AudioAttributes,
    MediaAttributes,
    MetadataAttributes,
    TrackAttributes,
    TrackInformation,
    VideoAttributes,
)
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import Run
from nvr.model.tokens import RecordingToken, TrackKey
from nvr.search.archive import Archive
from nvr.search.scope import Catalogue, Footage
from nvr.search.shares import Share
from nvr.storage.footage import Section
from nvr.storage.pace import Pace


@runtime_checkable
class Pictures(Protocol):
    """A configuration that knows the size of its pictures."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...


Asked = tuple[RecordingToken, list[tuple[TrackInformation, Run]]]
"""A recording with the tracks that have data at the instant, and the run of each."""
AT_ONCE = 16
"""Recordings whose files are looked at in one go on a thread."""


async def media_attributes(
    tokens: Sequence[RecordingToken], at_ns: UtcNs, catalogue: Catalogue, archive: Archive, share: Share
) -> list[MediaAttributes]:
    """At most one for each recording: none where it has no data at this instant. Raises UnknownToken, VolumeHangs where
    a file does not answer: what would be left out is there."""
    for token in tokens:
        catalogue.recordings.recording(token)
    chosen = list(dict.fromkeys(tokens)) or [r.token for r in catalogue.recordings.recordings()]
    asked = [a for a in await share.all_of(_asked(chosen, at_ns, catalogue)) if a is not None]
    found: list[MediaAttributes] = []
    pace = Pace()
    for n in range(0, len(asked), AT_ONCE):
        some = asked[n : n + AT_ONCE]
        work = partial(_attributes, some, at_ns, catalogue.footage, archive, pace)
        found += await share.thread(work, footage=True, sign=lambda: pace.since_ns)
    return found


def _asked(tokens: Sequence[RecordingToken], at_ns: UtcNs, catalogue: Catalogue) -> Iterator[Asked | None]:
    for token in tokens:
        tracks = []
        recording = catalogue.recording(token)  # None: it has been deleted meanwhile
        for track in () if recording is None else catalogue.tracks(recording):
            run = catalogue.footage.timeline(TrackKey(token, track.token)).run_at(at_ns)
            if run is not None:
                tracks.append((track, run))
        yield (token, tracks) if tracks else None


def _attributes(
    asked: Sequence[Asked], at_ns: UtcNs, recorded: Footage, archive: Archive, pace: Pace
) -> list[MediaAttributes]:
    """Blocking, a row of the index and, once, the head of a file for each track."""
    found = []
    for token, tracks in asked:
        described = []
        from_ns, until_ns = min(r.start_ns for _, r in tracks), max(r.end_ns for _, r in tracks)
        for information, run in tracks:
            pace.keep()
            try:
                section = recorded.footage(TrackKey(token, information.token)).section(at_ns)
            except StorageError:
                section = None  # its volume is away, which the volume's state tells
            if section is None:
                continue
            described.append(TrackAttributes(information, _of_track(information.track_type, section, archive)))
            # A run has one configuration; what a metadata track holds is known for each file.
            of_file = information.track_type is TrackType.METADATA
            from_ns = max(from_ns, section.start_ns if of_file else run.start_ns)
            until_ns = min(until_ns, section.end_ns if of_file else run.end_ns)
        if described:
            found.append(MediaAttributes(token, tuple(described), min(from_ns, at_ns), max(until_ns, at_ns)))
    return found


def _of_track(
    track_type: TrackType, section: Section, archive: Archive
) -> VideoAttributes | AudioAttributes | MetadataAttributes:
    configuration = section.configuration
    duration_ns = section.end_ns - section.start_ns
    bitrate = round(section.size * 8 * 1_000_000 / duration_ns) if duration_ns > 0 else None
    encoding = told_as(configuration.encoding)
    if track_type is TrackType.VIDEO:
        width, height = (configuration.width, configuration.height) if isinstance(configuration, Pictures) else (0, 0)
        framerate = round(section.samples * NS / duration_ns, 3) if duration_ns > 0 else 0.0
        return VideoAttributes(width, height, encoding, framerate, bitrate)
    if track_type is TrackType.AUDIO:
        return AudioAttributes(encoding, round(configuration.clock_rate / 1000), bitrate)
    words = archive.words([section.file_id], whole=False).get(section.file_id, frozenset({ANY_WORD}))
    spaces = tuple(sorted(w.removeprefix("space=") for w in words if w.startswith("space=")))
    unknown = ANY_WORD in words
    return MetadataAttributes(
        bool(spaces), unknown or "VideoAnalytics" in words, unknown or "NotificationMessage" in words, spaces
    )
