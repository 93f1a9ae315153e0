"""Blocking calls that nobody waits for longer than they like.

Their threads are daemons: the end of the process waits for those of a pool, also where a disk holds one for ever.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TypeVar

from nvr.model.errors import DatabaseUnavailable

_IDLE_S = 5.0
"""So long its thread waits for the next call before it ends."""

T = TypeVar("T")


def beside(name: str, work: Callable[[], T]) -> Future[T]:
    """Begins `work` on a thread of its own. Who waits for it may cease to: it ends when it can.

    Raises RuntimeError where no thread can be started.
    """
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()

    def run() -> None:
        try:
            found = work()
        except BaseException as e:
            answer.set_exception(e)
        else:
            answer.set_result(found)

    threading.Thread(target=run, name=name, daemon=True).start()
    return answer


def for_loop(name: str, work: Callable[[], T], done: Callable[[Future[T]], object]) -> None:
    """As `beside`; `done` is called with the answer on the event loop that runs here, where it runs still by then."""
    loop = asyncio.get_running_loop()

    def tell(answer: Future[T]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done, answer)

    beside(name, work).add_done_callback(tell)


class BoundedCalls:
    """One after the other. Safe on any thread. A call that is late is not broken off: it is done, or fails, when it
    can, and until then no other is begun. So what is called has to bear being done once more later."""

    def __init__(self, name: str, patience_s: float) -> None:
        self._name = name
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._calls: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._late: list[Future[None]] = []
        self._alive = False

    def call(self, work: Callable[[], None]) -> None:
        """Raises what `work` raises; DatabaseUnavailable when it, or one before it, does not come back in time."""
        answer: Future[None] = Future()
        with self._changed:
            self._late = [late for late in self._late if not late.done()]
            if self._late:
                raise DatabaseUnavailable(f"{self._name} still does not answer")
            self._calls.append((work, answer))
            self._changed.notify()
            if not self._alive:
                self._alive = True
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
        if not wait([answer], self._patience_s).done and not answer.cancel():
            with self._changed:
                self._late.append(answer)
        if answer.cancelled() or not answer.done():
            raise DatabaseUnavailable(f"{self._name} has not answered for {self._patience_s:g} s")
        answer.result()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: bool(self._calls), _IDLE_S):
                    self._alive = False
                    return
                work, answer = self._calls.popleft()
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                work()
            except BaseException as e:
                answer.set_exception(e)
            else:
                answer.set_result(None)
