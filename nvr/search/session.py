"""One search session: results that are found while they are fetched, each delivered once (IEC 62676-2-32 6.2.3, 6.8).

Nothing runs between requests: a search is a lazy iterator, advanced by the result calls in slices that leave the event
loop free. It holds one result back, because Completed may only stand in the response that delivers the last one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from nvr.model.search import SearchState

T = TypeVar("T")

SLICE_NS = 4_000_000
"""No slice holds the event loop longer, one look aside."""


class Session(Generic[T]):
    """`found` gives the matches, and None for each look without a match; `monotonic` is a clock in nanoseconds. `user`
    is who has opened the session.
    """

    def __init__(
        self,
        found: Iterator[T | None],
        keep_alive_ns: int,
        monotonic: Callable[[], int],
        user: str | None = None,
    ) -> None:
        self.user = user
        self._found = found
        self._keep_alive_ns = keep_alive_ns
        self._monotonic = monotonic
        self._ahead: deque[T] = deque()
        """Found and not delivered."""
        self._exhausted = False
        self._turn = asyncio.Lock()
        self._calls = 0
        self._until_ns = monotonic() + keep_alive_ns
        self.ended = False

    @property
    def expired(self) -> bool:
        """No request has come for the keep-alive time. A call that is still being answered keeps the session alive."""
        return not self._calls and self._monotonic() >= self._until_ns

    def end(self) -> None:
        """Result calls that wait return at once."""
        self.ended = True

    async def results(
        self, minimum: int | None, maximum: int | None, wait_ns: int | None
    ) -> tuple[SearchState, list[T]]:
        """At most `maximum` results (all where it is None): as soon as so many are there, or `minimum`, or `wait_ns`
        has passed, or no more will come. With COMPLETED the session has ended.

        What the search raises ends the session as well: it cannot go on, and Completed would hide what is missing.
        """
        self._calls += 1
        try:
            async with self._turn:
                return await self._results(minimum, maximum, wait_ns)
        finally:
            self._calls -= 1
            self._until_ns = self._monotonic() + self._keep_alive_ns

    async def _results(
        self, minimum: int | None, maximum: int | None, wait_ns: int | None
    ) -> tuple[SearchState, list[T]]:
        until_ns = None if wait_ns is None else self._monotonic() + wait_ns
        while not self.ended:
            self._advance(maximum)
            there = len(self._ahead)
            enough = (maximum is not None and there > maximum) or (minimum is not None and there >= minimum > 0)
            if self._exhausted or enough or (until_ns is not None and self._monotonic() >= until_ns):
                break
            await asyncio.sleep(0)
        batch = [
            self._ahead.popleft()
            for _ in range(len(self._ahead) if maximum is None else min(maximum, len(self._ahead)))
        ]
        if self._exhausted and not self._ahead and not self.ended:
            self.ended = True
            return SearchState.COMPLETED, batch
        return SearchState.SEARCHING, batch

    def _advance(self, maximum: int | None) -> None:
        """One slice of the search, up to one result more than can be delivered."""
        stop_ns = self._monotonic() + SLICE_NS
        while not self._exhausted and (maximum is None or len(self._ahead) <= maximum):
            try:
                match = next(self._found)
            except StopIteration:
                self._exhausted = True
                return
            except BaseException:
                self.ended = True
                raise
            if match is not None:
                self._ahead.append(match)
            if self._monotonic() >= stop_ns:
                return
