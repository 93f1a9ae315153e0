"""One search session: results that are found while they are fetched, each delivered once (IEC 62676-2-32 6.2.3, 6.8).

A search goes on in steps, each of which takes some ten milliseconds at most, and only as far ahead as one answer holds:
what nobody collects costs nothing. Steps belong to the session, not to the request that waits for them, so a request
that is cancelled takes no results away. A step looks for one result more than was asked for, because Completed may
only stand in the response that delivers the last one; no call waits for that one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from nvr.model.search import SearchState
from nvr.model.time import NS, UtcNs
from nvr.search.shares import Share

log = logging.getLogger(__name__)

T = TypeVar("T")

AHEAD = 101
"""So many results are found before anybody asks for them, so that the first answer comes at once; and one more."""
HEAVIEST = 4 << 20
"""Characters of the messages of one answer: the rest follows in the next one. A message may hold whole documents."""
_SHORTEST_NS = 4_000_000
"""How long a call waits at least for a step that it has begun."""


class Search(Protocol[T]):
    """What is being searched. `found` grows at its end, `exhausted` is set when nothing more will come."""

    found: deque[T]
    exhausted: bool

    async def step(self, wanted: int) -> None:
        """Goes on in bounded time, until `found` holds `wanted` at most."""

    def endpoint(self) -> UtcNs:
        """Where the search stands in time (6.15)."""

    def close(self) -> None:
        """It is over; a step that works is cancelled."""


class Session(Generic[T]):
    """`monotonic` is a clock in nanoseconds. `user` is who has opened the session; `max_matches` None is no limit;
    `largest` bounds the number of results of one answer, `HEAVIEST` what they weigh by `weigh`, one look aside.
    """

    def __init__(
        self,
        search: Search[T],
        keep_alive_ns: int,
        monotonic: Callable[[], int],
        user: str | None = None,
        *,
        max_matches: int | None = None,
        largest: int = 2000,
        weigh: Callable[[T], int] | None = None,
    ) -> None:
        self.user = user
        self.search = search
        self._keep_alive_ns = keep_alive_ns
        self._monotonic = monotonic
        self._largest = largest
        self._weigh = weigh
        self._weights: deque[int] = deque()
        """Of the first results that wait, each of which is weighed once."""
        self._weight = 0
        """All of them together."""
        self._left = max_matches
        """Matches that may still be delivered."""
        self._turn = asyncio.Lock()
        self._calls = 0
        self._until_ns = monotonic() + keep_alive_ns
        self._step: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self.ended = False

    @property
    def expired(self) -> bool:
        """No request has come for the keep-alive time. A call that is still being answered keeps the session alive."""
        return not self._calls and self._monotonic() >= self._until_ns

    @property
    def expires_ns(self) -> int:
        """When it ends if nobody names it."""
        return self._until_ns

    @property
    def endpoint(self) -> UtcNs:
        """The point in time that the search has reached (6.15)."""
        return self.search.endpoint()

    def begin(self) -> None:
        """Runs ahead of the first request."""
        if not self._settled(0):
            self._begin_step(AHEAD)

    def touch(self) -> None:
        """A request has named the session."""
        self._until_ns = self._monotonic() + self._keep_alive_ns

    def end(self) -> None:
        """Cancels what goes on; result calls that wait return at once."""
        if self.ended:
            return
        self.ended = True
        if self._step is not None:
            self._step.cancel()
            self._step.add_done_callback(self._tell_failure)
        self.search.close()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def results(
        self, minimum: int | None, maximum: int | None, wait_ns: int | None
    ) -> tuple[SearchState, list[T]]:
        """At most `maximum` results: as soon as so many are there, or `minimum`, or `wait_ns` has passed, or no more
        will come. Without a `maximum`, an answer holds as many as one may. With COMPLETED the session has ended.

        Calls are answered one after the other; the time that one waits for another counts. What the search raises ends
        the session as well: it cannot go on, and Completed would hide what is missing.
        """
        maximum = self._largest if maximum is None else min(maximum, self._largest)
        until_ns = None if wait_ns is None else self._monotonic() + wait_ns
        self._calls += 1
        try:
            if not await self._comes_first(until_ns):
                return SearchState.SEARCHING, []  # what is there belongs to the call that came before
            try:
                return await self._results(minimum, maximum, until_ns)
            finally:
                self._turn.release()
        finally:
            self._calls -= 1
            self.touch()

    async def _comes_first(self, until_ns: int | None) -> bool:
        """Waits for the calls that came before; False where the time is over first."""
        left_s = None if until_ns is None else max(until_ns - self._monotonic(), 0) / NS
        try:
            async with asyncio.timeout(left_s):
                return await self._turn.acquire()
        except TimeoutError:
            return False

    async def _results(self, minimum: int | None, maximum: int, until_ns: int | None) -> tuple[SearchState, list[T]]:
        found = self.search.found
        # With MaxResults 0 the call still waits for a result: a search that nobody waits for stands still.
        enough = max(1, maximum if minimum is None or minimum <= 0 else min(minimum, maximum))
        while not self.ended:
            if len(found) >= enough or self._settled(maximum) or self._is_heavy():
                break
            await self._go_on(maximum + 1, until_ns)
            if until_ns is not None and self._monotonic() >= until_ns:
                break
        batch = self._take(self._wanted(min(maximum, len(found))))
        if self._left is not None:
            self._left -= len(batch)
        if not self.ended and (self._left == 0 or (self.search.exhausted and not found)):
            self.end()
            return SearchState.COMPLETED, batch
        return SearchState.SEARCHING, batch

    def _is_heavy(self) -> bool:
        """Whether what waits fills an answer, however few it is."""
        if self._weigh is None:
            return False
        found = self.search.found  # it may grow at its end meanwhile: a step works on its thread
        for n in range(len(self._weights), len(found)):
            weight = self._weigh(found[n])
            self._weights.append(weight)
            self._weight += weight
        return self._weight >= HEAVIEST

    def _take(self, number: int) -> list[T]:
        """The first results, `number` at most and as heavy as an answer may be; one at least, whatever it weighs."""
        found = self.search.found
        self._is_heavy()
        batch: list[T] = []
        taken = 0
        while len(batch) < number:
            if self._weights:
                if batch and taken + self._weights[0] > HEAVIEST:
                    break
                taken += self._weights[0]
                self._weight -= self._weights.popleft()
            batch.append(found.popleft())
        return batch

    def _settled(self, maximum: int) -> bool:
        """Whether the answer is known, with `maximum` results or fewer, and whether something stands behind them."""
        there = len(self.search.found)
        return self.search.exhausted or there > maximum or (self._left is not None and there >= self._left)

    def _wanted(self, number: int) -> int:
        return number if self._left is None else min(number, self._left)

    def _begin_step(self, wanted: int) -> asyncio.Task[None]:
        step = self._step = asyncio.create_task(self.search.step(self._wanted(wanted)))
        return step

    async def _go_on(self, wanted: int, until_ns: int | None) -> None:
        """One step, or less where the time is over or the session ends: then the step goes on by itself."""
        step = self._step or self._begin_step(wanted)
        if self._over is None:
            self._over = asyncio.get_running_loop().create_future()
        left_s = None if until_ns is None else max(until_ns - self._monotonic(), _SHORTEST_NS) / NS
        await asyncio.wait({step, self._over}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if not step.done() or self.ended:
            return
        self._step = None
        try:
            step.result()
        except BaseException:
            self.end()
            raise

    def _tell_failure(self, step: asyncio.Task[None]) -> None:
        """The failure of a search that nobody has asked for since, and nobody can ask for any more."""
        if not step.cancelled() and (failure := step.exception()) is not None:
            log.warning("a search of %s failed before its results were asked for: %s", self.user or "nobody", failure)


def look(matches: Iterator[T | None], found: deque[T], wanted: int, is_over: Callable[[], bool]) -> bool:
    """Adds matches until `wanted` have been found or the time is over, which is asked behind each look; None is a look
    without a match. Whether there is nothing more to look at."""
    while len(found) < wanted:
        try:
            match = next(matches)
        except StopIteration:
            return True
        if match is not None:
            found.append(match)
        if is_over():
            break
    return False


class Looks(Generic[T]):
    """A search in memory that is looked at on the event loop: `matches` gives the matches, and None for each look
    without a match.
    """

    def __init__(self, matches: Iterator[T | None], share: Share, endpoint: Callable[[], UtcNs] = lambda: 0) -> None:
        self.found: deque[T] = deque()
        self.exhausted = False
        self._matches = matches
        self._share = share
        self._endpoint = endpoint

    def endpoint(self) -> UtcNs:
        return self._endpoint()

    def close(self) -> None:
        """It holds nothing that others wait for."""

    async def step(self, wanted: int) -> None:
        async with self._share.slice() as is_over:
            self.exhausted = look(self._matches, self.found, wanted, is_over)
