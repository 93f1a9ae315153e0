"""The machine's clock, on which hundreds of players sleep."""

from __future__ import annotations

import asyncio

from nvr.model.time import NS
from nvr.replay.clock import SLACK_NS, SystemClock


async def test_who_sleeps_to_the_same_moment_wakes_at_it_together() -> None:
    clock, woken = SystemClock(), list[int]()
    until_ns = clock.monotonic_ns() + 20_000_000

    async def sleeper() -> None:
        await clock.sleep(until_ns - clock.monotonic_ns())
        woken.append(clock.monotonic_ns())

    tasks = [asyncio.create_task(sleeper()) for _ in range(50)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert len(woken) == 49
    assert min(woken) >= until_ns - SLACK_NS


async def test_no_time_and_long_times_are_slept_as_well() -> None:
    clock = SystemClock()
    await clock.sleep(0)
    await clock.sleep(SLACK_NS)
    long = asyncio.create_task(clock.sleep(1000 * NS))
    await asyncio.sleep(0)
    assert not long.done()
    long.cancel()
