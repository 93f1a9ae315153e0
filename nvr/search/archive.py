"""What searches need of the index of camera events and positions (`nvr.storage.events`), and a merged walk over it."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from nvr.model import topics
from nvr.model.recorded import RecordedMessage
from nvr.model.search import SearchInterval
from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey


class Place(NamedTuple):
    """Where an event stands among all others: by time, then by file and by its place in the documents of that time."""

    time_ns: UtcNs
    file: int
    place: int


class EventRow(NamedTuple):
    """One camera event of the index."""

    time_ns: UtcNs
    file: int
    place: int
    stream: int
    message: int
    utc_ns: UtcNs
    """The time that the camera gave it."""

    @property
    def where(self) -> Place:
        return Place(self.time_ns, self.file, self.place)


@dataclass(frozen=True, slots=True)
class Stream:
    """Events of one track with one topic and one source: one property, where the topic is of a property."""

    id: int
    key: TrackKey
    topic: topics.Topic
    is_property: bool


class Archive(Protocol):
    """Blocking, safe on any thread. Errors are StorageError."""

    def streams(self) -> Sequence[Stream]:
        """All there are, in the order in which they came up. From memory."""

    def events(
        self, streams: Sequence[int], interval: SearchInterval, after: Place | None, each: int
    ) -> list[EventRow]:
        """Of each stream at most `each` events inside the interval, the next ones behind `after` in its direction, in
        that order."""

    def last_events(self, streams: Sequence[int], at_ns: UtcNs) -> list[EventRow]:
        """Of each stream the last event at or before an instant."""

    def message(self, number: int) -> RecordedMessage | None:
        """None where it has gone with the last of its events."""


class EventWalk:
    """The events of many streams in the order of a search, read page by page. Belongs to one thread at a time."""

    PAGE = 128
    FIRST = 4

    def __init__(self, archive: Archive, interval: SearchInterval) -> None:
        self._archive = archive
        self._interval = interval
        self._sign = -1 if interval.backward else 1
        self._pages: dict[int, deque[EventRow]] = {}
        self._heads: list[tuple[int, int, int, int]] = []
        """Of each stream with a page in hand: where its next event stands, so that the first in order is the least."""
        self._dry: set[int] = set()

    def include(self, streams: Iterable[int], after: Place | None) -> None:
        """Takes in streams that it does not have, from behind `after` on."""
        new = [stream for stream in streams if stream not in self._pages]
        if new:
            self._pages.update((stream, deque()) for stream in new)
            self._fill(new, after, max(self.FIRST, self.PAGE // len(new)))

    def look_again(self, after: Place | None) -> None:
        """Takes in what has come to the streams that seemed to be at their end."""
        self._fill([stream for stream in sorted(self._dry) if not self._pages[stream]], after, self.FIRST)

    def peek(self) -> EventRow | None:
        """The next event; None at the end."""
        return self._pages[self._heads[0][3]][0] if self._heads else None

    def take(self) -> EventRow:
        """Takes the next event away. There must be one."""
        stream = heapq.heappop(self._heads)[3]
        page = self._pages[stream]
        row = page.popleft()
        if page:
            self._push(page[0])
        elif stream not in self._dry:
            self._fill([stream], row.where, self.PAGE)
        return row

    def _fill(self, streams: Sequence[int], after: Place | None, each: int) -> None:
        rows = self._archive.events(streams, self._interval, after, each) if streams else []
        for row in rows:
            self._pages[row.stream].append(row)
        for stream in streams:
            page = self._pages[stream]
            if len(page) < each:
                self._dry.add(stream)
            else:
                self._dry.discard(stream)
            if page:
                self._push(page[0])

    def _push(self, row: EventRow) -> None:
        sign = self._sign
        heapq.heappush(self._heads, (sign * row.time_ns, sign * row.file, sign * row.place, row.stream))


class NoArchive:
    """Without an index of camera events."""

    def streams(self) -> Sequence[Stream]:
        return ()

    def events(
        self, streams: Sequence[int], interval: SearchInterval, after: Place | None, each: int
    ) -> list[EventRow]:
        return []

    def last_events(self, streams: Sequence[int], at_ns: UtcNs) -> list[EventRow]:
        return []

    def message(self, number: int) -> RecordedMessage | None:
        return None
