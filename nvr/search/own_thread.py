"""One thread that works for the event loop: a piece at a time, told to stop, and left behind when it does not.

The threads of `asyncio.to_thread` are shared with everybody, and the end of the loop waits for them without a deadline.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from nvr.storage.bounded import for_loop

log = logging.getLogger(__name__)

T = TypeVar("T")


class Stopped(Exception):
    """The work is given up because its thread shall stop, or has been left behind. What has been done is kept."""


class OwnThread:
    """Each piece has a thread of its own while it lasts: starting one costs less than a tenth of a millisecond, and
    between two pieces there is none that would have to be ended."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stopping = threading.Event()
        """Of the piece that is being done."""
        self._own = threading.local()
        self._work: asyncio.Future[object] | None = None

    def look(self) -> None:
        """For the work, often. Raises Stopped when it shall end."""
        stopping: threading.Event | None = getattr(self._own, "stopping", None)
        if stopping is not None and stopping.is_set():
            raise Stopped

    def leave(self) -> None:
        """Leaves the piece that is being done behind, as it does not come to an end: whoever waits for it gets Stopped.
        It ends when it looks again."""
        if self._work is not None and not self._work.done():
            self._stopping.set()
            self._work.set_exception(Stopped("what is read does not answer"))

    async def do(self, work: Callable[[], T]) -> T:
        """Raises what the work raises. Who is cancelled leaves the work running, until `stop`."""
        assert self._work is None or self._work.done()
        stopping = self._stopping = threading.Event()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def settle(answer: Future[T]) -> None:
            if future.done():
                return
            error = answer.exception()
            if error is None:
                future.set_result(answer.result())
            else:
                future.set_exception(error)

        def told_to_stop() -> T:
            self._own.stopping = stopping
            return work()

        self._work = future  # type: ignore[assignment]
        for_loop(self._name, told_to_stop, settle)
        return await asyncio.shield(future)

    async def stop(self, deadline_s: float) -> bool:
        """Whether the work has ended within the deadline. What it raises now is logged."""
        work, self._work = self._work, None
        if work is None:
            return True
        self._stopping.set()
        await asyncio.wait([work], timeout=deadline_s)
        if not work.done():
            return False
        error = work.exception()
        if error is not None and not isinstance(error, Stopped):
            log.error("%s: the last piece of work failed: %s", self._name, error)
        return True
