"""What searches that read a database or files have in common: they go on in steps on a thread, in turn with others."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from nvr.model.coverage import EMPTY, Coverage
from nvr.model.search import LAST_NS, SearchInterval
from nvr.model.time import NS, UtcNs
from nvr.model.tokens import TrackKey
from nvr.search.chosen import ChosenRecordings
from nvr.search.edge import LATE_NS, ON_THE_WAY_NS, LiveEdge
from nvr.search.session import look
from nvr.search.shares import Share
from nvr.storage.pace import Pace

T = TypeVar("T")

STEP_NS = 20_000_000
"""So long may one step work on its thread, one look aside."""
PATIENCE_S = LATE_NS / NS
"""So long a search waits at the live edge, in all."""
PAUSE_S = 0.25
"""At least so long between two looks whether what is on its way has come to the disk."""


@dataclass(frozen=True, slots=True)
class _Arrival:
    """When a search has come to the live edge."""

    at_ns: UtcNs
    monotonic_s: float


class SteppedSearch(Generic[T]):
    """Searches in the direction of `interval`, in the time that is the user's `share`. `now` is the end of a search
    without EndPoint.

    A forward search that comes to the live edge stands still there as long as something earlier than the next result
    may still be written, and ends at the moment at which it has come there, or at the newest data if that is later:
    all that is written up to its end while it runs is found, in its place. A backward search begins with what is on the
    disk at that moment.
    """

    reads_footage = False
    """Whether its steps read files of volumes."""

    def __init__(
        self,
        chosen: ChosenRecordings,
        share: Share,
        interval: SearchInterval,
        now: Callable[[], UtcNs],
        edge: LiveEdge,
        *,
        looks_at_growth: bool = False,
    ) -> None:
        """`looks_at_growth`: the search has to come to the edge also where nothing is behind there."""
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
        self._edge = edge
        long_ago_ns = now() - LATE_NS
        at_edge = (edge.is_behind or looks_at_growth) and interval.latest_ns >= long_ago_ns
        self._begins_at_edge = at_edge and self._backward
        self._whole_ns = long_ago_ns - 1 if at_edge and not self._backward else LAST_NS
        """Nothing that is not later than this will come any more; `LAST_NS` where nothing more is waited for."""
        self._latest_ns = interval.latest_ns
        """Nothing later is told; known once the search has come to the live edge."""
        self._stands = False
        self._before_ns: UtcNs | None = None
        """What it stands in front of; None is the end."""
        self._arrived: _Arrival | None = None

    def endpoint(self) -> UtcNs:
        if not self.exhausted:
            return self._reached_ns
        end_ns = self._interval.end_ns
        if end_ns is None:  # not now: what has been recorded since the search came to its end has not been looked at
            end_ns = self._now() if self._arrived is None else self._latest_ns
            end_ns = max(self._interval.start_ns, end_ns)
        return end_ns

    async def step(self, wanted: int) -> None:
        if self._stands:
            await self._wait_at_edge()
        elif self._begins_at_edge:
            await self._edge.reach()
            self._begins_at_edge = False
        self._share.in_hand.take(self)
        await self._chosen.refresh()
        self._look_around()
        await self._share.thread(
            lambda: self._go_on(wanted), footage=self.reads_footage, sign=lambda: self._pace.since_ns
        )
        self._share.in_hand.put(self)

    async def _wait_at_edge(self) -> None:
        """Returns when something of what it stands in front of may be told, after a bounded time."""
        loop = asyncio.get_running_loop()
        if self._arrived is None:
            newest_ns = await self._chosen.newest()
            self._arrived = _Arrival(self._now(), loop.time())
            self._latest_ns = min(self._latest_ns, max(self._arrived.at_ns, newest_ns))
        end_ns = min(self._latest_ns, self._arrived.at_ns)
        wanted_ns = end_ns if self._before_ns is None else min(self._before_ns, end_ns)
        while True:
            whole_ns = await self._chosen.whole_until(self._edge, self._now())
            is_late = loop.time() - self._arrived.monotonic_s >= PATIENCE_S
            if whole_ns >= wanted_ns or is_late:
                break
            # So long what is fed is on its way in any case; a fragment that is written may bring it further at once.
            await asyncio.sleep(min(max((wanted_ns - whole_ns) / NS, PAUSE_S), ON_THE_WAY_NS / NS))
        await self._edge.reach()
        self._whole_ns = LAST_NS if whole_ns >= end_ns or is_late else max(self._whole_ns, whole_ns)
        self._stands = False

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

        def is_over() -> bool:
            self._pace.keep()
            return self._stands or time.monotonic_ns() >= until_ns

        self._begin_step()
        self.exhausted = look(self._matches, self.found, wanted, is_over)

    def _stands_at(self, time_ns: UtcNs | None) -> bool:
        """Whether the search stands still for now in front of what has this time; None is the end."""
        if self._whole_ns == LAST_NS or (time_ns is not None and time_ns <= self._whole_ns):
            return False
        self._stands, self._before_ns = True, time_ns
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
