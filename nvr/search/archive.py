"""What searches need of the index of camera events and positions (`nvr.storage.events`), and a merged walk over it."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from nvr.model.recorded import RecordedMessage
from nvr.model.search import SearchInterval
from nvr.model.time import UtcNs
from nvr.storage.event_rows import EventRow, Place, Stream


class Archive(Protocol):
    """Blocking, safe on any thread. Errors are StorageError."""

    def streams(self) -> Sequence[Stream]:
        """All there are, in the order in which they came up. From memory."""

    def events(
        self, numbers: Sequence[int], interval: SearchInterval, after: Place | None, each: int, by_message: bool = False
    ) -> list[EventRow]:
        """Of each stream, or each message, at most `each` events inside the interval, the next ones behind `after` in
        its direction, in that order."""

    def messages_with(self, name: str, value: str, most: int) -> list[int] | None:
        """The messages with this simple item, or a few that only seem to have it; None where there are more than
        `most`."""

    def last_events(self, numbers: Sequence[int], at_ns: UtcNs) -> list[EventRow]:
        """Of each stream the last event at or before an instant."""

    def message(self, number: int) -> RecordedMessage | None:
        """None where it has gone with the last of its events."""


class EventWalk:
    """The events of many streams, or of many messages, in the order of a search, read page by page. Belongs to one
    thread at a time.
    """

    PAGE = 128
    FIRST = 4

    def __init__(self, archive: Archive, interval: SearchInterval, by_message: bool = False) -> None:
        self._archive = archive
        self._interval = interval
        self._by_message = by_message
        self._sign = -1 if interval.backward else 1
        self._pages: dict[int, deque[EventRow]] = {}
        self._heads: list[tuple[int, int, int, int]] = []
        """Of each stream with a page in hand: where its next event stands, so that the first in order is the least."""
        self._dry: set[int] = set()

    def include(self, numbers: Iterable[int], after: Place | None) -> None:
        """Takes in streams, or messages, that it does not have, from behind `after` on."""
        new = [number for number in numbers if number not in self._pages]
        if new:
            self._pages.update((number, deque()) for number in new)
            self._fill(new, after, max(self.FIRST, self.PAGE // len(new)))

    def look_again(self, after: Place | None) -> None:
        """Takes in what has come to the streams that seemed to be at their end."""
        self._fill([number for number in sorted(self._dry) if not self._pages[number]], after, self.FIRST)

    def peek(self) -> EventRow | None:
        """The next event; None at the end."""
        return self._pages[self._heads[0][3]][0] if self._heads else None

    def take(self) -> EventRow:
        """Takes the next event away. There must be one."""
        number = heapq.heappop(self._heads)[3]
        page = self._pages[number]
        row = page.popleft()
        if page:
            self._push(number, page[0])
        elif number not in self._dry:
            self._fill([number], row.where, self.PAGE)
        return row

    def _fill(self, numbers: Sequence[int], after: Place | None, each: int) -> None:
        if not numbers:
            return
        for row in self._archive.events(numbers, self._interval, after, each, self._by_message):
            self._pages[row.message if self._by_message else row.stream].append(row)
        for number in numbers:
            page = self._pages[number]
            if len(page) < each:
                self._dry.add(number)
            else:
                self._dry.discard(number)
            if page:
                self._push(number, page[0])

    def _push(self, number: int, row: EventRow) -> None:
        sign = self._sign
        heapq.heappush(self._heads, (sign * row.time_ns, sign * row.file, sign * row.place, number))


class NoArchive:
    """Without an index of camera events."""

    def streams(self) -> Sequence[Stream]:
        return ()

    def events(
        self, numbers: Sequence[int], interval: SearchInterval, after: Place | None, each: int, by_message: bool = False
    ) -> list[EventRow]:
        return []

    def messages_with(self, name: str, value: str, most: int) -> list[int] | None:
        return []

    def last_events(self, numbers: Sequence[int], at_ns: UtcNs) -> list[EventRow]:
        return []

    def message(self, number: int) -> RecordedMessage | None:
        return None
