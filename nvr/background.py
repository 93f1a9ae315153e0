"""What runs beside everything else for as long as the daemon does: context managers for `Parts.enter`."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Final

from nvr.model.errors import NvrError
from nvr.model.time import NS
from nvr.storage.index import SqlFootageIndex

log = logging.getLogger(__name__)

LOOP_PROBE_NS: Final = NS // 10
LOOP_DELAYS_NS: Final = tuple(ms * NS // 1000 for ms in (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 75, 100, 200, 500, 1000))
"""Bounds between which delays are counted."""


@asynccontextmanager
async def running(work: Coroutine[object, object, None], name: str) -> AsyncIterator[None]:
    """A task that runs until the daemon stops; that it has ended before is an error of ours, and told."""
    task = asyncio.create_task(work, name=name)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("the task for %s has ended", name, exc_info=task.exception())

    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def check_of_index(index: SqlFootageIndex) -> AsyncIterator[None]:
    """Checks an index beside its use that was too large to be checked before."""
    ending = threading.Event()

    async def check() -> None:
        begin = time.monotonic()
        try:
            await asyncio.to_thread(index.check, lambda: not ending.is_set())
        except NvrError as e:
            log.error("%s", e)
        else:
            log.info("the index of footage has been checked in %.1f s", time.monotonic() - begin)

    task = asyncio.create_task(check(), name="check of the index") if index.unchecked else None
    try:
        yield
    finally:
        ending.set()
        if task is not None:
            await asyncio.wait([task])


class LoopDelays:
    """How late the loop has woken a sleeper since the start."""

    def __init__(self) -> None:
        self.counts = [0] * (len(LOOP_DELAYS_NS) + 1)
        """By upper bound; the last is for what lies above all."""
        self.sum_ns = 0

    def add(self, delay_ns: int) -> None:
        self.counts[bisect_left(LOOP_DELAYS_NS, delay_ns)] += 1
        self.sum_ns += delay_ns


@asynccontextmanager
async def loop_probe() -> AsyncIterator[LoopDelays]:
    """Measures for as long as it is entered."""
    delays = LoopDelays()

    async def probe() -> None:
        while True:
            due = time.monotonic_ns() + LOOP_PROBE_NS
            await asyncio.sleep(LOOP_PROBE_NS / NS)
            delays.add(max(time.monotonic_ns() - due, 0))

    task = asyncio.create_task(probe(), name="loop probe")
    try:
        yield delays
    finally:
        task.cancel()
