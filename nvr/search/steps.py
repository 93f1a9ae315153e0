"""What searches that read a database or files have in common: they go on in steps on a thread, in turn with others."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, TypeVar

from nvr.model.coverage import EMPTY, Coverage
from nvr.model.search import SearchInterval
from nvr.model.time import NS, UtcNs
from nvr.model.tokens import TrackKey
from nvr.search.chosen import ChosenRecordings
from nvr.search.shares import Share
from nvr.storage.pace import Pace

T = TypeVar("T")

STEP_NS = 20_000_000
"""So long may one step work on its thread, one look aside."""
EDGE_NS = 10 * NS
"""What is older than this when a search begins has long been indexed, as far as the index keeps up at all."""
Reach = Callable[[], Awaitable[None]]
"""Returns when what is on the disk at the call has been indexed, or after a bounded time."""


async def at_once() -> None:
    """Without an index that is behind the disk."""


class SteppedSearch(Generic[T]):
    """Searches in the direction of `interval`, in the time that is the user's `share`. `now` is the end of a search
    without EndPoint. A search that comes to the live edge stands still there until the index has reached the moment at
    which it began: what was on the disk then is found.
    """

    reads_footage = False
    """Whether its steps read files of volumes."""

    def __init__(
        self,
        chosen: ChosenRecordings,
        share: Share,
        interval: SearchInterval,
        now: Callable[[], UtcNs],
        reach: Reach = at_once,
    ) -> None:
        self.found: deque[T] = deque()
        self.exhausted = False
        self._chosen = chosen
        self._share = share
        self._pace = Pace()
        self._interval = interval
        self._backward = interval.backward
        self._now = now
        self._matches = self._all()
        self._reached_ns = interval.start_ns
        edge_ns = now() - EDGE_NS
        self._edge_ns = edge_ns if reach is not at_once and interval.latest_ns >= edge_ns else None
        """Where the index is waited for; None when that is over."""
        self._reach = reach
        self._stands = False

    def endpoint(self) -> UtcNs:
        if not self.exhausted:
            return self._reached_ns
        end_ns = self._interval.end_ns
        return end_ns if end_ns is not None else max(self._interval.start_ns, self._now())

    async def step(self, wanted: int) -> None:
        self._share.in_hand.take(self)
        if self._stands or (self._backward and self._edge_ns is not None):  # backward the edge comes first
            await self._reach()
            self._edge_ns, self._stands = None, False
        await self._chosen.refresh()
        self._look_around()
        await self._share.thread(
            lambda: self._go_on(wanted), footage=self.reads_footage, sign=lambda: self._pace.since_ns
        )
        self._share.in_hand.put(self)

    def close(self) -> None:
        self._share.in_hand.take(self)

    @property
    def held(self) -> int:
        """Rows and places in hand."""
        return len(self._chosen.coverages)

    def let_go(self) -> None:
        """Forgets what can be read again. Not while a step works."""
        self._chosen.let_go()

    def _go_on(self, wanted: int) -> None:
        """Blocking."""
        until_ns = time.monotonic_ns() + STEP_NS
        self._begin_step()
        while len(self.found) < wanted:
            try:
                match = next(self._matches)
            except StopIteration:
                self.exhausted = True
                return
            if match is not None:
                self.found.append(match)
            self._pace.keep()
            if self._stands or time.monotonic_ns() >= until_ns:
                return

    def _stands_at(self, time_ns: UtcNs | None) -> bool:
        """Whether the search stands still for now in front of what has this time; None is the end."""
        if self._edge_ns is None or (time_ns is not None and time_ns < self._edge_ns):
            return False
        self._stands = True
        return True

    def _look_around(self) -> None:
        """On the event loop, in front of each step: what cannot be asked on a thread."""

    def _begin_step(self) -> None:
        """On the thread: takes in what has come since the last step."""

    @abstractmethod
    def _all(self) -> Iterator[T | None]:
        """Every match in order, None for each look without one. Keeps `_reached_ns` up to date."""

    def _coverage(self, key: TrackKey) -> Coverage:
        tracks = self._chosen.coverages.get(key.recording, ())
        return next((coverage for track, coverage in tracks if track == key.track), EMPTY)
