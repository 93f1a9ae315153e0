"""Metadata documents of cameras that can hold events, read in the order of each camera.

A small document is read at once, as long as few come. One that takes long goes to a thread, and what the same camera
sends behind it waits for it; of several cameras each has its turn. What waits is bounded, for each camera and within
the memory of all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from nvr.ingest.memory import HeldMemory
from nvr.media.onvif_events import may_tell, notifications
from nvr.model.errors import FormatError
from nvr.model.notification import Notification
from nvr.model.time import UtcNs
from nvr.model.tokens import ReceiverToken
from nvr.storage.pace import Pace

logger = logging.getLogger(__name__)

AT_ONCE_BYTES: Final = 8 << 10
"""A document of this size is read on the loop, which takes less than a millisecond."""
MOST_DOCUMENTS: Final = 1024
MOST_BYTES: Final = 2 << 20
"""Documents of one camera that wait, and their bytes: behind these the newest are dropped."""
SLICE_NS: Final = 2_000_000
"""So long are documents read, and jobs told of events, before the loop runs others."""
AT_ONCE_EVERY_NS: Final = 10_000_000
"""In so long is a slice read at once; a visit of a source that holds hundreds of small documents leaves the rest
waiting."""


@dataclass(slots=True, eq=False)
class _Queue:
    documents: deque[tuple[bytes, UtcNs]] = field(default_factory=deque)
    """The first is the one that is being read."""
    size: int = 0


class EventDocuments:
    """Belongs to the event loop. `tell` gets each notification with the time of its document in the footage."""

    def __init__(
        self,
        tell: Callable[[ReceiverToken, Notification, UtcNs], None],
        memory: HeldMemory,
        label: Callable[[ReceiverToken], str] = str,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`label` is what log lines call a receiver."""
        self.unread: Counter[ReceiverToken] = Counter()
        """Documents that could hold events and could not be read."""
        self.dropped: Counter[ReceiverToken] = Counter()
        """Documents that were not read because too many waited."""
        self._tell = tell
        self._memory = memory
        self._label = label
        self._monotonic = monotonic
        self._at_once_since_ns = 0
        self._at_once_ns = 0
        """What reading at once has taken since then."""
        self._slice_end_ns = 0
        self._queues: dict[ReceiverToken, _Queue] = {}
        """In the order in which their turn comes; a camera for which nothing waits has none."""
        self._some = asyncio.Event()
        self._complained: set[ReceiverToken] = set()
        self._overflowing: set[ReceiverToken] = set()

    @property
    def waiting(self) -> int:
        """Documents that wait or are being read."""
        return sum(len(q.documents) for q in self._queues.values())

    def take(self, receiver: ReceiverToken, document: bytes, at_ns: UtcNs) -> None:
        """A document of a receiver, with its time in the footage. Never waits, raises nothing."""
        if not may_tell(document):
            return
        queue = self._queues.get(receiver)
        if queue is None and _is_small(document) and self._at_once():
            begun_ns = self._monotonic()
            for told in self._found(receiver, _read(document)):
                self._tell(receiver, told, at_ns)
            self._at_once_ns += self._monotonic() - begun_ns
            return
        if queue is None:
            queue = self._queues[receiver] = _Queue()
        size = len(document)
        full = len(queue.documents) >= MOST_DOCUMENTS or (queue.size and queue.size + size > MOST_BYTES)
        if not full:
            queue.documents.append((document, at_ns))
            queue.size += size
            self._memory.add(size)
            if self._memory.relieve():
                self._overflowing.discard(receiver)
                self._some.set()
                return
            queue.documents.pop()
            queue.size -= size
            self._memory.give(size)
            if not queue.documents:
                del self._queues[receiver]
        self.dropped[receiver] += 1
        if receiver not in self._overflowing:
            self._overflowing.add(receiver)
            logger.error(
                "receiver %s: its metadata come faster than they can be read for events, or memory is full: documents "
                "are passed over (%d bytes wait)",
                self._label(receiver),
                queue.size,
            )

    def forget(self, receiver: ReceiverToken) -> None:
        """The receiver has another camera: what it said before is not heard any more."""
        queue = self._queues.pop(receiver, None)
        if queue is not None:
            self._memory.give(queue.size)
        self._complained.discard(receiver)
        self._overflowing.discard(receiver)

    def forget_counts(self, receiver: ReceiverToken) -> None:
        """The receiver is gone."""
        self.forget(receiver)
        del self.unread[receiver], self.dropped[receiver]

    async def run(self) -> None:
        """Reads what waits, until it is cancelled."""
        while True:
            while self._queues:
                receiver, queue = next(iter(self._queues.items()))
                try:
                    await self._next(receiver, queue)
                except Exception:  # a fault of ours in one document must not end event recording for all cameras
                    logger.exception("receiver %s: a document of events is lost", self._label(receiver))
                if self._queues.get(receiver) is queue:
                    self._done(receiver, queue)
            self._some.clear()
            await self._some.wait()

    def _at_once(self) -> bool:
        """Whether a small document may be read now."""
        now_ns = self._monotonic()
        if now_ns - self._at_once_since_ns >= AT_ONCE_EVERY_NS:
            self._at_once_since_ns, self._at_once_ns = now_ns, 0
        return self._at_once_ns < SLICE_NS

    async def _next(self, receiver: ReceiverToken, queue: _Queue) -> None:
        document, at_ns = queue.documents[0]
        # A small one takes no longer than the way to a thread and back.
        found = _read(document) if _is_small(document) else await asyncio.to_thread(_read, document)
        for told in self._found(receiver, found):
            if self._queues.get(receiver) is not queue:
                return  # it has been forgotten meanwhile
            self._tell(receiver, told, at_ns)
            await self._pause()
        await self._pause()

    async def _pause(self) -> None:
        """Lets the loop run others where a slice is over."""
        if self._monotonic() >= self._slice_end_ns:
            await asyncio.sleep(0)
            self._slice_end_ns = self._monotonic() + SLICE_NS

    def _done(self, receiver: ReceiverToken, queue: _Queue) -> None:
        document, _ = queue.documents.popleft()
        queue.size -= len(document)
        self._memory.give(len(document))
        del self._queues[receiver]
        if queue.documents:
            self._queues[receiver] = queue  # behind the others

    def _found(
        self, receiver: ReceiverToken, read: tuple[Sequence[Notification], FormatError | None]
    ) -> Sequence[Notification]:
        found, error = read
        if error is not None:
            self.unread[receiver] += 1
            if receiver not in self._complained:
                self._complained.add(receiver)
                logger.warning("receiver %s: its events cannot be read: %s", self._label(receiver), error)
        return found


def _is_small(document: bytes) -> bool:
    return len(document) <= AT_ONCE_BYTES and not document.startswith(b"\x1f\x8b")


def _read(document: bytes) -> tuple[Sequence[Notification], FormatError | None]:
    """On any thread. What a document tells, up to what cannot be read."""
    found = []
    pace = Pace()
    try:
        for told in notifications(document):
            found.append(told)
            pace.keep()
    except FormatError as e:
        return found, e
    return found, None
