"""The history of a recording: the events of 6.17, derived from when there is data. Pure.

They are not stored. What the runs of the track files say is what has been recorded: so the history is there after every
restart, agrees with the footage to the nanosecond, and is trimmed with it (RS-6.17-13 and -14 of the requirements).

Events are ordered by keys: the time, then a rank that lets a recording begin before its tracks and end behind them,
then what tells apart events of the same instant and rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from nvr.model.coverage import GROWING, Coverage, Stretch, union_backward, union_forward
from nvr.model.event import RECORDING_STATE, TRACK_STATE, Event, PropertyOperation
from nvr.model.search import FoundEvent
from nvr.model.time import UtcNs
from nvr.model.tokens import RecordingToken, TrackToken

Key: TypeAlias = tuple[UtcNs, int, tuple[str, ...] | tuple[int, ...]]
BEFORE_ALL, RECORDING_BEGINS, TRACK_BEGINS, CAMERA_EVENT, TRACK_ENDS, RECORDING_ENDS, BEHIND_ALL = range(7)
"""Ranks of events of the same instant."""


@dataclass(frozen=True, slots=True)
class History:
    """Of one recording, as it is now: its tracks in their order with when each has data. `of_recording` and `of_tracks`
    tell which of the two topics are wanted.
    """

    recording: RecordingToken
    tracks: tuple[tuple[TrackToken, Coverage], ...]
    of_recording: bool = True
    of_tracks: bool = True

    def behind(self, key: Key) -> Key | None:
        """The key of the first event behind this one."""
        return min((k for k in self._keys(key, backward=False) if k > key), default=None)

    def before(self, key: Key) -> Key | None:
        """The key of the last event before this one."""
        return max((k for k in self._keys(key, backward=True) if k < key), default=None)

    def has(self, key: Key) -> bool:
        """Whether there is still an event with this key."""
        return any(k == key for k in self._keys(key, backward=False))

    @staticmethod
    def begins(key: Key) -> bool:
        """Whether a stretch begins with the event, else one ends."""
        return key[1] in (RECORDING_BEGINS, TRACK_BEGINS)

    def stretch_from(self, key: Key) -> Stretch | None:
        """Of what the key is about: the stretch that holds its time, or the first behind it."""
        time_ns, _, (_, track) = key
        coverages = [coverage for token, coverage in self.tracks if token == track or not track]
        return next(union_forward(coverages, time_ns), None)

    def event(self, key: Key) -> FoundEvent:
        """The event that has this key."""
        time_ns, _, (_, track) = key
        operation = PropertyOperation.CHANGED
        return self._event(time_ns, TrackToken(str(track)) if track else None, self.begins(key), operation)

    def states(self, at_ns: UtcNs) -> Iterator[FoundEvent]:
        """Virtual events: the state of every property at an instant (6.2.2). Data is present from the first instant of
        a stretch to before its end.
        """
        present = [coverage.has_data_at(at_ns) for _, coverage in self.tracks]
        initialized = PropertyOperation.INITIALIZED
        if self.of_recording:
            yield self._event(at_ns, None, any(present), initialized, start_state=True)
        if self.of_tracks:
            for (track, _), is_present in zip(self.tracks, present, strict=True):
                yield self._event(at_ns, track, is_present, initialized, start_state=True)

    def _keys(self, key: Key, *, backward: bool) -> Iterable[Key]:
        """Keys of the events around an instant: all that can be the next one in this direction, and some more."""
        at_ns = key[0]
        if self.of_tracks:
            for track, coverage in self.tracks:
                yield from _borders(_two(coverage, at_ns, backward), TRACK_BEGINS, TRACK_ENDS, (self.recording, track))
        if self.of_recording:
            coverages = [coverage for _, coverage in self.tracks]
            stretches = (union_backward if backward else union_forward)(coverages, at_ns)
            yield from _borders(islice(stretches, 2), RECORDING_BEGINS, RECORDING_ENDS, (self.recording, ""))

    def _event(
        self,
        time_ns: UtcNs,
        track: TrackToken | None,
        value: bool,
        operation: PropertyOperation,
        start_state: bool = False,
    ) -> FoundEvent:
        if track is None:
            source = {"RecordingToken": str(self.recording)}
            event = Event(RECORDING_STATE, time_ns, source, {"IsRecording": value}, operation)
        else:
            source = {"RecordingToken": str(self.recording), "Track": str(track)}
            event = Event(TRACK_STATE, time_ns, source, {"IsDataPresent": value}, operation)
        return FoundEvent(self.recording, track, time_ns, event, start_state)


def _two(coverage: Coverage, at_ns: UtcNs, backward: bool) -> Iterator[Stretch]:
    """The stretch around an instant or next to it, and the one behind that."""
    found = coverage.last_until(at_ns) if backward else coverage.first_from(at_ns)
    if found is None:
        return
    yield found
    after = coverage.last_until(found[0] - 1) if backward else coverage.first_from(found[1] + 1)
    if after is not None:
        yield after


def _borders(stretches: Iterable[Stretch], begins: int, ends: int, what: tuple[str, str]) -> Iterator[Key]:
    for start_ns, end_ns in stretches:
        yield start_ns, begins, what
        if end_ns != GROWING:
            yield end_ns, ends, what
