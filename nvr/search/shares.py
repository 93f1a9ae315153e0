"""What searches may take of the machine: its time, shared by users in turn, and memory.

A search works in slices: on two threads of its own, where it reads a database or files, and on the event loop. Slices
are given to one user after the other, however many searches each has open; on the threads a user has one at a time, so
that a slice that takes long never keeps both. SQL and files of others wait in the executor of the loop, not here.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from nvr.search.in_hand import InHand

T = TypeVar("T")

SLICE_NS = 4_000_000
"""No slice holds the event loop longer, one look aside."""
THREADS = 2


class Turns:
    """At most `places` at once, at most one of a user. Users come one after the other, and what one user asks for in
    the order in which it was asked. Belongs to the event loop.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._working: Counter[str | None] = Counter()
        self._waiting: dict[str | None, deque[asyncio.Future[None]]] = {}
        """In the order in which their turns come."""

    async def take(self, user: str | None) -> None:
        """Returns when it is this user's turn, which lasts until `give_back`."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user, deque()).append(turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(user, turn)
            else:
                self.give_back(user)
            raise

    def give_back(self, user: str | None) -> None:
        self._free += 1
        self._working[user] -= 1
        if not self._working[user]:
            del self._working[user]
        self._hand_out()

    def _leave(self, user: str | None, turn: asyncio.Future[None]) -> None:
        self._waiting[user].remove(turn)
        if not self._waiting[user]:
            del self._waiting[user]

    def _hand_out(self) -> None:
        for user in list(self._waiting):
            if not self._free:
                return
            turn = next((t for t in self._waiting[user] if not t.done()), None)
            if turn is None or self._working[user]:
                continue
            self._free -= 1
            self._working[user] += 1
            turn.set_result(None)
            queue = self._waiting.pop(user)
            queue.remove(turn)
            if queue:
                self._waiting[user] = queue  # behind the others


class Shares:
    """What all searches of a recorder take together."""

    def __init__(self, monotonic: Callable[[], int] = time.monotonic_ns) -> None:
        self.monotonic = monotonic
        self.on_loop = Turns(1)
        self.on_threads = Turns(THREADS)
        self.in_hand = InHand()
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="search")

    def of(self, user: str | None) -> Share:
        return Share(self, user)

    async def stop(self) -> None:
        """Returns when the last slice has ended; none is begun any more."""
        await asyncio.to_thread(partial(self.pool.shutdown, cancel_futures=True))


class Share:
    """What one user gets of it."""

    def __init__(self, shares: Shares, user: str | None) -> None:
        self.in_hand = shares.in_hand
        self._shares = shares
        self._user = user

    async def thread(self, work: Callable[[], T]) -> T:
        """Does a piece of work on a thread, when it is this user's turn. One that is cancelled keeps its place until
        it has come to its end."""
        turns, user, loop = self._shares.on_threads, self._user, asyncio.get_running_loop()
        await turns.take(user)
        try:
            future = self._shares.pool.submit(work)
        except BaseException:
            turns.give_back(user)
            raise

        def ended(_: Future[T]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(turns.give_back, user)

        future.add_done_callback(ended)
        return await asyncio.wrap_future(future)

    @asynccontextmanager
    async def slice(self) -> AsyncIterator[Callable[[], bool]]:
        """The event loop, when it is this user's turn: gives what tells whether the slice is over."""
        shares = self._shares
        await shares.on_loop.take(self._user)
        until_ns = shares.monotonic() + SLICE_NS
        try:
            yield lambda: shares.monotonic() >= until_ns
        finally:
            # Not before the loop has gone round: else those that come in one round would all have their slice in it.
            asyncio.get_running_loop().call_soon(shares.on_loop.give_back, self._user)

    async def all_of(self, items: Iterator[T]) -> list[T]:
        """What an iterator gives, taken in slices."""
        found: list[T] = []
        while True:
            async with self.slice() as is_over:
                for item in items:
                    found.append(item)
                    if is_over():
                        break
                else:
                    return found
