"""What searches need of the index of camera events and positions (`nvr.storage.events`), and a merged walk over it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from nvr.model.recorded import RecordedMessage
from nvr.model.search import SearchInterval
from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey
from nvr.storage.event_rows import EventRow, Place, PositionRow, Stream


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

    def position_tracks(self) -> dict[int, TrackKey]:
        """Tracks by their numbers in this index. From memory."""

    def positions(
        self, tracks: Sequence[int], interval: SearchInterval, after: Place | None, each: int
    ) -> list[PositionRow]:
        """Of each track at most `each` positions, as `events`."""

    def words(self, file_ids: Sequence[str], *, whole: bool = True) -> dict[str, frozenset[str]]:
        """The words of files that have been read to their end, or as far as they have been read where `whole` is not
        asked for; others are left out."""


class Row(Protocol):
    """What stands at a place."""

    @property
    def where(self) -> Place: ...


R = TypeVar("R", bound=Row)


class Walk(Generic[R]):
    """Rows of many sequences, such as streams, in the order of a search, read page by page. Belongs to one thread at a
    time.

    `fetch(numbers, after, each)` gives of each sequence at most `each` rows behind a place, in order; `number_of` tells
    the sequence of a row.
    """

    PAGE = 128
    FIRST = 4

    def __init__(
        self,
        fetch: Callable[[Sequence[int], Place | None, int], Iterable[R]],
        number_of: Callable[[R], int],
        backward: bool,
    ) -> None:
        self._fetch = fetch
        self._number_of = number_of
        self._sign = -1 if backward else 1
        self._pages: dict[int, list[R]] = {}
        """Of each sequence the rows in hand, the next one last."""
        self._heads: list[tuple[int, int, int, int]] = []
        """Of each sequence with a page in hand: where its next row stands, so that the first in order is the least."""
        self._dry: set[int] = set()
        self._sizes: dict[int, int] = {}
        """Of the last page of each."""
        self._ahead: set[int] = set()
        """Those of which rows have been dropped that stand behind rows of others: only their own place is theirs."""

    def include(self, numbers: Iterable[int], after: Place | None) -> None:
        """Takes in sequences that it does not have, from behind `after` on."""
        new = [number for number in numbers if number not in self._pages]
        if new:
            self._pages.update((number, []) for number in new)
            self._fill(new, after, max(self.FIRST, self.PAGE // len(new)))

    def look_again(self, after: Place | None) -> None:
        """Takes in what has come to the sequences that seemed to be at their end."""
        self._fill([number for number in sorted(self._dry) if not self._pages[number]], after, self.FIRST)
        if self._sign > 0:  # what comes to one that still has rows in hand comes behind these
            self._dry.difference_update([number for number in self._dry if self._pages[number]])

    def peek(self) -> R | None:
        """The next row; None at the end."""
        return self._pages[self._heads[0][3]][-1] if self._heads else None

    def take(self) -> R:
        """Takes the next row away. There must be one."""
        number = heapq.heappop(self._heads)[3]
        row = self._pages[number].pop()
        if self._pages[number]:
            self._push(number, self._pages[number][-1])
        elif number not in self._dry:
            self._fill_again(number, row.where)
        return row

    def drop(self, number: int) -> None:
        """Takes the next row of one sequence away, wherever it stands among the others. There must be one."""
        self._heads = [head for head in self._heads if head[3] != number]
        heapq.heapify(self._heads)
        self._ahead.add(number)
        row = self._pages[number].pop()
        if self._pages[number]:
            self._push(number, self._pages[number][-1])
        elif number not in self._dry:  # this one alone: others may have rows that stand before it
            self._fill([number], row.where, min(self.PAGE, 4 * self._sizes[number]))

    def _fill_again(self, number: int, after: Place) -> None:
        """One that is used up, and those with pages of its size that will be soon: sequences that tell about equally
        often are used up one right behind the other. Among many few are read far, so a page grows only as they are,
        and those that tell seldom get no pages of the size of one that tells often."""
        size = self._sizes[number]
        each = min(self.PAGE, 4 * size)
        alone = self._dry | self._ahead
        soon = [
            n for n, page in self._pages.items()
            if self._sizes[n] == size and 0 < len(page) <= size // 2 and n not in alone
        ]  # fmt: skip
        for n in soon:
            self._pages[n].clear()
        self._heads = [head for head in self._heads if self._pages[head[3]]]
        heapq.heapify(self._heads)
        self._fill([number, *soon], after, each)

    @property
    def held(self) -> int:
        """Sequences, and rows in hand."""
        return len(self._pages) + sum(map(len, self._pages.values()))

    def next_of(self, number: int) -> R | None:
        """The next row of one sequence."""
        page = self._pages[number]
        return page[-1] if page else None

    def _fill(self, numbers: Sequence[int], after: Place | None, each: int) -> None:
        if not numbers:
            return
        for row in self._fetch(numbers, after, each):
            self._pages[self._number_of(row)].append(row)
        for number in numbers:
            self._sizes[number] = each
            page = self._pages[number]
            if len(page) < each:
                self._dry.add(number)
            else:
                self._dry.discard(number)
            page.reverse()
            if page:
                self._push(number, page[-1])

    def _push(self, number: int, row: R) -> None:
        sign, (time_ns, file, place) = self._sign, row.where
        heapq.heappush(self._heads, (sign * time_ns, sign * file, sign * place, number))


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

    def position_tracks(self) -> dict[int, TrackKey]:
        return {}

    def positions(
        self, tracks: Sequence[int], interval: SearchInterval, after: Place | None, each: int
    ) -> list[PositionRow]:
        return []

    def words(self, file_ids: Sequence[str], *, whole: bool = True) -> dict[str, frozenset[str]]:
        return {}
