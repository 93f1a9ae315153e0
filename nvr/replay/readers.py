"""Threads that read footage, so that a disk that hangs stops only what is on it.

Work comes in lanes, one a recording. Of a lane one call runs at a time, so a hanging disk holds one thread a recording,
however many watch it. Few calls run at once over all lanes; one that takes longer than the patience lasts does not
count among them any more, and another thread takes its place. A thread that has finished a call takes the next one by
itself, and tells the loop of all that has been finished until it looks: a loop that has much to do would otherwise let
reading wait for it, a call for each of its rounds.

What a request waits for takes turns with what is read ahead for players: a DESCRIBE or PLAY waits for the one batch
that is under way, however many players stand in its lane, and requests that come without end do not stop these.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

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
    """When the call that runs was begun, by the monotonic clock."""
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


class _Outcome(NamedTuple):
    lane: _Lane
    result: asyncio.Future[Any]
    value: Any
    error: BaseException | None
    again: bool
    """The lane was told to be silent."""


class Readers:
    """`threads` run at once while all disks answer; at most `limit` in all. All methods but the threads' are the
    loop's."""

    def __init__(self, threads: int = 4, patience_s: float = 1.0, limit: int = 256) -> None:
        self._threads = threads
        self._patience_s = patience_s
        self._limit = limit
        self._lock = threading.Lock()
        """For the lanes and who runs; held for microseconds."""
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._running: dict[_Lane, None] = {}
        self._calls: SimpleQueue[tuple[_Lane, _Call] | None] = SimpleQueue()
        """Begun by the loop, for threads that sleep."""
        self._outcomes: deque[_Outcome] = deque()
        """The loop takes them out, so that from then on nothing of them is held by a thread that sleeps."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._called = False
        """The loop will look at the outcomes."""
        self._started = 0
        self._wake: asyncio.TimerHandle | None = None
        self._closed = False

    def run(self, lane: str, call: Callable[[], _T], *, request: bool = False) -> asyncio.Future[_T]:
        """The result of `call`, made on a thread. Cancelling it before its turn takes it out. `request`: a client waits
        for an answer to it.

        Raises LimitReached when too many wait in this lane.
        """
        loop = self._loop = asyncio.get_running_loop()
        result: asyncio.Future[_T] = loop.create_future()
        with self._lock:
            found = self._lanes.get(lane)
            if found is None:
                found = self._lanes[lane] = _Lane(lane)
            if len(found) >= LANE_LENGTH:
                found.forget_cancelled()
                if len(found) >= LANE_LENGTH:
                    raise LimitReached("reads that wait for the disk of a recording", LANE_LENGTH)
            (found.requests if request else found.batches).append((call, result))
            if found.since is not None or found.ready:
                return result
            self._make_ready(found)
        self._pump()
        return result

    @property
    def silent(self) -> list[str]:
        """The lanes whose disk has not answered for longer than the patience lasts."""
        with self._lock:
            return [lane.name for lane in self._late(time.monotonic())]

    def close(self) -> None:
        """Calls that are under way finish; nobody waits for them, nor for the process to end."""
        if self._wake is not None:
            self._wake.cancel()
        with self._lock:
            self._closed = True
            for lane in self._lanes.values():
                for _, result in (*lane.requests, *lane.batches):
                    result.cancel()
            self._lanes.clear()
            self._ready.clear()
        for _ in range(self._started):
            self._calls.put(None)

    def _make_ready(self, lane: _Lane) -> None:
        if not lane.ready:
            lane.ready = True
            self._ready.append(lane)

    def _late(self, now: float) -> list[_Lane]:
        return [lane for lane in self._running if now - (lane.since or now) >= self._patience_s]

    def _next(self, now: float) -> tuple[_Lane, _Call] | None:
        """The call that may begin now. With the lock."""
        while self._ready and len(self._running) < self._limit:
            if len(self._running) >= self._threads and len(self._running) - len(self._late(now)) >= self._threads:
                return None
            lane = self._ready.popleft()
            lane.ready = False
            call = lane.next()
            if call is not None:
                lane.since = now
                self._running[lane] = None
                return lane, call
            self._lanes.pop(lane.name, None)
        return None

    def _pump(self) -> None:
        """Begin what may begin now, and look again when a lane that runs now would have run out of patience."""
        now = time.monotonic()
        with self._lock:
            late = self._late(now)
            while (begun := self._next(now)) is not None:
                if self._started < len(self._running):
                    self._started += 1
                    threading.Thread(target=self._work, name=f"replay-reader-{self._started}", daemon=True).start()
                self._calls.put(begun)
            since = [lane.since or now for lane in self._running if lane not in late] or ([now] if late else [])
            news = [lane for lane in late if not lane.told]
            for lane in news:
                lane.told = True  # with the lock: behind it the call may have ended, and another one begun
        for lane in news:
            log.warning("footage of %s is waited for since %.1f s: does its disk hang?", lane.name, self._patience_s)
        if self._wake is None and since and not self._closed and self._loop is not None:
            self._wake = self._loop.call_later(max(0.0, min(since) + self._patience_s - now), self._look)

    def _look(self) -> None:
        self._wake = None
        self._pump()

    def _work(self) -> None:
        """On a thread of its own."""
        begun = self._calls.get()
        while begun is not None:
            lane, (call, result) = begun
            value, error = None, None
            try:
                value = call()
            except BaseException as e:  # whatever it is, the caller gets it
                error = e
            with self._lock:
                begun = self._finished(lane, _Outcome(lane, result, value, error, lane.told))
                calls_loop, self._called = not self._called, True
                loop = self._loop
            del call, result, value, error
            if calls_loop:
                assert loop is not None
                try:
                    loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:
                    return  # the loop has ended, and with it everybody who might want the result
            if begun is None:
                begun = self._calls.get()

    def _finished(self, lane: _Lane, outcome: _Outcome) -> tuple[_Lane, _Call] | None:
        """What the thread shall do next. With the lock."""
        self._outcomes.append(outcome)
        self._running.pop(lane, None)
        lane.since, lane.told = None, False
        if self._closed:
            return None
        if len(lane):
            self._make_ready(lane)
        else:
            self._lanes.pop(lane.name, None)
        return self._next(time.monotonic())

    def _deliver(self) -> None:
        with self._lock:
            self._called = False
            outcomes, self._outcomes = self._outcomes, deque()
        while outcomes:
            lane, result, value, error, again = outcomes.popleft()
            if again:
                log.warning("footage of %s can be read again", lane.name)
            if not result.done():
                if error is None:
                    result.set_result(value)
                else:
                    result.set_exception(error)
