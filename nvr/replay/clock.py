"""Time for the player, so that tests can turn the hands."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

from nvr.model.time import NS, UtcNs

TICK_NS: Final = 1_000_000
"""The loop's timers count milliseconds."""
SLACK_NS: Final = TICK_NS // 16
"""Whoever wants to wake at a tick has reckoned how long that is a moment ago."""
SHARED_NS: Final = 100 * TICK_NS
"""Shorter sleeps share their timers. Of longer ones many are broken off, and would be kept until their tick."""


class Clock(Protocol):
    def monotonic_ns(self) -> int: ...

    def utc_ns(self) -> UtcNs: ...

    async def sleep(self, duration_ns: int) -> None: ...


class SystemClock:
    """The machine's clocks and the event loop's timer. All who sleep to the same millisecond share one timer: hundreds
    of players wake together, and a timer of its own is half of what a wake-up costs."""

    def __init__(self) -> None:
        self._asleep: dict[int, list[asyncio.Future[None]]] = {}

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def utc_ns(self) -> UtcNs:
        return time.time_ns()

    async def sleep(self, duration_ns: int) -> None:
        """May end earlier by `SLACK_NS`."""
        if not SLACK_NS < duration_ns <= SHARED_NS:
            await asyncio.sleep(duration_ns / NS)
            return
        now = time.monotonic_ns()
        tick = -(-(now + duration_ns - SLACK_NS) // TICK_NS)
        loop = asyncio.get_running_loop()
        asleep = self._asleep.get(tick)
        if asleep is None:
            asleep = self._asleep[tick] = []
            loop.call_later((tick * TICK_NS - now) / NS, self._wake, tick)
        woken: asyncio.Future[None] = loop.create_future()
        asleep.append(woken)
        await woken

    def _wake(self, tick: int) -> None:
        for woken in self._asleep.pop(tick):
            if not woken.done():
                woken.set_result(None)
