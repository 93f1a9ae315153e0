"""Which volumes hang, and who waits for what they have been told to do.

The thread of a volume that hangs cannot tell so: the loop looks at what each thread has been doing, and since when.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias, TypeVar

from nvr.model.time import NS
from nvr.storage.bounded import beside
from nvr.storage.later import LaterRecovery
from nvr.storage.orders import Barrier, Delete, Mend, Unlink
from nvr.storage.volume import Volume, VolumeHangs, VolumeStatus
from nvr.storage.writer_thread import WriterThread

log = logging.getLogger(__name__)

T = TypeVar("T")

Awaited: TypeAlias = Delete | Unlink | Barrier | Mend
"""Orders that somebody waits for."""


class VolumeWatch:
    """Of the writers that the engine owns. Belongs to the event loop."""

    def __init__(
        self,
        threads: Sequence[WriterThread],
        recoveries: Sequence[LaterRecovery],
        hang_ns: int,
        now: Callable[[], int],
        tell: Callable[[VolumeStatus], None],
    ) -> None:
        """`hang_ns`: what has not come a step further for so long hangs; `tell` is told of a volume's new state."""
        self._threads = threads
        self._recoveries = recoveries
        self._hang_ns = hang_ns
        self._now = now
        self._tell = tell
        self._hangs: Counter[WriterThread] = Counter()
        self._waiting: dict[Awaited, tuple[WriterThread, asyncio.Future[Exception | None]]] = {}

    def status(self, thread: WriterThread) -> VolumeStatus:
        """With what only the loop knows of the volume."""
        status = thread.status
        return replace(status, failures=status.failures + self._hangs[thread])

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await asyncio.sleep(self._pause_s)
            self.look()

    @property
    def _pause_s(self) -> float:
        return min(self._hang_ns / 4, NS / 4) / NS

    def look(self) -> None:
        """Judges all volumes now."""
        now = self._now()
        for thread in self._threads:
            for_ns, doing = thread.stalled(now)
            volume, hung = thread.writer.volume, bool(thread.writer.volume.hangs)
            if for_ns >= self._hang_ns:
                volume.hangs = f"{doing} has not come back for {for_ns // NS} s: its disk hangs"
                if not hung:
                    self._hangs[thread] += 1
                    log.error("volume %s (%s) hangs: %s", volume.id or "?", volume.root, volume.hangs)
                    self._let_go(thread)
                    self._tell(self.status(thread))
            elif hung:
                volume.hangs = ""
                log.warning("volume %s (%s) answers again: it is %s", volume.id or "?", volume.root, volume.state)
                self._tell(self.status(thread))

    def look_again(self) -> None:
        """A writer has told something: one that hung may have come back."""
        if any(thread.writer.volume.hangs for thread in self._threads):
            self.look()

    def _let_go(self, thread: WriterThread) -> None:
        """Nobody waits for a volume that hangs."""
        for recovery in self._recoveries:
            recovery.wake()
        for whose, waiting in self._waiting.values():
            if whose is thread and not waiting.done():
                waiting.set_result(VolumeHangs(f"volume {thread.writer.volume.root} hangs"))

    async def until_open(self) -> None:
        """Until every volume is open, has a state that says why not, or hangs: such a one joins when it is open.

        Raises what forbids the start.
        """
        opening = {asyncio.wrap_future(thread.ready): thread for thread in self._threads}
        while opening:
            done, _ = await asyncio.wait(opening, timeout=self._pause_s, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()
                del opening[future]
            self.look()
            for future, thread in list(opening.items()):
                if thread.writer.volume.hangs and thread.leave_behind():
                    log.error("volume %s is not open yet: the start goes on without it", thread.writer.volume.root)
                    future.add_done_callback(lambda _, late=thread: self._joins(late))  # type: ignore[misc]
                    del opening[future]

    def _joins(self, thread: WriterThread) -> None:
        self.look_again()
        status = self.status(thread)
        log.warning("volume %s has been opened late: it is %s", status.root, status.state)
        self._tell(status)

    async def done(self, thread: WriterThread, order: Awaited) -> Exception | None:
        """Waits until a writer has done the order; what went wrong.

        VolumeHangs: it is not done yet. What deletes is done when the volume answers again; a barrier or a repair for
        one that hung already is forgotten.
        """
        volume = thread.writer.volume
        if volume.hangs:
            if isinstance(order, Delete | Unlink):
                thread.order(order)
            return VolumeHangs(f"volume {volume.root} hangs: {volume.hangs}")
        waiting: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._waiting[order] = thread, waiting
        thread.order(order)
        return await waiting

    async def read(self, volume: Volume, name: str, work: Callable[[Callable[[], None]], T]) -> T:
        """What `work` reads of a volume beside its writer; it is handed what it shall call at each step.

        Raises what `work` raises; VolumeHangs when the volume hangs, or the work has not come a step further for so
        long: it is left behind then, as it is when who waits for it is cancelled, and ends at its next step.
        """
        if volume.hangs:
            raise VolumeHangs(f"volume {volume.root} hangs: {volume.hangs}")
        since, left = self._now(), False

        def step() -> None:
            nonlocal since
            if left:
                raise VolumeHangs(f"volume {volume.root}: nobody waits any more for what is read")
            since = self._now()

        reading = asyncio.wrap_future(beside(name, partial(work, step)))
        try:
            while not (await asyncio.wait([reading], timeout=self._pause_s))[0]:
                if volume.hangs or self._now() - since >= self._hang_ns:
                    why = volume.hangs or f"{name} has not come a step further for {self._hang_ns // NS} s"
                    raise VolumeHangs(f"volume {volume.root} hangs: {why}")
            return reading.result()
        finally:
            left = True
            reading.cancel()

    def is_done(self, order: Awaited, error: Exception | None) -> None:
        """A writer has told so."""
        _, waiting = self._waiting.pop(order, (None, None))
        if waiting is not None and not waiting.done():
            waiting.set_result(error)
