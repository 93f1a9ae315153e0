"""Threads that read footage, so that a disk that hangs stops only what is on it.

Work comes in lanes, one a recording. Of a lane one call runs at a time, so a hanging disk holds one thread a recording,
however many watch it. Few calls run at once over all lanes; one that takes longer than the patience lasts does not
count among them any more, and another thread takes its place.

What a request waits for takes turns with what is read ahead for players: a DESCRIBE or PLAY waits for the one batch
that is under way, however many players stand in its lane, and requests that come without end do not stop these.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from nvr.model.errors import LimitReached

log = logging.getLogger(__name__)

LANE_LENGTH: Final = 1024
"""Calls that may wait in one lane: each player has one."""

_T = TypeVar("_T")
_Call = tuple[Callable[[], Any], "asyncio.Future[Any]"]


@dataclass(slots=True, eq=False)
class _Lane:
    name: str
    requests: deque[_Call] = field(default_factory=deque)
    batches: deque[_Call] = field(default_factory=deque)
    request_was_last: bool = False
    ready: bool = False
    """It stands among those that wait for a thread."""
    since: float | None = None
    """When the call that runs was begun, by the loop's clock."""
    told: bool = False

    def __len__(self) -> int:
        return len(self.requests) + len(self.batches)

    def forget_cancelled(self) -> None:
        self.requests = deque(call for call in self.requests if not call[1].done())
        self.batches = deque(call for call in self.batches if not call[1].done())

    def next(self) -> _Call | None:
        """Requests and batches by turns; None where all have been cancelled."""
        while self.requests or self.batches:
            from_requests = bool(self.requests) and not (self.batches and self.request_was_last)
            call = (self.requests if from_requests else self.batches).popleft()
            if not call[1].done():
                self.request_was_last = from_requests
                return call
        return None


class Readers:
    """`threads` run at once while all disks answer; at most `limit` in all. Everything but the calls is on the loop."""

    def __init__(self, threads: int = 4, patience_s: float = 1.0, limit: int = 256) -> None:
        self._threads = threads
        self._patience_s = patience_s
        self._limit = limit
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._running: dict[_Lane, None] = {}
        self._calls: SimpleQueue[tuple[_Lane, _Call, asyncio.AbstractEventLoop] | None] = SimpleQueue()
        self._started = 0
        self._wake: asyncio.TimerHandle | None = None
        self._closed = False

    def run(self, lane: str, call: Callable[[], _T], *, request: bool = False) -> asyncio.Future[_T]:
        """The result of `call`, made on a thread. Cancelling it before its turn takes it out. `request`: a client waits
        for an answer to it.

        Raises LimitReached when too many wait in this lane.
        """
        loop = asyncio.get_running_loop()
        found = self._lanes.get(lane)
        if found is None:
            found = self._lanes[lane] = _Lane(lane)
        if len(found) >= LANE_LENGTH:
            found.forget_cancelled()
            if len(found) >= LANE_LENGTH:
                raise LimitReached("reads that wait for the disk of a recording", LANE_LENGTH)
        result: asyncio.Future[_T] = loop.create_future()
        (found.requests if request else found.batches).append((call, result))
        if found.since is None and not found.ready:
            self._make_ready(found)
            self._pump()
        return result

    def _make_ready(self, lane: _Lane) -> None:
        if not lane.ready:
            lane.ready = True
            self._ready.append(lane)

    @property
    def silent(self) -> list[str]:
        """The lanes whose disk has not answered for longer than the patience lasts."""
        now = asyncio.get_running_loop().time()
        return [lane.name for lane in self._running if now - (lane.since or now) >= self._patience_s]

    def close(self) -> None:
        """Calls that are under way finish; nobody waits for them, nor for the process to end."""
        self._closed = True
        if self._wake is not None:
            self._wake.cancel()
        for lane in self._lanes.values():
            for _, result in (*lane.requests, *lane.batches):
                result.cancel()
        self._lanes.clear()
        self._ready.clear()
        for _ in range(self._started):
            self._calls.put(None)

    def _pump(self) -> None:
        """Begin what may begin now."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = [lane for lane in self._running if now - (lane.since or now) >= self._patience_s]
        for lane in late:
            if not lane.told:
                lane.told = True
                log.warning(
                    "footage of %s is waited for since %.1f s: does its disk hang?", lane.name, self._patience_s
                )
        while self._ready and len(self._running) - len(late) < self._threads and len(self._running) < self._limit:
            lane = self._ready.popleft()
            lane.ready = False
            call = lane.next()
            if call is None:
                self._lanes.pop(lane.name, None)
                continue
            lane.since = now
            self._running[lane] = None
            if self._started < len(self._running):
                self._started += 1
                threading.Thread(target=self._work, name=f"replay-reader-{self._started}", daemon=True).start()
            self._calls.put((lane, call, loop))
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        fresh = [lane.since or now for lane in self._running if lane not in late]
        if fresh and not self._closed:
            self._wake = loop.call_at(min(fresh) + self._patience_s, self._pump)

    def _work(self) -> None:
        """On a thread of its own."""
        while (entry := self._calls.get()) is not None:
            lane, (call, result), loop = entry
            value, error = None, None
            try:
                value = call()
            except BaseException as e:  # whatever it is, the caller gets it
                error = e
            # The loop takes the outcome out, so that from then on nothing of it is held by a thread that sleeps.
            outcome = [(result, value, error)]
            del entry, call, result, value, error
            try:
                loop.call_soon_threadsafe(self._done, lane, outcome)
            except RuntimeError:
                return  # the loop has ended, and with it everybody who might want the result

    def _done(self, lane: _Lane, outcome: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
        result, value, error = outcome.pop()
        if lane.told:
            log.warning("footage of %s can be read again", lane.name)
        self._running.pop(lane, None)
        lane.since, lane.told = None, False
        if not result.done():
            if error is None:
                result.set_result(value)
            else:
                result.set_exception(error)
        if self._closed:
            return
        if len(lane):
            self._make_ready(lane)
        else:
            self._lanes.pop(lane.name, None)
        self._pump()
