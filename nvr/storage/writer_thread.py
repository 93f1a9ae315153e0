"""A volume's queue, bounded in bytes, and the one thread that does all that changes files there."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

from nvr.model.errors import OperatorError
from nvr.model.time import NS
from nvr.storage.orders import Adopt, Append, Close, CorrectEnd, Delete, Event, Mend, Order, Settle, Unlink
from nvr.storage.volume import VolumeStatus
from nvr.storage.writer import VolumeWriter

log = logging.getLogger(__name__)

_BATCH = 32
"""Orders between two reports to the loop."""
_WORDS: dict[type, str] = {
    Append: "writing a fragment",
    Close: "closing a file",
    CorrectEnd: "closing a file anew",
    Delete: "deleting the footage of a track",
    Unlink: "unlinking files",
    Settle: "recovering a file",
    Adopt: "recovering files without a row",
    Mend: "mending a file",
}
"""What an order does, for who is told that it does not come back."""


class MemoryCeiling:
    """Bytes that wait to be written to all volumes together, and what ingest holds. Safe on any thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.reclaim: Callable[[int], None] = lambda size: None
        """Whoever holds what can be done without gives some of it back here, before so many bytes are refused. Called
        where `take` is: on the loop."""
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """False where so much more would be above the limit. One fragment is taken however large it is."""
        if self._take(size):
            return True
        self.reclaim(size)
        return self._take(size)

    def _take(self, size: int) -> bool:
        with self._lock:
            if self.used and self.used + size > self.limit:
                return False
            self.used += size
            return True

    def add(self, size: int) -> None:
        """Takes what is in memory already, above the limit too: whoever does this makes room again at once."""
        with self._lock:
            self.used += size

    def give(self, size: int) -> None:
        with self._lock:
            self.used -= size


