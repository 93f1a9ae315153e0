"""Waiting for an event for some time at most."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def come(event: asyncio.Event, within_s: float | None) -> None:
    """Until it is set, or the time in seconds is over; None is no limit.

    `asyncio.wait_for` of Python 3.11 loses a cancellation that comes in the same round of the loop as the event, and a
    stop would wait in vain. `asyncio.timeout` does not.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
