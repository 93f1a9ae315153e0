"""Waiting for an event for some time at most."""

from __future__ import annotations

import asyncio

from nvr.model.waiting import come
from tests.support.loops import run_simulated


async def rounds(number: int = 20) -> None:
    """Of the event loop, in which what is ready goes on."""
    for _ in range(number):
        await asyncio.sleep(0)


def test_it_ends_with_the_event_or_with_the_time() -> None:
    async def scene() -> None:
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        began = loop.time()
        await come(event, 5)
        assert loop.time() - began == 5
        loop.call_later(2, event.set)
        await come(event, None)
        assert loop.time() - began == 7

    run_simulated(scene())


async def test_a_cancellation_that_comes_together_with_the_event_is_not_lost() -> None:
    event = asyncio.Event()
    for within_s in (None, 3600):
        event.clear()
        waiting = asyncio.create_task(come(event, within_s))
        await rounds()
        event.set()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