class WriterThread:
    """The queue in front of a `VolumeWriter`, and its thread.

    The queue is bounded in bytes of sample data, and so are all queues together. When a fragment does not fit, it is
    refused, and so are all that follow until the queue is half empty: one gap, not many.
    """

    def __init__(
        self,
        writer: VolumeWriter,
        queue_bytes: int,
        publish: Callable[[list[Event]], None],
        now: Callable[[], int],
        memory: MemoryCeiling | None = None,
    ) -> None:
        """`publish` is called on the thread with what happened, in order; `memory` is shared by all volumes."""
        self.writer = writer
        self.refused = 0
        """Fragments refused since the start."""
        self.queued_bytes = 0
        self.ready: Future[None] = Future()
        """Done when the volume is recovered; carries the OperatorError that forbids the start."""
        self._limit = queue_bytes
        self._memory = memory or MemoryCeiling(queue_bytes)
        self._publish = publish
        self._now = now
        self._orders: deque[tuple[Order, int]] = deque()
        self._at_hand: list[tuple[Order, int]] = []
        """Those that have been taken from the queue last; some may be done."""
        self._late = False
        self._wake = threading.Condition()
        self._refusing = 0
        self._resume_at = 0
        self._busy: tuple[int, Order | str] | None = (now(), "opening it")
        """What the thread is doing, and since when; None while it waits for orders. Replaced as a whole."""
        writer.unfinished.beat = self._beat
        writer.volume.queue_refuses = self._refuses
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"writer {writer.volume.root.name}", daemon=True)

    @property
    def status(self) -> VolumeStatus:
        """Of the volume and of the queue in front of it."""
        return replace(self.writer.volume.status, queued_bytes=self.queued_bytes, refused=self.refused)

    def is_busy(self) -> bool:
        """Whether footage waits for the disk: then nothing else reads from it."""
        return self.queued_bytes > self._limit // 8

    def start(self) -> None:
        self.ready.set_running_or_notify_cancel()  # whoever waits for it may be cancelled; it may not
        self._begin("opening it")
        self._thread.start()

    def offer(self, order: Append) -> bool:
        """Queues a fragment, or refuses it. Never blocks."""
        size = order.fragment.size
        with self._wake:
            level = self._resume_at if self._refusing else self._limit - size
            if self._stopping or self.queued_bytes > max(level, 0) or not self._memory.take(size):
                if not self._refusing:
                    self._resume_at = self.queued_bytes // 2
                    log.error(
                        "volume %s cannot keep up: %d bytes wait (%d of %d for all volumes), fragments are refused "
                        "until half of them are written",
                        self.writer.volume.root,
                        self.queued_bytes,
                        self._memory.used,
                        self._memory.limit,
                    )
                self._refusing += 1
                self.refused += 1
                return False
            if self._refusing:
                log.warning("volume %s keeps up again; %d fragments refused", self.writer.volume.root, self._refusing)
                self._refusing = 0
            self._orders.append((order, size))
            self.queued_bytes += size
            self._wake.notify()
        return True

    def _refuses(self) -> bool:
        return self._refusing > 0 and self.queued_bytes > self._resume_at

    def leave_behind(self) -> bool:
        """The start goes on without this volume: it joins when it is open, and whatever hinders it then is tried again
        later. False: it is open by now, or has said why it may not be."""
        with self._wake:
            if self.ready.done():
                return False
            self._late = True
            return True

    def stalled(self, now: int) -> tuple[int, str]:
        """For how many nanoseconds what the thread is doing has been going on without a step, and what it is; 0 while
        it waits for orders. From any thread."""
        busy = self._busy
        if busy is None:
            return 0, ""
        since, doing = busy
        return now - since, doing if isinstance(doing, str) else _WORDS.get(type(doing), "an order")

    def abandon(self, deletion: Delete) -> None:
        """What waits here of a track before the order to delete it shall not be written any more."""
        with self._wake:
            waiting = [order for order, _ in (*self._at_hand, *self._orders)]
        if deletion not in waiting:
            return  # done by now
        for order in waiting[: waiting.index(deletion)]:
            if isinstance(order, Append | Close) and order.file.row.key == deletion.key:
                order.file.abandoned = True

    def order(self, order: Order) -> None:
        """Queues what is not footage; it is never refused."""
        with self._wake:
            self._orders.append((order, 0))
            self._wake.notify()

    def begin_stop(self) -> None:
        """Nothing more is accepted; what is queued is written and everything closed, on the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def wait(self, timeout_ns: int) -> bool:
        """Blocks until the thread has ended, at most so long. False: it has not; a call to the disk may hang."""
        if self._thread.ident is not None:
            self._thread.join(timeout_ns / NS)
        return not self._thread.is_alive()

    def _run(self) -> None:
        writer = self.writer
        try:
            writer.open()
        except BaseException as e:
            with self._wake:
                if not self._late:
                    writer.volume.close()
                    self.ready.set_exception(e)
                    return
            if not isinstance(e, OperatorError):
                log.exception("volume %s cannot be opened, and is tried again", writer.volume.root)
            writer.lose_volume(e)
        self._flush()
        with self._wake:
            if not self.ready.done():
                self.ready.set_result(None)
        while batch := self._take():
            for order, size in batch:
                if order is not None:
                    self._begin(order)
                    self._guarded(partial(writer.handle, order))
                if isinstance(order, Settle | Adopt):
                    # Told before it counts as done: who hears that nothing waits any more finds it in the timeline.
                    self._flush()
                    order.done.set()
                with self._wake:
                    self.queued_bytes -= size
                if size:
                    self._memory.give(size)
            self._begin("looking after it")
            self._guarded(writer.tick)
            self._flush()
        self._begin("closing its files")
        self._guarded(writer.shut_down)
        self._flush()

    def _begin(self, doing: Order | str) -> None:
        self._busy = self._now(), doing

    def _beat(self) -> None:
        """What the thread is doing has come a step further."""
        if self._busy is not None:
            self._begin(self._busy[1])

    def _guarded(self, work: Callable[[], None]) -> None:
        """A fault of ours must not end the thread: the other tracks of the volume go on."""
        try:
            work()
        except Exception:
            log.exception("volume %s: the writer failed at %r", self.writer.volume.root, work)

    def _take(self) -> list[tuple[Order | None, int]]:
        """The next orders, or one empty order when the clock asks for work. Empty: the end."""
        with self._wake:
            self._at_hand = []
            if not self._orders and not self._stopping:
                self._busy = None
                self._wake.wait(max(self.writer.next_due_ns() - self._now(), 0) / NS)
            if not self._orders:
                return [] if self._stopping else [(None, 0)]
            self._at_hand = [self._orders.popleft() for _ in range(min(len(self._orders), _BATCH))]
            return [*self._at_hand]

    def _flush(self) -> None:
        events, self.writer.events = self.writer.events, []
        if events:
            self._publish(events)
