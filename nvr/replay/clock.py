"""Time for the player, so that tests can turn the hands."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from nvr.model.time import NS, UtcNs


class Clock(Protocol):
    def monotonic_ns(self) -> int: ...

    def utc_ns(self) -> UtcNs: ...

    async def sleep(self, duration_ns: int) -> None: ...


class SystemClock:
    """The machine's clocks and the event loop's timer."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def utc_ns(self) -> UtcNs:
        return time.time_ns()

    async def sleep(self, duration_ns: int) -> None:
        await asyncio.sleep(duration_ns / NS)
