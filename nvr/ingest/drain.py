"""Fetches bytes from many sockets on a timer instead of on every wake-up, in slices that never hold the loop long.

A wake-up of the loop for each few packets costs several times what parsing them does (docs/design/ingest.md). So
reading is paused on the transports, and one timer visits all sources that are due: their instants are multiples of
their interval, so that they coincide. What cannot be drained (TLS) is visited as well, for what is due by the clock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns
from typing import Protocol

SLICE_NS = 5_000_000
"""How long one slice may hold the event loop."""
BUFFER_SIZE = 1 << 20


class Drained(Protocol):
    """A source as the drain sees it."""

    @property
    def interval_ns(self) -> int:
        """Between two visits; asked anew at each."""

    def visit(self, buffer: memoryview) -> bool:
        """Fetch and handle a bounded number of bytes. True: there may be more. Raises nothing."""


class Drain:
    """One for all sources of an event loop. `monotonic` gives nanoseconds."""

    def __init__(self, monotonic: Callable[[], int]) -> None:
        self.slices_used_up = 0
        """Slices that ended because their time was over; many of them mean that the machine is too slow."""
        self._monotonic = monotonic
        self._view = memoryview(bytearray(BUFFER_SIZE))
        self._due: dict[Drained, int] = {}
        self._work: deque[Drained] = deque()
        self._handle: asyncio.Handle | None = None
        self._handle_at = 0

    def add(self, source: Drained) -> None:
        """Visit this source from now on, for the first time at once."""
        self._due[source] = self._monotonic()
        self._schedule()

    def remove(self, source: Drained) -> None:
        """No visit behind this call; unknown sources are no error."""
        self._due.pop(source, None)
        if not self._due and self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def hurry(self, source: Drained) -> None:
        """Its interval has become shorter: do not wait for the instant that was planned."""
        if source in self._due:
            self._due[source] = min(self._due[source], self._next(source))
            self._schedule()

    def run_slice(self) -> bool:
        """Visit what is due until it is done or the slice is over. True: it is not done."""
        now = self._monotonic()
        waiting = set(self._work)
        for source, due in self._due.items():
            if due <= now and source not in waiting:
                self._work.append(source)
        end = perf_counter_ns() + SLICE_NS
        work = self._work
        while work:
            source = work.popleft()
            if source not in self._due:
                continue
            if source.visit(self._view):
                work.append(source)  # behind the others: one fast camera does not starve them
            elif source in self._due:
                self._due[source] = self._next(source)
            if work and perf_counter_ns() >= end:
                self.slices_used_up += 1
                return True
        return False

    def _next(self, source: Drained) -> int:
        interval = source.interval_ns
        return (self._monotonic() // interval + 1) * interval

    def _schedule(self) -> None:
        if not self._due:
            return
        at = min(self._due.values())
        if self._handle is not None:
            if self._handle_at <= at:
                return
            self._handle.cancel()
        self._handle_at = at
        delay = max(0, at - self._monotonic()) / 1e9
        self._handle = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._handle = None
        if self.run_slice():
            self._handle_at = 0
            self._handle = asyncio.get_running_loop().call_soon(self._tick)
        else:
            self._schedule()
