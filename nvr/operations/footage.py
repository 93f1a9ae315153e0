"""What the commands need to know of footage: of the running storage, or of the index beside which nothing runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from nvr.model.recording import Recording
from nvr.model.time import UtcNs
from nvr.model.timeline import Timeline
from nvr.model.tokens import RecordingToken, TrackKey
from nvr.storage.retention import time_limit
from nvr.storage.rows import FileState, FootageIndex, TrackFileRow

_BEFORE_ALL_NS = -(1 << 62)


class Rows(Protocol):
    """The index of footage (`nvr.storage.rows`). Blocking."""

    def files(self, key: TrackKey, from_ns: UtcNs, *, limit: int = 64) -> Sequence[TrackFileRow]: ...


class Footage(Protocol):
    """The running storage (`nvr.storage.engine`), or `FootageAtRest`."""

    @property
    def index(self) -> Rows: ...

    def timeline(self, key: TrackKey) -> Timeline:
        """The runs of a track, without what is too old."""

    def begin_of(self, token: RecordingToken) -> UtcNs | None:
        """The first instant of a recording that is not too old."""

    def awaits(self, key: TrackKey) -> bool:
        """Whether a killed recorder has left files open that are still to be examined, and not shown before."""


class FootageAtRest:
    """What the index tells while no recorder runs. Blocking, with nobody there to wait for it."""

    def __init__(
        self,
        index: FootageIndex,
        recording_of: Callable[[RecordingToken], Recording],
        utc: Callable[[], UtcNs] = time.time_ns,
    ) -> None:
        self.index = index
        self._recording_of = recording_of
        self._utc = utc
        self._read: tuple[TrackKey, Timeline] | None = None
        """The last one: it is asked for page by page."""

    def timeline(self, key: TrackKey) -> Timeline:
        if self._read is None or self._read[0] != key:
            timeline = Timeline.of(self.index.runs(key))
            limit_ns = self._limit_ns(key.recording)
            self._read = key, timeline if limit_ns is None else timeline.since(limit_ns)
        return self._read[1]

    def begin_of(self, token: RecordingToken) -> UtcNs | None:
        first_ns, limit_ns = first_instant(self.index, self._recording_of(token)), self._limit_ns(token)
        return first_ns if first_ns is None or limit_ns is None else max(first_ns, limit_ns)

    def awaits(self, key: TrackKey) -> bool:
        newest = self.index.newest(key)
        return newest is not None and newest.state is FileState.OPEN

    def _limit_ns(self, token: RecordingToken) -> UtcNs | None:
        return time_limit(self._utc(), self._recording_of(token).configuration.maximum_retention_ns)


def first_instant(index: Rows, recording: Recording) -> UtcNs | None:
    """The beginning of all that the index has of a recording, shown or not, on volumes that are there or not.

    None where it has nothing. Blocking.
    """
    first = [index.files(recording.key(track), _BEFORE_ALL_NS, limit=1) for track in recording.tracks]
    return min((rows[0].start_ns for rows in first if rows), default=None)
