"""GetMediaAttributes: what is recorded at an instant, from the footage itself (6.3.5, 6.6).

The call does not block. Which tracks have data at the instant, and since when, is known from memory; the rest stands in
a row of the index and, once, in the head of a file for each track, however long the recording is. What a disk or a
database has not told within `PATIENCE_S` is left out: such a recording is told with what is known without them, and its
interval is the instant alone, From = Until.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

from nvr.media.codecs import told_as
from nvr.media.onvif_metadata import ANY_WORD
from nvr.media.unit import CodecConfiguration
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
from nvr.storage.volume import VolumeHangs

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Recordings whose files are looked at in one go on a thread."""
PATIENCE_S = 3.0
"""So long the call looks for what it cannot tell from memory. On a busy disk a head takes 10 ms, and is remembered."""


@runtime_checkable
class Pictures(Protocol):
    """A configuration that knows the size of its pictures."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _TrackAsked:
    """A track with data at the instant, and the run that holds it."""

    information: TrackInformation
    run: Run
    configuration: CodecConfiguration | None
    """Of the run, where it is known without reading: it is being recorded."""


@dataclass(frozen=True, slots=True)
class _Asked:
    recording: RecordingToken
    tracks: tuple[_TrackAsked, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """What has been found out so far. A thread adds to it."""

    recordings: dict[RecordingToken, MediaAttributes | None] = field(default_factory=dict)
    """None where the footage has gone meanwhile."""
    unread: list[tuple[TrackKey, StorageError]] = field(default_factory=list)


async def media_attributes(
    tokens: Sequence[RecordingToken], at_ns: UtcNs, catalogue: Catalogue, archive: Archive, share: Share
) -> list[MediaAttributes]:
    """At most one for each recording: none where it has no data at this instant. Raises UnknownToken."""
    for token in tokens:
        catalogue.recordings.recording(token)
    chosen = list(dict.fromkeys(tokens)) or [r.token for r in catalogue.recordings.recordings()]
    asked = [a for a in await share.all_of(_asked(chosen, at_ns, catalogue)) if a is not None]
    found, until_s = _Found(), time.monotonic() + PATIENCE_S
    try:
        async with asyncio.timeout(PATIENCE_S):  # it counts as well while other searches of the user have their turn
            for n in range(0, len(asked), AT_ONCE):
                work = partial(_look, asked[n : n + AT_ONCE], at_ns, catalogue.footage, archive, until_s, found)
                await share.thread(work, footage=True, give_up_s=max(until_s - time.monotonic(), 0.0))
    except (TimeoutError, VolumeHangs) as e:
        why = e if isinstance(e, VolumeHangs) else f"what is read has not answered within {PATIENCE_S:g} s"
        log.warning("GetMediaAttributes tells %d recordings from memory: %s", len(asked) - len(found.recordings), why)
    if found.unread:
        key, error = found.unread[0]
        log.warning("GetMediaAttributes tells %d tracks from memory; of %s: %s", len(found.unread), key, error)
    of = found.recordings
    told = [of[a.recording] if a.recording in of else _at_the_instant(a, at_ns) for a in asked]
    return [attributes for attributes in told if attributes is not None]


def _asked(tokens: Sequence[RecordingToken], at_ns: UtcNs, catalogue: Catalogue) -> Iterator[_Asked | None]:
    for token in tokens:
        tracks = []
        recording = catalogue.recording(token)  # None: it has been deleted meanwhile
        for track in () if recording is None else catalogue.tracks(recording):
            key = TrackKey(token, track.token)
            run = catalogue.footage.timeline(key).run_at(at_ns)
            if run is not None:
                newest = catalogue.footage.configuration(key) if run.end_reason is None else None
                tracks.append(_TrackAsked(track, run, newest))
        yield _Asked(token, tuple(tracks)) if tracks else None


def _look(
    asked: Sequence[_Asked], at_ns: UtcNs, recorded: Footage, archive: Archive, until_s: float, found: _Found
) -> None:
    """Blocking. Recording by recording, until the time is over."""
    for of in asked:
        found.recordings[of.recording] = _attributes(of, at_ns, recorded, archive, found)
        if time.monotonic() >= until_s:
            return


def _attributes(
    asked: _Asked, at_ns: UtcNs, recorded: Footage, archive: Archive, found: _Found
) -> MediaAttributes | None:
    described = []
    from_ns, until_ns = min(t.run.start_ns for t in asked.tracks), max(t.run.end_ns for t in asked.tracks)
    for track in asked.tracks:
        kind = track.information.track_type
        footage = recorded.footage(TrackKey(asked.recording, track.information.token))
        try:
            section = footage.section(at_ns, track.run.run_id)
            attributes = None if section is None else _of_section(kind, section, archive)
        except StorageError as e:  # its volume is away, say
            found.unread.append((footage.key, e))
            described.append(_from_memory(track))
            from_ns = until_ns = at_ns
            continue
        if section is None:
            continue
        described.append(TrackAttributes(track.information, attributes))
        # A run has one configuration; what a metadata track holds is known for each file.
        of_file = kind is TrackType.METADATA
        from_ns = max(from_ns, section.start_ns if of_file else track.run.start_ns)
        until_ns = min(until_ns, section.end_ns if of_file else track.run.end_ns)
    if not described:
        return None
    return MediaAttributes(asked.recording, tuple(described), min(from_ns, at_ns), max(until_ns, at_ns))


def _at_the_instant(asked: _Asked, at_ns: UtcNs) -> MediaAttributes:
    return MediaAttributes(asked.recording, tuple(map(_from_memory, asked.tracks)), at_ns, at_ns)


def _from_memory(track: _TrackAsked) -> TrackAttributes:
    """Without frame rate and bit rate, which are those of a file; of a metadata track that anything may occur. Nothing
    beyond the track itself where its configuration would have to be read."""
    kind, configuration = track.information.track_type, track.configuration
    if kind is TrackType.METADATA:
        return TrackAttributes(track.information, MetadataAttributes(True, True, True, ()))
    return TrackAttributes(track.information, None if configuration is None else _of_media(kind, configuration))


def _of_section(
    kind: TrackType, section: Section, archive: Archive
) -> VideoAttributes | AudioAttributes | MetadataAttributes:
    if kind is not TrackType.METADATA:
        duration_ns = section.end_ns - section.start_ns
        bitrate = round(section.size * 8 * 1_000_000 / duration_ns) if duration_ns > 0 else None
        framerate = round(section.samples * NS / duration_ns, 3) if duration_ns > 0 else 0.0
        return _of_media(kind, section.configuration, framerate, bitrate)
    words = archive.words([section.file_id], whole=False).get(section.file_id, frozenset({ANY_WORD}))
    spaces = tuple(sorted(w.removeprefix("space=") for w in words if w.startswith("space=")))
    unknown = ANY_WORD in words
    return MetadataAttributes(
        bool(spaces), unknown or "VideoAnalytics" in words, unknown or "NotificationMessage" in words, spaces
    )


def _of_media(
    kind: TrackType, configuration: CodecConfiguration, framerate: float = 0.0, bitrate: int | None = None
) -> VideoAttributes | AudioAttributes:
    encoding = told_as(configuration.encoding)
    if kind is TrackType.AUDIO:
        return AudioAttributes(encoding, round(configuration.clock_rate / 1000), bitrate)
    width, height = (configuration.width, configuration.height) if isinstance(configuration, Pictures) else (0, 0)
    return VideoAttributes(width, height, encoding, framerate, bitrate)
