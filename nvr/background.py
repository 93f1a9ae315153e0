"""What runs beside everything else for as long as the daemon does: context managers for `Parts.enter`."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Final

from nvr.model.errors import NvrError
from nvr.model.time import NS
from nvr.storage.index import SqlFootageIndex

log = logging.getLogger(__name__)

_LOOP_PROBE_S: Final = 0.25


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


@asynccontextmanager
async def loop_probe() -> AsyncIterator[Callable[[], int]]:
    """Measures how late the loop wakes a sleeper; gives the worst delay in nanoseconds since it was asked last."""
    worst = 0

    async def probe() -> None:
        nonlocal worst
        while True:
            due = time.monotonic_ns() + int(_LOOP_PROBE_S * NS)
            await asyncio.sleep(_LOOP_PROBE_S)
            worst = max(worst, time.monotonic_ns() - due)

    def read() -> int:
        nonlocal worst
        seen, worst = worst, 0
        return seen

    task = asyncio.create_task(probe())
    try:
        yield read
    finally:
        task.cancel()
