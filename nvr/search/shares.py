"""What searches may take of the machine: its time, shared by users in turn, and memory.

A search works in slices: on threads of its own, where it reads a database or files, and on the event loop. Slices are
given to one user after the other, however many searches each has open; on threads there is place for two, and a user
has one at a time, so that a slice that takes long never keeps both. SQL and files of others wait in the executor of the
loop, not here.

A disk may hang, and nothing ends a thread that waits for it. So work that takes long loses its place to others, work
that shows no sign of life is given up, and what a user has left behind in this way is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from nvr.model.errors import StorageError
from nvr.search.in_hand import InHand
from nvr.storage.bounded import for_loop
from nvr.storage.volume import VolumeHangs

log = logging.getLogger(__name__)

T = TypeVar("T")

SLICE_NS = 4_000_000
"""No slice holds the event loop longer, one look aside."""
THREADS = 2
LATE_S = 1.0
"""Work that takes longer loses its place: another user's is begun beside it."""
GIVE_UP_S = 20.0
"""Work that shows no sign of life for so long is given up. A disk that has to spin up takes some ten seconds."""
LEFT_BEHIND = 2
"""So many threads that were given up may a user have, of those that read footage and of all others; one more is not
begun before one has come back."""
STOP_S = 3.0
"""So long a stop waits for the threads."""


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

    def go_on_without_place(self) -> None:
        """Who has a turn keeps it, and leaves the place to another user."""
        self._free += 1
        self._hand_out()

    def give_back(self, user: str | None, *, place: bool = True) -> None:
        """The turn is over. `place`: it has not been left to another user before."""
        self._free += place
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


class _Work(Generic[T]):
    """A piece of work on a thread of its own, in a turn that its user has. Belongs to the event loop.

    Starting a thread costs less than a tenth of a millisecond, and one that is left behind takes no other with it.
    """

    def __init__(
        self,
        shares: Shares,
        user: str | None,
        footage: bool,
        work: Callable[[], T],
        sign: Callable[[], object],
        give_up_s: float,
    ) -> None:
        """Raises RuntimeError where no thread can be started."""
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[T] = self._loop.create_future()
        self._shares = shares
        self._user = user
        self._footage = footage
        self._sign = sign
        self._seen = sign()
        self._give_up_s = give_up_s
        self._has_place = True
        self.given_up = False
        self.thread_ended: asyncio.Future[None] = self._loop.create_future()
        for_loop("search", work, self._ended)
        self._late = self._loop.call_later(LATE_S, self._leave_place)
        self._patience = self._loop.call_later(give_up_s, self._look)

    def _ended(self, answer: Future[T]) -> None:
        shares, error = self._shares, answer.exception()
        shares.at_work.discard(self)
        self.thread_ended.set_result(None)
        if self.given_up:
            shares.left_behind[self._user, self._footage] -= 1
            shares.left_behind = +shares.left_behind
            log.info("what a search of %s has waited for has come back: %s", self._user or "nobody", error or "read")
            return
        self._end_turn()
        if self.outcome.done():
            return  # who waited for it has been cancelled
        if error is None:
            self.outcome.set_result(answer.result())
        else:
            self.outcome.set_exception(error)

    def _leave_place(self) -> None:
        self._has_place = False
        self._shares.on_threads.go_on_without_place()

    def _end_turn(self) -> None:
        self._late.cancel()
        self._patience.cancel()
        self._shares.on_threads.give_back(self._user, place=self._has_place)

    def _look(self) -> None:
        seen, self._seen = self._seen, self._sign()
        if self._seen != seen:
            self._patience = self._loop.call_later(self._give_up_s, self._look)
        else:
            self.give_up(f"has not come back for {self._give_up_s:.0f} s")

    def give_up(self, why: str) -> None:
        """The thread is left behind: whoever waits for it gets VolumeHangs, and what it finds is not looked at."""
        what = "footage" if self._footage else "the index"
        log.error("what a search of %s reads of %s %s, and is left behind", self._user or "nobody", what, why)
        self.given_up = True
        self._shares.left_behind[self._user, self._footage] += 1
        self._end_turn()
        if not self.outcome.done():
            self.outcome.set_exception(VolumeHangs(f"what a search reads of {what} {why}"))


class Shares:
    """What all searches of a recorder take together."""

    def __init__(self, monotonic: Callable[[], int] = time.monotonic_ns) -> None:
        self.monotonic = monotonic
        self.on_loop = Turns(1)
        self.on_threads = Turns(THREADS)
        self.in_hand = InHand()
        self.at_work: set[_Work[Any]] = set()
        """Whose threads have not ended."""
        self.left_behind: Counter[tuple[str | None, bool]] = Counter()
        """How many of them have been given up, by user and whether they read footage."""
        self._stopped = False

    def of(self, user: str | None) -> Share:
        return Share(self, user)

    def require(self, user: str | None, footage: bool) -> None:
        """Raises VolumeHangs where nothing more is begun for a user for now, StorageError behind a stop."""
        if self._stopped:
            raise StorageError("nothing is searched any more: the recorder stops")
        left = self.left_behind[user, footage]
        if left >= LEFT_BEHIND:
            raise VolumeHangs(f"{left} reads of searches of {user or 'nobody'} have not come back")

    async def stop(self) -> None:
        """Returns when the last slice has ended, and within `STOP_S` seconds: what does not answer is left behind.
        None is begun any more."""
        self._stopped = True
        if ends := [work.thread_ended for work in self.at_work if not work.given_up]:
            await asyncio.wait(ends, timeout=STOP_S)
        for work in [work for work in self.at_work if not work.given_up]:
            work.give_up(f"does not end within {STOP_S:.0f} s of a stop")


class Share:
    """What one user gets of it."""

    def __init__(self, shares: Shares, user: str | None) -> None:
        self.in_hand = shares.in_hand
        self._shares = shares
        self._user = user

    async def thread(
        self,
        work: Callable[[], T],
        *,
        footage: bool = False,
        sign: Callable[[], object] = lambda: None,
        give_up_s: float | None = None,
    ) -> T:
        """Does a piece of work on a thread, when it is this user's turn. One that is cancelled keeps its turn until it
        has come to its end.

        `footage`: it reads files of volumes. `sign` gives something else each time while the work goes on, and is asked
        on the event loop; without one for `give_up_s`, or `GIVE_UP_S`, it is given up, also where nobody waits for it
        any more. Raises what the work raises, VolumeHangs where it is given up or may not be begun for now,
        StorageError behind a stop.
        """
        shares, user = self._shares, self._user
        await shares.on_threads.take(user)
        try:
            shares.require(user, footage)
            begun = _Work(shares, user, footage, work, sign, GIVE_UP_S if give_up_s is None else give_up_s)
        except BaseException:
            shares.on_threads.give_back(user)
            raise
        shares.at_work.add(begun)
        return await begun.outcome

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
