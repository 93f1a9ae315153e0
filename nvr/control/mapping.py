"""Tracks that a client left to the recorder: which stream of which source goes where (IEC 62676-2-32 5.13). Pure.

A source without tracks gets all tracks of the recording that nothing else in the job feeds; several such sources share
them out. When the session description of a source is known, it keeps one track for each of its streams, and the others
become free for its neighbours. A track that feeds already stays with its source, whatever order sources connect in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nvr.control.state import SourceStream
from nvr.model.job import RecordingJobConfiguration, RecordingJobSource, RecordingJobTrack
from nvr.model.recording import Recording, Track, TrackType
from nvr.model.tokens import ReceiverToken, TrackToken


def resolve(
    configuration: RecordingJobConfiguration,
    recording: Recording,
    streams: Mapping[ReceiverToken, Sequence[SourceStream]],
) -> RecordingJobConfiguration:
    """The configuration with the tracks of its implied sources filled in; `streams` holds sources that are known."""
    fed = {t.destination for source in configuration.sources for t in source.tracks}
    free = [track for track in recording.tracks if track.token not in fed]
    chosen: dict[int, list[Track]] = {}
    unknown: list[int] = []
    for i, source in enumerate(configuration.sources):
        if not source.implied_tracks:
            continue
        own = [track for track in recording.tracks if track.token in {t.destination for t in source.tracks}]
        offered = streams.get(ReceiverToken(source.source.token)) if source.source is not None else None
        if offered is None:
            unknown.append(i)
            chosen[i] = own
            continue
        chosen[i] = _for_streams(wanted(offered), [*own, *free])
        kept = {track.token for track in chosen[i]}
        free = [t for t in recording.tracks if t in (*own, *free) and t.token not in kept]
    for track_type in TrackType:
        for place, track in enumerate(t for t in free if t.configuration.track_type is track_type):
            if unknown:
                chosen[unknown[place % len(unknown)]].append(track)
    order = {track.token: place for place, track in enumerate(recording.tracks)}
    sources = tuple(
        replace(source, tracks=_lines(chosen[i], order)) if i in chosen else source
        for i, source in enumerate(configuration.sources)
    )
    return replace(configuration, sources=sources)


def wanted(streams: Sequence[SourceStream]) -> Counter[TrackType]:
    """How many tracks of each type these streams need.

    Streams that cannot be stored count only where the source has no other of their type, and then as one: the track
    shall show an error rather than nothing.
    """
    supported = Counter(s.track_type for s in streams if s.track_type is not None and s.supported)
    unsupported = {s.track_type for s in streams if s.track_type is not None and not s.supported}
    return supported + Counter(unsupported - set(supported))


def without_track(configuration: RecordingJobConfiguration, track: TrackToken) -> RecordingJobConfiguration:
    """The configuration without its lines for a track that is deleted."""
    return replace(
        configuration,
        sources=tuple(
            replace(source, tracks=tuple(t for t in source.tracks if t.destination != track))
            for source in configuration.sources
        ),
    )


def keep_implied(new: RecordingJobSource, old: Sequence[RecordingJobSource]) -> RecordingJobSource:
    """A client that sends back the tracks it was told has not named them itself."""
    told = any(o.implied_tracks and o.source == new.source and o.tracks == new.tracks for o in old)
    return replace(new, implied_tracks=True) if told else new


def _for_streams(needed: Counter[TrackType], candidates: Sequence[Track]) -> list[Track]:
    left = Counter(needed)
    found = []
    for track in candidates:
        if left[track.configuration.track_type] > 0:
            left[track.configuration.track_type] -= 1
            found.append(track)
    return found


def _lines(tracks: Sequence[Track], order: Mapping[TrackToken, int]) -> tuple[RecordingJobTrack, ...]:
    """Empty tags: streams of one type go to the lines of that type in their order."""
    return tuple(RecordingJobTrack("", track.token) for track in sorted(tracks, key=lambda t: order[t.token]))
