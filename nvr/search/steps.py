"""What searches that read a database or files have in common: they go on in steps on a thread."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from nvr.model.coverage import EMPTY, Coverage
from nvr.model.search import SearchInterval
from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey
from nvr.search.chosen import ChosenRecordings

T = TypeVar("T")

STEP_NS = 20_000_000
"""So long may one step work on its thread, one look aside."""


class SteppedSearch(Generic[T]):
    """Searches in the direction of `interval`. `now` is the end of a search without EndPoint."""

    def __init__(self, chosen: ChosenRecordings, interval: SearchInterval, now: Callable[[], UtcNs]) -> None:
        self.found: deque[T] = deque()
        self.exhausted = False
        self._chosen = chosen
        self._interval = interval
        self._backward = interval.backward
        self._now = now
        self._matches = self._all()
        self._reached_ns = interval.start_ns

    def endpoint(self) -> UtcNs:
        if not self.exhausted:
            return self._reached_ns
        end_ns = self._interval.end_ns
        return end_ns if end_ns is not None else max(self._interval.start_ns, self._now())

    async def step(self, wanted: int) -> None:
        await self._chosen.refresh()
        self._look_around()
        await asyncio.to_thread(self._go_on, wanted)

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
            if time.monotonic_ns() >= until_ns:
                return

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
